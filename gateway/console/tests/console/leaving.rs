use gateway_console::{Leaving, Message};
use gateway_notes::Role;
use http::{StatusCode, header};

use crate::compliance::encoded;
use crate::desk::{BOX, get, post, signed_in};
use crate::parts::{MANAGERS, whole_console};

#[tokio::test]
async fn the_box_leaves_service_only_for_a_reason_and_the_word() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    let press = async |form: &str| {
        let request = post("/leaving/start", encoded(form));
        request.device(MANAGERS).cookie(&cookie).ask(&console).await
    };
    for (form, code) in [
        ("word=消去する", "L-REASON"),
        ("reason=tired&word=消去する", "L-REASON"),
        ("reason=disposed", "L-WORD"),
        ("reason=disposed&word=消去", "L-WORD"),
    ] {
        let refused = press(form).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "{form}");
        refused.shows(code).shows("この装置での利用を終え");
    }
    assert!(parts.asked().is_empty());
    let done = press("reason=replaced&word=消去する ").await;
    assert_eq!(done.status(), StatusCode::SEE_OTHER);
    assert_eq!(parts.asked(), ["leave replaced"]);
}

#[tokio::test]
async fn a_box_that_waits_for_its_next_start_has_one_page_for_everybody() {
    let (console, _, parts, _directory) = whole_console().await;
    let page = async |path: &str| get(BOX, path).ask(&console).await;
    parts.arrange(|arranged| {
        arranged.leaving = Leaving::Left {
            record: "TPM　　　 : 初期化しました".into(),
        };
    });
    page("/leaving")
        .await
        .shows("初期化しました")
        .shows("電源プラグを抜いてください")
        .hides("<nav");
    for path in ["/", "/setup", "/notes", "/certificates", "/missing"] {
        let away = page(path).await;
        assert_eq!(
            (away.status(), away.header(header::LOCATION)),
            (StatusCode::SEE_OTHER, "/leaving"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn while_it_goes_on_the_page_waits_and_what_failed_is_told_to_the_manager() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    let page = async || {
        let request = get(BOX, "/leaving").device(MANAGERS).cookie(&cookie);
        request.ask(&console).await
    };
    parts.arrange(|arranged| arranged.leaving = Leaving::Running);
    page().await.shows("消去しています").hides("すべて消去して");
    parts.arrange(|arranged| {
        arranged.leaving = Leaving::Failed(Message {
            sentence: "装置の初期化を予約できませんでした。".into(),
            next_step: "もう一度お試しください。".into(),
            code: "L-NOTED".into(),
        });
    });
    page()
        .await
        .shows("L-NOTED")
        .shows("すべて消去して")
        .shows("先に印刷してください");
    // On a system of somebody else's nothing is promised about the disk.
    parts.arrange(|arranged| arranged.made_anew = false);
    page()
        .await
        .shows("ディスクに残ります")
        .hides("先に印刷してください");
}
