//! One facility for all tests of this binary, somebody at a browser of it, and what the city has seen.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gateway_e2e::visiting::{Answer, Visitor};
use serde_json::{Value, json};
use test_harness::clamd::eicar;
use test_harness::facility::{Facility, Options};

pub const PERSON: &str = "p-1001";

/// What the city counts of the requests and messages that the box let through.
#[derive(Debug, PartialEq, Eq)]
pub struct Counted {
    /// Requests with a body.
    pub posts: u64,
    /// Messages of open pages.
    pub messages: u64,
    /// Files in its keeping, half received ones included.
    pub files: usize,
    /// How many of these hold a piece of the virus, as it is or in base64; others at the city put them there.
    pub infected: usize,
}

pub struct Office {
    pub facility: Facility,
    pub visitor: Visitor,
    csrf: String,
    /// How many answers have been written to a file.
    answers: std::sync::atomic::AtomicUsize,
}

/// The one facility, for one test at a time: they read its counters.
pub fn office() -> MutexGuard<'static, Office> {
    static OFFICE: OnceLock<Mutex<Office>> = OnceLock::new();
    OFFICE
        .get_or_init(|| Mutex::new(Office::open()))
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

impl Office {
    fn open() -> Self {
        // Its processes end with this one; its files are taken away by the next run.
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scanning");
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        let facility = Facility::start_in(&directory, Options::default()).unwrap();
        let visitor = Visitor::new(&facility, "sakura-01");
        let page = visitor.sign_in(&facility, "sakura-01");
        assert!(page.says("支援対象者"), "{page:?}");
        let page = visitor.open(&format!(
            "{}staff/persons/{PERSON}",
            facility.gateway.portal_url()
        ));
        let (_, after) = page.body.split_once("name=\"csrf\" value=\"").unwrap();
        let csrf = after.split('"').next().unwrap().to_owned();
        Self {
            facility,
            visitor,
            csrf,
            answers: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    pub fn staff(&self) -> String {
        format!("{}staff/", self.facility.gateway.portal_url())
    }

    pub fn origin(&self) -> String {
        let origin = self.facility.gateway.portal_url();
        format!("Origin: {}", origin.trim_end_matches('/'))
    }

    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let folder = self.facility.directory().join("files");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Writes a note with files, as the form of the notebook does; `more` is for curl.
    pub fn attach(&self, files: &[&str], more: &[&str]) -> Answer {
        let csrf = format!("csrf={}", self.csrf);
        let origin = self.origin();
        let place = format!("{}persons/{PERSON}/notes", self.staff());
        let files: Vec<String> = files
            .iter()
            .map(|file| format!("attachment=@{file}"))
            .collect();
        let mut arguments = vec!["--header", "Accept: text/html", "--header", &origin];
        arguments.extend([
            "--form-string",
            &csrf,
            "--form-string",
            "text=記録の控えです。",
        ]);
        for file in &files {
            arguments.extend(["--form", file]);
        }
        arguments.extend(more);
        arguments.push(&place);
        self.visitor.send(&arguments)
    }

    /// Sends a body as a program does that writes notes by the JSON interface.
    pub fn post(&self, body: &Path, more: &[&str]) -> Answer {
        let api = format!("{}api/persons/{PERSON}/notes", self.staff());
        let (origin, data) = (self.origin(), format!("@{}", body.display()));
        let mut arguments = vec!["--header", &origin, "--data-binary", &data];
        arguments.extend(more);
        if !more.iter().any(|more| more.starts_with("Content-Type:")) {
            arguments.extend(["--header", "Content-Type: application/json"]);
        }
        arguments.push(&api);
        self.visitor.send(&arguments)
    }

    /// Fetches something; its body as it came, byte for byte.
    pub fn fetch(&self, place: &str, more: &[&str]) -> (Answer, Vec<u8>) {
        let number = self
            .answers
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let file = self.facility.directory().join(format!("answer-{number}"));
        let output = file.display().to_string();
        let mut arguments = vec!["--header", "Accept: text/html", "--output", &output];
        arguments.extend(more);
        arguments.push(place);
        let answer = self.visitor.send(&arguments);
        let body = std::fs::read(&file).unwrap_or_default();
        let _ = std::fs::remove_file(&file);
        let body_text = String::from_utf8_lossy(&body).into_owned();
        let answer = Answer {
            body: body_text,
            ..answer
        };
        (answer, body)
    }

    pub fn counted(&self) -> Counted {
        let seen = self.facility.city.statistics().unwrap();
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let city = self.facility.city.directory();
        let paths: Vec<PathBuf> = ["attachments", "incoming"]
            .iter()
            .filter_map(|folder| std::fs::read_dir(city.join(folder)).ok())
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect();
        Counted {
            posts: number(&seen["relayed"]["POST"]) + number(&seen["relayed"]["other"]),
            messages: number(&seen["live"]["messages"]),
            files: paths.len(),
            infected: paths.iter().filter(|path| is_infected(path)).count(),
        }
    }

    /// The one line of the journal about an answer, by its support code.
    pub fn journal(&self, answer: &Answer) -> String {
        let code = answer
            .support_code()
            .unwrap_or_else(|| panic!("{answer:?}"));
        let log = self.facility.gateway.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&code)).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].to_owned()
    }

    /// A colleague's note with files, written at the city without this box. The ids of note and files.
    pub fn receive(&self, files: &[(&str, &str, &[u8])]) -> (String, Vec<String>) {
        let attachments: Vec<Value> = files
            .iter()
            .map(|(name, media_type, content)| {
                json!({"name": name, "media_type": media_type, "base64": STANDARD.encode(content)})
            })
            .collect();
        let note = json!({
            "person": PERSON, "author": "sakura-02", "text": "添付のとおりです。", "attachments": attachments,
        });
        let note = self.facility.city.control("note", &note).unwrap();
        let ids = note["attachments"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&note["id"]),
            ids.map(|file| text(&file["id"])).collect(),
        )
    }

    /// The address of a file in a note.
    pub fn place(&self, id: &str) -> String {
        format!("{}attachments/{id}", self.staff())
    }

    /// The cookies of whoever is signed in, as a browser sends them.
    pub fn cookies(&self) -> String {
        let jar = self.facility.directory().join("sakura-01.cookies");
        let text = std::fs::read_to_string(jar).unwrap();
        let cookie = |line: &str| {
            let line = line.trim_start_matches("#HttpOnly_");
            let fields: Vec<&str> = line.split('\t').collect();
            match fields[..] {
                [_, _, _, _, _, name, value] => Some(format!("{name}={value}")),
                _ => None,
            }
        };
        let cookies: Vec<String> = text.lines().filter_map(cookie).collect();
        cookies.join("; ")
    }
}

/// Looks at the beginning, where the large ones among the cases have it.
fn is_infected(path: &Path) -> bool {
    let virus = eicar();
    let coded = STANDARD.encode(&virus);
    let mut start = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    file.take(1 << 16).read_to_end(&mut start).unwrap();
    contains(&start, &virus[..28]) || contains(&start, &coded.as_bytes()[..28])
}

pub fn contains(bytes: &[u8], piece: &[u8]) -> bool {
    bytes.windows(piece.len()).any(|window| window == piece)
}

/// Whether any sixteen bytes in a row of `content` are in `bytes`.
pub fn shows_a_piece_of(bytes: &[u8], content: &[u8]) -> bool {
    let width = content.len().min(16);
    content
        .windows(width)
        .step_by(if content.len() > 4096 { 4096 } else { 1 })
        .any(|piece| piece.iter().any(|byte| *byte != 0) && contains(bytes, piece))
}
