//! Who looked at what: every page is recorded before it is shown, its end is told, and the manager sees it.

use std::sync::{Arc, Mutex};

use gateway_console::{
    AccessesDesk, Answer, Console, Desks, Look, LookedAt, Looks, Message, Named, Question, Visit,
};
use gateway_notes::{Personal, Role};
use gateway_policy::Timestamp;
use http::StatusCode;

use super::desk::{BOX, DAY, NOW, TestDesk, console_with_notes, get, post, signed_in};

fn looked(desk: &TestDesk) -> Vec<String> {
    std::mem::take(&mut desk.0.lock().unwrap().looked)
}

/// The name that a page gives itself.
fn view(page: &str) -> String {
    let (_, rest) = page.split_once("data-view=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_page_of_notes_is_recorded_under_the_name_it_gives_itself_and_ends_when_it_is_left() {
    let (console, desk, _directory) = console_with_notes().await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    looked(&desk);
    let page = get(BOX, "/notes/p-1").cookie(&cookie).ask(&console).await;
    let view = view(page.text());
    let lines = looked(&desk);
    assert_eq!(lines[0], "moves on");
    let of_person = format!("sato Notes Some(\"p-1\") {view}");
    assert!(lines.contains(&of_person), "{lines:?}");
    // The script of the page says so when it is left.
    let left = post("/left", view.clone()).cookie(&cookie);
    let answer = left.ask(&console).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(looked(&desk), [format!("left {view}")]);
}

#[tokio::test]
async fn a_refused_page_names_nobody_and_a_stranger_leaves_nothing() {
    let (console, desk, _directory) = console_with_notes().await;
    let cookie = signed_in(&console, "suzuki", Role::Staff, None).await;
    looked(&desk);
    for out_of_reach in ["p-1", "nobody"] {
        let page = get(BOX, &format!("/notes/{out_of_reach}")).cookie(&cookie);
        let page = page.ask(&console).await;
        assert_eq!(page.status(), StatusCode::NOT_FOUND);
        let lines = looked(&desk);
        assert!(lines[1].starts_with("suzuki Notes None"), "{lines:?}");
    }
    let stranger = post("/left", "0123456789abcdef").ask(&console).await;
    assert_eq!(stranger.status(), StatusCode::NO_CONTENT);
    assert!(looked(&desk).is_empty());
    let nonsense = post("/left", "x").cookie(&cookie).ask(&console).await;
    assert_eq!(nonsense.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_shown_and_the_page_says_why() {
    let (console, desk, _directory) = console_with_notes().await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    desk.arrange(|arranged| arranged.record_full = true);
    for path in ["/notes", "/notes/p-1", "/notes/p-1/print"] {
        let page = get(BOX, path).cookie(&cookie).ask(&console).await;
        assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        page.shows("閲覧の記録を残せないため")
            .hides("山田")
            .hides("訪問しました");
    }
}

/// Answers with two accesses and writes down the question.
#[derive(Default)]
struct Log(Mutex<Vec<Question>>);

impl AccessesDesk for Log {
    fn looks(&self, visit: Visit, question: Question) -> Answer<'_, Result<Looks, Message>> {
        assert_eq!(visit.staff.user, "kanri");
        self.0.lock().unwrap().push(question);
        let look = |person: Option<Named>, lasted| Look {
            at: NOW,
            user: Named {
                id: "sato".into(),
                name: Some(Personal::new("佐藤 花子")),
            },
            person,
            what: LookedAt::Notes,
            shown: true,
            device: None,
            place: "登録のない端末",
            outage: true,
            lasted,
        };
        let person = Named {
            id: "p-1".into(),
            name: None,
        };
        Box::pin(async move {
            Ok(Looks {
                rows: vec![look(Some(person), Some((65, false))), look(None, None)],
                unreadable: 3,
                more: false,
            })
        })
    }
}

#[tokio::test]
async fn the_manager_sees_who_looked_at_whom_by_day_and_nobody_else_does() {
    let (console, _desk, _directory) = console_with_notes().await;
    let log = Arc::new(Log::default());
    let console: Console = console.with(Desks {
        accesses: Some(log.clone()),
        ..Desks::default()
    });
    let manager = signed_in(&console, "kanri", Role::Manager, None).await;
    let page = get(BOX, "/accesses?day=2026-11-23&user=sato").cookie(&manager);
    let page = page.ask(&console).await;
    assert_eq!(page.status(), StatusCode::OK, "{}", page.body());
    for words in [
        "佐藤 花子",
        "p-1",
        "1分5秒",
        "不通時",
        "不明",
        "読めない記録が3件",
        "登録のない端末",
    ] {
        page.shows(words);
    }
    let asked = log.0.lock().unwrap().pop().unwrap();
    assert_eq!(asked.user.as_deref(), Some("sato"));
    assert_eq!(asked.from, Timestamp(1_795_359_600), "midnight in Japan");
    assert_eq!(asked.to, asked.from.plus(DAY));

    let staff = signed_in(&console, "sato", Role::Staff, None).await;
    for cookie in [Some(&staff), None] {
        let mut request = get(BOX, "/accesses");
        if let Some(cookie) = cookie {
            request = request.cookie(cookie);
        }
        assert_eq!(request.ask(&console).await.status(), StatusCode::FORBIDDEN);
    }
    let wrong = get(BOX, "/accesses?day=2026-02-30").cookie(&manager);
    assert_eq!(wrong.ask(&console).await.status(), StatusCode::BAD_REQUEST);
}
