//! The pages of stored notes in a real browser, as a care worker uses them: on a telephone, a tablet and a PC, with the keyboard
//! alone, online and in an outage. Every page is photographed and held to WCAG 2.2 AA.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::time::Duration;

use gateway_e2e::browsing::{Result, Window};
use serde_json::{Value, json};
use test_harness::browser::Browser;
use test_harness::facility::{Facility, Options};

/// WebDriver's code points for keys (https://www.w3.org/TR/webdriver2/#keyboard-actions).
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// A telephone, a tablet, a PC.
const SCREENS: [(u32, u32); 3] = [(360, 740), (768, 1024), (1280, 800)];

struct Reader {
    facility: Facility,
    window: Window,
    user: String,
    colleague: String,
    password: String,
    _browser: Browser,
}

impl Reader {
    async fn start() -> Self {
        let facility = Facility::start(Options::default()).unwrap();
        let browser = Browser::start(&facility.city.ca_file()).unwrap();
        let window = Window::open(&browser).await.unwrap();
        let described = facility.city.described();
        let ours = &described["numbers"][0]["facility"];
        let users = described["users"].as_array().unwrap();
        let mut staff = users
            .iter()
            .filter(|user| &user["facility"] == ours && user["role"] == "staff");
        let text = |user: &Value, key: &str| user[key].as_str().unwrap().to_owned();
        let (user, colleague) = (staff.next().unwrap(), staff.next().unwrap());
        Self {
            user: text(user, "user_id"),
            colleague: text(colleague, "user_id"),
            password: text(user, "password"),
            facility,
            window,
            _browser: browser,
        }
    }

    /// Signs in at the notebook and answers with the first person's id.
    async fn sign_in(&self) -> Result<String> {
        let portal = self.facility.gateway.portal_url();
        self.window.visit(&format!("{portal}staff/login")).await?;
        self.window.type_into("#user_id", &self.user).await?;
        self.window.type_into("#password", &self.password).await?;
        self.window.click("#sign-in").await?;
        self.window
            .attribute("#persons .person", "data-person-id")
            .await
    }

    /// Goes from the notebook to the box's own pages, as soon as the box knows who that is.
    async fn cross_over(&self) -> Result<()> {
        let portal = self.facility.gateway.portal_url();
        let stored = format!("{portal}.well-known/renraku-gateway/notes");
        self.window
            .until("the stored notes", async || {
                let _ = self.window.visit(&stored).await;
                let there = self.window.count("ul.people a").await > 0;
                if !there {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                there.then_some(())
            })
            .await
    }

    async fn visit(&self, path: &str) -> Result<()> {
        let url = format!("{}{path}", self.facility.gateway.console_url());
        self.window.visit(&url).await
    }

    /// A colleague writes, and the box gets it.
    fn colleague_writes(&self, person: &str, text: &str) {
        let note = json!({ "person": person, "author": self.colleague, "text": text });
        self.facility.city.control("note", &note).unwrap();
    }

    /// Holds the page that is shown to what makes it usable, on every screen, and photographs it.
    async fn look(&self, name: &str) -> Result<()> {
        for (width, height) in SCREENS {
            self.window.screen(width, height).await?;
            self.fits(name, width).await?;
            let breaches = self.window.breaches().await?;
            assert!(breaches.is_empty(), "{name} at {width}: {breaches:#?}");
            let script = "return document.documentElement.scrollHeight";
            let whole = self.window.run(script).await?.as_u64().unwrap_or(0);
            let whole = u32::try_from(whole).unwrap().clamp(height, 6000);
            self.window.screen(width, whole).await?;
            self.window
                .photograph(&format!("reader-{name}-{width}"))
                .await?;
        }
        // 1.4.10 Reflow, 1.4.12 Text Spacing.
        self.window.screen(320, 740).await?;
        self.fits(name, 320).await?;
        let spaced = "for (const it of document.querySelectorAll('body *')) {
            it.style.letterSpacing = '.12em'; it.style.wordSpacing = '.16em'; it.style.lineHeight = '1.5' }
            for (const it of document.querySelectorAll('p')) it.style.marginBottom = '2em'";
        self.window.run(spaced).await?;
        self.fits(&format!("{name} with spaced text"), 320).await?;
        self.window.screen(1280, 800).await?;
        self.window.reload().await
    }

    async fn fits(&self, name: &str, width: u32) -> Result<()> {
        let script = "const over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
            const cut = [...document.querySelectorAll('main *')]
                .filter(it => it.scrollWidth > it.clientWidth + 1 && getComputedStyle(it).overflowX === 'hidden');
            return [over, cut.length]";
        let found = self.window.run(script).await?;
        assert_eq!(found, json!([0, 0]), "{name} does not fit into {width}");
        Ok(())
    }

    /// Goes through the page with the tabulator: everything that can be used is reached, in the order in which it is read, and
    /// shows that it is.
    async fn tab_through(&self, name: &str) -> Result<()> {
        let usable = "return [...document.querySelectorAll('a[href], button, input:not([type=hidden]), textarea, summary')]
            .filter(it => it.checkVisibility()).length";
        let count = self.window.run(usable).await?.as_u64().unwrap();
        self.window
            .run("document.activeElement.blur(); window.scrollTo(0, 0); window.reached = []")
            .await?;
        for _ in 0..count {
            self.window.press(TAB).await?;
            let step = "const it = document.activeElement, style = getComputedStyle(it), box = it.getBoundingClientRect();
                const all = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), textarea, summary')]
                    .filter(it => it.checkVisibility());
                window.reached.push(all.indexOf(it));
                return { outline: parseFloat(style.outlineWidth) > 1 && style.outlineStyle !== 'none',
                    seen: box.bottom > 0 && box.top < innerHeight, what: it.outerHTML.slice(0, 120) }";
            let step = self.window.run(step).await?;
            assert_eq!(
                step["outline"], true,
                "{name}: focus is not seen on {}",
                step["what"]
            );
            assert_eq!(
                step["seen"], true,
                "{name}: {} is out of sight",
                step["what"]
            );
        }
        let reached = self.window.run("return window.reached").await?;
        let expected: Vec<u64> = (0..count).collect();
        assert_eq!(reached, json!(expected), "{name}: the order of the focus");
        Ok(())
    }

    async fn focus_by_keyboard(&self, css: &str) -> Result<()> {
        self.window.run("document.activeElement.blur()").await?;
        for _ in 0..200 {
            self.window.press(TAB).await?;
            let script = format!("return document.activeElement.matches({})", json!(css));
            if self.window.run(&script).await? == true {
                return Ok(());
            }
        }
        panic!("{css} is not reached with the keyboard");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_care_worker_reads_marks_searches_and_prints_on_any_screen() -> Result<()> {
    let reader = Reader::start().await;
    let window = &reader.window;
    let person = reader.sign_in().await?;
    reader.cross_over().await?;
    let notes = format!("notes/{person}");
    reader.colleague_writes(
        &person,
        "夜間に３８．５度の発熱があり、ｸｰﾘﾝｸﾞを行いました。\n<朝> 36.8度に下がっています。",
    );
    reader.visit(&notes).await?;
    window.reads_after_reloading("３８．５度").await?;

    reader.visit("notes").await?;
    window.reads("未読").await?;
    reader.look("persons").await?;
    reader.tab_through("persons").await?;
    reader.visit(&notes).await?;
    reader.look("notes").await?;
    reader.tab_through("notes").await?;
    window.click("article.note .when a").await?;
    window.reads("３８．５度").await?;
    assert_eq!(window.count("article.note").await, 1);
    reader.look("note").await?;
    reader.tab_through("note").await?;
    reader.visit(&format!("{notes}/print?days=30")).await?;
    window.reads("規約第28条").await?;
    reader.look("print").await?;
    reader.tab_through("print").await?;
    window.on_paper(true).await?;
    window.screen(720, 1020).await?;
    window.reads("参照情報").await?;
    window.reads("３８．５度").await?;
    let on_paper = window.text().await;
    for only_on_screen in ["閲覧を終わる", "日分\n", "ブラウザーの「印刷」", "ホーム"]
    {
        assert!(
            !on_paper.contains(only_on_screen),
            "{only_on_screen} is printed"
        );
    }
    window.photograph("reader-on-paper").await?;
    window.on_paper(false).await?;
    window.screen(1280, 800).await?;

    search_with_the_keyboard(&reader).await?;
    mark_with_the_keyboard(&reader, &person).await?;
    reader.visit("notices").await?;
    reader.look("notices").await
}

async fn search_with_the_keyboard(reader: &Reader) -> Result<()> {
    let window = &reader.window;
    reader.visit("search").await?;
    reader.look("search").await?;
    reader.tab_through("search").await?;
    reader.focus_by_keyboard("#q").await?;
    window.press("くーりんぐ　38.5度").await?;
    window.press(ENTER).await?;
    window.reads("連絡が1件見つかりました").await?;
    let marked = window
        .run("return [...document.querySelectorAll('mark')].map(it => it.textContent)")
        .await?;
    assert_eq!(marked, json!(["３８．５度", "ｸｰﾘﾝｸﾞ"]));
    // Neither address nor title tells what was searched for.
    let url = window.url().await?;
    assert!(url.contains("/search?s=") && url.is_ascii(), "{url}");
    reader.look("results").await?;
    reader.tab_through("results").await?;
    reader.focus_by_keyboard("article.note h3 a").await?;
    window.press(ENTER).await?;
    window.reads("３８．５度").await?;
    // And back, without a question whether to send something again.
    window.run("history.back()").await?;
    window.reads("連絡が1件見つかりました").await?;
    reader.focus_by_keyboard("#q").await?;
    window.run("document.activeElement.select()").await?;
    window.press("このことばはどこにもない").await?;
    window.press(ENTER).await?;
    window.reads("見つかりませんでした").await?;
    reader.look("results-none").await
}

async fn mark_with_the_keyboard(reader: &Reader, person: &str) -> Result<()> {
    let window = &reader.window;
    reader.visit(&format!("notes/{person}")).await?;
    window.reads("すべて読んだことにする").await?;
    let listed = format!("ul.people a[href='/notes/{person}'] .unread");
    reader.focus_by_keyboard("#read button").await?;
    window.press(ENTER).await?;
    window.reads("支援対象者").await?;
    assert!(window.url().await?.ends_with("/notes"));
    assert_eq!(window.count(&listed).await, 0, "nothing is unread");
    reader.colleague_writes(person, "読んだあとに書いた連絡です。");
    window
        .until("the new note as unread", async || {
            let _ = window.reload().await;
            (window.count(&listed).await == 1).then_some(())
        })
        .await?;
    reader.visit(&format!("notes/{person}")).await?;
    assert_eq!(window.count("article.note.new").await, 1);
    reader.look("notes-one-unread").await
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_outage_notes_are_read_and_a_draft_stays_in_its_tab() -> Result<()> {
    let reader = Reader::start().await;
    let window = &reader.window;
    let person = reader.sign_in().await?;
    reader.cross_over().await?;
    let notes = format!("notes/{person}");
    reader.visit(&notes).await?;
    assert_eq!(window.count("a[href$='/draft']").await, 0);

    reader.facility.city.fail("down").unwrap();
    window.reads_after_reloading("つながりません").await?;
    window.reads("参照情報").await?;
    window.reads("ここから書き込みはできません").await?;
    window.reads("次にすること").await?;
    window.reads("0293").await?;
    reader.look("outage-notes").await?;
    reader.tab_through("outage-notes").await?;
    reader.visit("notes").await?;
    reader.look("outage-persons").await?;

    reader.visit(&notes).await?;
    reader.focus_by_keyboard("a[href$='/draft']").await?;
    window.press(ENTER).await?;
    window.reads("送られません").await?;
    reader.look("draft").await?;
    reader.tab_through("draft").await?;
    reader.focus_by_keyboard("#text").await?;
    window.press("夕食は全量。熱はありません。").await?;
    // Elsewhere and back: still there, in this tab and nowhere else.
    reader.visit(&notes).await?;
    reader.visit(&format!("{notes}/draft")).await?;
    let drafted = "return document.getElementById('text').value";
    assert_eq!(window.run(drafted).await?, "夕食は全量。熱はありません。");
    reader.look("draft-written").await?;
    let posted = reader.facility.city.statistics().unwrap();
    assert!(!posted.to_string().contains("夕食は全量"));

    // Whoever uses the tab after the session has ended finds nothing of it.
    window.click(".reader button").await?;
    window.reads("装置の状態").await?;
    assert_eq!(window.run("return sessionStorage.length").await?, 0);
    reader.cross_over().await?;
    reader.visit(&format!("{notes}/draft")).await?;
    assert_eq!(window.run(drafted).await?, "");
    reader.facility.city.recover().unwrap();
    Ok(())
}
