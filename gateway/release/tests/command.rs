//! The whole ceremony at the command line, as a city's staff would do it, with passphrases from files.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("phrase"), "correct horse battery\n").unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gateway-release"))
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed, and gives what it said.
    fn done(&self, line: &str) -> String {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = self.run(&arguments);
        let said = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{line}\n{said}{error}");
        said
    }

    /// Runs a command that must fail, and gives why.
    fn refused(&self, line: &str) -> String {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = self.run(&arguments);
        assert_eq!(output.status.code(), Some(1), "{line}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn sign(&self, key: &str) -> String {
        self.done(&format!(
            "sign -r tuf --key {key}.pem --passphrase-file phrase"
        ))
    }
}

const PUBLISH: &str =
    "publish -r tuf --snapshot-key online.pem --timestamp-key online.pem --passphrase-file phrase";

#[test]
fn a_city_makes_keys_signs_publishes_replaces_a_key_and_verifies() {
    let desk = Desk::new();
    for (key, algorithm) in [("city", "p256"), ("maker", "ed25519"), ("online", "p256")] {
        let said = desk.done(&format!(
            "key new --out {key}.pem --algorithm {algorithm} --passphrase-file phrase"
        ));
        assert!(said.contains("ID:"), "{said}");
    }
    let said = desk.done(
        "init -r tuf --root-key city.pem.pub --root-key maker.pem.pub --targets-key city.pem.pub \
         --targets-key maker.pem.pub --releases-key maker.pem.pub --policy-key city.pem.pub \
         --antivirus-key online.pem.pub --snapshot-key online.pem.pub --timestamp-key online.pem.pub"
            .replace("         ", "")
            .as_str(),
    );
    assert!(said.contains("署名待ち"), "{said}");
    desk.sign("city");
    // One of two is not enough, and nothing is there to be read yet.
    let error = desk.refused(PUBLISH);
    assert!(error.contains("1/2"), "{error}");
    assert!(!desk.path("tuf/metadata/timestamp.json").exists());
    desk.sign("maker");
    desk.sign("online");
    desk.done(PUBLISH);
    let said = desk.done("verify -r tuf");
    assert!(said.contains("root 1"), "{said}");

    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let policy = format!(
        r#"{{"version":1,"not_before":{},"expires":{},"facilities":["*"]}}"#,
        now - 60,
        now + 86_400
    );
    std::fs::write(desk.path("policy.json"), policy).unwrap();
    desk.done("add policy -r tuf policy.json");
    desk.sign("city");
    desk.done(PUBLISH);

    let id = desk.done("key id maker.pem.pub");
    desk.done("key new --out maker2.pem --passphrase-file phrase");
    let line = format!(
        "rotate -r tuf root --remove {} --add maker2.pem.pub",
        id.trim()
    );
    desk.done(&line);
    for key in ["city", "maker", "maker2"] {
        desk.sign(key);
    }
    desk.done(PUBLISH);
    desk.done("renew -r tuf timestamp --timestamp-key online.pem --passphrase-file phrase");
    // From the root that the first boxes were shipped with.
    let said = desk.done("verify -r tuf --root tuf/metadata/1.root.json");
    assert!(said.contains("root 2"), "{said}");
    let said = desk.done("show -r tuf");
    assert!(!said.contains("署名待ち"), "{said}");

    // A second policy: the first one's files are named by nothing any more. What is staged, and what is not ours, stays.
    let policy = |version: u32| {
        format!(
            r#"{{"version":{version},"not_before":{},"expires":{},"facilities":["*"]}}"#,
            now - 60,
            now + 86_400
        )
    };
    std::fs::write(desk.path("policy.json"), policy(2)).unwrap();
    desk.done("add policy -r tuf policy.json");
    desk.sign("city");
    desk.done(PUBLISH);
    std::fs::write(desk.path("policy.json"), policy(3)).unwrap();
    desk.done("add policy -r tuf policy.json");
    std::fs::write(desk.path("tuf/targets/README"), "by hand").unwrap();
    let targets = |desk: &Desk| {
        std::fs::read_dir(desk.path("tuf/targets/policy")).map_or(0, |files| files.count())
    };
    let before = targets(&desk);
    let said = desk.done("prune -r tuf");
    assert!(
        said.contains("nothing removed") && said.contains("1.policy.json"),
        "{said}"
    );
    assert!(
        !said.contains("root.json") && !said.contains("README"),
        "{said}"
    );
    assert_eq!(targets(&desk), before);
    let said = desk.done("prune -r tuf --remove");
    assert!(said.contains("(removed)"), "{said}");
    assert_eq!(targets(&desk), 2, "the one in force and the one that waits");
    assert!(!desk.path("tuf/metadata/1.policy.json").exists());
    assert!(desk.path("tuf/metadata/1.root.json").exists());
    assert!(desk.path("tuf/targets/README").exists());
    let said = desk.done("verify -r tuf --root tuf/metadata/1.root.json");
    assert!(said.contains("root 2"), "{said}");
    assert!(desk.done("prune -r tuf").starts_with("0"));
    desk.sign("city");
    desk.done(PUBLISH);
    desk.done("verify -r tuf");
}

#[test]
fn what_goes_wrong_is_said_in_both_languages_and_a_stolen_file_is_no_key() {
    let desk = Desk::new();
    let error = desk.refused("show -r nothing");
    assert!(
        error.contains("init") && error.contains("no repository"),
        "{error}"
    );
    desk.done("key new --out a.pem --passphrase-file phrase");
    let error = desk.refused("key new --out a.pem --passphrase-file phrase");
    assert!(error.contains("exists already"), "{error}");
    std::fs::write(desk.path("short"), "short").unwrap();
    let error = desk.refused("key new --out b.pem --passphrase-file short");
    assert!(error.contains("12"), "{error}");
    // Without a terminal nothing can be typed; it says what to do instead.
    let error = desk.refused("key new --out b.pem");
    assert!(error.contains("--passphrase-file"), "{error}");
    assert_eq!(mode(&desk.path("a.pem")), 0o600);
    let text = std::fs::read_to_string(desk.path("a.pem")).unwrap();
    assert!(text.contains("ENCRYPTED PRIVATE KEY"));
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_key_file_is_one_that_openssl_opens() {
    let desk = Desk::new();
    desk.done("key new --out a.pem --passphrase-file phrase");
    let output = Command::new("openssl")
        .args([
            "pkey",
            "-in",
            "a.pem",
            "-passin",
            "file:phrase",
            "-noout",
            "-text",
        ])
        .current_dir(desk.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("prime256v1") || said.contains("P-256"),
        "{said}{:?}",
        output.stderr
    );
}
