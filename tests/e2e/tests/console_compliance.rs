//! The manager's pages in a real browser, at the width of a PC and of a telephone: pairing, registers, the report, and
//! break-glass with the city away.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::time::Duration;

use gateway_e2e::browsing::{Result, Window};
use gateway_e2e::managing::{photograph, sign_in_as_manager};
use test_harness::browser::Browser;
use test_harness::facility::{Facility, Options};
use test_harness::{WallClock, wait};

/// WebDriver's code points for keys (https://www.w3.org/TR/webdriver2/#keyboard-actions).
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const PIN: &str = "482915";
const SOON: Duration = Duration::from_secs(60);

struct Office {
    facility: Facility,
    clock: WallClock,
    browser: Browser,
    window: Window,
    _directory: tempfile::TempDir,
}

impl Office {
    async fn open(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = WallClock::new(directory.path()).unwrap();
        let facility = Facility::start(Options {
            clock: Some(clock.clone()),
            more_configuration: configuration.to_owned(),
            ..Options::default()
        })
        .unwrap();
        let browser = Browser::start(&facility.city.ca_file()).unwrap();
        let window = Window::open(&browser).await.unwrap();
        Self {
            facility,
            clock,
            browser,
            window,
            _directory: directory,
        }
    }

    fn page(&self, page: &str) -> String {
        format!("{}{page}", self.facility.gateway.console_url())
    }

    async fn visit(&self, page: &str) -> Result<()> {
        self.window.visit(&self.page(page)).await
    }

    async fn manager(&self) -> Result<()> {
        sign_in_as_manager(&self.facility, &self.window).await
    }

    async fn photograph(&self, name: &str) -> Result<()> {
        photograph(&self.window, name).await
    }

    fn logs(&self, words: &str) {
        wait::until(words, SOON, || {
            self.facility.gateway.log().contains(words).then_some(())
        })
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manager_goes_through_registers_and_report() -> Result<()> {
    let office = Office::open("").await;
    let window = &office.window;
    office.manager().await?;
    office.visit("").await?;
    window.reads("規約の条文ごとの点検").await?;
    office.photograph("home").await?;
    window
        .click("details.article:nth-of-type(5) summary")
        .await?;
    window.reads("媒体台帳の点検").await?;

    office.visit("media/new").await?;
    window.click("#kind1").await?;
    for (field, text) in [
        ("#label", "USB-1"),
        ("#purpose", "国保連への提出"),
        ("#owner", "佐藤 花子"),
        ("#place", "事務室の鍵付き棚"),
    ] {
        window.type_into(field, text).await?;
    }
    office.photograph("media-new").await?;
    window.click("form[action='/media/new'] button").await?;
    window.reads("保管中").await?;
    window.click("details.card:nth-of-type(1) summary").await?;
    window.type_into("#to", "鈴木 一郎").await?;
    window.type_into("#lend-place", "訪問先").await?;
    window.click("button[value='lend']").await?;
    window.reads("貸出：鈴木 一郎").await?;
    office.photograph("medium").await?;

    office.visit("media/review").await?;
    window.click("#y1").await?;
    office.photograph("media-review").await?;
    window.click("form[action='/media/review'] button").await?;
    window.reads("点検済み").await?;
    office.photograph("media").await?;
    for (page, name, words) in [
        ("media/print", "media-print", "登録中の媒体"),
        ("registers", "registers", "セキュリティ研修"),
        ("training", "training", "研修を記録する"),
        ("declarations", "declarations", "印刷された用紙の取り扱い"),
        ("report", "report", "点検報告"),
        ("devices", "devices", "新しい端末を登録する"),
    ] {
        office.visit(page).await?;
        window.reads(words).await?;
        office.photograph(name).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_shows_its_code_and_the_manager_lets_it_in() -> Result<()> {
    let office = Office::open("").await;
    office.manager().await?;
    // Another browser: the device that is to be registered.
    let device = Window::open(&office.browser).await?;
    device.visit(&office.page("pairing")).await?;
    device.type_into("#name", "訪問用ノートPC").await?;
    device.click("#kind1").await?;
    device.photograph("pairing-1-form").await?;
    device.click("form[action='/pairing'] button").await?;
    device.reads("事業所管理者に伝えて").await?;
    device.photograph("pairing-2-code").await?;
    let script = "return document.querySelector('.big-code').innerText";
    let code = device.run(script).await?.as_str().unwrap().to_owned();
    assert_eq!(code.chars().filter(char::is_ascii_digit).count(), 8);

    office.visit("devices").await?;
    office.window.type_into("#code", &code).await?;
    office
        .window
        .click("form[action='/devices/pairing'] button")
        .await?;
    office.window.reads("訪問用ノートPC").await?;
    office.photograph("device-decide").await?;
    office.window.click("button[value='approve']").await?;
    office.window.reads("登録した端末（1台）").await?;

    // The device's page goes on by itself.
    device.reads("承認されました").await?;
    device.reads("現在のユーザー").await?;
    device.photograph("pairing-3-certificate").await?;
    office.window.click("ul.people a").await?;
    office.window.reads("点検の結果").await?;
    office.photograph("device").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn break_glass_opens_without_the_city_by_keyboard_alone_and_ends_when_told() -> Result<()> {
    let mut office = Office::open("").await;
    office.manager().await?;
    let window = &office.window;
    office.visit("break-glass").await?;
    window.reads("まだ設定していません").await?;
    office.photograph("break-glass-unset").await?;
    window.click("details.inner:nth-of-type(1) summary").await?;
    window.type_into("#new-pin", PIN).await?;
    window.type_into("#pin_again", PIN).await?;
    window
        .click("form[action='/break-glass/pin'] button")
        .await?;
    window.reads("設定してあります").await?;
    window.click("details.inner:nth-of-type(2) summary").await?;
    window
        .click("form[action='/break-glass/code'] button")
        .await?;
    window.reads("非常時の解除コード").await?;
    office.photograph("sealed-code").await?;
    let script = "return document.querySelector('.big-code').innerText";
    let code = window.run(script).await?.as_str().unwrap().to_owned();

    // The scanner dies, nobody can repair it, and then the line is cut.
    office.facility.clamd.kill();
    office.clock.advance(Duration::from_secs(20 * 60)).unwrap();
    office.logs("effect=Block rule=\"AV-ALIVE\"");
    office.facility.city.process().kill();
    let portal = office.facility.gateway.portal_url();
    let window = &office.window;
    window.visit(&format!("{portal}staff/persons")).await?;
    window.reads("連絡帳への接続を止めています").await?;
    window.photograph("refused-scanner").await?;

    // Without a mouse: to the reason, to the PIN, and on.
    office.visit("break-glass").await?;
    window.reads("管理者の暗証番号で解除する").await?;
    office.photograph("break-glass").await?;
    let focus = "return document.activeElement.id";
    for _ in 0..60 {
        window.press(TAB).await?;
        if window.run(focus).await?.as_str() == Some("p-emergency") {
            break;
        }
    }
    window.press(" ").await?;
    window.press(TAB).await?;
    assert_eq!(window.run(focus).await?.as_str(), Some("pin"));
    window.press(&format!("482916{ENTER}")).await?;
    window.reads("あと4回まちがえると").await?;
    window.click("#p-emergency").await?;
    window.type_into("#pin", PIN).await?;
    window.press(ENTER).await?;
    window.reads("いま解除しています").await?;
    window.reads("非常時の解除中").await?;
    office.photograph("break-glass-open").await?;
    office.logs("an emergency is declared");
    office.visit("").await?;
    window.reads("非常時の解除中").await?;

    // The gate lets the request through; what is missing is the city.
    window.visit(&format!("{portal}staff/persons")).await?;
    window.reads("連絡帳につながりません").await?;

    // It ends when told, and the gate is as strict as before.
    office.visit("break-glass").await?;
    window
        .click("form[action='/break-glass/close'] button")
        .await?;
    window.reads("これまでの解除").await?;
    window.visit(&format!("{portal}staff/persons")).await?;
    window.reads("連絡帳への接続を止めています").await?;

    // The code from the safe serves once.
    office.visit("break-glass").await?;
    window.click("details.card summary").await?;
    window.click("#c-disaster").await?;
    window.type_into("#code", &code.to_lowercase()).await?;
    window.press(ENTER).await?;
    window.reads("いま解除しています").await?;
    window
        .click("form[action='/break-glass/close'] button")
        .await?;
    window.reads("これまでの解除").await?;
    assert_eq!(window.count("#c-disaster").await, 0, "it is used up");
    // What was done is written down afterwards.
    window
        .type_into(
            "textarea",
            "主治医への引き継ぎに必要だった。検査の停止は業者に連絡した。",
        )
        .await?;
    window
        .click("form[action='/break-glass/review'] button")
        .await?;
    window.reads("振り返り：主治医への引き継ぎ").await?;
    // Neither PIN nor code is in anything the box has written.
    let log = office.facility.gateway.log();
    let bare = code.replace('-', "");
    assert!(!log.contains(PIN) && !log.contains(&code) && !log.contains(&bare));
    Ok(())
}
