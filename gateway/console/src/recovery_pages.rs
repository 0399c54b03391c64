//! The page of the recovery key: shown to the manager, put on paper, forgotten by the box. Decides nothing else.

use std::sync::Arc;

use askama::Template;
use http::StatusCode;
use zeroize::Zeroizing;

use crate::console::{Console, get};
use crate::devices_pages::{posted, status};
use crate::moment::day;
use crate::pages::Frame;
use crate::response::{Fault, Page, see_other};
use crate::words::{Headline, Light};
use crate::{ConsoleRequest, Message, RecoveryDesk, RecoveryKey};

const PATH: &str = "/recovery-key";

#[derive(Template)]
#[template(path = "recovery.html")]
struct RecoveryPage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    on_the_box: bool,
}

#[derive(Template)]
#[template(path = "recovery_key.html")]
struct RecoveryKeyPage<'a> {
    frame: Frame<'a>,
    key: Zeroizing<String>,
    shown: String,
}

impl Console {
    pub(crate) async fn recovery_pages(
        &self,
        request: &ConsoleRequest,
        path: &str,
    ) -> Result<Page, Fault> {
        let desk = self.desks.recovery.clone().ok_or(Fault::NotFound)?;
        if desk.state() == RecoveryKey::None {
            return Err(Fault::NotFound);
        }
        self.manager(request)?;
        match path {
            PATH => self.recovery_page(get(request)?, &desk, None).await,
            "/recovery-key/show" => self.show_key(posted(request)?, &desk).await,
            "/recovery-key/handed-over" => self.hand_key_over(posted(request)?, &desk).await,
            _ => Err(Fault::NotFound),
        }
    }

    /// There is a page about it.
    pub(crate) fn has_recovery_key(&self) -> bool {
        let state = self.desks.recovery.as_ref().map(|desk| desk.state());
        state.is_some_and(|state| state != RecoveryKey::None)
    }

    async fn recovery_page(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn RecoveryDesk>,
        failure: Option<Message>,
    ) -> Result<Page, Fault> {
        let page = RecoveryPage {
            frame: self.frame("復旧キー", "recovery-key", request).await,
            on_the_box: desk.state() == RecoveryKey::OnTheBox,
            failure,
        };
        self.form_page(status(&page.failure), &page)
    }

    async fn show_key(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn RecoveryDesk>,
    ) -> Result<Page, Fault> {
        match desk.show().await {
            Ok(key) => {
                let page = RecoveryKeyPage {
                    frame: self.frame("復旧キー", "recovery-key", request).await,
                    key: Zeroizing::new(key.as_str().to_owned()),
                    shown: day(self.desk.now()),
                };
                self.form_page(StatusCode::OK, &page)
            }
            Err(failure) => self.recovery_page(request, desk, Some(failure)).await,
        }
    }

    async fn hand_key_over(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn RecoveryDesk>,
    ) -> Result<Page, Fault> {
        match desk.hand_over().await {
            Ok(()) => see_other(PATH),
            Err(failure) => self.recovery_page(request, desk, Some(failure)).await,
        }
    }

    /// What the home page says while nobody has put the key on paper.
    pub(crate) fn recovery_key_waits(&self) -> Option<Headline> {
        let desk = self.desks.recovery.as_ref()?;
        (desk.state() == RecoveryKey::OnTheBox).then(|| Headline {
            light: Light::Amber,
            sentence: "この装置の復旧キーが、まだ紙に控えられていません。".into(),
            next:
                "印刷して金庫に入れてください。装置が壊れたとき、台帳や記録を取り出すのに使います。"
                    .into(),
            link: Some((PATH.into(), "復旧キーのページを開く")),
            deadline: None,
        })
    }
}
