//! The home page: how the box stands in one sentence, the one next action, and the rows below. The sentences are in
//! [`crate::words`]; nothing is decided here.

use gateway_policy::Effect;

use crate::compliance::{Kept, groups, to_do};
use crate::console::Console;
use crate::moment::minute;
use crate::pages::Home;
use crate::progress;
use crate::response::{Fault, Page};
use crate::words::{Headline, Light, headline, machinery, refused_channel, rows};
use crate::{ConsoleRequest, Refusal};

impl Console {
    pub(crate) async fn home(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        let now = self.desk.now();
        let (status, setup) = (self.desk.status().await, self.desk.setup().await);
        let manager = self.is_manager(request);
        let stored = match self.desk.store() {
            None => "まだありません".to_owned(),
            Some(store) => match store.status().await {
                // A number that grows would tell everybody that something was written about somebody.
                Ok(store) if manager => format!("{}名・{}件", store.persons, store.notes),
                Ok(_) => "保存しています".to_owned(),
                // The home page has to come up exactly when something is broken.
                Err(_) => "いま読み出せません".to_owned(),
            },
        };
        let stored = match self.desk.progress().await {
            Some(progress) => stored + &progress::in_words(&progress, manager),
            None => stored,
        };
        let stored = match &self.desks.offline {
            Some(offline) if offline.reading().is_err() => {
                format!("{stored}（いまは読めません。市の連絡帳につながると読めるようになります）")
            }
            _ => stored,
        };
        let mut headline = headline(setup.ready, &status);
        let report = match &self.desks.report {
            Some(desk) => desk.report().await.ok(),
            None => None,
        };
        if let (Light::Green, Some(report)) = (headline.light, &report) {
            let harmless = report
                .lines
                .iter()
                .all(|line| line.effect < Effect::Restrict);
            if let Some(to_do) = self.waiting(manager).await {
                headline = to_do;
            } else if manager
                && harmless
                && let Some(refused) = self.refusal().await
            {
                headline = refused_channel(&refused);
            } else if manager
                && harmless
                && let Some(ending) = self.ending_exception(now).await
            {
                headline = ending;
            } else if let Some(to_do) = to_do(report, manager, now) {
                headline = to_do;
            }
        }
        let mut rows = rows(&status, now);
        if let Some(desk) = &self.desks.report {
            rows.extend(machinery(&desk.machinery().await, now));
        }
        let groups = match report {
            Some(report) if manager => groups(&report, self.kept().await, now),
            _ => Vec::new(),
        };
        let page = Home {
            frame: self.frame("ホーム", "home", request).await,
            headline,
            hint: self.desks.report.is_some() && !manager,
            groups,
            rows,
            stored,
        };
        self.page(&page)
    }

    /// What of the signed channel was refused.
    pub(crate) async fn refusal(&self) -> Option<Refusal> {
        let machinery = self.desks.report.as_ref()?.machinery().await;
        machinery.channel?.refused
    }

    /// What waits for the manager's decision and is not a check.
    async fn waiting(&self, manager: bool) -> Option<Headline> {
        let waiting = match &self.desks.devices {
            Some(devices) if manager => devices.devices().await.ok()?.waiting.len(),
            _ => 0,
        };
        if waiting > 0 {
            return Some(Headline {
                light: Light::Amber,
                sentence: format!("登録を待っている端末が{waiting}台あります。"),
                next: "端末に表示されている8桁の番号を、「端末」のページに入力してください。"
                    .into(),
                link: Some(("/devices".into(), "端末のページを開く")),
                deadline: None,
            });
        }
        if !manager {
            return None;
        }
        let state = self.desks.break_glass.as_ref().map(|desk| desk.state());
        let Some(open) = state
            .iter()
            .flat_map(|state| &state.past)
            .find(|opening| opening.review.is_none())
        else {
            return self.recovery_key_waits();
        };
        Some(Headline {
            light: Light::Amber,
            sentence: format!(
                "{}の非常時の解除の振り返りが、まだ記録されていません。",
                minute(open.since)
            ),
            next: "使った理由と、そのとき何をしたかを記録してください。".into(),
            link: Some(("/break-glass".into(), "振り返りを記録する")),
            deadline: Some(minute(open.review_by)),
        })
    }

    /// What the register of devices adds to the articles.
    pub(crate) async fn kept(&self) -> Option<Kept> {
        let devices = self.desks.devices.as_ref()?;
        let registered = devices.devices().await.ok()?.registered;
        Some(Kept {
            devices: registered
                .iter()
                .filter(|device| device.revoked.is_none())
                .count(),
            others: devices.admission(None),
        })
    }
}
