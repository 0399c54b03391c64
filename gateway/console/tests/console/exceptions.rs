use gateway_console::{Days, Night, Refusal, Today, Waiver};
use gateway_notes::Role;
use gateway_policy::Check;
use http::{StatusCode, header};

use crate::compliance::encoded;
use crate::desk::{BOX, NOW, Request, get, post, signed_in};
use crate::parts::{MANAGERS, PC, REVOKED, whole_console};

fn waiver(runs: bool, until: gateway_policy::Timestamp) -> Waiver {
    Waiver {
        device: Some(PC),
        name: "事務室ノートPC 1".into(),
        check: Check::PcLock,
        by_city: false,
        reason: "部品を待っています".into(),
        until,
        runs,
        in_order: false,
    }
}

#[tokio::test]
async fn an_exception_is_made_with_a_reason_and_an_end_and_shown_where_it_counts() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    let manager = |request: Request| request.device(MANAGERS).cookie(&cookie);
    let page = manager(get(BOX, "/exceptions")).ask(&console).await;
    page.shows("例外はありません").shows("最長30日");
    let form = "/exceptions/new?device=11111111111111111111111111111111&check=PC-LOCK";
    let page = manager(get(BOX, form)).ask(&console).await;
    page.shows("画面ロックが15分以内になっていません")
        .shows("理由");
    let made =
        "device=11111111111111111111111111111111&check=PC-LOCK&until=2026-12-10&reason=部品待ち";
    let answer = manager(post("/exceptions/new", encoded(made)))
        .ask(&console)
        .await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    // The whole of 10 December, in Japan.
    assert_eq!(
        parts.asked(),
        [format!("waive {PC} PC-LOCK 1796914799 部品待ち")]
    );
    for wrong in ["", "2026-02-30", "10.12.2026"] {
        let made = made.replace("2026-12-10", wrong);
        let answer = manager(post("/exceptions/new", encoded(&made)))
            .ask(&console)
            .await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
        // What was typed is still there.
        answer.shows("日付を選び直してください").shows("部品待ち");
    }
    // What cannot be excepted has no form.
    let other = "/exceptions/new?device=11111111111111111111111111111111&check=PC-AV";
    let answer = manager(get(BOX, other)).ask(&console).await;
    answer.shows("事業所では例外にできません");

    // It is in the report, told before it ends, and after it while nothing was put right.
    parts.arrange(|arranged| arranged.waivers.made = vec![waiver(true, NOW.plus(2 * 86_400))]);
    let page = manager(get(BOX, "/report")).ask(&console).await;
    page.shows("例外（1件）").shows("部品を待っています");
    let page = manager(get(BOX, "/")).ask(&console).await;
    page.shows("例外がまもなく終わります");
    parts.arrange(|arranged| arranged.waivers.made = vec![waiver(false, NOW.plus(-3600))]);
    let page = manager(get(BOX, "/")).ask(&console).await;
    page.shows("に終わりました")
        .shows("例外をもう一度登録してください");
    let page = manager(get(BOX, "/exceptions")).ask(&console).await;
    page.shows("まだ直っていません");
    parts.arrange(|arranged| arranged.waivers.made[0].in_order = true);
    let page = manager(get(BOX, "/")).ask(&console).await;
    page.hides("に終わりました");
}

#[tokio::test]
async fn a_refused_signed_channel_is_named_with_the_next_action_for_the_manager() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    parts.arrange(|arranged| {
        arranged.refused = Some(Refusal {
            code: "TUF-ROLLBACK".into(),
            sentence: "市の配布物が、前に受け取ったものより古くなっています。".into(),
            since: NOW.plus(-600),
        });
    });
    for page in ["/", "/report"] {
        let page = get(BOX, page)
            .device(MANAGERS)
            .cookie(&cookie)
            .ask(&console)
            .await;
        page.shows("前に受け取ったものより古く")
            .shows("TUF-ROLLBACK")
            .shows("電話し");
    }
    // Staff can do nothing about it.
    let staff = signed_in(&console, "sato", Role::Staff, PC).await;
    let page = get(BOX, "/").device(PC).cookie(&staff).ask(&console).await;
    page.hides("電話し、コード");
}

#[tokio::test]
async fn the_daily_list_says_who_was_there_who_is_missing_and_who_was_left_on() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    let device = |id, name: &str, seen, reported| Today {
        id,
        name: name.into(),
        seen,
        reported,
        owes_report: true,
    };
    parts.arrange(|arranged| {
        arranged.days = Days {
            today: vec![
                device(PC, "受付のPC", Some(NOW), Some(NOW.plus(-2 * 86_400))),
                device(MANAGERS, "管理者のPC", Some(NOW), Some(NOW)),
                device(
                    REVOKED,
                    "倉庫のPC",
                    Some(NOW.plus(-3 * 86_400)),
                    Some(NOW.plus(-3 * 86_400)),
                ),
            ],
            nights: vec![Night {
                evening: NOW.plus(-86_400),
                left_on: vec![("受付のPC".into(), NOW.plus(-80_000), NOW.plus(-50_000))],
            }],
        };
    });
    let page = get(BOX, "/devices/days")
        .device(MANAGERS)
        .cookie(&cookie)
        .ask(&console)
        .await;
    page.shows("点検結果が届いていない端末（1台）")
        .shows("きょう使われた端末（1台）")
        .shows("きょう使われていない端末（1台）")
        .shows("の夜");
}

#[tokio::test]
async fn a_certificate_of_the_city_is_taken_from_a_file_or_pasted_and_then_approved() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    let form = |file: &str, pem: &str| {
        let part = |name: &str, value: &str| {
            format!("--b0\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        [
            part("name", "受付のPC"),
            part("kind", "Windowsパソコン"),
            part("file", file),
            part("pem", pem),
            "--b0--\r\n".to_owned(),
        ]
        .concat()
    };
    let send = |body: String| {
        post("/devices/certificate", body)
            .header("content-type", "multipart/form-data; boundary=b0")
            .device(MANAGERS)
            .cookie(&cookie)
            .ask(&console)
    };
    let page = send(form("-----BEGIN CERTIFICATE-----", "")).await;
    page.shows("この端末を登録しますか")
        .shows("市が発行したもの");
    let page = send(form("", "-----BEGIN")).await;
    page.shows("この端末を登録しますか");
    assert_eq!(
        parts.asked(),
        ["certificate 受付のPC 27", "certificate 受付のPC 10"]
    );
    let page = send(form("", "")).await;
    assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
    page.shows("証明書が選ばれていません").shows("受付のPC");
    let forged = post("/devices/certificate", form("x", ""))
        .without("sec-fetch-site")
        .header("content-type", "multipart/form-data; boundary=b0")
        .device(MANAGERS)
        .cookie(&cookie)
        .ask(&console)
        .await;
    assert_eq!(forged.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_csv_is_a_file_and_is_not_kept_by_the_browser() {
    let (console, _, _, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    for (target, name) in [
        ("/media/media.csv", "media.csv"),
        ("/training/training.csv", "training.csv"),
        ("/declarations/declarations.csv", "declarations.csv"),
    ] {
        let file = get(BOX, target)
            .device(MANAGERS)
            .cookie(&cookie)
            .ask(&console)
            .await;
        assert!(file.header(header::CONTENT_DISPOSITION).contains(name));
        assert!(file.header(header::CONTENT_TYPE).starts_with("text/csv"));
        assert_eq!(file.header(header::CACHE_CONTROL), "no-store");
        assert!(file.text().starts_with('\u{feff}'));
    }
}
