//! Signing in while the city is away: a PIN that was set while it was there, on a registered device, in a real browser; and
//! what does not get past it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_e2e::browsing::{Result, Window};
use gateway_e2e::seats::{Seat, openssl, pair};
use gateway_e2e::signing_in::at_the_notebook;
use gateway_e2e::visiting::{Answer, password};
use serde_json::json;
use test_harness::browser::Browser;
use test_harness::facility::{Facility, Options};
use test_harness::wait;

const SOON: Duration = Duration::from_secs(90);
const USER: &str = "sakura-01";
const PIN: &str = "803917";
const LOCKED: &str = "サインインできませんでした";

/// A facility whose city permits PINs, with registered devices only.
fn facility() -> Facility {
    let facility = Facility::start(Options {
        refuse_unknown_devices: true,
        ..Options::default()
    })
    .unwrap();
    policy(&facility, 1, &json!({ "offline_pin": true }));
    facility
}

fn policy(facility: &Facility, version: u64, store: &serde_json::Value) {
    let now = test_harness::signatures::now();
    let document = json!({
        "version": version, "not_before": now - 3600, "expires": now + 30 * 86_400,
        "facilities": ["*"], "store": store,
    });
    facility.city.control("tuf-policy", &document).unwrap();
    let hint = json!({ "what": "policy" });
    facility.city.control("hint", &hint).unwrap();
    let line = format!("version={version}");
    wait::until("the policy", SOON, || {
        let log = facility.gateway.log();
        let taken = |text: &str| text.contains("TUF-POLICY") && text.contains(&line);
        log.lines().any(taken).then_some(())
    })
    .unwrap();
}

/// Registers a device by way of a manager at a seat that is registered, or still needs not to be.
fn device<'a>(facility: &'a Facility, manager: &Seat<'_>, name: &str) -> Seat<'a> {
    pair(facility, manager, name, "linux")
}

fn signs_in(facility: &Facility, seat: &Seat<'_>, user: &str) {
    let secret = password(facility, user);
    let origin = format!("Origin: {}", seat.notebook("").trim_end_matches('/'));
    let page = seat.send(&[
        "--location",
        "--header",
        "Accept: text/html",
        "--header",
        &origin,
        "--data-urlencode",
        &format!("user_id={user}"),
        "--data-urlencode",
        &format!("password={secret}"),
        &seat.notebook("staff/login"),
    ]);
    assert!(page.says("支援対象者"), "{page:?}");
    stored(seat, "参照情報");
}

/// Opens the stored notes by way of the notebook until they say this.
fn stored(seat: &Seat<'_>, words: &str) {
    let open = || seat.open(&seat.notebook(".well-known/renraku-gateway/notes"));
    let found = wait::until(words, SOON, || open().says(words).then_some(()));
    assert!(found.is_ok(), "{words}: {:?}", open());
}

fn away(facility: &Facility, seat: &Seat<'_>) {
    facility.city.fail("down").unwrap();
    wait::until("the outage", SOON, || {
        let home = seat.open(&seat.console(""));
        home.says("市の連絡帳につながりません").then_some(())
    })
    .unwrap();
}

fn back(facility: &Facility, seat: &Seat<'_>) {
    facility.city.recover().unwrap();
    wait::until("the city", SOON, || {
        let home = seat.open(&seat.console(""));
        let there = home.status == 200 && !home.says("つながりません");
        let notebook = seat.open(&seat.notebook("staff/login"));
        (there && notebook.status == 200).then_some(())
    })
    .unwrap();
}

/// One attempt with a PIN.
fn tries(seat: &Seat<'_>, user: &str, pin: &str) -> Answer {
    seat.submits("sign-in", &[("user", user), ("pin", pin)])
}

fn is_in(answer: &Answer) -> bool {
    answer.status == 200 && answer.says("参照情報")
}

/// Ends the session on the console, as closing the browser does.
fn leaves(seat: &Seat<'_>) {
    let _ = seat.submits("sign-out", &[("done", "yes")]);
}

fn p12(facility: &Facility, seat: &Seat<'_>) -> PathBuf {
    let (certificate, key) = seat.certificate.as_ref().unwrap();
    let file = facility.directory().join("device.p12");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    openssl(&[
        "pkcs12",
        "-export",
        "-in",
        &text(certificate),
        "-inkey",
        &text(key),
        "-out",
        &text(&file),
        "-passout",
        "pass:word",
    ]);
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_set_beside_the_city_opens_stored_notes_without_it_until_it_is_typed_wrong_five_times()
-> Result<()> {
    let facility = facility();
    let manager = Seat::new(&facility, "manager");
    manager.signs_in_as_manager();
    let pc = device(&facility, &manager, "office-pc");
    let mut browser = Browser::start(&facility.city.ca_file()).unwrap();
    browser
        .install_certificate(&p12(&facility, &pc), "word")
        .unwrap();

    let window = Window::open(&browser).await?;
    sign_in(&facility, &window).await?;
    window.click("a[href='/pin']").await?;
    window.reads("まだ設定していません").await?;
    choose(&window, "123456").await?;
    window.reads("順番に並んだPIN").await?;
    window.photograph("pin-1-too-easy").await?;
    choose(&window, PIN).await?;
    window.reads("に設定しました").await?;
    window.photograph("pin-2-set").await?;
    on_a_telephone(&window, "pin-2-set-phone").await?;
    window.close().await;

    // A new browser in the outage: nobody is signed in.
    away(&facility, &pc);
    let window = Window::open(&browser).await?;
    window
        .visit(&format!("{}staff/", facility.gateway.portal_url()))
        .await?;
    window.reads("連絡帳につながりません").await?;
    window
        .click("a[href*='/.well-known/renraku-gateway/notes']")
        .await?;
    window.reads("PINでサインイン").await?;
    window.photograph("pin-3-outage").await?;
    on_a_telephone(&window, "pin-3-outage-phone").await?;
    enter(&window, PIN).await?;
    window.reads("参照情報").await?;
    window.reads("架空 花子").await?;
    window.photograph("pin-4-notes").await?;
    window
        .visit(&format!("{}devices", facility.gateway.console_url()))
        .await?;
    window.reads("事業所管理者だけ").await?;
    window.visit(&facility.gateway.console_url()).await?;
    sign_out(&window).await?;

    window
        .visit(&format!("{}sign-in", facility.gateway.console_url()))
        .await?;
    for _ in 0..5 {
        enter(&window, "520863").await?;
        window.reads(LOCKED).await?;
    }
    enter(&window, PIN).await?;
    window.reads(LOCKED).await?;
    window.photograph("pin-5-locked").await?;
    on_a_telephone(&window, "pin-5-locked-phone").await?;

    back(&facility, &pc);
    window
        .visit(&format!("{}sign-in", facility.gateway.console_url()))
        .await?;
    window.reads("いつもどおり、連絡帳にサインイン").await?;
    window.photograph("pin-6-back").await?;
    sign_in(&facility, &window).await?;
    window
        .visit(&format!("{}pin", facility.gateway.console_url()))
        .await?;
    window.reads_after_reloading("設定済み").await?;
    window.visit(&facility.gateway.console_url()).await?;
    sign_out(&window).await?;
    window.close().await;

    away(&facility, &pc);
    let window = Window::open(&browser).await?;
    window
        .visit(&format!("{}sign-in", facility.gateway.console_url()))
        .await?;
    enter(&window, PIN).await?;
    window.reads("架空 花子").await?;
    window.close().await;
    let log = facility.gateway.log();
    assert!(!log.contains(PIN) && !log.contains("520863"));
    drop((manager, pc));
    is_in_the_audit_log(
        facility,
        &["set", "signed-in", "locked", "unlocked", "signed-in"],
    );
    Ok(())
}

/// What happened to the one PIN is in the log, in this order, under a pseudonym, and the log verifies.
fn is_in_the_audit_log(mut facility: Facility, expected: &[&str]) {
    let signal = nix::sys::signal::Signal::SIGTERM;
    facility.gateway.process().signal(signal).unwrap();
    facility.gateway.process().wait(SOON).unwrap();
    let log = facility.gateway.state_directory().join("audit");
    let mut files: Vec<_> = std::fs::read_dir(&log)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.file_stem().is_some_and(|stem| stem.len() == 20))
        .collect();
    files.sort();
    let text: String = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    assert!(!text.contains(USER) && !text.contains(PIN), "{text}");
    let entries: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["entry"].clone())
        .filter(|entry| entry["kind"] == "pin")
        .collect();
    let said: Vec<_> = entries.iter().map(|entry| &entry["what"]).collect();
    assert_eq!(said, expected);
    let mut users: Vec<_> = entries.iter().map(|entry| entry["user"].as_str()).collect();
    users.dedup();
    assert!(users.len() == 1 && users[0].is_some_and(|user| user.len() == 32));
    for entry in &entries {
        let from_a_device = ["signed-in", "locked"]
            .iter()
            .any(|what| entry["what"] == *what);
        assert_eq!(entry["device"].is_string(), from_a_device, "{entry}");
    }
    let verified = std::process::Command::new(test_harness::binaries::ours("gatewayctl").unwrap())
        .args(["audit", "verify", "--json", "--dir"])
        .arg(&log)
        .arg("--anchor")
        .arg(facility.city.ca_file())
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

/// Signs in at the notebook and opens the stored notes.
async fn sign_in(facility: &Facility, window: &Window) -> Result<()> {
    at_the_notebook(facility, window, USER).await?;
    let notes = format!(
        "{}.well-known/renraku-gateway/notes",
        facility.gateway.portal_url()
    );
    window.visit(&notes).await?;
    window.reads("参照情報").await
}

async fn choose(window: &Window, pin: &str) -> Result<()> {
    window.type_into("#pin", pin).await?;
    window.type_into("#pin_again", pin).await?;
    window.click("#set-pin").await
}

/// Sends the form, and returns when its answer has taken the page's place: that may look the same.
async fn enter(window: &Window, pin: &str) -> Result<()> {
    window.type_into("#user", USER).await?;
    window.type_into("#pin", pin).await?;
    send(window, "#sign-in").await
}

/// Ends the session on the console. Whoever goes elsewhere before the answer is there is brought back by it.
async fn sign_out(window: &Window) -> Result<()> {
    send(window, "form[action='/sign-out'] button").await
}

/// Clicks, and returns when the answer has taken the page's place.
async fn send(window: &Window, button: &str) -> Result<()> {
    window
        .run("document.documentElement.dataset.sent = 'yes'")
        .await?;
    window.click(button).await?;
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while window.count("html[data-sent]").await > 0 {
        assert!(std::time::Instant::now() < until, "no answer to the form");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn on_a_telephone(window: &Window, name: &str) -> Result<()> {
    window.screen(390, 844).await?;
    window.photograph(name).await?;
    let wider = window
        .run("return document.documentElement.scrollWidth > window.innerWidth")
        .await?;
    assert_eq!(wider, false, "{name} scrolls sideways");
    assert_eq!(window.breaches().await?, Vec::<String>::new(), "{name}");
    window.screen(1100, 1000).await
}

/// Two registered PCs and a PIN, and the city is gone.
fn two_devices(facility: &Facility) -> (Seat<'_>, Seat<'_>) {
    let manager = Seat::new(facility, "manager");
    manager.signs_in_as_manager();
    let one = device(facility, &manager, "one");
    one.signs_in_as_manager();
    let two = device(facility, &one, "two");
    leaves(&one);
    signs_in(facility, &two, USER);
    let set = two.submits("pin", &[("pin", PIN), ("pin_again", PIN)]);
    assert!(set.says("に設定しました"), "{set:?}");
    leaves(&two);
    away(facility, &two);
    (one, two)
}

#[test]
fn a_pin_is_no_way_in_from_elsewhere_for_others_or_beside_the_city() {
    let facility = facility();
    let (one, two) = two_devices(&facility);
    let stranger = Seat::new(&facility, "stranger");
    let page = tries(&stranger, USER, PIN);
    assert!(
        page.status == 403 && page.says("登録されていません"),
        "{page:?}"
    );

    // Nobody, somebody without a PIN, and a wrong PIN: the same words.
    let main = |answer: &Answer| {
        let after = answer.body.split("<main").nth(1).unwrap_or_default();
        after
            .replace("nobody", "-")
            .replace("sakura-02", "-")
            .replace(USER, "-")
    };
    let answers = ["nobody", "sakura-02", USER].map(|user| main(&tries(&one, user, "520863")));
    assert!(answers[0].contains(LOCKED), "{}", answers[0]);
    assert!(answers[0] == answers[1] && answers[1] == answers[2]);

    // The session belongs to the device that opened it, and to reading.
    assert!(is_in(&tries(&two, USER, PIN)));
    let refused = two.open(&two.console("devices"));
    assert_eq!(refused.status, 403);
    let jar = |name: &str| facility.directory().join(format!("{name}.cookies"));
    std::fs::copy(jar("two"), jar("one")).unwrap();
    let moved = one.open(&one.console("notes"));
    assert!(!is_in(&moved), "{moved:?}");

    // A PIN is neither set nor changed in an outage.
    let set = two.submits("pin", &[("pin", "520863"), ("pin_again", "520863")]);
    assert!(set.says("つながっている間だけ"), "{set:?}");

    // The city is back: the session ends, and no PIN is taken.
    back(&facility, &two);
    assert!(!is_in(&two.open(&two.console("notes"))));
    let page = tries(&two, USER, PIN);
    assert!(page.says("いつもどおり、連絡帳にサインイン"), "{page:?}");

    // A suspension destroys the PIN, and its end does not bring it back.
    let suspend = |suspended: bool| {
        let what = json!({ "id": USER, "suspended": suspended });
        facility.city.control("suspend-user", &what).unwrap();
    };
    signs_in(&facility, &two, USER);
    suspend(true);
    wait::until("the session to end", SOON, || {
        let page = two.open(&two.console("notes"));
        page.says("サインインが必要").then_some(())
    })
    .unwrap();
    suspend(false);
    signs_in(&facility, &two, USER);
    let own = two.open(&two.console("pin"));
    assert!(own.says("まだ設定していません"), "{own:?}");
}

#[test]
fn guessing_over_two_devices_and_many_at_once_and_over_restarts_gets_five_tries() {
    let mut facility = facility();
    {
        let (one, two) = two_devices(&facility);
        // Six from each at once: more than five would be compared if they did not wait for one another.
        std::thread::scope(|scope| {
            for number in 0..6 {
                let wrong = format!("73516{number}");
                let (one, two, other) = (&one, &two, wrong.clone());
                scope.spawn(move || assert!(tries(one, USER, &wrong).says(LOCKED)));
                scope.spawn(move || assert!(tries(two, USER, &other).says(LOCKED)));
            }
        });
        assert!(
            tries(&one, USER, PIN).says(LOCKED),
            "the right one is of no use any more"
        );
    }
    facility.gateway.restart().unwrap();
    let again = |name: &str| {
        let mut seat = Seat::new(&facility, name);
        let file = |ending: &str| facility.directory().join(format!("{name}.{ending}"));
        seat.certificate = Some((file("crt"), file("key")));
        seat
    };
    let (one, two) = (again("one"), again("two"));
    wait::until("the box to take PINs again", SOON, || {
        one.open(&one.console("sign-in"))
            .says("利用者ID")
            .then_some(())
    })
    .unwrap();
    assert!(
        tries(&two, USER, PIN).says(LOCKED),
        "a restart forgives nothing"
    );
    // And one device is not asked without end.
    let paced = (0..12).any(|_| tries(&one, "nobody", PIN).says("回数が多すぎます"));
    assert!(paced);
}

#[test]
fn a_device_that_is_cut_off_in_the_outage_takes_its_session_and_its_pins_along() {
    let facility = facility();
    let manager = Seat::new(&facility, "manager");
    manager.signs_in_as_manager();
    let desk = device(&facility, &manager, "desk");
    desk.signs_in_as_manager();
    let tablet = device(&facility, &desk, "tablet");
    signs_in(&facility, &tablet, USER);
    let set = tablet.submits("pin", &[("pin", PIN), ("pin_again", PIN)]);
    assert!(set.says("に設定しました"), "{set:?}");
    leaves(&tablet);
    away(&facility, &desk);
    assert!(is_in(&tries(&tablet, USER, PIN)));
    // The manager, signed in since before, finds the tablet on the list.
    let list = desk.open(&desk.console("devices"));
    let (before, _) = list
        .body
        .split_once("tablet")
        .unwrap_or_else(|| panic!("{list:?}"));
    let id = before
        .rsplit("href=\"/devices/")
        .next()
        .and_then(|rest| rest.split('"').next());
    let id = id.unwrap_or_else(|| panic!("{list:?}")).to_owned();
    let done = desk.submits(&format!("devices/{id}"), &[("action", "revoke")]);
    assert_eq!(done.status, 200, "{done:?}");
    wait::until("the tablet to be cut off", SOON, || {
        (!is_in(&tablet.open(&tablet.console("notes")))).then_some(())
    })
    .unwrap();
    assert!(!is_in(&tries(&tablet, USER, PIN)));
    assert!(
        is_in(&tries(&desk, USER, PIN)),
        "the PIN itself is still good elsewhere"
    );
}

#[test]
fn the_policy_can_end_sessions_with_the_line_and_permits_pins_only_where_it_says_so() {
    let facility = facility();
    policy(
        &facility,
        2,
        &json!({ "offline_pin": true, "offline_sessions": false }),
    );
    let manager = Seat::new(&facility, "manager");
    manager.signs_in_as_manager();
    let desk = device(&facility, &manager, "desk");
    desk.signs_in_as_manager();
    let pc = device(&facility, &desk, "pc");
    signs_in(&facility, &pc, USER);
    let set = pc.submits("pin", &[("pin", PIN), ("pin_again", PIN)]);
    assert!(set.says("に設定しました"), "{set:?}");
    assert!(is_in(&pc.open(&pc.console("notes"))));
    away(&facility, &pc);
    for url in [
        pc.console("notes"),
        pc.notebook(".well-known/renraku-gateway/notes"),
    ] {
        let page = pc.open(&url);
        assert!(page.says("PINでサインイン") && !is_in(&page), "{page:?}");
    }
    // What the manager is for goes on.
    assert_eq!(desk.open(&desk.console("devices")).status, 200);
    assert!(is_in(&tries(&pc, USER, PIN)));

    back(&facility, &pc);
    policy(&facility, 3, &json!({}));
    signs_in(&facility, &pc, USER);
    let own = pc.open(&pc.console("pin"));
    assert!(own.says("この事業所では使われていません"), "{own:?}");
    away(&facility, &pc);
    assert!(is_in(&pc.open(&pc.console("notes"))), "sessions go on");
    let page = tries(&pc, USER, PIN);
    assert!(page.says("この事業所では使われていません"), "{page:?}");
}
