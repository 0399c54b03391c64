use gateway_console::{Message, RecoveryKey};
use gateway_notes::Role;
use http::StatusCode;

use crate::desk::{BOX, get, post, signed_in};
use crate::parts::{MANAGERS, whole_console};

const KEY: &str = "0011-2233-4455-6677-8899-aabb-ccdd-eeff";

#[tokio::test]
async fn the_recovery_key_is_put_on_paper_and_gone() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    let page = async |path: &str| {
        let request = get(BOX, path).device(MANAGERS).cookie(&cookie);
        request.ask(&console).await
    };
    let press = async |path: &str| {
        let request = post(path, "").device(MANAGERS).cookie(&cookie);
        request.ask(&console).await
    };
    page("/").await.hides("復旧キー");
    parts.arrange(|arranged| arranged.recovery = RecoveryKey::OnTheBox);
    page("/")
        .await
        .shows("復旧キーが、まだ紙に控えられていません")
        .shows("/recovery-key");
    page("/recovery-key")
        .await
        .shows("金庫に入れました")
        .hides(KEY);
    press("/recovery-key/show").await.shows(KEY);
    let done = press("/recovery-key/handed-over").await;
    assert_eq!(done.status(), StatusCode::SEE_OTHER);
    page("/recovery-key")
        .await
        .shows("この装置からは消えています")
        .hides("復旧キーを表示する");
    assert_eq!(parts.asked(), ["show recovery key", "forget recovery key"]);
    page("/").await.hides("復旧キー");
}

#[tokio::test]
async fn what_fails_is_told_and_a_box_without_a_key_has_no_page() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    parts.arrange(|arranged| {
        arranged.recovery = RecoveryKey::OnTheBox;
        arranged.answer = Err(Message {
            sentence: "復旧キーを読み書きできませんでした。".into(),
            next_step: "もう一度お試しください。".into(),
            code: "D-RECOVERY".into(),
        });
    });
    let shown = post("/recovery-key/show", "")
        .device(MANAGERS)
        .cookie(&cookie)
        .ask(&console)
        .await;
    assert_eq!(shown.status(), StatusCode::UNPROCESSABLE_ENTITY);
    shown.shows("D-RECOVERY").hides(KEY);
    parts.arrange(|arranged| arranged.recovery = RecoveryKey::None);
    let page = get(BOX, "/recovery-key").device(MANAGERS).cookie(&cookie);
    assert_eq!(page.ask(&console).await.status(), StatusCode::NOT_FOUND);
}
