//! The end of a box's service, by the manager in a real browser: what is revoked, cleared and erased, the record, and a new beginning.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::fs;
use std::time::Duration;

use gateway_e2e::browsing::{Result, Window};
use gateway_e2e::managing::{photograph, sign_in_as_manager};
use gateway_e2e::visiting::Visitor;
use test_harness::browser::Browser;
use test_harness::facility::{Facility, Options};
use test_harness::wait;

const SOON: Duration = Duration::from_secs(120);

async fn press_through(window: &Window, reason: &str, word: &str) -> Result<()> {
    window.click(&format!("#r-{reason}")).await?;
    window.type_into("#word", word).await?;
    window.click("button.danger").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manager_takes_the_box_out_of_service_and_has_it_in_writing() -> Result<()> {
    let mut facility = Facility::start(Options::default()).unwrap();
    let browser = Browser::start(&facility.city.ca_file()).unwrap();
    let window = Window::open(&browser).await?;
    sign_in_as_manager(&facility, &window).await?;
    let console = facility.gateway.console_url();
    let state = facility.gateway.state_directory().to_owned();
    wait::until("stored notes", SOON, || {
        state.join("notes/store").exists().then_some(())
    })
    .unwrap();

    window.visit(&format!("{console}certificates")).await?;
    window.click("main a[href='/leaving']").await?;
    assert_eq!(window.breaches().await?, Vec::<String>::new());
    photograph(&window, "leaving").await?;
    // A wrong word changes nothing.
    press_through(&window, "disposed", "はい").await?;
    assert!(window.text().await.contains("L-WORD"));
    let portal = facility.gateway.portal_url();
    assert_eq!(Visitor::new(&facility, "staff").open(&portal).status, 200);

    press_through(&window, "disposed", "消去する").await?;
    window
        .until("the record", async || {
            window
                .text()
                .await
                .contains("利用の終了の記録")
                .then_some(())
        })
        .await?;
    let record = window.text().await;
    for line in [
        "装置の廃棄（第28条）",
        "市に届け出て失効させました",
        "どれも使えないことを確かめました",
        "保存した連絡を消去しました",
    ] {
        assert!(record.contains(line), "{line}: {record}");
    }
    assert_eq!(window.breaches().await?, Vec::<String>::new());
    photograph(&window, "leaving-record").await?;
    assert!(!state.join("notes").exists());
    let told = facility.city.statistics().unwrap()["reports"].clone();
    let decommissioned = |report: &serde_json::Value| report["kind"] == "decommission";
    assert!(
        told.as_array().unwrap().iter().any(decommissioned),
        "{told}"
    );

    // The record is there until the box is set up again, also after a power cut, and for whoever stands before it.
    facility.gateway.process().kill();
    facility.gateway.restart().unwrap();
    let later = Visitor::new(&facility, "later").accepting_any_certificate();
    let page = later.open(&format!("{console}leaving"));
    assert!(page.says("装置の廃棄（第28条）"), "{page:?}");
    let kept = fs::read_to_string(state.join("decommission-record.json")).unwrap();
    assert!(kept.contains("\"tpm_cleared\": true"), "{kept}");
    Ok(())
}
