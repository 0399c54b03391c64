//! What a site answers and the client must not see.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use test_harness::clamd::eicar;

use crate::{
    client::Answer,
    files::{eml, gzip, windows_program, zip},
    origin::Speaks,
    site::{BOTH, Content, Site, problem},
    stand::Setup,
};

fn shows_nothing_of_the_virus(answer: &Answer) {
    let virus = eicar();
    let shown = answer
        .body
        .windows(16)
        .any(|window| virus.windows(16).any(|w| w == window));
    assert!(
        !shown && !answer.headers.contains_key("x-of-the-site"),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virus_is_stopped_before_its_first_byte() {
    let virus = eicar();
    let archive = zip(&[
        ("a.txt", b"x"),
        ("b.zip", &zip(&[("c.txt", b"x"), ("d.com", &virus)])),
    ]);
    let json = format!(r#"{{"file":"{}"}}"#, STANDARD.encode(&virus));
    let with_length = Content::new(virus.clone());
    let contents = [
        with_length.clone(),
        Content {
            piece: Some(7),
            ..with_length.clone()
        },
        with_length.clone().with("content-type", "text/javascript"),
        Content {
            status: Some(http::StatusCode::NOT_FOUND),
            ..with_length.clone()
        },
        Content::new(gzip(&virus)).with("content-encoding", "gzip"),
        Content::new(archive),
        Content::new(json).with("content-type", "application/json"),
        Content::new(eml("添付", "a.txt", &virus)).with("content-type", "message/rfc822"),
    ];
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let site = Site::with(Setup::new(), speaks).await;
        for (number, content) in contents.iter().enumerate() {
            let path = format!("/{number}");
            site.serve(&path, content.clone().with("x-of-the-site", "1"));
            for version in BOTH {
                let answer = site.get(version, &path, &[]).await;
                assert_eq!(
                    (answer.status.as_u16(), problem(&answer)),
                    (403, "infected".to_owned()),
                    "{number}"
                );
                shows_nothing_of_the_virus(&answer);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virus_cannot_be_fetched_in_ranges() {
    let site = Site::start().await;
    site.serve("/virus", Content::new(eicar()));
    // A site that sends a part all the same.
    let part = Content {
        status: Some(http::StatusCode::PARTIAL_CONTENT),
        ..Content::new(eicar()[..34].to_vec())
    };
    site.serve("/part", part.with("content-range", "bytes 0-33/68"));
    let parts = Content::new("--b\r\nContent-Range: bytes 0-0/2\r\n\r\nx\r\n--b--");
    site.serve(
        "/parts",
        parts.with("content-type", "multipart/byteranges; boundary=b"),
    );
    for version in BOTH {
        let answer = site
            .get(version, "/virus", &[("range", "bytes=0-33")])
            .await;
        assert_eq!(problem(&answer), "infected");
        assert_eq!(site.field("range"), None, "the site is asked for the whole");
        for path in ["/part", "/parts"] {
            let answer = site.get(version, path, &[("range", "bytes=0-33")]).await;
            assert_eq!(
                (answer.status.as_u16(), problem(&answer)),
                (502, "unscannable".to_owned())
            );
            shows_nothing_of_the_virus(&answer);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_range_is_cut_out_of_the_whole() {
    let site = Site::start().await;
    let content = Content::new("0123456789")
        .with("etag", "\"v1\"")
        .with("content-type", "text/plain");
    site.serve("/file", content.clone());
    site.serve(
        "/pieces",
        Content {
            piece: Some(3),
            ..content
        },
    );
    for version in BOTH {
        for path in ["/file", "/pieces"] {
            let answer = site.get(version, path, &[("range", "bytes=2-4")]).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (206, "234"));
            assert_eq!(answer.header("content-range"), "bytes 2-4/10");
            assert_eq!(answer.header("content-length"), "3");
            assert_eq!(answer.header("etag"), "\"v1\"");
            let same = [("range", "bytes=-2"), ("if-range", "\"v1\"")];
            assert_eq!(site.get(version, path, &same).await.text(), "89");
            for whole in [
                vec![("range", "bytes=-2"), ("if-range", "\"v2\"")],
                vec![("range", "bytes=0-1,4-5")],
                vec![("range", "bytes=20-30")],
            ] {
                let answer = site.get(version, path, &whole).await;
                assert_eq!((answer.status.as_u16(), answer.text()), (200, "0123456789"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_looked_into_is_not_shown() {
    let site = Site::start().await;
    site.serve("/br", Content::new("x").with("content-encoding", "br"));
    site.serve(
        "/twice",
        Content::new(gzip(&gzip(b"x"))).with("content-encoding", "gzip, gzip"),
    );
    site.serve(
        "/bomb",
        Content::new(gzip(&vec![0; 60 << 20])).with("content-encoding", "gzip"),
    );
    site.serve("/large", Content::new(vec![b'x'; (50 << 20) + 1]));
    site.serve(
        "/endless",
        Content {
            piece: Some(1 << 20),
            ..Content::new(vec![b'x'; 60 << 20])
        },
    );
    for version in BOTH {
        for path in ["/br", "/twice", "/bomb", "/large", "/endless"] {
            let answer = site.get(version, path, &[]).await;
            assert_eq!(
                (answer.status.as_u16(), problem(&answer)),
                (502, "unscannable".to_owned()),
                "{path}"
            );
        }
    }
    let answer = site
        .get(BOTH[1], "/large", &[("accept", "text/html")])
        .await;
    assert!(answer.text().contains("検査できないファイル") && answer.text().contains("大きすぎて"));
    assert!(
        answer
            .header("proxy-status")
            .contains("http_response_body_size")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_and_script_files_are_not_handed_out_but_pages_keep_their_scripts() {
    let site = Site::start().await;
    let script = Content::new("let x = 1;\n").with("content-type", "text/javascript");
    site.serve("/app.js", script.clone());
    site.serve(
        "/setup",
        Content::new(windows_program()).with("content-type", "image/png"),
    );
    site.serve(
        "/a",
        script
            .clone()
            .with("content-disposition", "attachment; filename=\"a.js\""),
    );
    site.serve(
        "/b",
        Content::new("x").with("content-disposition", "attachment; filename=start me.bat"),
    );
    site.serve(
        "/c.ps1",
        Content::new("x").with("content-type", "application/octet-stream"),
    );
    let navigate = [("sec-fetch-mode", "navigate")];
    for version in BOTH {
        let answer = site
            .get(version, "/app.js", &[("sec-fetch-dest", "script")])
            .await;
        assert_eq!(answer.text(), "let x = 1;\n");
        for (path, fields) in [
            ("/setup", &[][..]),
            ("/a", &[]),
            ("/b", &[]),
            ("/c.ps1", &navigate),
        ] {
            let answer = site.get(version, path, fields).await;
            assert_eq!(
                (answer.status.as_u16(), problem(&answer)),
                (403, "forbidden-kind".to_owned()),
                "{path}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_site_is_asked_for_what_can_be_looked_into_and_answers_without_content_pass() {
    let site = Site::start().await;
    let gone = Content {
        status: Some(http::StatusCode::NOT_MODIFIED),
        ..Content::default()
    };
    site.serve("/same", gone.with("etag", "\"v\""));
    site.serve(
        "/packed",
        Content::new(gzip(b"page")).with("content-encoding", "gzip"),
    );
    for version in BOTH {
        let fields = [("accept-encoding", "gzip, deflate, br, zstd")];
        let answer = site.get(version, "/packed", &fields).await;
        assert_eq!(site.field("accept-encoding").unwrap(), "gzip");
        assert_eq!(
            (answer.header("content-encoding"), &answer.body[..]),
            ("gzip", &gzip(b"page")[..])
        );
        let answer = site.get(version, "/same", &[]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("etag")),
            (304, "\"v\"")
        );
        let answer = site
            .ask(version, "HEAD", "/packed", &[], bytes::Bytes::new())
            .await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    }
}
