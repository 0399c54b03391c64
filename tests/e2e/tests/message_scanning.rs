//! A virus in a WebSocket message of a real browser does not get past the running gateway, and ordinary messages do.
//!
//! Fragments, both directions, both protocols and event streams are tested at the data path (`gateway/proxy/tests/data_path`).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use gateway_e2e::browsing::{Result, Window};
use test_harness::browser::Browser;
use test_harness::clamd::eicar;
use test_harness::facility::{Facility, Options};

#[tokio::test(flavor = "multi_thread")]
async fn no_virus_leaves_in_a_websocket_message_of_a_browser() -> Result<()> {
    let facility = Facility::start(Options::default()).unwrap();
    let browser = Browser::start(&facility.city.ca_file()).unwrap();
    let window = Window::open(&browser).await?;
    sign_in(&facility, &window).await?;

    let eicar = serde_json::to_string(&String::from_utf8(eicar()).unwrap()).unwrap();
    for (name, message) in [
        ("text", eicar.clone()),
        ("binary", format!("new TextEncoder().encode({eicar})")),
    ] {
        say(&window, "'お変わりありませんか'").await?;
        assert_eq!(
            told(&window).await?,
            "open",
            "{name}: an ordinary message passes"
        );
        say(&window, &message).await?;
        let told = window
            .until("the WebSocket to be ended", async || {
                told(&window).await.ok().filter(|told| told != "open")
            })
            .await?;
        assert_eq!(told, "1008 ウイルスが見つかりました", "{name}");
    }
    let log = facility.gateway.log();
    let stopped = log.lines().filter(|line| {
        line.contains("renraku::content") && line.contains("infected") && line.contains("websocket")
    });
    assert_eq!(stopped.count(), 2, "{log}");
    Ok(())
}

/// Says something on the page's second WebSocket, which is opened if it is not; and waits a moment for what that does.
async fn say(window: &Window, message: &str) -> Result<()> {
    let script = format!(
        "const root = document.documentElement.dataset;
         if (root.told !== 'open') {{
             const socket = new WebSocket('wss://' + location.host + '/staff/live');
             window.spoken = socket;
             socket.onopen = () => {{ root.told = 'open'; }};
             socket.onclose = (end) => {{ root.told = end.code + ' ' + end.reason; }};
             root.told = 'opening';
         }}
         const send = () => window.spoken.readyState === 0 ? setTimeout(send, 20) : window.spoken.send({message});
         send();"
    );
    window.run(&script).await?;
    window
        .until("an open WebSocket", async || {
            told(window).await.ok().filter(|told| told != "opening")
        })
        .await?;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    Ok(())
}

async fn told(window: &Window) -> Result<String> {
    let told = window
        .run("return document.documentElement.dataset.told || ''")
        .await?;
    Ok(told.as_str().unwrap_or_default().to_owned())
}

async fn sign_in(facility: &Facility, window: &Window) -> Result<()> {
    let described = facility.city.described();
    let ours = &described["numbers"][0]["facility"];
    let users = described["users"].as_array().unwrap();
    let user = users
        .iter()
        .find(|user| &user["facility"] == ours && user["role"] == "staff")
        .unwrap();
    let text = |key: &str| user[key].as_str().unwrap();
    window.visit(&facility.gateway.portal_url()).await?;
    window.click("#open-notebook").await?;
    window.type_into("#user_id", text("user_id")).await?;
    window.type_into("#password", text("password")).await?;
    window.click("#sign-in").await?;
    window.element("#persons").await?;
    Ok(())
}
