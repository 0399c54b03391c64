use std::path::Path;

use gateway_console::{DeviceKind, Link, Message, Provenance, RecoveryKey};
use gateway_notes::Role;
use gateway_policy::Check;

use crate::desk::{
    BOX, NOTEBOOK, NOW, Page, TestDesk, certificate, console, console_with_notes, get,
    never_measured, post, signed_in,
};
use crate::parts::{MANAGERS, approved, opening, troubled_lines, waiting, waits, whole_console};

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
        // Scripts stand in the page; which, say its policy and the tests of it.
        "<script ",
        "http://",
        "src=",
    ] {
        assert_eq!(count(inline), 0, "{name}: {inline}");
    }
    // Askama's own marks, left over from a slip in a template; scripts have braces of their own.
    let body = page.split_once("<body").unwrap().1;
    let body: String = body
        .split("<script>")
        .map(|part| {
            part.split_once("</script>")
                .map_or(part, |(_, after)| after)
        })
        .collect();
    for mark in ["{{", "}}", "{%", "%}"] {
        assert!(!body.contains(mark), "{name}: {mark}");
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
async fn the_pages_of_notes_are_usable() {
    let (console, _desk, _directory) = console_with_notes().await;
    let cookie = signed_in(&console, "sato", Role::Staff, None).await;
    for (name, target) in [
        ("note", "/notes/p-1/note/n-3"),
        ("print", "/notes/p-1/print"),
        ("draft", "/notes/p-1/draft"),
        ("search", "/search"),
    ] {
        look(name, &get(BOX, target).cookie(&cookie).ask(&console).await);
    }
    let asked = post("/search", "q=sato")
        .cookie(&cookie)
        .ask(&console)
        .await;
    let found = get(BOX, asked.header("location")).cookie(&cookie);
    look("results", &found.ask(&console).await);
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

#[tokio::test]
async fn the_pages_for_the_manager_are_usable() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    let page = async |target: &str| {
        let request = get(BOX, target).device(MANAGERS).cookie(&cookie);
        request.ask(&console).await
    };
    look("compliance-home-good", &page("/").await);
    parts.arrange(|arranged| {
        arranged.lines = troubled_lines();
        arranged.waiting = vec![waiting()];
    });
    look("devices", &page("/devices").await);
    let found = post("/devices/pairing", "code=48291537")
        .device(MANAGERS)
        .cookie(&cookie)
        .ask(&console)
        .await;
    look("device-decide", &found);
    look(
        "device",
        &page(&format!("/devices/{}", "1".repeat(32))).await,
    );
    parts.arrange(|arranged| arranged.waiting.clear());
    look("compliance-home", &page("/").await);
    for (name, target) in [
        ("registers", "/registers"),
        ("media", "/media"),
        ("medium-new", "/media/new"),
        ("medium-kept", "/media/1"),
        ("medium-lent", "/media/2"),
        ("medium-missing", "/media/3"),
        ("media-review", "/media/review"),
        ("media-print", "/media/print"),
        ("training", "/training"),
        ("declarations", "/declarations"),
        ("report", "/report"),
        ("device-days", "/devices/days"),
        ("device-certificate", "/devices/certificate"),
        ("exceptions", "/exceptions"),
        (
            "exception-new",
            "/exceptions/new?device=11111111111111111111111111111111&check=PC-LOCK",
        ),
    ] {
        look(name, &page(target).await);
    }
}

#[tokio::test]
async fn the_pages_of_break_glass_are_usable() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    let page = async || {
        let request = get(BOX, "/break-glass").device(MANAGERS).cookie(&cookie);
        request.ask(&console).await
    };
    parts.arrange(|arranged| {
        arranged.break_glass.would_help = true;
        arranged.break_glass.past = vec![opening(1, NOW.plus(-90_000))];
    });
    look("break-glass", &page().await);
    parts.arrange(|arranged| arranged.break_glass.open = Some(opening(2, NOW.plus(-600))));
    look("break-glass-open", &page().await);
    let code = post("/break-glass/code", "")
        .device(MANAGERS)
        .cookie(&cookie)
        .ask(&console)
        .await;
    look("sealed-code", &code);
    parts.arrange(|arranged| arranged.recovery = RecoveryKey::OnTheBox);
    let recovery = get(BOX, "/recovery-key").device(MANAGERS).cookie(&cookie);
    let leaving = get(BOX, "/leaving").device(MANAGERS).cookie(&cookie);
    look("leaving", &leaving.ask(&console).await);
    look("recovery", &recovery.ask(&console).await);
    let key = post("/recovery-key/show", "")
        .device(MANAGERS)
        .cookie(&cookie);
    look("recovery-key", &key.ask(&console).await);
}

#[tokio::test]
async fn the_pages_of_pairing_are_usable() {
    let (console, _, parts, _directory) = whole_console().await;
    let page = async || {
        let request = get(BOX, "/pairing").cookie("__Host-pairing=ticket");
        request.ask(&console).await
    };
    look("pairing", &get(BOX, "/pairing").ask(&console).await);
    parts.arrange(|arranged| arranged.pairing = waits);
    look("pairing-waiting", &page().await);
    parts.arrange(|arranged| arranged.pairing = || approved(DeviceKind::Windows));
    look("pairing-approved", &page().await);
}
