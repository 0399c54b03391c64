//! A manager's PC and a tablet become known to the box, in real browsers: paired, with certificates that Chromium shows by itself;
//! and the tablet is cut off again while it has a page open.
//!
//! What the box does with each kind of certificate and session is tested at the data path (`gateway/proxy/tests/data_path`).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use gateway_e2e::browsing::{Result, Window};
use test_harness::browser::Browser;
use test_harness::facility::{Facility, Options};

#[tokio::test(flavor = "multi_thread")]
async fn a_tablet_is_paired_works_and_is_cut_off_while_it_has_a_page_open() -> Result<()> {
    let facility = Facility::start(Options {
        refuse_unknown_devices: true,
        ..Options::default()
    })
    .unwrap();
    let mut office = Browser::start(&facility.city.ca_file()).unwrap();
    let mut tablet = Browser::start(&facility.city.ca_file()).unwrap();

    // Nobody is registered yet, so the manager can still come in, and registers the PC.
    let window = Window::open(&office).await?;
    sign_in(&facility, &window, "manager").await?;
    let pairing = Window::open(&office).await?;
    ask_for_pairing(&facility, &pairing, "事務室PC").await?;
    let password = approved(&facility, &window, &pairing).await?;
    install(&mut office, &pairing, &password).await?;
    window.close().await;
    pairing.close().await;

    // From now on whoever is not registered is kept out, at the city's pages and at the box's.
    let manager = Window::open(&office).await?;
    sign_in(&facility, &manager, "manager").await?;
    let stranger = Window::open(&tablet).await?;
    stranger.visit(&facility.gateway.portal_url()).await?;
    stranger.reads("ポータルサイト").await?;
    stranger.click("#open-notebook").await?;
    stranger.reads("登録").await?;
    assert_eq!(stranger.count("#user_id").await, 0);
    stranger.photograph("device-1-unknown").await?;

    ask_for_pairing(&facility, &stranger, "訪問用タブレット").await?;
    let password = approved(&facility, &manager, &stranger).await?;
    install(&mut tablet, &stranger, &password).await?;
    stranger.close().await;

    let known = Window::open(&tablet).await?;
    sign_in(&facility, &known, "staff").await?;
    known.click("#persons .person a").await?;
    live(&known, true).await?;
    let page = known.url().await?;
    known.photograph("device-2-known").await?;

    let since = cut_off(&facility, &manager, "訪問用タブレット").await?;
    live(&known, false).await?;
    let took = since.elapsed();
    assert!(
        took < Duration::from_secs(4),
        "the WebSocket stayed for {took:?}"
    );
    known.visit(&page).await?;
    known.reads("サポートコード").await?;
    assert_eq!(known.count("#notes").await, 0);
    known.photograph("device-3-cut-off").await?;
    assert!(facility.gateway.log().contains("DEVICE-REVOKED"));

    // Nobody else is concerned.
    sign_in_again(&facility, &manager).await?;
    Ok(())
}

/// Signs the first seeded person of this facility with this role in.
async fn sign_in(facility: &Facility, window: &Window, role: &str) -> Result<()> {
    let described = facility.city.described();
    let ours = &described["numbers"][0]["facility"];
    let users = described["users"].as_array().unwrap();
    let user = users
        .iter()
        .find(|user| &user["facility"] == ours && user["role"] == role)
        .unwrap();
    window.visit(&facility.gateway.portal_url()).await?;
    window.click("#open-notebook").await?;
    let text = |key: &str| user[key].as_str().unwrap();
    window.type_into("#user_id", text("user_id")).await?;
    window.type_into("#password", text("password")).await?;
    window.click("#sign-in").await?;
    window.element("#persons").await?;
    Ok(())
}

async fn sign_in_again(facility: &Facility, window: &Window) -> Result<()> {
    window.visit(&facility.gateway.portal_url()).await?;
    window.click("#open-notebook").await?;
    window.element("#persons").await?;
    Ok(())
}

async fn ask_for_pairing(facility: &Facility, window: &Window, name: &str) -> Result<()> {
    window
        .visit(&format!("{}pairing", facility.gateway.console_url()))
        .await?;
    window.type_into("#name", name).await?;
    window.click("input[name=kind][value*='Android']").await?;
    window.click("form[action='/pairing'] button").await?;
    window.element(".big-code").await?;
    Ok(())
}

/// The manager types the code that the device shows, and the device shows the password of its certificate's file.
async fn approved(facility: &Facility, manager: &Window, device: &Window) -> Result<String> {
    let code = device
        .run("return document.querySelector('.big-code').innerText")
        .await?;
    open_devices(facility, manager).await?;
    manager.type_into("#code", code.as_str().unwrap()).await?;
    manager
        .click("form[action='/devices/pairing'] button")
        .await?;
    manager.click("button[value=approve]").await?;
    device.reads_after_reloading("承認されました").await?;
    let password = device
        .run("return document.querySelector('.big-code').innerText")
        .await?;
    Ok(password.as_str().unwrap().trim().to_owned())
}

/// Opens the manager's list of devices, by way of the notebook as the box wants it.
async fn open_devices(facility: &Facility, manager: &Window) -> Result<()> {
    let handover = format!(
        "{}.well-known/renraku-gateway/notes",
        facility.gateway.portal_url()
    );
    manager.visit(&handover).await?;
    manager.reads("参照情報").await?;
    manager
        .visit(&format!("{}devices", facility.gateway.console_url()))
        .await?;
    manager.element("#code").await?;
    Ok(())
}

/// Downloads the certificate as the page says, and puts it where the browser keeps its own.
async fn install(browser: &mut Browser, device: &Window, password: &str) -> Result<()> {
    device.click("a[href='/pairing/certificate']").await?;
    let file = device
        .until("the downloaded certificate", async || {
            let files = std::fs::read_dir(browser.downloads()).ok()?;
            files
                .flatten()
                .map(|file| file.path())
                .find(|file| is_whole(file))
        })
        .await?;
    browser.install_certificate(&file, password).unwrap();
    Ok(())
}

fn is_whole(file: &Path) -> bool {
    file.extension()
        .is_some_and(|ending| ending == "p12" || ending == "pfx")
}

async fn cut_off(facility: &Facility, manager: &Window, name: &str) -> Result<Instant> {
    open_devices(facility, manager).await?;
    let find = format!(
        "[...document.querySelectorAll('a[href^=\"/devices/\"]')].find(a => a.innerText.includes('{name}')).click()"
    );
    manager.run(&find).await?;
    manager.click("button[value=revoke]").await?;
    let since = Instant::now();
    manager.reads("停止").await?;
    Ok(since)
}

/// Waits until the page's WebSocket is open, or is not any more.
async fn live(window: &Window, open: bool) -> Result<()> {
    window
        .until("the WebSocket", async || {
            let live = window
                .run("return document.documentElement.dataset.live === 'open'")
                .await
                .ok()?;
            (live == open).then_some(())
        })
        .await
}
