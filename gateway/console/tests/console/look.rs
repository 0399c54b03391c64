use std::path::Path;

use gateway_console::{Link, Message, Provenance};
use gateway_notes::Role;
use gateway_policy::Check;

use crate::desk::{
    BOX, NOTEBOOK, NOW, Page, TestDesk, certificate, console, console_with_notes, get,
    never_measured, post, signed_in,
};

/// Holds a page to what makes it usable, and writes it to a file to be looked at.
fn look(name: &str, page: &Page) {
    usable(name, page.text());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("console");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(format!("{name}.html")), page.text()).unwrap();
}

fn usable(name: &str, page: &str) {
    let count = |what: &str| page.matches(what).count();
    assert!(
        page.starts_with("<!doctype html>\n<html lang=\"ja\">"),
        "{name}"
    );
    assert_eq!(count("<h1>"), 1, "{name}: one heading of the page");
    assert_eq!(count("<main id=\"main\">"), 1, "{name}: one main part");
    assert!(
        page.contains("href=\"#main\""),
        "{name}: a way past the navigation"
    );
    assert!(
        page.contains("<title>") && page.contains("name=\"viewport\""),
        "{name}"
    );
    for field in page.split("<input ").skip(1) {
        if field.starts_with("type=\"hidden\"") {
            continue;
        }
        let id = field
            .split_once("id=\"")
            .unwrap()
            .1
            .split('"')
            .next()
            .unwrap();
        assert!(
            page.contains(&format!("<label for=\"{id}\">")),
            "{name}: {id} has a label"
        );
    }
    for inline in [
        " style=\"",
        " onclick",
        "javascript:",
        "<script",
        "http://",
        "src=",
    ] {
        assert_eq!(count(inline), 0, "{name}: {inline}");
    }
    // Askama's own marks, left over from a slip in a template.
    for mark in ["{{", "}}", "{%", "%}"] {
        assert!(
            !page.split_once("<body>").unwrap().1.contains(mark),
            "{name}: {mark}"
        );
    }
}

fn unready(desk: &TestDesk) {
    desk.arrange(|arranged| {
        arranged.setup.ready = false;
        arranged.setup.certificates.clear();
    });
}

#[tokio::test]
async fn the_pages_of_setting_up_are_usable() {
    let (console, desk) = console();
    unready(&desk);
    look("home-new", &get(BOX, "/").ask(&console).await);
    look("setup", &get(BOX, "/setup").ask(&console).await);
    look(
        "certificates-none",
        &get(BOX, "/certificates").ask(&console).await,
    );
    desk.arrange(|arranged| arranged.setup.code_required = true);
    look("import", &get(BOX, "/setup/import").ask(&console).await);
    desk.arrange(|arranged| {
        arranged.setup.code_required = false;
        arranged.setup.running = Some("鍵をTPMの中に用意しました。市に申請しています。".into());
    });
    look("setup-running", &get(BOX, "/setup").ask(&console).await);
    desk.arrange(|arranged| {
        arranged.setup.running = None;
        arranged.answer = Err(Message {
            sentence: "番号またはアクセスコードが違います。".into(),
            next_step:
                "書類を見ながら、もう一度入力してください。5回まちがえると番号が使えなくなります。"
                    .into(),
            code: "P-CODE".into(),
        });
    });
    look(
        "setup-failed",
        &post("/setup", "number=1&access_code=2").ask(&console).await,
    );
}

#[tokio::test]
async fn the_pages_of_a_working_box_are_usable() {
    let (console, desk, _directory) = console_with_notes().await;
    look("home", &get(BOX, "/").ask(&console).await);
    look("setup-ready", &get(BOX, "/setup").ask(&console).await);
    desk.arrange(|arranged| {
        let mut spare = certificate(Provenance::Imported);
        spare.label = "予備".into();
        spare.warning = Some("電子証明書は2026年12月20日に期限が切れます。".into());
        arranged.setup.certificates.push(spare);
    });
    look(
        "certificates",
        &get(BOX, "/certificates").ask(&console).await,
    );
    look("notices", &get(BOX, "/notices").ask(&console).await);
    look("missing", &get(BOX, "/missing").ask(&console).await);
    let door = get(NOTEBOOK, "/.well-known/renraku-gateway/notes");
    look("sign-in-first", &door.ask(&console).await);
}

#[tokio::test]
async fn the_pages_of_trouble_are_usable() {
    let (console, desk, _directory) = console_with_notes().await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    look(
        "persons",
        &get(BOX, "/notes").cookie(&cookie).ask(&console).await,
    );
    desk.arrange(|arranged| {
        arranged.city = Link::Down {
            since: NOW.plus(-300),
        };
        arranged.line = Link::Down {
            since: NOW.plus(-300),
        };
    });
    look(
        "home-outage",
        &get(BOX, "/").cookie(&cookie).ask(&console).await,
    );
    look(
        "persons-outage",
        &get(BOX, "/notes").cookie(&cookie).ask(&console).await,
    );
    look(
        "notes-outage",
        &get(BOX, "/notes/p-1").cookie(&cookie).ask(&console).await,
    );
    desk.arrange(|arranged| arranged.snapshot = never_measured(Check::AvAlive));
    look("home-blocked", &get(BOX, "/").ask(&console).await);
}
