use gateway_console::Link;
use gateway_notes::{Change, Personal, Role};
use http::{StatusCode, header};

use crate::desk::{
    BOX, NOTEBOOK, NOW, apply, console, console_with_notes, get, person, post, signed_in, staff,
};

const DOOR: &str = "/.well-known/renraku-gateway/notes";

#[tokio::test]
async fn a_person_signed_in_at_the_notebook_comes_to_read_without_typing_anything() {
    let (console, _desk, _directory) = console_with_notes().await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    let page = get(BOX, "/notes").cookie(&cookie).ask(&console).await;
    assert_eq!(page.status(), StatusCode::OK);
    page.shows("山田 ハナ さん")
        .shows("佐藤 花子 さん")
        .shows("未読 4件")
        .shows("参照情報")
        .shows("8:15 取得");
    let page = get(BOX, "/notes/p-1").cookie(&cookie).ask(&console).await;
    page.shows("血圧 128/76")
        .shows("訪問看護師")
        .shows("胸部X線_20261123.jpg")
        .shows("電子署名あり")
        .shows("取得 11月24日（火）8:15");
    // Newest first.
    let text = page.text();
    assert!(text.find("レントゲン").unwrap() < text.find("血圧").unwrap());
}

#[tokio::test]
async fn the_cookie_is_for_this_origin_and_out_of_reach_of_scripts() {
    let (console, _desk, _directory) = console_with_notes().await;
    let door = get(NOTEBOOK, DOOR)
        .staff("sato", Role::Staff)
        .ask(&console)
        .await;
    let location = door.header(header::LOCATION).to_owned();
    assert!(door.0.headers().get(header::SET_COOKIE).is_none());
    let code = location
        .strip_prefix("https://box.takahagi.localhost:8443/handover?code=")
        .unwrap();
    assert_eq!(code.len(), 43);
    let opened = get(BOX, &format!("/handover?code={code}"))
        .ask(&console)
        .await;
    let cookie = opened.header(header::SET_COOKIE);
    assert!(cookie.starts_with("__Host-box="));
    for attribute in ["; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains("Domain") && !cookie.contains(code));
}

#[tokio::test]
async fn a_code_is_good_once_and_for_a_minute() {
    let (console, desk, _directory) = console_with_notes().await;
    let code = async || {
        let door = get(NOTEBOOK, DOOR)
            .staff("sato", Role::Staff)
            .ask(&console)
            .await;
        let location = door.header(header::LOCATION).to_owned();
        location
            .strip_prefix("https://box.takahagi.localhost:8443")
            .unwrap()
            .to_owned()
    };
    let target = code().await;
    assert_eq!(
        get(BOX, &target).ask(&console).await.status(),
        StatusCode::SEE_OTHER
    );
    let again = get(BOX, &target).ask(&console).await;
    assert_eq!(again.status(), StatusCode::FORBIDDEN);
    again.shows("この入口はもう使えません");
    let target = code().await;
    desk.arrange(|arranged| arranged.now = NOW.plus(60));
    assert_eq!(
        get(BOX, &target).ask(&console).await.status(),
        StatusCode::FORBIDDEN
    );
    for target in [
        "/handover",
        "/handover?code=",
        "/handover?code=AAAA",
        "/handover?code=%ff",
    ] {
        assert_eq!(
            get(BOX, target).ask(&console).await.status(),
            StatusCode::FORBIDDEN
        );
    }
}

#[tokio::test]
async fn without_a_session_at_the_city_there_is_only_the_advice_to_sign_in() {
    let (console, desk, _directory) = console_with_notes().await;
    let page = get(NOTEBOOK, DOOR).ask(&console).await;
    assert_eq!(page.status(), StatusCode::FORBIDDEN);
    page.shows("先に連絡帳へのサインインが必要です")
        .shows("https://renraku.takahagi.localhost:8443/")
        .hides("<nav");
    for path in ["/notes", "/notes/p-1"] {
        let page = get(BOX, path).ask(&console).await;
        assert_eq!(page.status(), StatusCode::FORBIDDEN);
        page.shows("サインインが必要です").hides("山田");
        let page = get(BOX, path)
            .cookie("__Host-box=made-up")
            .ask(&console)
            .await;
        assert_eq!(page.status(), StatusCode::FORBIDDEN);
    }
    // A session that has just ended.
    desk.arrange(|arranged| arranged.now = NOW.plus(3600));
    let page = get(NOTEBOOK, DOOR)
        .staff("sato", Role::Staff)
        .ask(&console)
        .await;
    assert_eq!(page.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_staff_session_shown_to_our_own_origin_opens_nothing_there() {
    let (console, _desk, _directory) = console_with_notes().await;
    for path in ["/notes", "/notes/p-1"] {
        let page = get(BOX, path)
            .staff("sato", Role::Staff)
            .ask(&console)
            .await;
        assert_eq!(page.status(), StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn the_door_does_not_open_for_a_picture_or_a_frame() {
    let (console, _desk, _directory) = console_with_notes().await;
    for dest in ["image", "iframe", "empty"] {
        let door = get(NOTEBOOK, DOOR)
            .staff("sato", Role::Staff)
            .header("sec-fetch-dest", dest);
        assert_eq!(
            door.ask(&console).await.status(),
            StatusCode::FORBIDDEN,
            "{dest}"
        );
    }
    let door = get(NOTEBOOK, DOOR)
        .staff("sato", Role::Staff)
        .header("sec-fetch-dest", "document");
    assert_eq!(door.ask(&console).await.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn each_reader_sees_only_what_the_city_permits() {
    let (console, _desk, _directory) = console_with_notes().await;
    let sato = signed_in(&console, "sato", Role::Staff, None).await;
    let suzuki = signed_in(&console, "suzuki", Role::Staff, None).await;
    get(BOX, "/notes")
        .cookie(&suzuki)
        .ask(&console)
        .await
        .shows("田中")
        .hides("山田");
    // The one that may not be read and the one that does not exist look alike, but for the support code.
    let not_permitted = get(BOX, "/notes/p-1").cookie(&suzuki).ask(&console).await;
    let not_there = get(BOX, "/notes/p-9").cookie(&suzuki).ask(&console).await;
    let without_code = |page: &crate::desk::Page| {
        let text = page.text().to_owned();
        let at = text.find("受付番号").unwrap();
        (page.status(), text[..at].to_owned())
    };
    assert_eq!(not_permitted.status(), StatusCode::NOT_FOUND);
    assert_eq!(without_code(&not_permitted), without_code(&not_there));
    get(BOX, "/notes/p-1")
        .cookie(&sato)
        .ask(&console)
        .await
        .shows("山田");
}

#[tokio::test]
async fn whoever_is_suspended_reads_nothing_from_the_next_request_on() {
    let (console, desk, _directory) = console_with_notes().await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    let store = desk.0.lock().unwrap().store.clone().unwrap();
    apply(&store, vec![staff("sato", "佐藤 花子", Role::Staff, true)]).await;
    for path in ["/notes", "/notes/p-1"] {
        get(BOX, path)
            .cookie(&cookie)
            .ask(&console)
            .await
            .shows("読める保存した連絡はありません")
            .hides("山田")
            .hides("佐藤");
    }
    // The daemon tells the console too; then the session itself is gone.
    console.forget("sato");
    apply(&store, vec![staff("sato", "佐藤 花子", Role::Staff, false)]).await;
    let page = get(BOX, "/notes").cookie(&cookie).ask(&console).await;
    assert_eq!(page.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_session_ends_with_the_one_at_the_city_and_by_signing_out() {
    let (console, desk, _directory) = console_with_notes().await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    let other = signed_in(&console, "sato", Role::Staff, None).await;
    let page = post("/sign-out", "").cookie(&cookie).ask(&console).await;
    assert_eq!(page.status(), StatusCode::SEE_OTHER);
    assert!(page.header(header::SET_COOKIE).contains("Max-Age=0"));
    let after = async |cookie: &str| {
        get(BOX, "/notes")
            .cookie(cookie)
            .ask(&console)
            .await
            .status()
    };
    assert_eq!(after(&cookie).await, StatusCode::FORBIDDEN);
    assert_eq!(after(&other).await, StatusCode::OK);
    desk.arrange(|arranged| arranged.now = NOW.plus(3600));
    assert_eq!(after(&other).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_outage_is_said_with_its_beginning_and_what_it_means() {
    let (console, desk, _directory) = console_with_notes().await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    for path in ["/notes", "/notes/p-1"] {
        get(BOX, path)
            .cookie(&cookie)
            .ask(&console)
            .await
            .shows("参照情報")
            .hides("つながりません");
    }
    desk.arrange(|arranged| {
        arranged.city = Link::Down {
            since: NOW.plus(-300),
        }
    });
    for path in ["/notes", "/notes/p-1"] {
        get(BOX, path)
            .cookie(&cookie)
            .ask(&console)
            .await
            .shows("市の連絡帳に、11月24日（火）8:20からつながりません")
            .shows("11月24日（火）8:15 取得")
            .shows("ここから書き込みはできません")
            .shows("参照情報")
            .hides("<textarea");
    }
}

#[tokio::test]
async fn what_others_wrote_is_text_and_never_markup() {
    let (console, _desk, _directory) = console_with_notes().await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    get(BOX, "/notes")
        .cookie(&cookie)
        .ask(&console)
        .await
        .hides("<b>茂</b>")
        .shows("&#60;b&#62;茂");
    get(BOX, "/notes/p-1")
        .cookie(&cookie)
        .ask(&console)
        .await
        .hides("<script>alert")
        .shows("&#60;script&#62;");
    // An id with a slash and a blank leads to its person.
    get(BOX, "/notes")
        .cookie(&cookie)
        .ask(&console)
        .await
        .shows("/notes/p%2F2%20%3F");
    let page = get(BOX, "/notes/p%2F2%20%3F")
        .cookie(&cookie)
        .ask(&console)
        .await;
    assert_eq!(page.status(), StatusCode::OK);
}

#[tokio::test]
async fn many_notes_come_page_by_page() {
    let (console, desk, _directory) = console_with_notes().await;
    let store = desk.0.lock().unwrap().store.clone().unwrap();
    let mut changes = vec![person("p-3", "多田 多恵", &["sato"])];
    changes.extend((0..120).map(|n| Change::Note {
        id: format!("m-{n}"),
        person: "p-3".into(),
        author: "sato".into(),
        author_name: Personal::new("佐藤 花子"),
        role: "看護師".into(),
        time: NOW.0 - n * 60,
        text: Personal::new(format!("記録{n}番")),
        attachments: vec![],
        signature: None,
    }));
    apply(&store, changes).await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    let (mut target, mut seen) = (Some("/notes/p-3".to_owned()), 0);
    while let Some(address) = target {
        let page = get(BOX, &address).cookie(&cookie).ask(&console).await;
        assert_eq!(page.status(), StatusCode::OK);
        seen += page.text().matches("<article").count();
        target = page.text().split_once("さらに前の連絡").map(|(before, _)| {
            let (_, link) = before.rsplit_once("href=\"").unwrap();
            link.split_once('"').unwrap().0.replace("&#38;", "&")
        });
    }
    assert_eq!(seen, 120);
    for before in ["x", "1.zz", "%ff"] {
        let page = get(BOX, &format!("/notes/p-3?before={before}"))
            .cookie(&cookie)
            .ask(&console)
            .await;
        assert!(
            page.status() == StatusCode::BAD_REQUEST || before == "%ff",
            "{before}"
        );
    }
}

#[tokio::test]
async fn notices_for_members_are_for_members() {
    let (console, _desk, _directory) = console_with_notes().await;
    get(BOX, "/notices")
        .ask(&console)
        .await
        .shows("年末年始")
        .hides("研修会");
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    get(BOX, "/notices")
        .cookie(&cookie)
        .ask(&console)
        .await
        .shows("年末年始")
        .shows("研修会")
        .shows("利用事業所向け");
}

#[tokio::test]
async fn without_a_store_the_pages_say_so_plainly() {
    let (console, _desk) = console();
    get(BOX, "/").ask(&console).await.shows("まだありません");
    get(BOX, "/notices")
        .ask(&console)
        .await
        .shows("お知らせはありません");
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    get(BOX, "/notes")
        .cookie(&cookie)
        .ask(&console)
        .await
        .shows("読める保存した連絡はありません");
}
