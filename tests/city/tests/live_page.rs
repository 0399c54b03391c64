//! The WebSocket of an open page.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod running_city;

use running_city::{RENRAKU, RunningCity};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

#[test]
fn an_open_page_hears_of_a_new_note_and_is_cut_off_when_the_user_is_suspended() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let cookie = city.sign_in(&who, "sakura-01");
    let mut process = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-ign_eof",
            "-CAfile",
            city.ca_file(),
            "-servername",
            RENRAKU,
            "-cert",
        ])
        .arg(&who.certificate)
        .arg("-key")
        .arg(&who.key)
        .args(["-connect", &format!("127.0.0.1:{}", city.port())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let request = format!(
        "GET /staff/live HTTP/1.1\r\nhost: {RENRAKU}\r\ncookie: {cookie}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut input = process.stdin.take().unwrap();
    input.write_all(request.as_bytes()).unwrap();
    let mut out = process.stdout.take().unwrap();
    let mut heard = String::new();
    let mut until = |wanted: &str| {
        let mut chunk = [0; 4096];
        while !heard.contains(wanted) {
            let read = out.read(&mut chunk).unwrap();
            assert!(read > 0, "the connection ended before {wanted}: {heard}");
            heard.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
    };
    until("101 Switching Protocols");
    let note = json!({ "person": "p-1005", "author": "midori-01", "text": "見えない" });
    city.control("note", &note);
    let note = json!({ "person": "p-1001", "author": "midori-01", "text": "本文は流れない" });
    let id = city.control("note", &note)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    until(&id);
    city.control("suspend-user", &json!({ "user_id": "sakura-01" }));
    until("session ended");
    assert!(
        !heard.contains("本文は流れない") && !heard.contains("p-1005"),
        "{heard}"
    );
    process.kill().unwrap();
    process.wait().unwrap();
}
