//! One city, two facilities with a box each, and what was planted in every person's notes. Compares nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gateway_e2e::visiting::{Answer, Visitor};
use serde_json::{Value, json};
use test_harness::facility::{Facility, Options};
use test_harness::gatewayd::{self, Gatewayd};
use test_harness::setup;
use test_harness::swtpm::Swtpm;

/// The seed's persons: id, name, who writes about them.
const PERSONS: [(&str, &str, &str); 5] = [
    ("p-1001", "架空 花子", "sakura-01"),
    ("p-1002", "見本 太郎", "sakura-01"),
    ("p-1003", "例示 ウメ", "sakura-01"),
    ("p-1004", "試験 一郎", "sakura-kanri"),
    ("p-1005", "仮名 しず", "midori-kanri"),
];

/// The seed's readers of whom this test is about.
pub(crate) const READS: [(&str, &[&str]); 3] = [
    ("sakura-02", &["p-1001", "p-1002", "p-1004"]),
    ("sakura-03", &["p-1001", "p-1003"]),
    ("midori-01", &["p-1001", "p-1002", "p-1005"]),
];

/// What exists of one person, for the addresses of pages; or what does not exist at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Thing {
    pub(crate) person: String,
    pub(crate) note: String,
    pub(crate) attachment: String,
    /// Where a page of somebody's notes begins.
    pub(crate) cursor: String,
    /// What the attachment is called by caches: the ETag that its readers get.
    pub(crate) etag: String,
    /// A word that is in this person's notes only.
    pub(crate) word: String,
    /// What nobody else may see: name, words, ids, names of files.
    pub(crate) marks: Vec<String>,
}

impl Thing {
    /// One that nobody has.
    pub(crate) fn missing() -> Self {
        Self {
            person: "p-9999".into(),
            note: "n-9999".into(),
            attachment: "a-9999".into(),
            cursor: format!("1700000000.{}", "ab".repeat(32)),
            etag: "00".repeat(32),
            word: "どこにもないことば".into(),
            marks: Vec::new(),
        }
    }
}

pub(crate) struct Town {
    pub(crate) facility: Facility,
    pub(crate) theirs: Gatewayd,
    pub(crate) things: BTreeMap<String, Thing>,
    _tpm: Swtpm,
}

/// Somebody who is signed in, at the box of their facility.
pub(crate) struct Person<'a> {
    pub(crate) user: &'static str,
    pub(crate) visitor: Visitor,
    pub(crate) gateway: &'a Gatewayd,
    pub(crate) reads: &'static [&'static str],
}

impl Town {
    pub(crate) fn start() -> Self {
        let facility = Facility::start(Options::default()).unwrap();
        let tpm = Swtpm::start(&facility.directory().join("second-tpm")).unwrap();
        let options = gatewayd::Options {
            tcti: tpm.tcti(),
            anchor: facility.city.ca_file(),
            city_port: facility.city.port(),
            clamd: facility.clamd.socket(),
            https_port: None,
            http_port: None,
            refuse_unknown_devices: false,
            more_sites: Vec::new(),
            more: String::new(),
            through: Vec::new(),
            clock: None,
        };
        let theirs =
            Gatewayd::start(&facility.directory().join("second-gateway"), &options).unwrap();
        let numbers = facility.city.described()["numbers"].as_array().unwrap();
        let number = numbers
            .iter()
            .find(|number| number["facility"] == "tkh-1002")
            .unwrap();
        let text = |name: &str| number[name].as_str().unwrap();
        setup::provision(&theirs, text("number"), text("code")).unwrap();
        let mut town = Self {
            things: BTreeMap::new(),
            facility,
            theirs,
            _tpm: tpm,
        };
        for (number, (person, name, author)) in PERSONS.into_iter().enumerate() {
            let thing = town.plant(person, name, author, number);
            town.things.insert(person.to_owned(), thing);
        }
        town
    }

    /// A note with an attachment, in which everything is this person's alone.
    fn plant(&self, person: &str, name: &str, author: &str, number: usize) -> Thing {
        let word = format!(
            "ひみつの{}",
            ["りんご", "みかん", "ぶどう", "すいか", "いちご"][number]
        );
        let other = format!("合図{}番", ["壱", "弐", "参", "四", "五"][number]);
        let file = format!("書類-{}.txt", ["赤", "青", "黄", "緑", "紫"][number]);
        let sent = self.note(person, author, &format!("{word}と{other}。"), Some(&file));
        let id = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (note, attachment) = (id(&sent["id"]), id(&sent["attachments"][0]["id"]));
        let etag = id(&sent["attachments"][0]["sha256"]);
        Thing {
            person: person.to_owned(),
            marks: vec![
                person.to_owned(),
                name.to_owned(),
                word.clone(),
                other,
                file,
                note.clone(),
                attachment.clone(),
            ],
            note,
            attachment,
            cursor: String::new(),
            etag,
            word,
        }
    }

    pub(crate) fn note(&self, person: &str, author: &str, text: &str, file: Option<&str>) -> Value {
        use base64::Engine as _;
        let content = base64::engine::general_purpose::STANDARD.encode(format!("中身 {text}"));
        let attachments: Vec<Value> = file
            .map(|name| json!({"name": name, "media_type": "text/plain", "base64": content}))
            .into_iter()
            .collect();
        let note =
            json!({"person": person, "author": author, "text": text, "attachments": attachments});
        self.facility.city.control("note", &note).unwrap()
    }

    /// The staff member, signed in at the notebook and at the box.
    pub(crate) fn person(&self, user: &'static str) -> Person<'_> {
        self.person_called(user, user)
    }

    /// The same in another browser.
    pub(crate) fn person_called(&self, user: &'static str, browser: &str) -> Person<'_> {
        let gateway = if user.starts_with("midori") {
            &self.theirs
        } else {
            &self.facility.gateway
        };
        let visitor = Visitor::new(&self.facility, browser);
        let page = visitor.sign_in_at(&self.facility, gateway, user);
        assert_eq!(page.status, 200, "{user}: {}", page.body);
        let reads = READS
            .iter()
            .find(|(known, _)| *known == user)
            .map_or(&[][..], |(_, reads)| reads);
        let person = Person {
            user,
            visitor,
            gateway,
            reads,
        };
        let _ = person.visitor.stored(gateway);
        person
    }

    /// Waits until everything planted that they may read is there to be read, attachments too where the box keeps them.
    pub(crate) fn until_filled(&self, person: &Person<'_>) {
        for id in person.reads {
            let thing = &self.things[*id];
            person.until(&format!("notes/{id}"), |page| page.says(&thing.word));
            // Fetched and scanned after the note.
            let file = format!("notes/attachment/{}", thing.attachment);
            person.until(&file, |file| file.status == 200);
        }
    }

    /// The person's things that somebody may not see.
    pub(crate) fn forbidden(&self, person: &Person<'_>) -> Vec<&Thing> {
        self.things
            .iter()
            .filter(|(id, _)| !person.reads.contains(&id.as_str()))
            .map(|(_, thing)| thing)
            .collect()
    }
}

impl Person<'_> {
    pub(crate) fn url(&self, path: &str) -> String {
        let path = path.strip_prefix('/').unwrap_or(path);
        match path.strip_prefix("notebook:") {
            Some(path) => format!("{}{path}", self.gateway.portal_url()),
            None => format!("{}{path}", self.gateway.console_url()),
        }
    }

    pub(crate) fn open(&self, path: &str) -> Answer {
        self.visitor
            .send(&["--header", "Accept: text/html", &self.url(path)])
    }

    /// Opens a page until it is as it should be.
    pub(crate) fn until(&self, path: &str, good: impl Fn(&Answer) -> bool) -> Answer {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let page = self.open(path);
            if good(&page) {
                return page;
            }
            assert!(
                Instant::now() < end,
                "{} waited in vain at {path}: {} {}",
                self.user,
                page.status,
                page.body
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The value of the box's own cookie.
    pub(crate) fn session(&self, town: &Town, browser: &str) -> String {
        let jar = town.facility.directory().join(format!("{browser}.cookies"));
        let text = std::fs::read_to_string(jar).unwrap();
        text.lines()
            .find_map(|line| line.split_once("__Host-box\t"))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap()
    }
}
