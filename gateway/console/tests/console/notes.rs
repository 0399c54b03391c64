use gateway_console::Link;
use gateway_notes::{Change, Personal, Role};
use http::{StatusCode, header};

use crate::desk::{BOX, NOW, apply, console_with_notes, get, person, post, signed_in};

fn note(id: &str, person: &str, minutes_ago: i64, text: &str) -> Change {
    Change::Note {
        id: id.into(),
        person: person.into(),
        author: "sato".into(),
        author_name: Personal::new("佐藤 花子"),
        role: "看護師".into(),
        time: NOW.0 - minutes_ago * 60,
        text: Personal::new(text),
        attachments: vec![],
        signature: None,
    }
}

#[tokio::test]
async fn notes_stand_below_the_day_on_which_they_were_written() {
    let (console, _desk, _directory) = console_with_notes().await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    let page = get(BOX, "/notes/p-1").cookie(&cookie).ask(&console).await;
    page.shows("<h2>昨日　11月23日（月）</h2>")
        .shows("<h2>11月22日（日）</h2>");
    let text = page.text();
    assert!(text.find("昨日").unwrap() < text.find("11月22日（日）").unwrap());
}

#[tokio::test]
async fn one_note_has_a_page_of_its_own() {
    let (console, _desk, _directory) = console_with_notes().await;
    let sato = signed_in(&console, "sato", Role::Staff, None).await;
    let suzuki = signed_in(&console, "suzuki", Role::Staff, None).await;
    let ask = async |cookie: &str, path: &str| get(BOX, path).cookie(cookie).ask(&console).await;
    let page = ask(&sato, "/notes/p-1/note/n-0").await;
    page.shows("血圧 128/76")
        .shows("参照情報")
        .hides("レントゲン");
    for (cookie, path) in [
        (&suzuki, "/notes/p-1/note/n-0"),
        // The right note, but of somebody else.
        (&sato, "/notes/p%2F2%20%3F/note/n-0"),
        (&sato, "/notes/p-1/note/n-9"),
        (&sato, "/notes/p-1/note/"),
        (&sato, "/notes/p-1/note/n-0/more"),
        (&sato, "/notes/p-1/other"),
        (&sato, "/notesp-1"),
    ] {
        let page = ask(cookie, path).await;
        assert_eq!(page.status(), StatusCode::NOT_FOUND, "{path}");
        page.hides("血圧");
    }
}

#[tokio::test]
async fn only_a_press_of_the_button_marks_notes_as_read() {
    let (console, desk, _directory) = console_with_notes().await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    let list = async || get(BOX, "/notes").cookie(&cookie).ask(&console).await;
    let notes = async || get(BOX, "/notes/p-1").cookie(&cookie).ask(&console).await;
    // Reading alone changes nothing.
    notes().await;
    list().await.shows("未読 4件");
    let page = notes().await;
    assert_eq!(page.text().matches(">未読<").count(), 4);
    let upto = page.text().split_once("name=\"upto\" value=\"").unwrap().1;
    let upto = upto.split_once('"').unwrap().0.to_owned();
    // One that comes between the page and the press stays unread.
    let store = desk.0.lock().unwrap().store.clone().unwrap();
    let mut late = note("late", "p-1", 1, "あとから届いた");
    if let Change::Note { author, .. } = &mut late {
        *author = "takahashi".into();
    }
    apply(&store, vec![late]).await;
    let body = format!("upto={upto}");
    let foreign = post("/notes/p-1/read", body.clone())
        .cookie(&cookie)
        .without("sec-fetch-site");
    assert_eq!(foreign.ask(&console).await.status(), StatusCode::FORBIDDEN);
    let pressed = post("/notes/p-1/read", body.clone()).cookie(&cookie);
    let pressed = pressed.ask(&console).await;
    assert_eq!(
        (pressed.status(), pressed.header(header::LOCATION)),
        (StatusCode::SEE_OTHER, "/notes")
    );
    list().await.shows("未読 1件");
    let page = notes().await;
    assert_eq!(page.text().matches(">未読<").count(), 1);
    // Marks are each reader's own, and only for whom they may read.
    let other = signed_in(&console, "suzuki", Role::Staff, None).await;
    let refused = post("/notes/p-1/read", body).cookie(&other);
    assert_eq!(refused.ask(&console).await.status(), StatusCode::NOT_FOUND);
    for body in ["", "upto=", "upto=x", "upto=99999999999999999999"] {
        let broken = post("/notes/p-1/read", body).cookie(&cookie);
        assert_eq!(broken.ask(&console).await.status(), StatusCode::BAD_REQUEST);
    }
    let asked = get(BOX, "/notes/p-1/read").cookie(&cookie).ask(&console);
    assert_eq!(asked.await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn words_are_searched_for_and_marked_without_standing_in_the_address() {
    let (console, _desk, _directory) = console_with_notes().await;
    let sato = signed_in(&console, "sato", Role::Staff, None).await;
    let suzuki = signed_in(&console, "suzuki", Role::Staff, None).await;
    let search = async |cookie: &str, words: &str| {
        let asked = post("/search", format!("q={words}")).cookie(cookie);
        let asked = asked.ask(&console).await;
        assert_eq!(asked.status(), StatusCode::SEE_OTHER);
        asked.header(header::LOCATION).to_owned()
    };
    let open =
        async |cookie: &str, target: &str| get(BOX, target).cookie(cookie).ask(&console).await;
    let address = search(&sato, "れんとげん").await;
    assert!(address.starts_with("/search?s=") && address.is_ascii());
    let page = open(&sato, &address).await;
    page.shows("連絡が1件見つかりました")
        .shows("<mark>レントゲン</mark>の結果")
        .shows("href=\"/notes/p-1/note/n-3\"")
        .shows("value=\"れんとげん\"");
    // Somebody else's address is an empty form, and their own search finds nothing of that person.
    open(&suzuki, &address)
        .await
        .hides("レントゲン")
        .hides("れんとげん");
    let address = search(&suzuki, "レントゲン").await;
    let nothing = open(&suzuki, &address).await;
    nothing.shows("見つかりませんでした").hides("<mark>");
    let never_there = open(&suzuki, &search(&suzuki, "ないことば").await).await;
    let without_words = |page: &crate::desk::Page, words: &str| {
        let body = page.body().replace(words, "");
        let (_, body) = body.split_once("data-view=").unwrap_or(("", &body));
        body.split_once('>').unwrap_or(("", body)).1.to_owned()
    };
    assert_eq!(
        without_words(&nothing, "レントゲン"),
        without_words(&never_there, "ないことば")
    );
    let address = search(&sato, "%E5%B1%B1%E7%94%B0").await;
    open(&sato, &address)
        .await
        .shows("支援対象者が1名見つかりました")
        .shows("山田 ハナ さん");
    // What was typed is text.
    let address = search(&sato, "%3Cscript%3E").await;
    open(&sato, &address)
        .await
        .shows("<mark>&#60;script&#62;</mark>");
    open(&sato, &search(&sato, "").await)
        .await
        .shows("ひらがなとカタカナ")
        .hides("見つかりませんでした");
    for broken in ["/search", "/search?s=", "/search?s=AAAA", "/search?s=%ff"] {
        let page = open(&sato, broken).await;
        assert_eq!(page.status(), StatusCode::OK);
        page.hides("見つかりません");
    }
    let foreign = post("/search", "q=x")
        .cookie(&sato)
        .without("sec-fetch-site");
    assert_eq!(foreign.ask(&console).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_is_printed_says_what_it_is_and_when() {
    let (console, desk, _directory) = console_with_notes().await;
    let store = desk.0.lock().unwrap().store.clone().unwrap();
    let old = note("old", "p-1", 10 * 24 * 60, "十日前の記録");
    apply(&store, vec![old]).await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    let ask = async |target: &str| get(BOX, target).cookie(&cookie).ask(&console).await;
    ask("/notes/p-1/print")
        .await
        .shows("参照情報")
        .shows("8:15 取得")
        .shows("表示 11月24日（火）8:25")
        .shows("佐藤 花子")
        .shows("レントゲン")
        .shows("規約第28条")
        .hides("十日前の記録");
    ask("/notes/p-1/print?days=30").await.shows("十日前の記録");
    for days in ["0", "8", "x", ""] {
        let page = ask(&format!("/notes/p-1/print?days={days}")).await;
        assert_eq!(page.status(), StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn a_draft_is_for_an_outage_and_is_sent_nowhere() {
    let (console, desk, _directory) = console_with_notes().await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    let ask = async |target: &str| get(BOX, target).cookie(&cookie).ask(&console).await;
    ask("/notes/p-1").await.hides("下書き");
    desk.arrange(|arranged| {
        arranged.city = Link::Down {
            since: NOW.plus(-300),
        }
    });
    ask("/notes/p-1").await.shows("href=\"/notes/p-1/draft\"");
    let page = ask("/notes/p-1/draft").await;
    page.shows("送られません")
        .shows("sessionStorage")
        .hides("action=\"/notes");
    // Its script and no other may run there, and nowhere else.
    let policy = page.header(header::CONTENT_SECURITY_POLICY).to_owned();
    let elsewhere = ask("/notes/p-1").await;
    let elsewhere = elsewhere.header(header::CONTENT_SECURITY_POLICY);
    let scripts = |policy: &str| {
        let scripts = policy
            .split("; ")
            .find(|part| part.starts_with("script-src"));
        scripts.unwrap().matches("'sha256-").count()
    };
    assert_eq!((scripts(&policy), scripts(elsewhere)), (2, 1));
    assert_eq!(
        ask("/notes/p-9/draft").await.status(),
        StatusCode::NOT_FOUND
    );
    let ended = post("/sign-out", "").cookie(&cookie).ask(&console).await;
    assert_eq!(ended.header("clear-site-data"), "\"storage\"");
}

#[tokio::test]
async fn every_page_of_notes_is_kept_by_nobody() {
    let (console, desk, _directory) = console_with_notes().await;
    let store = desk.0.lock().unwrap().store.clone().unwrap();
    apply(&store, vec![person("p-3", "多田 多恵", &["sato"])]).await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    for target in [
        "/notes",
        "/notes/p-1",
        "/notes/p-3",
        "/notes/p-1/note/n-0",
        "/notes/p-1/print",
        "/notes/p-1/draft",
        "/search",
    ] {
        let page = get(BOX, target).cookie(&cookie).ask(&console).await;
        assert_eq!(page.status(), StatusCode::OK, "{target}");
        assert_eq!(page.header(header::CACHE_CONTROL), "no-store");
        let referrer = page.header(header::REFERRER_POLICY);
        assert!(
            ["no-referrer", "same-origin"].contains(&referrer),
            "{target}"
        );
        let policy = page.header(header::CONTENT_SECURITY_POLICY);
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        // Titles stay in a PC's history.
        let title = page.text().split_once("<title>").unwrap().1;
        let title = title.split_once("</title>").unwrap().0;
        assert!(!title.contains("山田") && !title.contains("多田"));
        page.shows("参照情報").shows("0293-22-0080");
    }
}
