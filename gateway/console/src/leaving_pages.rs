//! The page of the end of service: a warning, a reason and a typed word, what goes on, and the record for print.

use std::sync::Arc;

use askama::Template;

use crate::break_glass_pages::told;
use crate::console::{Console, get};
use crate::devices_pages::{posted, status};
use crate::form::Fields;
use crate::pages::Frame;
use crate::response::{Fault, Page, see_other};
use crate::{ConsoleRequest, Leaving, LeavingDesk, LeavingReason, Message};

pub(crate) const PATH: &str = "/leaving";

/// What has to be typed.
const WORD: &str = "消去する";

/// While it runs the page reloads itself, in seconds.
const REFRESH: u32 = 2;

#[derive(Template)]
#[template(path = "leaving.html")]
struct LeavingPage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    running: bool,
    record: Option<String>,
    made_anew: bool,
    reasons: [LeavingReason; 3],
    word: &'static str,
}

impl Console {
    pub(crate) async fn leaving_pages(
        &self,
        request: &ConsoleRequest,
        path: &str,
    ) -> Result<Page, Fault> {
        let desk = self.desks.leaving.clone().ok_or(Fault::NotFound)?;
        match path {
            PATH => self.leaving_page(get(request)?, &desk, None).await,
            "/leaving/start" => self.start_leaving(posted(request)?, &desk).await,
            _ => Err(Fault::NotFound),
        }
    }

    /// The box is out of service and waits for its next start: there is no other page.
    pub(crate) fn has_left(&self) -> bool {
        self.desks.leaving.as_ref().is_some_and(|desk| {
            desk.makes_disk_anew() && matches!(desk.state(), Leaving::Left { .. })
        })
    }

    async fn leaving_page(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn LeavingDesk>,
        refused: Option<Message>,
    ) -> Result<Page, Fault> {
        let state = desk.state();
        // The record names no person, and when it is there nobody can sign in any more.
        if matches!(state, Leaving::InService | Leaving::Failed(_)) {
            self.manager(request)?;
        }
        let running = state == Leaving::Running;
        let (failed, record) = match state {
            Leaving::Failed(message) => (Some(message), None),
            Leaving::Left { record } => (None, Some(record)),
            Leaving::InService | Leaving::Running => (None, None),
        };
        let made_anew = desk.makes_disk_anew();
        let mut frame = self.frame("利用の終了", "leaving", request).await;
        frame.refresh = running.then_some(REFRESH);
        frame.navigation = !(made_anew && record.is_some());
        let page = LeavingPage {
            frame,
            failure: refused.or(failed),
            running,
            record,
            made_anew,
            reasons: LeavingReason::ALL,
            word: WORD,
        };
        self.form_page(status(&page.failure), &page)
    }

    async fn start_leaving(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn LeavingDesk>,
    ) -> Result<Page, Fault> {
        self.manager(request)?;
        let fields = Fields::read(&request.body).ok_or(Fault::BadRequest)?;
        let begun = match LeavingReason::parse(fields.value("reason")) {
            None => Err(told(
                "理由が選ばれていません。",
                "理由を選んでください。",
                "L-REASON",
            )),
            Some(_) if fields.value("word").trim() != WORD => Err(told(
                "確認の言葉が違います。何も変更していません。",
                "続けるには、欄に「消去する」と入力してください。",
                "L-WORD",
            )),
            Some(reason) => desk.leave(reason),
        };
        match begun {
            Ok(()) => see_other(PATH),
            Err(refused) => self.leaving_page(request, desk, Some(refused)).await,
        }
    }
}
