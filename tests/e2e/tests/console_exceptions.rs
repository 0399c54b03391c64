//! The manager's pages about devices in a real browser: exceptions, the daily list, a certificate of the city's, another name, out
//! of the register. And what none of them does while the audit log cannot be written.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gateway_e2e::browsing::{Result, Window};
use gateway_e2e::managing::{photograph, sign_in_as_manager};
use gateway_e2e::seats::{Seat, openssl, pair};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use test_harness::browser::Browser;
use test_harness::facility::{Facility, Options};
use test_harness::{WallClock, wait};

const SOON: Duration = Duration::from_secs(120);

fn log_of(facility: &Facility) -> PathBuf {
    facility.gateway.state_directory().join("audit")
}

/// The entries of the log's first file.
fn entries(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("00000000000000000001.jsonl")).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|line| line["entry"].clone())
        .collect()
}

fn place(entries: &[Value], kind: &str, what: &str) -> Option<usize> {
    entries
        .iter()
        .position(|entry| entry["kind"] == kind && entry["what"] == what)
}

/// A PC with osquery on it whose screen is never locked.
fn unlocked_pc<'a>(facility: &'a Facility, by: &Seat<'_>, now: i64) -> Seat<'a> {
    let pc = pair(facility, by, "office", "windows");
    let enrol = json!({"enroll_secret": "", "host_identifier": "x", "platform_type": "2", "host_details":
        {"system_info": {"uuid": "4C4C4544-0043-3010-8052-B4C04F564231"}}});
    let (_, enrolled) = pc.post("device/osquery/v1/enroll", &enrol, &[]);
    let data = json!([{"name": "renraku_windows_lock", "action": "snapshot", "unixTime": now,
        "snapshot": [{"name": "inactivity", "data": "0"}]}]);
    let report = json!({"node_key": enrolled["node_key"], "log_type": "result", "data": data});
    let (status, answer) = pc.post("device/osquery/v1/log", &report, &[]);
    assert_eq!((status, &answer["node_invalid"]), (200, &json!(false)));
    pc
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manager_excepts_a_check_with_a_reason_and_it_ends_by_itself() -> Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let clock = WallClock::new(directory.path()).unwrap();
    let facility = Facility::start(Options {
        clock: Some(clock.clone()),
        ..Options::default()
    })
    .unwrap();
    let newcomer = Seat::new(&facility, "newcomer");
    newcomer.signs_in_as_manager();
    let _pc = unlocked_pc(&facility, &newcomer, clock.now());
    let browser = Browser::start(&facility.city.ca_file()).unwrap();
    let window = Window::open(&browser).await?;
    sign_in_as_manager(&facility, &window).await?;
    let page = |path: &str| format!("{}{path}", facility.gateway.console_url());

    // From the device's page to the form, and back to the list.
    window.visit(&page("devices")).await?;
    window.click("ul.people a").await?;
    window
        .reads_after_reloading("画面ロックが15分以内になっていません")
        .await?;
    photograph(&window, "device-unlocked").await?;
    window
        .click("a[href^='/exceptions/new'][href$='PC-LOCK']")
        .await?;
    window.reads("例外を登録する").await?;
    window
        .type_into(
            "#reason",
            "共用の受付端末のため、席を離れるときは画面を閉じています。",
        )
        .await?;
    photograph(&window, "exception-new").await?;
    window
        .click("form[action='/exceptions/new'] button")
        .await?;
    window.reads("いまの例外（1件）").await?;
    photograph(&window, "exceptions").await?;

    // It was written down before it took effect, and its words stay here.
    let all = wait::until("the entries", SOON, || {
        let all = entries(&log_of(&facility));
        let waived = |entry: &Value| entry["kind"] == "verdict" && entry["state"] == "waived";
        all.iter().any(waived).then_some(all)
    })
    .unwrap();
    let made = place(&all, "waiver", "made").unwrap();
    let waived = all
        .iter()
        .position(|entry| entry["kind"] == "verdict" && entry["state"] == "waived")
        .unwrap();
    assert!(made < waived, "{all:?}");
    assert_eq!(all[made]["check"], "PC-LOCK");
    assert!(all[made]["reason"].as_str().unwrap().len() == 64);

    window.visit(&page("report")).await?;
    window.reads("例外（1件）").await?;
    window.reads("共用の受付端末").await?;
    photograph(&window, "report-exception").await?;

    // Withdrawn, the check is what it was; made again, it ends by itself.
    window.visit(&page("exceptions")).await?;
    window
        .click("form[action='/exceptions/end'] button")
        .await?;
    window.reads("例外はありません").await?;
    window.click("a[href^='/exceptions/new']").await?;
    window.type_into("#reason", "部品を待っています。").await?;
    window
        .click("form[action='/exceptions/new'] button")
        .await?;
    window.reads("いまの例外（1件）").await?;
    clock.advance(Duration::from_secs(15 * 86_400)).unwrap();
    wait::until("the end of the exception", SOON, || {
        facility
            .gateway
            .log()
            .lines()
            .any(|line| line.contains("rule=\"PC-LOCK\"") && line.contains("from=\"waived\""))
            .then_some(())
    })
    .unwrap();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pc_with_a_certificate_of_the_city_is_registered_renamed_and_forgotten_from_pages()
-> Result<()> {
    let facility = Facility::start(Options::default()).unwrap();
    let certificate = of_the_city(&facility, "city-pc");
    let browser = Browser::start(&facility.city.ca_file()).unwrap();
    let window = Window::open(&browser).await?;
    sign_in_as_manager(&facility, &window).await?;
    let page = |path: &str| format!("{}{path}", facility.gateway.console_url());

    window.visit(&page("devices/certificate")).await?;
    photograph(&window, "device-certificate").await?;
    window.type_into("#name", "事務室のパソコン").await?;
    window.click("#kind1").await?;
    // Something else than a certificate of the city's is told from one.
    window.click("details.inner summary").await?;
    window
        .type_into("#pem", "-----BEGIN CERTIFICATE-----")
        .await?;
    window
        .click("form[action='/devices/certificate'] button")
        .await?;
    window
        .reads("市が発行した、有効な証明書ではありません")
        .await?;
    photograph(&window, "device-certificate-refused").await?;
    window
        .type_into("#file", certificate.to_str().unwrap())
        .await?;
    window
        .click("form[action='/devices/certificate'] button")
        .await?;
    window.reads("この端末を登録しますか").await?;
    window.reads("市が発行したもの").await?;
    photograph(&window, "device-certificate-decide").await?;
    window.click("button[value='approve']").await?;
    window.reads("登録した端末（1台）").await?;

    // It is known by that certificate.
    let mut pc = Seat::new(&facility, "city-pc");
    // PKCS#7 has no order; curl wants its own certificate first.
    let text = fs::read_to_string(&certificate).unwrap();
    let mut parts: Vec<&str> = text
        .split_inclusive("-----END CERTIFICATE-----\n")
        .collect();
    parts.retain(|part| part.contains("BEGIN CERTIFICATE"));
    parts.sort_by_key(|part| !part.contains("tkh-"));
    let ordered = certificate.with_extension("ordered");
    fs::write(&ordered, parts.concat()).unwrap();
    pc.certificate = Some((ordered, certificate.with_extension("key")));
    let (status, answer) = pc.post("device/v1/nonce", &json!({}), &["--request", "GET"]);
    assert_eq!(status, 200, "{answer}");

    window.visit(&page("devices/days")).await?;
    window.reads("きょうの端末").await?;
    window
        .reads_after_reloading("点検結果が届いていない端末（1台）")
        .await?;
    photograph(&window, "device-days").await?;

    window.visit(&page("devices")).await?;
    window.click("ul.people a").await?;
    window
        .run("document.querySelector('#name').value = ''")
        .await?;
    window.type_into("#name", "受付のパソコン").await?;
    window.click("button[value='rename']").await?;
    window.reads("受付のパソコン（市発行）").await?;
    window
        .click("section[aria-labelledby='change'] details summary")
        .await?;
    photograph(&window, "device-forget").await?;
    window.click("button[value='forget']").await?;
    window.reads("登録した端末（0台）").await?;
    // The box no longer knows it.
    let gone = wait::until("the device to be a stranger", SOON, || {
        let (status, _) = pc.post("device/v1/nonce", &json!({}), &["--request", "GET"]);
        (status == 403).then_some(status)
    });
    gone.unwrap();
    for what in ["registered", "renamed", "revoked", "forgotten"] {
        wait::until(what, SOON, || {
            place(&entries(&log_of(&facility)), "device", what)
        })
        .unwrap();
    }
    let text = fs::read_to_string(log_of(&facility).join("00000000000000000001.jsonl")).unwrap();
    assert!(text.is_ascii(), "no name got into the log");
    Ok(())
}

/// A certificate that the city issued, PEM with what is above it, and its key beside it.
fn of_the_city(facility: &Facility, name: &str) -> PathBuf {
    let file = |ending: &str| facility.directory().join(format!("{name}.{ending}"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let described = facility.city.described();
    let number = facility
        .city
        .control(
            "number",
            &json!({ "facility": described["numbers"][0]["facility"] }),
        )
        .unwrap();
    openssl(&[
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/",
        "-outform",
        "DER",
        "-keyout",
        &text(&file("key")),
        "-out",
        &text(&file("csr")),
    ]);
    openssl(&[
        "base64",
        "-A",
        "-in",
        &text(&file("csr")),
        "-out",
        &text(&file("b64")),
    ]);
    let port = facility.city.port();
    let answer = Command::new("curl")
        .args(["--silent", "--fail", "--noproxy", "*", "--cacert"])
        .arg(facility.city.ca_file())
        .args([
            "--resolve",
            &format!("est.takahagi.localhost:{port}:127.0.0.1"),
        ])
        .args([
            "--user",
            &format!(
                "{}:{}",
                number["number"].as_str().unwrap(),
                number["code"].as_str().unwrap()
            ),
        ])
        .args([
            "--header",
            "Content-Type: application/pkcs10",
            "--data-binary",
        ])
        .arg(format!("@{}", file("b64").display()))
        .arg(format!(
            "https://est.takahagi.localhost:{port}/.well-known/est/simpleenroll"
        ))
        .output()
        .unwrap();
    assert!(answer.status.success(), "{answer:?}");
    fs::write(file("p7b64"), &answer.stdout).unwrap();
    openssl(&[
        "base64",
        "-d",
        "-A",
        "-in",
        &text(&file("p7b64")),
        "-out",
        &text(&file("p7")),
    ]);
    openssl(&[
        "pkcs7",
        "-inform",
        "DER",
        "-print_certs",
        "-in",
        &text(&file("p7")),
        "-out",
        &text(&file("pem")),
    ]);
    file("pem")
}

#[test]
fn what_loosens_is_refused_while_the_audit_log_cannot_be_written_and_what_tightens_is_done() {
    let mut facility = Facility::start(Options::default()).unwrap();
    {
        let newcomer = Seat::new(&facility, "newcomer");
        newcomer.signs_in_as_manager();
        let _pc = pair(&facility, &newcomer, "office", "windows");
    }
    // A file where the log's directory should be: nothing can be written there.
    facility.gateway.process().signal(Signal::SIGTERM).unwrap();
    facility.gateway.process().wait(SOON).unwrap();
    let (log, aside) = (log_of(&facility), facility.directory().join("audit-aside"));
    fs::rename(&log, &aside).unwrap();
    fs::write(&log, "").unwrap();
    facility.gateway.start_again().unwrap();

    let desk = Seat::new(&facility, "desk");
    wait::until("the manager to be signed in", SOON, || {
        desk.signs_in_as_manager();
        (desk.open(&desk.console("devices")).status == 200).then_some(())
    })
    .unwrap();
    let device = {
        let page = desk.open(&desk.console("devices"));
        let (_, rest) = page.body.split_once("<a href=\"/devices/").map_or_else(
            || panic!("{page:?}"),
            |_| {
                let at = page.body.find("class=\"people\"").unwrap();
                page.body[at..].split_once("/devices/").unwrap()
            },
        );
        rest.split('"').next().unwrap().to_owned()
    };
    let own = format!("devices/{device}");

    // Letting in, taking the manager's word, entering in a register: refused, said, and not done.
    let stranger = Seat::new(&facility, "stranger");
    let wish = json!({"name": "よその端末", "kind": "ipad"});
    let (status, ticket) = stranger.post("device/v1/pair", &wish, &[]);
    assert_eq!(status, 201, "{ticket}");
    let code = ticket["code"].as_str().unwrap();
    let page = desk.submits("devices/pairing", &[("code", code)]);
    let (_, rest) = page.body.split_once("name=\"pairing\" value=\"").unwrap();
    let pairing = rest.split('"').next().unwrap();
    let approve = [("pairing", pairing), ("decision", "approve")];
    let refused = desk.submits("devices/decision", &approve);
    assert!(
        refused.says("A-LOG") && refused.says("監査記録に書き込めない"),
        "{refused:?}"
    );
    let medium = [
        ("kind", "USBメモリ"),
        ("label", "USB-1"),
        ("purpose", "国保連への提出"),
        ("owner", "佐藤"),
        ("place", "事務室の鍵付き棚"),
    ];
    let refused = desk.submits("media/new", &medium);
    assert!(refused.says("A-LOG"), "{refused:?}");
    assert!(!desk.open(&desk.console("media")).says("USB-1"));
    let refused = desk.submits(&own, &[("action", "manager")]);
    let still = desk.open(&desk.console(&own));
    assert!(
        refused.says("A-LOG") || still.says("管理者用"),
        "{refused:?}"
    );

    let pin = [("pin", "482915"), ("pin_again", "482915")];
    let _ = desk.submits("break-glass/pin", &pin);
    let emergency = [("pin", "482915"), ("reason", "disaster")];
    let refused = desk.submits("break-glass/open", &emergency);
    assert!(refused.says("A-LOG"), "{refused:?}");
    assert!(!desk.open(&desk.console("")).says("非常時の解除中"));

    // Cutting off is done at once, and cannot be taken back.
    let done = desk.submits(&own, &[("action", "revoke")]);
    assert!(done.says("この端末の利用を止めています"), "{done:?}");
    let refused = desk.submits(&own, &[("action", "reactivate")]);
    assert!(refused.says("A-LOG"), "{refused:?}");
    assert!(desk.open(&desk.console(&own)).says("利用を止めています"));

    // The disk is repaired: the same clicks do it, and the log says what was tried, what was not done, and what was.
    fs::remove_file(&log).unwrap();
    wait::until("the log", SOON, || {
        (!entries(&log).is_empty()).then_some(())
    })
    .unwrap();
    let done = desk.submits(&own, &[("action", "reactivate")]);
    assert!(!done.says("利用を止めています"), "{done:?}");
    let done = desk.submits("media/new", &medium);
    assert!(done.says("保管中"), "{done:?}");
    let all = wait::until("the entries", SOON, || {
        let all = entries(&log);
        let entered = |entry: &&Value| entry["what"] == "medium-entered";
        (all.iter().filter(entered).count() == 2).then_some(all)
    })
    .unwrap();
    let count = |kind: &str, what: &str| {
        all.iter()
            .filter(|entry| entry["kind"] == kind && entry["what"] == what)
            .count()
    };
    assert_eq!(count("register", "refused"), 1, "{all:?}");
    assert_eq!(count("break-glass", "refused"), 1, "{all:?}");
    assert!(count("device", "enrolment-refused") >= 2, "{all:?}");
    assert_eq!(count("device", "revoked"), 1, "{all:?}");
}

#[test]
fn a_signed_channel_that_is_refused_is_named_to_the_manager_until_it_is_in_order_again() {
    let facility = Facility::start(Options::default()).unwrap();
    let desk = Seat::new(&facility, "desk");
    desk.signs_in_as_manager();
    let tuf = |mode: &str| {
        let control = |what: &str, arguments: &Value| facility.city.control(what, arguments);
        control("tuf", &json!({ "mode": mode })).unwrap();
        control("hint", &json!({ "id": "policy" })).unwrap();
    };
    wait::until("the first look", SOON, || {
        facility.gateway.log().contains("TUF-NEWS").then_some(())
    })
    .unwrap();
    tuf("wrong-signer");
    let home = wait::until("the reason on the home page", SOON, || {
        let home = desk.open(&desk.console(""));
        home.says("コード TUF-").then_some(home)
    })
    .unwrap();
    assert!(home.says("に電話し"), "{home:?}");
    assert!(desk.open(&desk.console("report")).says("TUF-"));
    tuf("none");
    wait::until("nothing to be told", SOON, || {
        let home = desk.open(&desk.console(""));
        (home.status == 200 && !home.says("コード TUF-")).then_some(())
    })
    .unwrap();
}
