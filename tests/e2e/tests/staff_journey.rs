//! A day of one staff member in a real browser: read, write, attach, be told of news, live through an outage.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::path::PathBuf;

use gateway_e2e::browsing::{Result, Window};
use serde_json::json;
use test_harness::browser::Browser;
use test_harness::facility::{Facility, Options};

#[tokio::test(flavor = "multi_thread")]
async fn a_staff_member_reads_writes_and_lives_through_an_outage() -> Result<()> {
    let facility = Facility::start(Options::default()).unwrap();
    let browser = Browser::start(&facility.city.ca_file()).unwrap();
    let window = Window::open(&browser).await?;
    let staff = Staff::first(&facility);

    sign_in(&facility, &window, &staff).await?;
    let person = open_a_person(&window).await?;
    let note = write_a_note_with_a_picture(&facility, &window).await?;
    be_told_of_a_colleagues_note(&facility, &window, &staff, &person).await?;
    read_stored_notes_while_the_city_is_away(&facility, &window, &person, &note).await?;
    window.close().await;
    Ok(())
}

/// One of the seeded staff.
struct Staff {
    user_id: String,
    password: String,
    name: String,
    colleague: String,
}

impl Staff {
    /// A staff member of the facility that the box is provisioned for, and a colleague there.
    fn first(facility: &Facility) -> Self {
        let users = facility.city.described()["users"].as_array().unwrap();
        let ours = &facility.city.described()["numbers"][0]["facility"];
        let text = |user: &serde_json::Value, key: &str| user[key].as_str().unwrap().to_owned();
        let mut staff = users
            .iter()
            .filter(|user| &user["facility"] == ours && user["role"] == "staff");
        let (user, colleague) = (staff.next().unwrap(), staff.next().unwrap());
        Self {
            user_id: text(user, "user_id"),
            password: text(user, "password"),
            name: text(user, "name"),
            colleague: text(colleague, "user_id"),
        }
    }
}

async fn sign_in(facility: &Facility, window: &Window, staff: &Staff) -> Result<()> {
    window.visit(&facility.gateway.portal_url()).await?;
    window.reads("ポータルサイト").await?;
    window.photograph("staff-1-portal").await?;
    window.click("#open-notebook").await?;
    window.type_into("#user_id", &staff.user_id).await?;
    window.type_into("#password", &staff.password).await?;
    window.photograph("staff-2-sign-in").await?;
    window.click("#sign-in").await?;
    window.element("#persons").await?;
    window.reads(&staff.name).await?;
    window.photograph("staff-3-persons").await?;
    // Never a redirect past the box: the browser stays on the box's port.
    assert!(
        window
            .url()
            .await?
            .contains(&format!(":{}/", facility.gateway.https_port()))
    );
    Ok(())
}

/// Opens the first person and answers with the person's id.
async fn open_a_person(window: &Window) -> Result<String> {
    let person = window
        .attribute("#persons .person", "data-person-id")
        .await?;
    window.click("#persons .person a").await?;
    window.element("#notes .note").await?;
    assert!(window.count("#notes .note").await >= 4);
    window.photograph("staff-4-notes").await?;
    Ok(person)
}

/// Writes a note with a picture, sees both, and answers with the note's text.
async fn write_a_note_with_a_picture(facility: &Facility, window: &Window) -> Result<String> {
    let note = "夕食は全量召し上がりました。血圧128/76、体温36.5度です。";
    let picture = picture(facility);
    window.type_into("#text", note).await?;
    window
        .type_into("#attachment", picture.to_str().unwrap())
        .await?;
    window.click("#post-note").await?;
    window.reads(note).await?;
    window.reads("夕食.png").await?;
    let size = window
        .until("the uploaded picture", async || {
            let script = "const p = [...document.images].find(i => i.alt === '夕食.png'); return p && p.complete ? p.naturalWidth : 0";
            window.run(script).await.ok()?.as_u64().filter(|width| *width > 0)
        })
        .await?;
    assert_eq!(
        size, 1,
        "the picture comes back through the box as it was sent"
    );
    window.photograph("staff-5-written").await?;
    Ok(note.to_owned())
}

/// The smallest picture there is: 1 by 1 pixel.
fn picture(facility: &Facility) -> PathBuf {
    const PNG: &[u8] =
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\
        \0\0\0\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\0\x05\0\x01\xff\x89\x99=\x1d\0\0\0\0IEND\xaeB`\x82";
    let file = facility.directory().join("夕食.png");
    std::fs::write(&file, PNG).unwrap();
    file
}

/// A WebSocket through the box brings the news without a reload.
async fn be_told_of_a_colleagues_note(
    facility: &Facility,
    window: &Window,
    staff: &Staff,
    person: &str,
) -> Result<()> {
    window
        .until("the open WebSocket", async || {
            let live = window
                .run("return document.documentElement.dataset.live === 'open'")
                .await
                .ok()?;
            (live == true).then_some(())
        })
        .await?;
    let note = json!({ "person": person, "author": staff.colleague, "text": "訪問時に転倒の跡がありました。" });
    facility.city.control("note", &note).unwrap();
    window.reads("新しい記録があります").await?;
    window.photograph("staff-6-news").await?;
    window.click(".live a").await?;
    window.reads("転倒の跡").await
}

async fn read_stored_notes_while_the_city_is_away(
    facility: &Facility,
    window: &Window,
    person: &str,
    note: &str,
) -> Result<()> {
    let page = window.url().await?;
    // Already now the stored notes can be read; what was just written arrives over the feed.
    window
        .visit(&format!(
            "{}.well-known/renraku-gateway/notes",
            facility.gateway.portal_url()
        ))
        .await?;
    window.click(&format!("a[href='/notes/{person}']")).await?;
    window.reads_after_reloading("転倒の跡").await?;
    window.photograph("staff-7-stored-beside-the-city").await?;

    facility.city.fail("down").unwrap();
    window.visit(&page).await?;
    window.reads("サポートコード").await?;
    window.photograph("staff-8-outage").await?;

    window
        .click("a[href*='/.well-known/renraku-gateway/']")
        .await?;
    window.reads("参照情報").await?;
    // Another origin: the notebook's cookies do not come along.
    assert!(
        window
            .url()
            .await?
            .starts_with(&facility.gateway.console_url())
    );
    window.photograph("staff-9-stored-persons").await?;
    window.click(&format!("a[href='/notes/{person}']")).await?;
    window.reads(note).await?;
    window.reads("参照情報").await?;
    window.reads("転倒の跡").await?;
    assert_eq!(
        window.count("textarea").await,
        0,
        "nothing pretends that something could be written"
    );
    window.photograph("staff-10-stored-notes").await?;

    facility.city.recover().unwrap();
    window.visit(&page).await?;
    window.reads_after_reloading("書き込む").await?;
    window.photograph("staff-11-back").await?;
    Ok(())
}
