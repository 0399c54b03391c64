//! What a client sends and the site must not see.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::stream;
use http::Version;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use test_harness::clamd::eicar;

use crate::{
    client::{Answer, read},
    files::{form, gzip, windows_program, zip, zip_with},
    origin::Speaks,
    site::{BOTH, Site, problem},
    stand::{CITY, Setup},
};

const FORM: &str = "multipart/form-data; boundary=bb";

/// What it is, the fields it comes with, the body.
type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, Vec<u8>);

/// In archives within archives.
fn nested(depth: usize, innermost: &[u8]) -> Vec<u8> {
    (0..depth).fold(innermost.to_vec(), |inside, level| {
        zip(&[
            ("メモ.txt", "記録".as_bytes()),
            (&format!("{level}.zip"), &inside),
        ])
    })
}

fn percent(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

/// Sends over both protocols; it is stopped for `reason` and the site has seen nothing at all.
async fn stopped(name: &str, fields: &[(&str, &str)], body: &[u8], status: u16, reason: &str) {
    let site = Site::start().await;
    for version in BOTH {
        let answer = site.post(version, fields, body.to_vec()).await;
        assert_eq!(answer.status, status, "{name} {version:?} {answer:?}");
        assert_eq!(problem(&answer), reason);
    }
    assert_eq!((site.requests(), site.received()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virus_is_stopped_whatever_it_is_wrapped_in() {
    let virus = eicar();
    let coded = STANDARD.encode(&virus);
    let part = |head: &str, content: &[u8]| {
        [
            format!("--bb\r\n{head}\r\n\r\n").as_bytes(),
            content,
            b"\r\n--bb--\r\n",
        ]
        .concat()
    };
    let json = format!(r#"{{"name":"x.txt","content":"data:text/plain;base64,{coded}"}}"#);
    let escaped = format!(
        r#"["{}"]"#,
        coded.replace('/', "\\/").replace('1', "\\u0031")
    );
    let inner = format!("--cc\r\nContent-Transfer-Encoding: base64\r\n\r\n{coded}\r\n--cc--");
    let packed_form = gzip(&form("bb", "a.txt", "text/plain", &virus));
    let cases: Vec<Case> = vec![
        ("plain", vec![], virus.clone()),
        (
            "as JSON",
            vec![("content-type", "application/json")],
            virus.clone(),
        ),
        ("in an archive", vec![], nested(1, &virus)),
        ("in four archives", vec![], nested(4, &virus)),
        (
            "in a form",
            vec![("content-type", FORM)],
            form("bb", "a.txt", "text/plain", &virus),
        ),
        (
            "in an archive in a form",
            vec![("content-type", FORM)],
            form("bb", "a.zip", "application/zip", &nested(2, &virus)),
        ),
        (
            "in base64 in a form",
            vec![("content-type", FORM)],
            part(
                "Content-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: base64",
                coded.as_bytes(),
            ),
        ),
        (
            "in a form in a form",
            vec![("content-type", FORM)],
            part(
                "Content-Type: multipart/mixed; boundary=cc",
                inner.as_bytes(),
            ),
        ),
        ("packed", vec![("content-encoding", "gzip")], gzip(&virus)),
        (
            "in a packed form",
            vec![("content-type", FORM), ("content-encoding", "gzip")],
            packed_form,
        ),
        (
            "in a field of a form",
            vec![("content-type", "application/x-www-form-urlencoded")],
            format!("a=b&text={}", percent(&virus)).into_bytes(),
        ),
        (
            "in JSON",
            vec![("content-type", "application/json")],
            json.into_bytes(),
        ),
        (
            "in escaped JSON",
            vec![("content-type", "application/json")],
            escaped.into_bytes(),
        ),
        (
            "in JSON in a form",
            vec![("content-type", FORM)],
            form(
                "bb",
                "a.json",
                "application/json",
                format!("[\"{coded}\"]").as_bytes(),
            ),
        ),
    ];
    for (name, fields, body) in cases {
        stopped(name, &fields, &body, 403, "infected").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virus_in_many_small_pieces_is_stopped() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let site = Site::with(Setup::new(), speaks).await;
        for version in BOTH {
            let pieces: Vec<_> = eicar()
                .into_iter()
                .map(|byte| Ok(Frame::data(Bytes::from(vec![byte]))))
                .collect();
            let mut client = site.client(version).await;
            let request = client
                .request("PUT", CITY, "/notes")
                .body(StreamBody::new(stream::iter(pieces)).boxed())
                .unwrap();
            let answer = client.answer(request).await;
            assert_eq!(
                (answer.status.as_u16(), problem(&answer)),
                (403, "infected".to_owned())
            );
        }
        assert_eq!(site.requests(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_looked_into_is_refused() {
    let form_of = |body: &str| body.as_bytes().to_vec();
    let cases: Vec<Case> = vec![
        (
            "an unknown coding",
            vec![("content-encoding", "br")],
            b"x".to_vec(),
        ),
        (
            "two codings",
            vec![("content-encoding", "gzip, gzip")],
            gzip(&gzip(b"x")),
        ),
        (
            "what is not gzip",
            vec![("content-encoding", "gzip")],
            b"x".to_vec(),
        ),
        (
            "a second member",
            vec![("content-encoding", "gzip")],
            [gzip(b"x"), gzip(&eicar())].concat(),
        ),
        (
            "a bomb",
            vec![("content-encoding", "gzip")],
            gzip(&vec![0; 60 << 20]),
        ),
        (
            "a part of a file",
            vec![("content-range", "bytes 0-0/2")],
            b"x".to_vec(),
        ),
        (
            "no boundary",
            vec![("content-type", "multipart/form-data")],
            form_of("--b\r\n\r\nx\r\n--b--"),
        ),
        (
            "two boundaries",
            vec![(
                "content-type",
                "multipart/form-data; boundary=bb; boundary=c",
            )],
            form_of("--bb\r\n\r\nx\r\n--bb--"),
        ),
        (
            "text before",
            vec![("content-type", FORM)],
            form_of("x\r\n--bb\r\n\r\nx\r\n--bb--"),
        ),
        (
            "bare line feeds",
            vec![("content-type", FORM)],
            form_of("--bb\n\nx\n--bb--\n"),
        ),
        (
            "no end",
            vec![("content-type", FORM)],
            form_of("--bb\r\n\r\nx\r\n"),
        ),
        (
            "a transfer encoding",
            vec![("content-type", FORM)],
            form_of("--bb\r\nContent-Transfer-Encoding: x-uu\r\n\r\nx\r\n--bb--"),
        ),
        (
            "an encrypted archive",
            vec![],
            zip_with(&[("a.txt", b"x"), ("b.txt", b"xyz")], 1),
        ),
        ("archives without end", vec![], nested(25, b"x")),
    ];
    for (name, fields, body) in cases {
        stopped(name, &fields, &body, 422, "unscannable").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_and_scripts_are_known_by_what_they_are() {
    let text_named = |name: &str| form("bb", name, "text/plain", b"x = 1\r\n");
    let cases: Vec<Case> = vec![
        ("a program", vec![], windows_program()),
        (
            "a program with another name",
            vec![("content-type", FORM)],
            form("bb", "a.pdf", "application/pdf", &windows_program()),
        ),
        (
            "a program in an archive",
            vec![("content-type", FORM)],
            form(
                "bb",
                "a.zip",
                "application/zip",
                &nested(2, &windows_program()),
            ),
        ),
        (
            "a packed program",
            vec![("content-encoding", "gzip")],
            gzip(&windows_program()),
        ),
        (
            "a Unix program",
            vec![],
            [b"\x7fELF\x02\x01\x01\0".as_slice(), &[0; 120]].concat(),
        ),
        ("a shell script", vec![], b"#!/bin/sh\nexit\n".to_vec()),
        (
            "a batch file by its name",
            vec![("content-type", FORM)],
            text_named("a.bat"),
        ),
        (
            "a script by its name",
            vec![("content-type", FORM)],
            text_named("請求書.pdf.js"),
        ),
        (
            "a script by a second name",
            vec![("content-type", FORM)],
            text_named("a.txt\"; filename*=\"UTF-8''a%2Evbs"),
        ),
    ];
    for (name, fields, body) in cases {
        stopped(name, &fields, &body, 403, "forbidden-kind").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_told_in_one_sentence_and_never_the_name_of_what_was_found() {
    let site = Site::start().await;
    let page = |answer: Answer| {
        assert!(answer.header("content-type").starts_with("text/html"));
        assert!(!answer.text().to_ascii_lowercase().contains("eicar"));
        answer.text().to_owned()
    };
    let html = ("accept", "text/html");
    let answer = site.post(Version::HTTP_2, &[html], eicar()).await;
    assert!(
        answer
            .header("proxy-status")
            .contains("http_request_denied")
    );
    let text = page(answer);
    assert!(text.contains("<h1>ウイルスが見つかりました</h1>") && text.contains("サポートコード"));
    let answer = site.post(Version::HTTP_2, &[html], windows_program()).await;
    assert!(page(answer).contains("実行形式のファイルは送受信できません（第25条）"));
    let fields = [html, ("content-encoding", "br")];
    let answer = site.post(Version::HTTP_2, &fields, "x").await;
    assert!(page(answer).contains("検査できないファイル"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_clean_arrives_as_it_was_with_its_exact_length() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let site = Site::with(Setup::new(), speaks).await;
        for version in BOTH {
            let before = site.received();
            let body = gzip("記録".repeat(1000).as_bytes());
            let fields = [("content-encoding", "gzip"), ("expect", "100-continue")];
            let answer = site.post(version, &fields, body.clone()).await;
            assert_eq!(answer.text(), "taken");
            assert_eq!(site.received() - before, body.len() as u64);
            assert_eq!(
                site.field("content-length").unwrap(),
                body.len().to_string()
            );
            assert_eq!(site.field("content-encoding").unwrap(), "gzip");
            assert_eq!(site.field("expect"), None);

            // Without a length at first: the site is told one all the same.
            let frames = [
                Ok(Frame::data(Bytes::from_static(b"ab"))),
                Ok(Frame::data(Bytes::from_static(b"c"))),
            ];
            let mut client = site.client(version).await;
            let request = client.request("POST", CITY, "/notes");
            let request = request
                .body(StreamBody::new(stream::iter(frames)).boxed())
                .unwrap();
            assert_eq!(client.answer(request).await.text(), "taken");
            assert_eq!(site.field("content-length").unwrap(), "3");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_the_middle_is_not_spoken_for() {
    let site = Site::start().await;
    for version in BOTH {
        let mut client = site.client(version).await;
        let frames = stream::unfold(0, |step| async move {
            match step {
                0 => Some((Ok(Frame::data(Bytes::from_static(b"half"))), 1)),
                _ => Some((Err(std::io::Error::other("gone")), 2)),
            }
        });
        let request = client.request("POST", CITY, "/notes");
        let request = request.body(StreamBody::new(frames).boxed()).unwrap();
        if let Ok(response) = client.send(request).await {
            let _ = read(response).await;
        }
    }
    site.stand.quiet().await;
    assert_eq!(site.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_bound_is_read_to_its_end_so_that_the_answer_is_seen() {
    let site = Site::start().await;
    for version in BOTH {
        let answer = site.post(version, &[], vec![b'x'; 55 << 20]).await;
        assert_eq!(
            (answer.status.as_u16(), problem(&answer)),
            (413, "body-too-large".to_owned())
        );
    }
    assert_eq!(site.requests(), 0);
}
