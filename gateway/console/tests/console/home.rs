use gateway_console::Link;
use gateway_notes::Role;
use gateway_policy::{Certificate, Check, Evidence, Standing};
use http::StatusCode;

use crate::desk::{
    BOX, NOW, TestDesk, console, console_with_notes, failing, get, never_measured, signed_in,
};

#[tokio::test]
async fn a_box_that_works_is_green_and_asks_for_nothing() {
    let (console, _desk, _directory) = console_with_notes().await;
    let page = get(BOX, "/").ask(&console).await;
    assert_eq!(page.status(), StatusCode::OK);
    page.shows("連絡帳をいつもどおり利用できます。")
        .shows("いま、することはありません。")
        .shows("lights green")
        .shows("保存しています")
        .hides("2名・")
        .shows("0293-22-0080")
        .shows("ただいま受付時間外です。次は11月24日（火）9:00から");
}

#[tokio::test]
async fn how_much_is_stored_is_told_to_the_manager_alone() {
    let (console, _desk, _directory) = console_with_notes().await;
    for (user, role, told) in [("sato", Role::Staff, false), ("kanri", Role::Manager, true)] {
        let cookie = signed_in(&console, user, role, None).await;
        let page = get(BOX, "/").cookie(&cookie).ask(&console).await;
        assert_eq!(page.text().contains("2名・4件"), told, "{user}");
    }
}

#[tokio::test]
async fn the_home_page_shows_no_name_to_whoever_is_on_the_lan() {
    let (console, _desk, _directory) = console_with_notes().await;
    let page = get(BOX, "/").ask(&console).await;
    for name in ["佐藤", "山田", "田中", "さくら", "F-0812"] {
        page.hides(name);
    }
}

#[tokio::test]
async fn support_hours_follow_the_clock() {
    let (console, desk) = console();
    desk.arrange(|arranged| arranged.now = NOW.plus(3600));
    get(BOX, "/")
        .ask(&console)
        .await
        .shows("ただいま受付時間内です");
}

#[tokio::test]
async fn every_trouble_has_its_sentence_its_light_and_its_next_step() {
    type Trouble = (fn(&TestDesk), &'static str, &'static str, &'static str);
    fn snapshot(desk: &TestDesk, change: impl FnOnce(&mut gateway_policy::Snapshot)) {
        desk.arrange(|arranged| change(&mut arranged.snapshot));
    }
    let troubles: [Trouble; 12] = [
        (
            |desk| desk.arrange(|arranged| arranged.setup.ready = false),
            "初期設定がまだ済んでいません",
            "amber",
            "href=\"/setup\">初期設定を始める",
        ),
        (
            |desk| {
                desk.arrange(|arranged| {
                    arranged.city = Link::Down {
                        since: NOW.plus(-600),
                    }
                })
            },
            "11月24日（火）8:15から、市の連絡帳につながりません",
            "amber",
            "href=\"/notes\">保存した連絡を読む",
        ),
        (
            |desk| desk.arrange(|arranged| arranged.line = Link::Down { since: NOW }),
            "インターネットにつながらない",
            "amber",
            "ルーター",
        ),
        (
            |desk| {
                snapshot(desk, |s| *s = failing(Check::AvAlive));
            },
            "ファイルの送受信を止めています（規約第27条）",
            "amber",
            "電源を入れ直して",
        ),
        (
            |desk| snapshot(desk, |s| *s = never_measured(Check::AvAlive)),
            "連絡帳への接続を止めています（規約第27条）",
            "red",
            "保存した連絡を読む",
        ),
        (
            |desk| {
                snapshot(desk, |s| {
                    let value = Certificate::Revoked { since: NOW };
                    s.certificate = Evidence::Known { value, at: NOW };
                });
            },
            "電子証明書が失効しているため",
            "red",
            "市に電話して新しい電子証明書取得用番号",
        ),
        (
            |desk| {
                snapshot(desk, |s| {
                    let value = Certificate::KeyLost { since: NOW };
                    s.certificate = Evidence::Known { value, at: NOW };
                });
            },
            "鍵が装置から失われた",
            "red",
            "初期設定を開く",
        ),
        (
            |desk| {
                snapshot(desk, |s| {
                    let (not_before, not_after) = (NOW.plus(-1000), NOW.plus(100));
                    let value = Certificate::Held {
                        not_before,
                        not_after,
                    };
                    s.certificate = Evidence::Known { value, at: NOW };
                });
            },
            "更新がまだできていません（期限 2026年11月24日）",
            "amber",
            "自動で更新を試みます",
        ),
        (
            |desk| {
                snapshot(desk, |s| {
                    let (not_before, not_after) = (NOW.plus(-1000), NOW.plus(-100));
                    let value = Certificate::Held {
                        not_before,
                        not_after,
                    };
                    s.certificate = Evidence::Known { value, at: NOW };
                });
            },
            "期限（2026年11月24日）の外",
            "red",
            "初期設定をやり直して",
        ),
        (
            |desk| {
                snapshot(desk, |s| {
                    let value = Standing::Suspended { since: NOW };
                    s.standing = Evidence::Known { value, at: NOW };
                });
            },
            "市により停止されています（規約第35条）",
            "red",
            "電話してください",
        ),
        (
            |desk| snapshot(desk, |s| *s = never_measured(Check::Clock)),
            "時計が正しいか確認できない",
            "amber",
            "ケーブルを確かめて",
        ),
        (
            |desk| snapshot(desk, |s| s.taken = NOW.plus(-500)),
            "自己点検が止まっている",
            "red",
            "電源を入れ直して",
        ),
    ];
    for (arrange, sentence, light, next) in troubles {
        let (console, desk) = console();
        arrange(&desk);
        let page = get(BOX, "/").ask(&console).await;
        assert_eq!(page.status(), StatusCode::OK);
        page.shows(sentence)
            .shows(&format!("lights {light}"))
            .shows(next);
    }
}
