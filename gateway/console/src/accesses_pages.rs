//! Who looked at whose stored notes: one day at a time, for the manager alone, who is recorded too.

use askama::Template;
use gateway_policy::Timestamp;
use gateway_policy::calendar::Date;
use http::StatusCode;

use crate::accesses::{Look, Named, Question};
use crate::console::Console;
use crate::moment::{clock, iso, machine, parse_iso, whole_day};
use crate::pages::Frame;
use crate::response::{Fault, Page};
use crate::{ConsoleRequest, Visit, form};

const DAY: i64 = 86_400;
/// The longest id that is looked for.
const LONGEST_ID: usize = 256;

#[derive(Template)]
#[template(path = "accesses.html")]
struct AccessesPage<'a> {
    frame: Frame<'a>,
    day: String,
    date: String,
    before: String,
    after: Option<String>,
    /// Only of these.
    user: String,
    person: String,
    rows: Vec<RowView>,
    unreadable: u64,
    more: bool,
}

struct RowView {
    at: String,
    machine: String,
    user: Named,
    person: Option<Named>,
    what: &'static str,
    shown: bool,
    device: String,
    outage: bool,
    lasted: String,
}

impl Console {
    pub(crate) async fn accesses_page(
        &self,
        request: &ConsoleRequest,
        path: &str,
    ) -> Result<Page, Fault> {
        let desk = self.desks.accesses.as_ref().ok_or(Fault::NotFound)?;
        if path != "/accesses" {
            return Err(Fault::NotFound);
        }
        let staff = self.manager(request)?;
        let session = self.session(request).ok_or(Fault::NotManager)?;
        let query = request.query.as_deref().unwrap_or_default().as_bytes();
        let asked = |name| {
            let text = form::field(query, name).unwrap_or_default();
            Some(text.trim().to_owned()).filter(|text| !text.is_empty() && text.len() <= LONGEST_ID)
        };
        let today = Date::in_japan(self.desk.now());
        let date = match asked("day") {
            Some(text) => parse_iso(&text).ok_or(Fault::BadRequest)?,
            None => today,
        };
        let from = date.midnight_in_japan();
        let question = Question {
            from,
            to: from.plus(DAY),
            user: asked("user"),
            person: asked("person"),
        };
        let visit = Visit::new(request, staff, session);
        let (user, person) = (question.user.clone(), question.person.clone());
        let looks = desk.looks(visit, question).await.map_err(Fault::Desk)?;
        let page = AccessesPage {
            frame: self.frame("閲覧の記録", "accesses", request).await,
            day: whole_day(date),
            date: iso(date),
            before: iso(Date::in_japan(from.plus(-DAY))),
            after: (date != today).then(|| iso(Date::in_japan(from.plus(DAY)))),
            user: user.unwrap_or_default(),
            person: person.unwrap_or_default(),
            rows: looks.rows.into_iter().map(row).collect(),
            unreadable: looks.unreadable,
            more: looks.more,
        };
        self.form_page(StatusCode::OK, &page)
    }
}

fn row(look: Look) -> RowView {
    RowView {
        at: second(look.at),
        machine: machine(look.at),
        user: look.user,
        person: look.person,
        what: look.what.label(),
        shown: look.shown,
        device: match look.device {
            Some((_, Some(name))) => name,
            Some((id, None)) => format!("登録端末 {}", &id.to_string()[..8]),
            None => look.place.to_owned(),
        },
        outage: look.outage,
        lasted: match look.lasted {
            Some((seconds, bound)) => {
                format!("{}{}", length(seconds), if bound { "以内" } else { "" })
            }
            None => "不明".to_owned(),
        },
    }
}

fn second(at: Timestamp) -> String {
    format!("{}:{:02}", clock(at), at.0.rem_euclid(60))
}

fn length(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}秒"),
        60..3600 => format!("{}分{}秒", seconds / 60, seconds % 60),
        _ => format!("{}時間{}分", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_page_stood_open_is_said_in_japanese_units() {
        assert_eq!(length(7), "7秒");
        assert_eq!(length(905), "15分5秒");
        assert_eq!(length(7380), "2時間3分");
        assert_eq!(second(Timestamp(1_795_476_305)), "8:25:05");
    }
}
