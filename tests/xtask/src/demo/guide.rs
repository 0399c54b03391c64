//! What the demo tells: a page for people, in English and Japanese, and the same for programs.
//!
//! It does not start or check anything.

use std::fmt::Write as _;

use serde_json::{Value, json};
use test_harness::browser;
use test_harness::city::{EST_HOST, GATEWAY_HOST, PORTAL_HOST};
use test_harness::facility::Facility;

/// `target/demo/demo.json`.
pub(crate) fn json(facility: &mut Facility, manual: bool) -> Value {
    let city = &facility.city;
    let city_port = city.port();
    let mut json = json!({
        "portal_url": facility.gateway.portal_url(),
        "console_url": facility.gateway.console_url(),
        "city_url": format!("https://{PORTAL_HOST}:{city_port}/"),
        "est_url": format!("https://{EST_HOST}:{city_port}/.well-known/est"),
        "gateway_api_url": format!("https://{GATEWAY_HOST}:{city_port}/gateway/v1"),
        "city_control_url": format!("http://127.0.0.1:{}/control", city.control_port()),
        "clear_http_url": format!("http://{PORTAL_HOST}:{}/", facility.gateway.http_port()),
        "ca_file": city.ca_file(),
        "config_file": facility.gateway.configuration_file(),
        "provisioned": !manual,
        "certificate_number": city.text("certificate_number"),
        "access_code": city.text("access_code"),
        "spare_certificate_number": city.text("spare_number"),
        "spare_access_code": city.text("spare_code"),
        "users": city.described()["users"],
        "tpm": facility.tpm.tcti(),
    });
    json["pids"] = json!({
        "xtask": std::process::id(),
        "swtpm": facility.tpm.pid(),
        "reference-city": facility.city.process().pid(),
        "clamd": facility.clamd.process().pid(),
        "gatewayd": facility.gateway.process().pid(),
    });
    json
}

/// The page for people.
pub(crate) fn text(facility: &Facility, json: &Value, manual: bool) -> String {
    let value = |key: &str| json[key].as_str().unwrap_or_default();
    let (portal, console, ca) = (value("portal_url"), value("console_url"), value("ca_file"));
    let (number, code) = (value("certificate_number"), value("access_code"));
    let (spare_number, spare_code) = (
        value("spare_certificate_number"),
        value("spare_access_code"),
    );
    let control = value("city_control_url");
    let state_en = if manual {
        "waiting for you at its setup page"
    } else {
        "provisioned"
    };
    let state_ja = if manual {
        "未設定（設定画面でお待ちしています）"
    } else {
        "設定済み"
    };
    let mut page = format!(
        "
=====================================================================================
 The facility is running: {state_en}.  施設ゲートウェイ: {state_ja}

   notebook through the box   連絡帳（ゲートウェイ経由）    {portal}
   the box's own pages        ゲートウェイの画面            {console}
   the city itself            市のシステム（直接）          {city}
   the city's root            市のルート証明書              {ca}

   certificate number / access code   電子証明書取得用番号・アクセスコード
     {used}  {number} / {code}
     spare      予備    {spare_number} / {spare_code}

   users  利用者
",
        city = value("city_url"),
        used = if manual {
            "for setup  設定用"
        } else {
            "used       使用済み"
        },
    );
    for user in json["users"].as_array().into_iter().flatten() {
        let field = |key: &str| user[key].as_str().unwrap_or_default();
        let _ = writeln!(
            page,
            "     {}  {:<13} {:<18} {} ({})",
            field("facility"),
            field("user_id"),
            field("password"),
            field("name"),
            field("role")
        );
    }
    let _ = write!(
        page,
        "
 Try / お試しください
{browser}
   2. Sign in, read, write a note, attach a file.  ログインして、記録の閲覧・投稿・添付。
   3. Take the city away; stored notes stay readable.  市を停止しても、保存済みの記録は読めます。
        curl --json '{{\"mode\":\"down\"}}' {control}/fail
        curl --json '{{\"mode\":\"none\"}}' {control}/fail
   4. Take the TPM away (open connections go on, new ones cannot be made).  TPMを止める。
        kill -STOP {swtpm}; kill -CONT {swtpm}

 All of this as JSON: target/demo/demo.json     Logs: target/demo/*/*.log
 Ctrl-C ends everything.  Ctrl-C ですべて終了します。
=====================================================================================",
        browser = browser_line(facility, if manual { console } else { portal }, ca),
        swtpm = json["pids"]["swtpm"],
    );
    page
}

/// How to open a browser that trusts the city. With Chromium and certutil here a profile of its own is made ready.
fn browser_line(facility: &Facility, url: &str, ca: &str) -> String {
    let home = facility.directory().join("browser");
    if browser::trust(&home, &facility.city.ca_file()).is_ok() {
        return format!(
            "   1. Open a browser that trusts this city only.  この市だけを信頼するブラウザを開く。
        HOME={home} chromium {sandbox}--user-data-dir={home}/profile {url}",
            home = home.display(),
            // Chromium refuses to use its sandbox as root.
            sandbox = if nix::unistd::geteuid().is_root() {
                "--no-sandbox "
            } else {
                ""
            },
        );
    }
    format!(
        "   1. Open this with the city's root imported, or:  市のルート証明書を取り込んだブラウザで開く。または:
        curl --cacert {ca} {url}"
    )
}
