//! A tablet is paired as people do it: one browser at the device, one at the manager's desk, a certificate file between.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_e2e::browsing::{Result, Window};
use gateway_e2e::signing_in::{at_the_notebook, seeded};
use test_harness::browser::Browser;
use test_harness::facility::{Facility, Options};

/// Fetches the certificate file as a download would, and hands it over as base64.
const DOWNLOAD: &str = "const request = new XMLHttpRequest(); request.open('GET', '/pairing/certificate', false);
    request.overrideMimeType('text/plain; charset=x-user-defined'); request.send();
    return btoa(Array.from(request.responseText, letter => String.fromCharCode(letter.charCodeAt(0) & 255)).join(''));";

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_paired_between_two_screens_and_its_browser_shows_the_certificate() -> Result<()>
{
    let facility = Facility::start(Options {
        refuse_unknown_devices: true,
        ..Options::default()
    })
    .unwrap();
    let browser = Browser::start(&facility.city.ca_file()).unwrap();
    let (desk, device) = (Window::open(&browser).await?, Window::open(&browser).await?);

    device
        .visit(&format!("{}pairing", facility.gateway.console_url()))
        .await?;
    device.type_into("#name", "受付のパソコン").await?;
    // The first kind on the list is a PC with Windows.
    device.click("#kind1").await?;
    device.click("form[action='/pairing'] button").await?;
    let code = device.element(".big-code").await?.text().await.unwrap();
    assert_eq!(code.chars().filter(char::is_ascii_digit).count(), 8);
    device.photograph("device-1-code").await?;

    sign_in_as_manager(&facility, &desk).await?;
    desk.visit(&format!(
        "{}.well-known/renraku-gateway/notes",
        facility.gateway.portal_url()
    ))
    .await?;
    desk.visit(&format!("{}devices", facility.gateway.console_url()))
        .await?;
    desk.type_into("#code", &code).await?;
    desk.click("form[action='/devices/pairing'] button").await?;
    desk.reads("受付のパソコン").await?;
    desk.photograph("device-2-decision").await?;
    desk.click("#manager").await?;
    desk.click("button[value='approve']").await?;

    device.reads("承認されました").await?;
    device.photograph("device-3-approved").await?;
    let word = device.element(".small-code").await?.text().await.unwrap();
    // The console's pages run no scripts; this is of the same origin and no page.
    device
        .visit(&format!(
            "{}device/v1/queries.json",
            facility.gateway.console_url()
        ))
        .await?;
    let file = device.run(DOWNLOAD).await?;
    let path = facility.directory().join("device.p12");
    std::fs::write(&path, STANDARD.decode(file.as_str().unwrap()).unwrap()).unwrap();
    device.close().await;
    desk.close().await;

    // Strangers are refused from now on; the browser that holds the certificate is none.
    let stranger = Window::open(&browser).await?;
    stranger
        .visit(&format!("{}staff/login", facility.gateway.portal_url()))
        .await?;
    stranger.reads("登録").await?;
    assert_eq!(stranger.count("#user_id").await, 0);
    stranger.photograph("device-4-stranger").await?;
    stranger.close().await;

    let mut paired = Browser::start(&facility.city.ca_file()).unwrap();
    paired.install_certificate(&path, &word).unwrap();
    let window = Window::open(&paired).await?;
    sign_in_as_manager(&facility, &window).await?;
    window
        .visit(&format!("{}pairing", facility.gateway.console_url()))
        .await?;
    window.reads("この端末は登録されています").await?;
    window.photograph("device-5-registered").await?;
    window.close().await;
    Ok(())
}

async fn sign_in_as_manager(facility: &Facility, window: &Window) -> Result<()> {
    at_the_notebook(facility, window, seeded(facility, "manager")).await
}
