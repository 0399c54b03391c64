//! From the browser to the city.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use test_harness::clamd::eicar;

use crate::files::{form, gzip, windows_program, zip};
use crate::office::{Counted, Office, office};
use crate::{BOTH, nested, oversize};

/// The city has not seen a byte of what was stopped.
fn nothing_arrived(office: &Office, before: &Counted, case: &str) {
    assert_eq!(office.counted(), *before, "{case}");
}

#[test]
fn no_virus_leaves_for_the_city_and_ordinary_files_do() {
    let office = office();
    let virus = eicar();
    let path = |name: &str, content: &[u8]| office.file(name, content).display().to_string();
    let plain = path("eicar.txt", &virus);
    let before = office.counted();
    let cases: [(&str, String, &[&str]); 8] = [
        ("plain", plain.clone(), &[]),
        ("in an archive", path("one.zip", &nested(1, &virus)), &[]),
        ("in archives", path("four.zip", &nested(4, &virus)), &[]),
        (
            "in a letter",
            path("letter.eml", &crate::files::eml("件", "a.txt", &virus)),
            &[],
        ),
        ("packed", path("packed.gz", &gzip(&virus)), &[]),
        (
            "chunked",
            plain.clone(),
            &["--http1.1", "--header", "Transfer-Encoding: chunked"],
        ),
        ("in base64", format!("{plain};encoder=base64"), &[]),
        ("quoted", format!("{plain};encoder=quoted-printable"), &[]),
    ];
    for (case, file, more) in cases {
        for protocol in BOTH {
            let more = if more.is_empty() { &[protocol] } else { more };
            let case = format!("{case} {more:?}");
            let answer = office.attach(&[&file], more);
            assert_eq!(answer.status, 403, "{case} {answer:?}");
            assert!(answer.says("ウイルスが見つかりました"), "{answer:?}");
            assert!(!answer.body.to_ascii_lowercase().contains("eicar"));
            let line = office.journal(&answer);
            for part in ["infected", "article=27", "Eicar"] {
                assert!(line.contains(part), "{part} in {line}");
            }
            assert!(!line.contains("eicar.txt"), "no names: {line}");
            nothing_arrived(&office, &before, &case);
        }
    }

    let picture = path("picture.png", &crate::files::png(8));
    assert_eq!(office.attach(&[&picture], &[]).status, 303);
    let after = office.counted();
    let one_more = (before.posts + 1, before.files + 1);
    assert_eq!((after.posts, after.files), one_more);
}

#[test]
fn no_virus_leaves_by_the_json_interface_however_it_is_coded() {
    let office = office();
    let virus = eicar();
    let coded = STANDARD.encode(&virus);
    let json = format!(r#"{{"text":"data:text/plain;base64,{coded}"}}"#);
    let a_form = form("bb", "a.txt", "text/plain", &virus);
    let of_form = "Content-Type: multipart/form-data; boundary=bb";
    let packed = "Content-Encoding: gzip";
    let cases: [(&str, Vec<u8>, &[&str], u16); 8] = [
        ("plain", virus.clone(), &[], 403),
        ("in JSON", json.clone().into_bytes(), &[], 403),
        ("packed", gzip(&virus), &["--header", packed], 403),
        (
            "in packed JSON",
            gzip(json.as_bytes()),
            &["--header", packed],
            403,
        ),
        (
            "in a packed form",
            gzip(&a_form),
            &["--header", packed, "--header", of_form],
            403,
        ),
        (
            "chunked",
            virus.clone(),
            &["--header", "Transfer-Encoding: chunked"],
            403,
        ),
        (
            "a part of a file",
            virus[..34].to_vec(),
            &[
                "--request",
                "PUT",
                "--header",
                "Content-Range: bytes 0-33/68",
            ],
            422,
        ),
        ("too large to look into", oversize(&virus), &[], 413),
    ];
    let before = office.counted();
    for (case, body, more, status) in cases {
        let body = office.file("body", &body);
        for protocol in BOTH {
            if protocol == "--http2" && case == "chunked" {
                // HTTP/2 has no chunks (RFC 9113 section 8.1).
                continue;
            }
            let case = format!("{case} {protocol}");
            let more = [more, &[protocol]].concat();
            let answer = office.post(&body, &more);
            assert_eq!(answer.status, status, "{case} {answer:?}");
            assert!(office.journal(&answer).contains("renraku::"), "{case}");
            nothing_arrived(&office, &before, &case);
        }
    }
}

#[test]
fn what_cannot_be_looked_into_and_what_can_be_run_stay_here() {
    let office = office();
    let before = office.counted();
    let large = office.file("large.bin", &oversize(&eicar()));
    for protocol in BOTH {
        let answer = office.attach(&[&large.display().to_string()], &[protocol]);
        assert_eq!(answer.status, 413, "{protocol} {answer:?}");
        nothing_arrived(&office, &before, protocol);
    }

    let program = windows_program();
    for (name, content) in [
        ("日報.pdf", program.clone()),
        ("日報.zip", zip(&[("日報.pdf", &program)])),
        ("start.bat", b"echo\r\n".to_vec()),
        ("run.txt", b"#!/bin/sh\nexit\n".to_vec()),
    ] {
        let file = office.file(name, &content).display().to_string();
        let answer = office.attach(&[&file], &[]);
        assert_eq!(answer.status, 403, "{name} {answer:?}");
        assert!(answer.says("実行形式のファイルは送受信できません（第25条）"));
        assert!(office.journal(&answer).contains("article=25"));
        nothing_arrived(&office, &before, name);
    }
}
