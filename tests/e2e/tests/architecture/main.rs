//! The rules of `docs/design.md` about the shape of the code, held by a machine.
//!
//! They are read from `cargo metadata` and from the sources as text. What a crate does at run time is not looked at here.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use test_harness::binaries::workspace;

use rules::{EDGES, OWNERS};

/// The only folders of the repository's top level.
const FOLDERS: [&str; 6] = [
    "docs",
    "gateway",
    "image",
    "provisioning",
    "systemd",
    "tests",
];

/// Lines of Rust in one file; longer ones are hard to hold in the head.
const LONGEST_FILE: usize = 600;

#[test]
fn each_crate_uses_only_the_crates_it_may() {
    let metadata = metadata();
    let ours: BTreeSet<String> = members(&metadata).map(name).collect();
    for package in members(&metadata) {
        let crate_name = name(package);
        let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == crate_name) else {
            panic!("{crate_name} has no rule; add it to EDGES and to docs/design.md");
        };
        let used: BTreeSet<String> = dependencies(package, "normal")
            .filter(|used| ours.contains(used))
            .collect();
        for used in used {
            assert!(
                allowed.contains(&used.as_str()),
                "{crate_name} may not use {used}"
            );
        }
    }
}

#[test]
fn a_crate_of_the_product_is_tested_only_with_the_harness() {
    let metadata = metadata();
    let ours: BTreeSet<String> = members(&metadata).map(name).collect();
    let of_the_product =
        |package: &&Value| name(package).starts_with("gateway-") && name(package) != "gateway-e2e";
    for package in members(&metadata).filter(of_the_product) {
        let runtime: BTreeSet<String> = dependencies(package, "normal").collect();
        for used in dependencies(package, "dev").filter(|used| ours.contains(used)) {
            // A crate names itself to switch on a feature that only its own tests have.
            assert!(
                runtime.contains(&used) || used == "test-harness" || used == name(package),
                "{} is tested with {used}",
                name(package)
            );
        }
    }
}

#[test]
fn each_outside_system_has_one_owner() {
    let metadata = metadata();
    for (library, owners) in OWNERS {
        for package in members(&metadata) {
            let uses = ["normal", "dev", "build"]
                .iter()
                .any(|kind| dependencies(package, kind).any(|used| used == *library));
            assert!(
                !uses || owners.contains(&name(package).as_str()),
                "{} uses {library}",
                name(package)
            );
        }
    }
}

#[test]
fn only_the_proxy_and_the_reference_city_serve_http() {
    // A UNIX socket for the updater, which has no network (docs/decisions/0022).
    let relay = "gateway/daemon/src/signed_channel/relay.rs";
    let servers = ["gateway/proxy/", "tests/city/", relay];
    for (file, text) in rust_files() {
        let is_product =
            !relative(&file).starts_with("tests/") && !relative(&file).contains("/tests/");
        let serves = ["hyper::server", "hyper_util::server", "axum::"]
            .iter()
            .any(|path| text.contains(path));
        let may = servers
            .iter()
            .any(|folder| relative(&file).starts_with(folder));
        assert!(
            !is_product || !serves || may,
            "{} serves HTTP",
            relative(&file)
        );
    }
}

#[test]
fn the_policy_does_no_input_or_output_and_reads_no_clock() {
    let forbidden = [
        "std::fs",
        "std::net",
        "std::io",
        "std::env",
        "std::process",
        "std::time",
        "SystemTime",
        "Instant",
        "tokio",
        "async fn",
    ];
    for (file, text) in rust_files()
        .into_iter()
        .filter(|(file, _)| relative(file).starts_with("gateway/policy/src"))
    {
        let code: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        for word in forbidden {
            assert!(!code.contains(word), "{} mentions {word}", relative(&file));
        }
    }
}

#[test]
fn the_top_level_has_exactly_its_six_folders() {
    let entries = fs::read_dir(workspace()).unwrap().flatten();
    let found: BTreeSet<String> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|folder| !folder.starts_with('.') && folder != "target")
        .collect();
    assert_eq!(found, FOLDERS.map(str::to_owned).into());
}

#[test]
fn every_crate_inherits_the_workspace_lints_and_licence() {
    for package in members(&metadata()) {
        let manifest = package["manifest_path"].as_str().unwrap();
        let table: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
        let inherits = |value: Option<&toml::Value>| {
            value.and_then(|value| value.get("workspace")) == Some(&toml::Value::Boolean(true))
        };
        assert!(
            inherits(table.get("lints")),
            "{manifest}: [lints] workspace = true"
        );
        assert!(
            inherits(table["package"].get("license")),
            "{manifest}: license.workspace = true"
        );
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (library, value) in table
                .get(section)
                .and_then(toml::Value::as_table)
                .into_iter()
                .flatten()
            {
                let is_itself = value.get("path").and_then(toml::Value::as_str) == Some(".");
                assert!(
                    is_itself || inherits(Some(value)),
                    "{manifest}: {library} must take version and features from the workspace"
                );
            }
        }
    }
}

#[test]
fn every_exception_from_a_lint_gives_its_reason() {
    for (file, text) in rust_files() {
        for opening in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
            for (at, _) in text.match_indices(opening) {
                let attribute = text[at..].split(")]").next().unwrap_or_default();
                let line = text[..at].lines().count();
                let is_code = !text[..at]
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .contains(['/', '"']);
                assert!(
                    !is_code || attribute.contains("reason = \""),
                    "{}:{line}: {attribute}",
                    relative(&file)
                );
            }
        }
    }
}

#[test]
fn no_source_file_is_longer_than_one_can_read() {
    for (file, text) in rust_files() {
        let lines = text.lines().count();
        assert!(
            lines <= LONGEST_FILE,
            "{} has {lines} lines",
            relative(&file)
        );
    }
}

#[test]
fn no_module_is_named_after_nothing() {
    for (file, _) in rust_files() {
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        for word in [
            "utils", "util", "common", "manager", "helper", "helpers", "misc",
        ] {
            assert_ne!(stem, word, "{}", relative(&file));
        }
    }
}

#[test]
fn every_source_file_says_what_it_is_for() {
    for (file, text) in rust_files() {
        // A crate's own tests.rs is the lower half of the module it belongs to.
        let is_source =
            relative(&file).contains("/src/") && !relative(&file).ends_with("/tests.rs");
        assert!(
            !is_source || text.starts_with("//!"),
            "{} does not begin with its purpose",
            relative(&file)
        );
    }
}

#[test]
fn every_licence_is_one_that_deny_toml_allows() {
    let deny: toml::Table = fs::read_to_string(workspace().join("deny.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let list = |value: &toml::Value| -> BTreeSet<String> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item.as_str().unwrap().to_owned())
            .collect()
    };
    let allowed = list(&deny["licenses"]["allow"]);
    let exceptions: BTreeMap<String, BTreeSet<String>> = deny["licenses"]["exceptions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|exception| {
            (
                exception["crate"].as_str().unwrap().to_owned(),
                list(&exception["allow"]),
            )
        })
        .collect();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "the whole graph is looked at");
    for package in packages {
        let terms = package["license"].as_str().unwrap_or_default();
        let own = exceptions.get(&name(package));
        let may = |licence: &str| {
            allowed.contains(licence) || own.is_some_and(|own| own.contains(licence))
        };
        assert!(
            satisfies(terms, &may),
            "{} is under {terms:?}",
            name(package)
        );
    }
}

#[test]
fn licence_terms_are_read_as_cargo_writes_them() {
    let may = |licence: &str| ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].contains(&licence);
    for terms in [
        "MIT",
        "GPL-3.0/MIT",
        "GPL-3.0 OR (MIT AND ISC)",
        "Apache-2.0 WITH LLVM-exception",
        "(MIT OR X) AND ISC",
    ] {
        assert!(satisfies(terms, &may), "{terms}");
    }
    for terms in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "Apache-2.0",
        "(MIT OR X) AND GPL-3.0",
    ] {
        assert!(!satisfies(terms, &may), "{terms}");
    }
}

#[test]
fn decisions_are_numbered_from_one_without_a_gap() {
    let entries = fs::read_dir(workspace().join("docs/decisions"))
        .unwrap()
        .flatten();
    let mut numbers: Vec<usize> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .map(|file| {
            let number = file
                .split('-')
                .next()
                .filter(|digits| digits.len() == 4)
                .and_then(|digits| digits.parse().ok());
            number.unwrap_or_else(|| panic!("{file} has no number of four digits"))
        })
        .collect();
    numbers.sort_unstable();
    assert!(!numbers.is_empty());
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
}

#[test]
fn every_test_that_the_documents_name_exists() {
    let tests: BTreeSet<String> = rust_files()
        .iter()
        .flat_map(|(_, text)| {
            text.match_indices("fn ")
                .map(|(at, _)| {
                    text[at + 3..]
                        .split('(')
                        .next()
                        .unwrap_or_default()
                        .to_owned()
                })
                .collect::<Vec<_>>()
        })
        .collect();
    for document in ["docs/security-features.md", "docs/threat-model.md"] {
        let text = fs::read_to_string(workspace().join(document)).unwrap();
        // A test's name is a sentence: four words or more in one pair of backticks.
        let named =
            text.split('`').skip(1).step_by(2).filter(|word| {
                word.matches('_').count() >= 3 && !word.contains(['.', '/', ' ', '-'])
            });
        let mut count = 0;
        for test in named {
            count += 1;
            assert!(
                tests.contains(test),
                "{document} names {test}, which does not exist"
            );
        }
        assert!(count > 0, "{document} names no test");
    }
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut documents: Vec<PathBuf> = Vec::new();
    for folder in ["", "docs", "docs/decisions", "systemd", "image"] {
        let entries = fs::read_dir(workspace().join(folder)).unwrap().flatten();
        documents.extend(
            entries
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|kind| kind == "md")),
        );
    }
    assert!(documents.len() > 10);
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let path = document
                .parent()
                .unwrap()
                .join(target.split('#').next().unwrap_or_default());
            assert!(path.exists(), "{} links to {target}", relative(&document));
        }
    }
}

/// The dependency graph, for the system the product runs on.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn members(metadata: &Value) -> impl Iterator<Item = &Value> {
    let ids: BTreeSet<&str> = metadata["workspace_members"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(move |package| ids.contains(package["id"].as_str().unwrap()))
}

fn name(package: &Value) -> String {
    package["name"].as_str().unwrap().to_owned()
}

fn dependencies(package: &Value, kind: &str) -> impl Iterator<Item = String> {
    let kind = kind.to_owned();
    package["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .filter(move |dependency| dependency["kind"].as_str().unwrap_or("normal") == kind)
        .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
        .collect::<Vec<_>>()
        .into_iter()
}

/// Evaluates an SPDX expression; `/` is how older crates write OR.
fn satisfies(terms: &str, may: &dyn Fn(&str) -> bool) -> bool {
    let spaced = terms
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    let satisfied = any_of(&mut rest, may);
    satisfied && rest.is_empty()
}

fn any_of(rest: &mut &[&str], may: &dyn Fn(&str) -> bool) -> bool {
    let mut satisfied = all_of(rest, may);
    while let ["OR", tail @ ..] = rest {
        *rest = tail;
        satisfied |= all_of(rest, may);
    }
    satisfied
}

fn all_of(rest: &mut &[&str], may: &dyn Fn(&str) -> bool) -> bool {
    let mut satisfied = one(rest, may);
    while let ["AND", tail @ ..] = rest {
        *rest = tail;
        satisfied &= one(rest, may);
    }
    satisfied
}

fn one(rest: &mut &[&str], may: &dyn Fn(&str) -> bool) -> bool {
    match rest {
        ["(", tail @ ..] => {
            *rest = tail;
            let satisfied = any_of(rest, may);
            *rest = rest.strip_prefix(&[")"]).unwrap_or(rest);
            satisfied
        }
        [licence, "WITH", exception, tail @ ..] => {
            let terms = format!("{licence} WITH {exception}");
            *rest = tail;
            may(&terms)
        }
        [licence, tail @ ..] => {
            let satisfied = may(licence);
            *rest = tail;
            satisfied
        }
        [] => false,
    }
}

/// Every Rust file of the repository with its text.
fn rust_files() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = FOLDERS
        .iter()
        .map(|folder| workspace().join(folder))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() && entry.file_name() != "target" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 20, "the sources were found");
    found
}

fn relative(file: &Path) -> String {
    file.strip_prefix(workspace())
        .unwrap_or(file)
        .to_string_lossy()
        .into_owned()
}
