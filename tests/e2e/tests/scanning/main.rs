//! Files in the notebook, up and down through the running box (第25条, 第27条): what must not pass does not, whatever it is
//! wrapped in, and what is ordinary does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gateway_e2e::visiting::{Answer, Visitor};
use serde_json::json;
use test_harness::clamd::eicar;
use test_harness::facility::{Facility, Options};

const PERSON: &str = "p-1001";

struct Office {
    facility: Facility,
    visitor: Visitor,
}

impl Office {
    fn open() -> Self {
        let facility = Facility::start(Options::default()).unwrap();
        let visitor = Visitor::new(&facility, "sakura-01");
        let page = visitor.sign_in(&facility, "sakura-01");
        assert!(page.says("支援対象者"), "{page:?}");
        Self { facility, visitor }
    }

    fn staff(&self) -> String {
        format!("{}staff/", self.facility.gateway.portal_url())
    }

    fn origin(&self) -> String {
        let origin = self.facility.gateway.portal_url();
        format!("Origin: {}", origin.trim_end_matches('/'))
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.facility.directory().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn csrf(&self) -> String {
        let page = self
            .visitor
            .open(&format!("{}persons/{PERSON}", self.staff()));
        let (_, after) = page.body.split_once("name=\"csrf\" value=\"").unwrap();
        after.split('"').next().unwrap().to_owned()
    }

    /// Writes a note with a file, as the form of the notebook does; `more` is for curl.
    fn attach(&self, file: &str, more: &[&str]) -> Answer {
        let csrf = format!("csrf={}", self.csrf());
        let origin = self.origin();
        let place = format!("{}persons/{PERSON}/notes", self.staff());
        let file = format!("attachment=@{file}");
        let mut arguments = vec!["--header", "Accept: text/html", "--header", &origin];
        arguments.extend([
            "--form-string",
            &csrf,
            "--form-string",
            "text=記録の控えです。",
        ]);
        arguments.extend(["--form", &file]);
        arguments.extend(more);
        arguments.push(&place);
        self.visitor.send(&arguments)
    }

    /// Files that the city has in its keeping, half received ones included.
    fn files_at_the_city(&self) -> usize {
        let count = |folder: &str| {
            std::fs::read_dir(self.facility.city.directory().join(folder))
                .map_or(0, |entries| entries.count())
        };
        count("attachments") + count("incoming")
    }

    /// The one line of the journal about an answer, by its support code.
    fn journal(&self, answer: &Answer) -> String {
        let code = answer.support_code().unwrap();
        let log = self.facility.gateway.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&code)).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].to_owned()
    }

    /// A colleague's note with a file, written at the city without this box. The address of the file.
    fn receive(&self, name: &str, media_type: &str, content: &[u8]) -> String {
        let note = json!({
            "person": PERSON, "author": "sakura-02", "text": "添付のとおりです。",
            "attachments": [{"name": name, "media_type": media_type, "base64": STANDARD.encode(content)}],
        });
        let note = self.facility.city.control("note", &note).unwrap();
        let id = note["attachments"][0]["id"].as_str().unwrap();
        format!("{}attachments/{id}", self.staff())
    }
}

/// An archive with one stored file, made by Python's own writer.
fn zip(inner: &str, content: &[u8]) -> Vec<u8> {
    const PROGRAM: &str = "import io,sys,zipfile\nb=io.BytesIO()\nz=zipfile.ZipFile(b,'w',zipfile.ZIP_DEFLATED)\n\
                           z.writestr(sys.argv[1],sys.stdin.buffer.read())\nz.close()\nsys.stdout.buffer.write(b.getvalue())";
    piped("python3", &["-c", PROGRAM, inner], content)
}

fn piped(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn no_virus_leaves_for_the_city_and_ordinary_files_do() {
    let office = Office::open();
    let virus = eicar();
    let nested = zip("書類.zip", &zip("a.txt", &virus));
    let plain = office.file("eicar.txt", &virus).display().to_string();
    let archive = office.file("nested.zip", &nested).display().to_string();
    let coded = format!("{plain};encoder=base64");
    let quoted = format!("{plain};encoder=quoted-printable");
    let before = office.files_at_the_city();

    let chunked = ["--http1.1", "--header", "Transfer-Encoding: chunked"];
    let cases: [(&str, &[&str]); 7] = [
        (&plain, &["--http1.1"]),
        (&plain, &["--http2"]),
        (&plain, &chunked),
        (&archive, &["--http1.1"]),
        (&archive, &["--http2"]),
        (&coded, &[]),
        (&quoted, &[]),
    ];
    for (file, how) in cases {
        let answer = office.attach(file, how);
        assert_eq!(answer.status, 403, "{file} {how:?} {answer:?}");
        assert!(answer.says("ウイルスが見つかりました"), "{answer:?}");
        assert!(!answer.body.to_ascii_lowercase().contains("eicar"));
        let line = office.journal(&answer);
        for part in ["infected", "article=27", "Eicar"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!line.contains("eicar.txt"), "no names: {line}");
    }
    assert_eq!(office.files_at_the_city(), before);

    let packed = office.file("form.gz", &piped("gzip", &["-c"], &virus));
    let json = office.file(
        "note.json",
        format!(
            r#"{{"text":"data:text/plain;base64,{}"}}"#,
            STANDARD.encode(&virus)
        )
        .as_bytes(),
    );
    let api = format!("{}api/persons/{PERSON}/notes", office.staff());
    for (file, field) in [(&packed, "Content-Encoding: gzip"), (&json, "Accept: */*")] {
        let data = format!("@{}", file.display());
        let answer = office.visitor.send(&[
            "--header",
            "Content-Type: application/json",
            "--header",
            field,
            "--header",
            &office.origin(),
            "--data-binary",
            &data,
            &api,
        ]);
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(office.journal(&answer).contains("infected"));
    }

    let picture = office.file("picture.png", PNG).display().to_string();
    assert_eq!(office.attach(&picture, &[]).status, 303);
    assert_eq!(office.files_at_the_city(), before + 1);
}

#[test]
fn what_cannot_be_looked_into_and_what_can_be_run_stay_here() {
    let office = Office::open();
    let before = office.files_at_the_city();
    let large = office.facility.directory().join("large.bin");
    let file = std::fs::File::create(&large).unwrap();
    file.set_len(51 << 20).unwrap();
    let answer = office.attach(&large.display().to_string(), &[]);
    assert_eq!(answer.status, 413, "{answer:?}");

    let mut program = vec![0; 0x80];
    program[..2].copy_from_slice(b"MZ");
    program[0x3c] = 0x80;
    program.extend_from_slice(b"PE\0\0\x64\x86");
    program.extend_from_slice(&[0; 400]);
    for (name, content) in [
        ("日報.pdf", program.clone()),
        ("日報.zip", zip("日報.pdf", &program)),
        ("start.bat", b"echo\r\n".to_vec()),
        ("run.txt", b"#!/bin/sh\nexit\n".to_vec()),
    ] {
        let file = office.file(name, &content).display().to_string();
        let answer = office.attach(&file, &[]);
        assert_eq!(answer.status, 403, "{name} {answer:?}");
        assert!(answer.says("実行形式のファイルは送受信できません（第25条）"));
        assert!(office.journal(&answer).contains("article=25"));
    }
    assert_eq!(office.files_at_the_city(), before);
}

#[test]
fn no_virus_comes_from_the_city_and_ordinary_files_do() {
    let office = Office::open();
    let virus = eicar();
    let nested = zip("書類.zip", &zip("a.txt", &virus));
    for (name, content) in [("a.txt", &virus), ("a.zip", &nested)] {
        let place = office.receive(name, "application/octet-stream", content);
        for more in [
            &["--http1.1"][..],
            &["--http2"],
            &["--range", "0-20"],
            &["--compressed"],
        ] {
            let mut arguments = vec!["--header", "Accept: text/html"];
            arguments.extend(more);
            arguments.push(&place);
            let answer = office.visitor.send(&arguments);
            assert_eq!(answer.status, 403, "{name} {more:?} {answer:?}");
            assert!(answer.says("ウイルスが見つかりました"));
            assert!(!answer.body.contains("X5O!"));
            assert_eq!(answer.field("content-disposition"), "");
        }
    }
    let text = "面談の記録です。".repeat(1000);
    let place = office.receive("記録.txt", "text/plain", text.as_bytes());
    let answer = office.visitor.open(&place);
    assert_eq!((answer.status, answer.body.as_str()), (200, text.as_str()));
    let answer = office.visitor.send(&["--range", "0-2", &place]);
    assert_eq!((answer.status, answer.body.as_str()), (206, "面"));
    assert_eq!(
        answer.field("content-range"),
        format!("bytes 0-2/{}", text.len())
    );
}

/// One white pixel.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0\x3a\x7e\x9b\x55\0\0\0\x0aIDAT\x08\xd7\x63\xf8\x0f\0\x01\x01\x01\0\x1b\xb6\xee\x56\0\0\0\0IEND\xae\x42\x60\x82";
