use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_notes::Role;
use http::{Method, StatusCode, header};
use proptest::prelude::*;

use crate::desk::{BOX, NOTEBOOK, console, console_with_notes, get, post, signed_in};

const GETS: [&str; 7] = [
    "/",
    "/setup",
    "/setup/import",
    "/certificates",
    "/handover",
    "/notes",
    "/notices",
];

#[tokio::test]
async fn unknown_pages_and_methods_are_told_in_japanese_with_a_support_code() {
    let (console, desk) = console();
    desk.arrange(|arranged| arranged.setup.ready = false);
    for path in [
        "/nothing",
        "/notes/a/b",
        "/setup/",
        "//",
        "",
        "/../etc/passwd",
        "/.well-known/other",
    ] {
        let page = get(BOX, path).ask(&console).await;
        assert!(
            matches!(page.status(), StatusCode::NOT_FOUND | StatusCode::FORBIDDEN),
            "{path}"
        );
    }
    let page = get(BOX, "/nothing").ask(&console).await;
    page.shows("お探しのページはありません。")
        .shows("ホームに戻る")
        .shows("受付番号")
        .shows("lang=\"ja\"");
    for path in GETS {
        for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            let page = get(BOX, path).method(method).ask(&console).await;
            assert_eq!(page.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert!(page.header(header::ALLOW).starts_with("GET, HEAD"));
        }
    }
    let page = get(BOX, "/sign-out").ask(&console).await;
    assert_eq!(
        (page.status(), page.header(header::ALLOW)),
        (StatusCode::METHOD_NOT_ALLOWED, "POST")
    );
}

#[tokio::test]
async fn head_answers_as_get_without_a_body() {
    let (console, _desk) = console();
    for path in ["/", "/setup", "/certificates", "/notices", "/nothing"] {
        let (head, page) = (
            get(BOX, path).method(Method::HEAD).ask(&console).await,
            get(BOX, path).ask(&console).await,
        );
        assert_eq!(head.status(), page.status());
        assert!(head.text().is_empty());
    }
}

#[tokio::test]
async fn only_our_own_pages_change_anything() {
    let (console, desk, _directory) = console_with_notes().await;
    desk.arrange(|arranged| arranged.setup.ready = false);
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    let forms = [
        ("/setup", "number=1&access_code=2"),
        ("/setup/import", ""),
        ("/sign-out", ""),
    ];
    for (path, form) in forms {
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://renraku.takahagi.localhost:8443"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("referer", "https://box.takahagi.localhost:8443/setup"),
        ] {
            let request = post(path, form)
                .without("sec-fetch-site")
                .header(name, value)
                .cookie(&cookie);
            let page = request.ask(&console).await;
            assert_eq!(
                page.status(),
                StatusCode::FORBIDDEN,
                "{path} {name}: {value}"
            );
            page.shows("この装置のページからの操作と確認できませんでした");
        }
    }
    assert!(desk.0.lock().unwrap().entered.is_empty());
    assert_eq!(
        get(BOX, "/notes")
            .cookie(&cookie)
            .ask(&console)
            .await
            .status(),
        StatusCode::OK
    );
    // An older browser that names only the origin.
    let request = post("/setup", "number=1&access_code=2").without("sec-fetch-site");
    let page = request
        .header("origin", "https://box.takahagi.localhost:8443")
        .ask(&console)
        .await;
    assert_eq!(page.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_get_changes_nothing() {
    let (console, desk) = console();
    desk.arrange(|arranged| arranged.setup.ready = false);
    for path in GETS {
        get(BOX, &format!("{path}?number=1&access_code=2&passphrase=3"))
            .ask(&console)
            .await;
    }
    let arranged = desk.0.lock().unwrap();
    assert!(arranged.entered.is_empty() && arranged.imported.is_empty());
}

#[tokio::test]
async fn every_answer_carries_the_header_fields_that_keep_it_private() {
    let (console, _desk, _directory) = console_with_notes().await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    let paths = GETS
        .into_iter()
        .chain(["/notes/p-1", "/search", "/nothing", "/sign-out"]);
    for path in paths {
        let page = get(BOX, path).cookie(&cookie).ask(&console).await;
        assert_eq!(page.header(header::CACHE_CONTROL), "no-store", "{path}");
        assert_eq!(page.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        let policy = page.header(header::CONTENT_SECURITY_POLICY);
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-"),
            "{path}"
        );
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"));
        assert!(!policy.contains("unsafe"));
        for script in page.text().split("<script").skip(1) {
            // In the page itself, and just what the policy allows.
            let script = script.strip_prefix('>').unwrap();
            let script = script.split_once("</script>").unwrap().0;
            let hash = digest::digest(&digest::SHA256, script.as_bytes());
            assert!(policy.contains(&format!("'sha256-{}'", STANDARD.encode(hash))));
        }
        let form = matches!(
            path,
            "/setup" | "/setup/import" | "/notes" | "/notes/p-1" | "/search"
        ) && page.status() == StatusCode::OK;
        let referrer = if form { "same-origin" } else { "no-referrer" };
        assert_eq!(page.header(header::REFERRER_POLICY), referrer, "{path}");
    }
}

#[tokio::test]
async fn a_name_that_was_made_to_lead_here_gets_nothing() {
    let (console, desk) = console();
    desk.arrange(|arranged| arranged.setup.ready = false);
    for host in [
        "evil.example",
        "evil.example:8443",
        NOTEBOOK,
        "localhost",
        "",
        "box.takahagi.localhost.evil",
    ] {
        for path in ["/", "/setup", "/notes"] {
            let page = get(host, path).ask(&console).await;
            assert_eq!(page.status(), StatusCode::NOT_FOUND, "{host}{path}");
        }
    }
    // By its address, as it may be printed on the label.
    for host in [
        "192.0.2.1",
        "192.0.2.1:8443",
        "[2001:db8::1]:8443",
        "BOX.takahagi.localhost",
    ] {
        assert_eq!(
            get(host, "/setup").ask(&console).await.status(),
            StatusCode::OK,
            "{host}"
        );
    }
}

#[tokio::test]
async fn on_the_notebooks_origin_there_is_one_page_and_on_ours_not_that_one() {
    let (console, _desk) = console();
    let reserved = "/.well-known/renraku-gateway/";
    for path in ["", "setup", "notes/p-1", "handover", "notes/"] {
        let page = get(NOTEBOOK, &format!("{reserved}{path}"))
            .ask(&console)
            .await;
        assert_eq!(page.status(), StatusCode::NOT_FOUND, "{path}");
        page.hides("<nav");
    }
    let page = get(BOX, &format!("{reserved}notes"))
        .staff("sato", Role::Staff)
        .ask(&console)
        .await;
    assert_eq!(page.status(), StatusCode::NOT_FOUND);
    let page = get(NOTEBOOK, &format!("{reserved}notes"))
        .method(Method::POST)
        .ask(&console)
        .await;
    assert_eq!(page.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_policy_names_the_very_style_sheet_of_the_page() {
    let (console, _desk) = console();
    let page = get(BOX, "/").ask(&console).await;
    let (_, rest) = page.text().split_once("<style>").unwrap();
    let (style, _) = rest.split_once("</style>").unwrap();
    let digest = digest::digest(&digest::SHA256, style.as_bytes());
    let source = format!("'sha256-{}'", STANDARD.encode(digest));
    assert!(
        page.header(header::CONTENT_SECURITY_POLICY)
            .contains(&source)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_request_gets_a_page_and_none_breaks_anything(
        host in prop_oneof![Just(BOX.to_owned()), Just(NOTEBOOK.to_owned()), ".{0,30}"],
        path in prop_oneof![
            prop::sample::select(GETS.to_vec()).prop_map(str::to_owned),
            "/notes/.{0,40}",
            "/.well-known/renraku-gateway/.{0,20}",
            ".{0,40}",
        ],
        query in prop::option::of(prop_oneof![".{0,40}", "(code|before)=.{0,40}"]),
        method in prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "BREW"]),
        body: Vec<u8>,
        site in prop::sample::select(vec!["same-origin", "cross-site", "\u{e9}"]),
        cookie in "[ -~]{0,60}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (console, _desk) = console();
        let target = query.map_or(path.clone(), |query| format!("{path}?{query}"));
        let request = post(&target, body)
            .host(&host)
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .header("sec-fetch-site", site)
            .header("content-type", "multipart/form-data; boundary=b")
            .cookie(&cookie);
        let page = runtime.block_on(request.ask(&console));
        prop_assert!(!page.status().is_server_error());
        prop_assert_eq!(page.header(header::CACHE_CONTROL), "no-store");
    }
}
