//! The setup page in a real browser, as a facility manager meets it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use gateway_e2e::browsing::{Result, Window};
use serde_json::json;
use test_harness::browser::Browser;
use test_harness::facility::{Facility, Options};

const NUMBER: &str = "#number";
const CODE: &str = "#access_code";
const SUBMIT: &str = "form[action='/setup'] button";

/// A facility whose box waits at its setup page, and a browser.
struct Visit {
    facility: Facility,
    window: Window,
    _browser: Browser,
}

impl Visit {
    async fn start() -> Self {
        let facility = Facility::start(Options {
            provision: false,
            ..Options::default()
        })
        .unwrap();
        let browser = Browser::start(&facility.city.ca_file())
            .unwrap()
            .accepting_any_certificate();
        let window = Window::open(&browser).await.unwrap();
        // The address on the label leads to the next step.
        window.visit(&facility.gateway.console_url()).await.unwrap();
        window.click("main a[href='/setup']").await.unwrap();
        Self {
            facility,
            window,
            _browser: browser,
        }
    }

    async fn submit(&self, number: &str, code: &str) -> Result<()> {
        self.window.type_into(NUMBER, number).await?;
        self.window.type_into(CODE, code).await?;
        self.window.click(SUBMIT).await
    }
}

/// What a Japanese input method produces for ASCII digits and hyphens.
fn full_width(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '0'..='9' => {
                char::from_u32(u32::from(character) - u32::from('0') + u32::from('０')).unwrap()
            }
            '-' => 'ー',
            other => other,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn full_width_digits_lead_to_a_ready_box() -> Result<()> {
    let visit = Visit::start().await;
    let (number, code) = (
        visit.facility.city.text("certificate_number"),
        visit.facility.city.text("access_code"),
    );
    visit.window.reads("電子証明書取得用番号").await?;
    visit.window.photograph("setup-1-form").await?;
    visit.submit(&full_width(number), &full_width(code)).await?;
    visit.window.reads("準備完了").await?;
    visit.window.photograph("setup-2-ready").await?;

    visit
        .window
        .visit(&visit.facility.gateway.portal_url())
        .await?;
    visit.window.reads("ポータルサイト").await?;
    // Neither number nor code is in anything the box has written.
    assert_not_written(visit.facility.gateway.directory(), &[number, code]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_code_says_so_and_the_right_one_still_works() -> Result<()> {
    let visit = Visit::start().await;
    let (number, code) = (
        visit.facility.city.text("certificate_number"),
        visit.facility.city.text("access_code"),
    );
    visit.submit(number, "0000-0000").await?;
    visit.window.reads("P-WRONG").await?;
    visit.window.photograph("setup-wrong-code").await?;
    visit.submit(number, code).await?;
    visit.window.reads("準備完了").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_used_by_another_box_is_told_apart_from_a_wrong_code() -> Result<()> {
    let visit = Visit::start().await;
    let (number, code) = (
        visit.facility.city.text("certificate_number"),
        visit.facility.city.text("access_code"),
    );
    // The city hands this number's certificate out as a file, to whoever asks with number and code.
    visit
        .facility
        .city
        .control(
            "p12",
            &json!({ "number": number, "code": code, "password": "x" }),
        )
        .unwrap();
    visit.submit(number, code).await?;
    visit.window.reads("すでに使われています").await?;
    visit.window.photograph("setup-used-number").await?;
    Ok(())
}

fn assert_not_written(directory: &std::path::Path, secrets: &[&str]) {
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            if entry.path().is_dir() {
                directories.push(entry.path());
                continue;
            }
            let Ok(bytes) = std::fs::read(entry.path()) else {
                continue;
            };
            for secret in secrets {
                for form in [
                    (*secret).to_owned(),
                    secret.replace('-', ""),
                    full_width(secret),
                ] {
                    let found = bytes
                        .windows(form.len())
                        .any(|window| window == form.as_bytes());
                    assert!(!found, "{} holds {form}", entry.path().display());
                }
            }
        }
    }
}
