//! The portal and the staff pages with curl as the browser.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod running_city;

use running_city::{Answer, Identity, RENRAKU, RunningCity};
use serde_json::json;

/// A browser's Accept.
const PAGE: [&str; 2] = ["-H", "accept: text/html"];
const JSON: [&str; 2] = ["-H", "accept: application/json"];

fn with_cookie<'a>(cookie: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["-b", cookie], more].concat()
}

fn token(page: &str) -> String {
    let at = page
        .find("name=\"csrf\" value=\"")
        .expect("the page has a form")
        + 19;
    page[at..].split('"').next().unwrap().to_owned()
}

fn open(city: &RunningCity, who: &Identity, cookie: &str, path: &str) -> Answer {
    city.curl_as(who, RENRAKU, path, &with_cookie(cookie, &PAGE))
}

#[test]
fn the_portal_is_open_to_everyone_and_shows_no_member_notice() {
    let city = RunningCity::start();
    let page = city.curl(RENRAKU, "/", &PAGE);
    assert_eq!(page.status, 200);
    let text = page.text();
    assert!(text.contains("ポータルサイト") && text.contains("保守作業のお知らせ"));
    assert!(!text.contains("利用スタッフ限定"));
    assert!(
        text.contains(&format!("href=\"{}\"", city.url(RENRAKU, "/staff/"))),
        "an absolute link from the Host"
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
}

#[test]
fn without_a_certificate_the_staff_pages_are_refused_in_japanese_or_json() {
    let city = RunningCity::start();
    for path in [
        "/staff/",
        "/staff/login",
        "/staff/live.js",
        "/staff/persons/p-1001",
    ] {
        let page = city.curl(RENRAKU, path, &PAGE);
        assert_eq!(page.status, 403, "{path}");
        assert!(
            page.text().contains("電子証明書のある利用事業所")
                && page.text().contains("サポートコード")
        );
    }
    assert_eq!(
        city.curl(RENRAKU, "/staff/", &JSON).problem(),
        "certificate-required"
    );
    assert_eq!(
        city.curl(RENRAKU, "/staff/api/persons", &PAGE).problem(),
        "certificate-required"
    );
}

#[test]
fn a_person_signs_in_with_the_form_and_the_box_is_told() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let first = city.curl_as(&who, RENRAKU, "/staff/", &PAGE);
    assert_eq!(
        (first.status, first.header("location").unwrap().as_str()),
        (303, "/staff/login")
    );
    let form = format!("user_id=sakura-01&password={}", city.password("sakura-01"));
    let answer = city.curl_as(&who, RENRAKU, "/staff/login", &["-d", &form]);
    assert_eq!(answer.status, 303);
    assert_eq!(
        answer.header("location").unwrap(),
        city.url(RENRAKU, "/staff/"),
        "an absolute redirect from the Host"
    );
    let cookie = answer.header("set-cookie").unwrap();
    for part in [
        "__Host-renraku=",
        "Secure",
        "HttpOnly",
        "SameSite=Lax",
        "Path=/",
    ] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let staff = answer.header("renraku-staff").unwrap();
    assert!(
        staff.starts_with("\"sakura-01\"; role=staff; cookie=\"__Host-renraku\"; until="),
        "{staff}"
    );
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let list = open(&city, &who, &cookie, "/staff/");
    assert!(
        list.text().contains("架空 花子") && !list.text().contains("仮名 しず"),
        "only whom she may read"
    );
    assert!(list.header("renraku-staff").is_none());
    let csrf = token(&list.text());
    let forged = city.curl_as(
        &who,
        RENRAKU,
        "/staff/logout",
        &with_cookie(&cookie, &["-d", "csrf=x"]),
    );
    assert_eq!(forged.status, 403);
    let form = format!("csrf={csrf}");
    let out = city.curl_as(
        &who,
        RENRAKU,
        "/staff/logout",
        &with_cookie(&cookie, &["-d", &form]),
    );
    assert_eq!(
        (out.status, out.header("renraku-staff").unwrap().as_str()),
        (303, "?0")
    );
    let after = open(&city, &who, &cookie, "/staff/");
    assert_eq!(
        (
            after.status,
            after.header("renraku-staff").unwrap().as_str()
        ),
        (303, "?0")
    );
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_answered_alike() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let wrong = city.sign_in_answer(&who, "sakura-01", "wrong");
    let unknown = city.sign_in_answer(&who, "nobody", "wrong");
    assert_eq!(
        (wrong.status, wrong.problem()),
        (403, "sign-in-failed".to_owned())
    );
    assert_eq!(
        (unknown.status, unknown.problem()),
        (403, "sign-in-failed".to_owned())
    );
    let page = city.curl_as(
        &who,
        RENRAKU,
        "/staff/login",
        &["-d", "user_id=sakura-01&password=wrong"],
    );
    assert_eq!(page.status, 403);
    assert!(page.text().contains("ユーザーIDまたはパスワードが違います"));
    assert!(page.header("renraku-staff").is_none() && page.header("set-cookie").is_none());
}

#[test]
fn a_user_of_another_facility_is_refused_and_that_is_logged() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let answer = city.sign_in_answer(&who, "midori-01", &city.password("midori-01"));
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (403, "wrong-facility")
    );
    assert!(city.log().contains("user of another facility refused"));
    assert!(answer.header("set-cookie").is_none());
}

#[test]
fn a_session_does_not_travel_to_another_facilitys_certificate() {
    let city = RunningCity::start();
    let here = city.identity("tkh-1001", "here");
    let there = city.identity("tkh-1002", "there");
    let cookie = city.sign_in(&here, "sakura-01");
    let answer = city.curl_as(&there, RENRAKU, "/staff/", &with_cookie(&cookie, &JSON));
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (403, "wrong-facility")
    );
    assert_eq!(answer.header("renraku-staff").unwrap(), "?0");
    let back = city.curl_as(
        &here,
        RENRAKU,
        "/staff/api/persons",
        &with_cookie(&cookie, &JSON),
    );
    assert_eq!(
        back.status, 401,
        "the session ended when it turned up elsewhere"
    );
}

#[test]
fn a_suspended_user_is_out_at_once_and_a_suspended_facility_too() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let (one, other) = (
        city.sign_in(&who, "sakura-01"),
        city.sign_in(&who, "sakura-02"),
    );
    city.control("suspend-user", &json!({ "user_id": "sakura-01" }));
    let answer = city.curl_as(
        &who,
        RENRAKU,
        "/staff/api/persons",
        &with_cookie(&one, &JSON),
    );
    assert_eq!(
        (
            answer.status,
            answer.header("renraku-staff").unwrap().as_str()
        ),
        (401, "?0")
    );
    let again = city.sign_in_answer(&who, "sakura-01", &city.password("sakura-01"));
    assert_eq!(again.problem(), "user-suspended");
    assert_eq!(
        city.curl_as(
            &who,
            RENRAKU,
            "/staff/api/persons",
            &with_cookie(&other, &JSON)
        )
        .status,
        200
    );
    city.control("suspend-facility", &json!({ "id": "tkh-1001" }));
    let answer = city.curl_as(
        &who,
        RENRAKU,
        "/staff/api/persons",
        &with_cookie(&other, &JSON),
    );
    assert_eq!(answer.problem(), "facility-suspended");
    assert_eq!(
        city.curl_as(&who, RENRAKU, "/", &PAGE).status,
        200,
        "the portal stays open"
    );
}

#[test]
fn a_note_with_attachments_is_posted_read_and_downloaded_in_ranges() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let cookie = city.sign_in(&who, "sakura-01");
    let page = open(&city, &who, &cookie, "/staff/persons/p-1001");
    let csrf = format!("csrf={}", token(&page.text()));
    let picture = city.path("photo.png");
    let bytes = reference_city::seed::files::png();
    std::fs::write(&picture, &bytes).unwrap();
    let file = format!("attachment=@{};type=image/png", picture.display());
    let form = [
        "-F",
        &csrf,
        "--form-string",
        "text=<b>食事</b>は全量召し上がりました。",
        "-F",
        &file,
    ];
    let posted = city.curl_as(
        &who,
        RENRAKU,
        "/staff/persons/p-1001/notes",
        &with_cookie(&cookie, &form),
    );
    assert_eq!(posted.status, 303, "{}", posted.text());
    let page = open(&city, &who, &cookie, "/staff/persons/p-1001").text();
    assert!(
        page.contains("食事") && page.contains("&#60;b&#62;"),
        "text is escaped"
    );
    let first = &page[page.find("class=\"note\"").unwrap()..];
    assert!(first[..600].contains("食事"), "newest first");
    let at = page.find("data-attachment-id=\"").unwrap() + 20;
    let path = format!(
        "/staff/attachments/{}",
        page[at..].split('"').next().unwrap()
    );
    let whole = city.curl_as(&who, RENRAKU, &path, &with_cookie(&cookie, &[]));
    assert_eq!(whole.body, bytes);
    assert_eq!(whole.header("content-type").unwrap(), "image/png");
    let part = city.curl_as(
        &who,
        RENRAKU,
        &path,
        &with_cookie(&cookie, &["-r", "100-199"]),
    );
    assert_eq!((part.status, &part.body[..]), (206, &bytes[100..200]));
    let beyond = city.curl_as(
        &who,
        RENRAKU,
        &path,
        &with_cookie(&cookie, &["-r", "9999999-"]),
    );
    assert_eq!(beyond.status, 416);
    let other = city.sign_in(&who, "sakura-03");
    assert_eq!(
        city.curl_as(&who, RENRAKU, &path, &with_cookie(&other, &[]))
            .status,
        200,
        "may read p-1001"
    );
    let p1002 = city.curl_as(
        &who,
        RENRAKU,
        "/staff/persons/p-1002",
        &with_cookie(&other, &JSON),
    );
    assert_eq!(p1002.problem(), "not-found", "may not read p-1002");
}

#[test]
fn an_attachment_over_25_megabytes_is_refused_and_leaves_nothing_behind() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let cookie = city.sign_in(&who, "sakura-01");
    let csrf = format!(
        "csrf={}",
        token(&open(&city, &who, &cookie, "/staff/persons/p-1001").text())
    );
    let large = city.path("large.bin");
    std::fs::write(&large, vec![7; 25_000_001]).unwrap();
    let file = format!("attachment=@{}", large.display());
    let form = [
        "-F",
        &csrf,
        "-F",
        "text=大きい",
        "-F",
        &file,
        "-H",
        "accept: application/json",
    ];
    let answer = city.curl_as(
        &who,
        RENRAKU,
        "/staff/persons/p-1001/notes",
        &with_cookie(&cookie, &form),
    );
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (413, "too-large")
    );
    assert_eq!(
        std::fs::read_dir(city.path("city/incoming"))
            .unwrap()
            .count(),
        0
    );
    std::fs::write(&large, vec![7; 25_000_000]).unwrap();
    let fits = city.curl_as(
        &who,
        RENRAKU,
        "/staff/persons/p-1001/notes",
        &with_cookie(&cookie, &form),
    );
    assert_eq!(fits.status, 303);
}

#[test]
fn a_form_without_its_token_writes_nothing() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let cookie = city.sign_in(&who, "sakura-01");
    for form in [
        vec!["-F", "text=偽の記録"],
        vec!["-F", "csrf=wrong", "-F", "text=偽の記録"],
    ] {
        let answer = city.curl_as(
            &who,
            RENRAKU,
            "/staff/persons/p-1001/notes",
            &with_cookie(&cookie, &form),
        );
        assert_eq!(answer.status, 403);
    }
    let elsewhere = [
        "-H",
        "origin: https://elsewhere.example",
        "-H",
        "accept: application/json",
        "-d",
        "x",
    ];
    let answer = city.curl_as(&who, RENRAKU, "/staff/login", &elsewhere);
    assert_eq!(answer.problem(), "cross-origin");
    assert!(
        !open(&city, &who, &cookie, "/staff/persons/p-1001")
            .text()
            .contains("偽の記録")
    );
}

#[test]
fn ending_support_removes_the_record_and_its_files() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let cookie = city.sign_in(&who, "sakura-01");
    let before = std::fs::read_dir(city.path("city/attachments"))
        .unwrap()
        .count();
    let page = open(&city, &who, &cookie, "/staff/persons/p-1001/end");
    let form = format!("csrf={}&confirmed=yes", token(&page.text()));
    let done = city.curl_as(
        &who,
        RENRAKU,
        "/staff/persons/p-1001/end",
        &with_cookie(&cookie, &["-d", &form]),
    );
    assert_eq!(done.status, 303);
    assert_eq!(
        open(&city, &who, &cookie, "/staff/persons/p-1001").status,
        404
    );
    let after = std::fs::read_dir(city.path("city/attachments"))
        .unwrap()
        .count();
    assert!(after < before, "{before} files, then {after}");
}

#[test]
fn a_changed_password_ends_the_other_sessions_and_the_old_one_is_wrong() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let (here, elsewhere) = (
        city.sign_in(&who, "sakura-02"),
        city.sign_in(&who, "sakura-02"),
    );
    let csrf = token(&open(&city, &who, &here, "/staff/password").text());
    let old = city.password("sakura-02");
    let form = format!("csrf={csrf}&old={old}&new=Atarashii-2026");
    let answer = city.curl_as(
        &who,
        RENRAKU,
        "/staff/password",
        &with_cookie(&here, &["-d", &form]),
    );
    assert_eq!(answer.status, 303);
    assert!(
        answer
            .header("renraku-staff")
            .unwrap()
            .starts_with("\"sakura-02\"")
    );
    assert_eq!(
        city.curl_as(
            &who,
            RENRAKU,
            "/staff/api/session",
            &with_cookie(&elsewhere, &JSON)
        )
        .status,
        401
    );
    assert_eq!(city.sign_in_answer(&who, "sakura-02", &old).status, 403);
    assert_eq!(
        city.sign_in_answer(&who, "sakura-02", "Atarashii-2026")
            .status,
        201
    );
}

#[test]
fn the_json_interface_lists_reads_and_writes() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let cookie = city.sign_in(&who, "sakura-01");
    let persons = city
        .curl_as(
            &who,
            RENRAKU,
            "/staff/api/persons",
            &with_cookie(&cookie, &[]),
        )
        .json();
    assert_eq!(persons["persons"].as_array().unwrap().len(), 3);
    let path = "/staff/api/persons/p-1002/notes";
    let send = [
        "-H",
        "content-type: application/json",
        "-d",
        r#"{"text":"JSONからの記録"}"#,
    ];
    let posted = city.curl_as(&who, RENRAKU, path, &with_cookie(&cookie, &send));
    assert_eq!(posted.status, 201);
    let notes = city
        .curl_as(&who, RENRAKU, path, &with_cookie(&cookie, &[]))
        .json();
    assert_eq!(notes["notes"][0]["text"], "JSONからの記録");
    assert_eq!(notes["notes"][0]["author"], "sakura-01");
    let empty = [
        "-H",
        "content-type: application/json",
        "-d",
        r#"{"text":"  "}"#,
    ];
    assert_eq!(
        city.curl_as(&who, RENRAKU, path, &with_cookie(&cookie, &empty))
            .problem(),
        "bad-request"
    );
    let no_json = city.curl_as(
        &who,
        RENRAKU,
        path,
        &with_cookie(&cookie, &["-d", "text=x"]),
    );
    assert_eq!(no_json.problem(), "unsupported-media-type");
}

#[test]
fn texts_of_notes_names_and_passwords_appear_in_no_log() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let cookie = city.sign_in(&who, "sakura-01");
    let send = [
        "-H",
        "content-type: application/json",
        "-d",
        r#"{"text":"ログに出てはいけない文"}"#,
    ];
    city.curl_as(
        &who,
        RENRAKU,
        "/staff/api/persons/p-1001/notes",
        &with_cookie(&cookie, &send),
    );
    city.sign_in_answer(&who, "sakura-01", "machigai-password");
    let log = city.log();
    let value = cookie.split_once('=').unwrap().1;
    for secret in [
        "ログに出てはいけない文",
        "machigai-password",
        "架空 花子",
        value,
        &city.password("sakura-01"),
    ] {
        assert!(!log.contains(secret), "{secret} was logged");
    }
}
