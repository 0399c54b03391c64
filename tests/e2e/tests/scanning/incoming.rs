//! From the city to the browser.

use serde_json::json;
use test_harness::clamd::eicar;

use crate::files::{eml, gzip};
use crate::office::{Office, office, shows_a_piece_of};
use crate::{BOTH, nested, oversize};

/// A file at the city, and how the city hands it out.
struct Case {
    name: &'static str,
    media_type: &'static str,
    content: Vec<u8>,
    content_encoding: Option<&'static str>,
    without_length: bool,
    /// What the box answers, and what it calls it in the journal.
    status: u16,
    word: &'static str,
}

fn case(name: &'static str, media_type: &'static str, content: Vec<u8>) -> Case {
    Case {
        name,
        media_type,
        content,
        content_encoding: None,
        without_length: false,
        status: 403,
        word: "infected",
    }
}

fn cases() -> Vec<Case> {
    let virus = eicar();
    let any = "application/octet-stream";
    let mixed = "multipart/mixed; boundary=bb";
    let parts = [
        b"--bb\r\nContent-Type: text/plain\r\n\r\n".as_slice(),
        &virus,
        b"\r\n--bb--\r\n",
    ]
    .concat();
    let uninspectable = |case| Case {
        status: 502,
        word: "unscannable",
        ..case
    };
    vec![
        case("plain.txt", "text/plain", virus.clone()),
        case("one.zip", any, nested(1, &virus)),
        case("four.zip", any, nested(4, &virus)),
        case("letter.eml", "message/rfc822", eml("添付", "a.txt", &virus)),
        case("parts", mixed, parts),
        Case {
            content_encoding: Some("gzip"),
            ..case("packed.txt", "text/plain", gzip(&virus))
        },
        Case {
            without_length: true,
            ..case("chunks.txt", any, virus.clone())
        },
        Case {
            content_encoding: Some("gzip"),
            without_length: true,
            ..case("packed chunks.zip", any, gzip(&nested(2, &virus)))
        },
        uninspectable(case("deep.zip", any, nested(24, &virus))),
        Case {
            status: 502,
            word: "too-large",
            ..case("large.bin", any, oversize(&virus))
        },
    ]
}

fn at_the_city(office: &Office, case: &Case) -> String {
    let (_, files) = office.receive(&[(case.name, case.media_type, &case.content)]);
    let delivery = json!({
        "id": files[0], "content_encoding": case.content_encoding, "without_length": case.without_length,
    });
    office.facility.city.control("deliver", &delivery).unwrap();
    office.place(&files[0])
}

#[test]
fn no_virus_comes_from_the_city_and_ordinary_files_do() {
    let office = office();
    for case in cases() {
        let place = at_the_city(&office, &case);
        let large = case.content.len() > 1 << 20;
        for protocol in BOTH {
            // A range of it, what is to be unpacked by the browser, and the whole.
            let ways: [&[&str]; 3] = [&[], &["--range", "0-33"], &["--compressed"]];
            for more in &ways[..if large { 1 } else { 3 }] {
                let said = format!("{} {protocol} {more:?}", case.name);
                let more = [*more, &[protocol]].concat();
                let (answer, body) = office.fetch(&place, &more);
                assert_eq!(answer.status, case.status, "{said} {answer:?}");
                assert!(office.journal(&answer).contains(case.word), "{said}");
                for secret in [&case.content, &eicar()] {
                    assert!(!shows_a_piece_of(&body, secret), "{said} {answer:?}");
                }
                assert_eq!(answer.field("content-disposition"), "", "{said}");
                assert_eq!(answer.field("content-range"), "", "{said}");
            }
        }
    }
    let text = "面談の記録です。".repeat(1000);
    let file = ("記録.txt", "text/plain", text.as_bytes());
    let (_, files) = office.receive(&[file]);
    let place = office.place(&files[0]);
    let answer = office.visitor.open(&place);
    assert_eq!((answer.status, answer.body.as_str()), (200, text.as_str()));
    let answer = office.visitor.send(&["--range", "0-2", &place]);
    assert_eq!((answer.status, answer.body.as_str()), (206, "面"));
    assert_eq!(
        answer.field("content-range"),
        format!("bytes 0-2/{}", text.len())
    );
}
