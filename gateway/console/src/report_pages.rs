//! The monthly report, made to be printed and put into a folder: every article with its evidence. For the manager alone.

use askama::Template;
use http::StatusCode;

use crate::compliance::{Group, groups, month, printed};
use crate::console::Console;
use crate::pages::Frame;
use crate::report::Mark;
use crate::response::{Fault, Page};
use crate::waivers_pages::ExceptionView;
use crate::{ConsoleRequest, Refusal};

#[derive(Template)]
#[template(path = "report.html")]
struct ReportPage<'a> {
    frame: Frame<'a>,
    month: String,
    made: String,
    facility: Option<String>,
    counts: [(Mark, usize); 5],
    groups: Vec<Group>,
    exceptions: Vec<ExceptionView>,
    refused: Option<Refusal>,
}

impl Console {
    pub(crate) async fn report_page(
        &self,
        request: &ConsoleRequest,
        path: &str,
    ) -> Result<Page, Fault> {
        let desk = self.desks.report.as_ref().ok_or(Fault::NotFound)?;
        if path != "/report" {
            return Err(Fault::NotFound);
        }
        self.manager(request)?;
        let report = desk.report().await.map_err(Fault::Desk)?;
        let groups = groups(&report, self.kept().await, report.made);
        let count = |mark| groups.iter().filter(|group| group.mark == mark).count();
        let page = ReportPage {
            frame: self.frame("月次報告", "report", request).await,
            month: month(report.made),
            made: printed(report.made),
            counts: [
                Mark::Pass,
                Mark::Warn,
                Mark::Fail,
                Mark::NotApplicable,
                Mark::Unknown,
            ]
            .map(|mark| (mark, count(mark))),
            facility: report.facility,
            groups,
            exceptions: self.exceptions(report.made).await,
            refused: self.refusal().await,
        };
        self.form_page(StatusCode::OK, &page)
    }
}
