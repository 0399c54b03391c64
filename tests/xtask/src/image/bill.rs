//! What the image is made of: a bill of materials (CycloneDX 1.6) and the licences, both part of the image.
//!
//! It lists; it judges no licence and looks up no advisory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Site, tools};

/// Where the image keeps them; the check SBOM reads the first.
const FOLDER: &str = "usr/share/renraku-gateway";

/// Writes `sbom.cdx.json` and `licences.txt` into the tree and beside the release.
pub(super) fn write(site: &Site) -> Result<(), String> {
    let packages = packages(&site.work.join("out/packages"))?;
    let crates = crates(&site.workspace)?;
    let bill = bill(&site.version, &packages, &crates);
    let bill = serde_json::to_vec_pretty(&bill).map_err(|error| error.to_string())?;
    let licences = licences(&packages, &crates, &site.work.join("out/copyright"));
    for (name, content) in [
        ("sbom.cdx.json", bill.as_slice()),
        ("licences.txt", licences.as_bytes()),
    ] {
        let inside = site.work.join("out").join(site.tree).join(FOLDER);
        for folder in [inside, site.work.join("release")] {
            let path = folder.join(name);
            fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// A package of Debian or a crate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    name: String,
    version: String,
    licence: Option<String>,
}

/// The packages in dpkg's own record that are installed.
fn packages(status: &Path) -> Result<Vec<Part>, String> {
    let text =
        fs::read_to_string(status).map_err(|error| format!("{}: {error}", status.display()))?;
    let parts = parse_status(&text);
    if parts.is_empty() {
        return Err(format!("{} lists no package", status.display()));
    }
    Ok(parts)
}

fn parse_status(text: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = text
        .split("\n\n")
        .filter_map(|paragraph| {
            let field = |name: &str| {
                paragraph.lines().find_map(|line| {
                    line.strip_prefix(name)?
                        .strip_prefix(": ")
                        .map(str::to_owned)
                })
            };
            (field("Status").as_deref() == Some("install ok installed")).then_some(())?;
            Some(Part {
                name: field("Package")?,
                version: field("Version")?,
                licence: None,
            })
        })
        .collect();
    parts.sort_by(|left, right| left.name.cmp(&right.name));
    parts
}

/// Every crate that the programs are linked from, with its licence.
fn crates(workspace: &Path) -> Result<Vec<Part>, String> {
    let text = tools::run(
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args([
                "metadata",
                "--format-version=1",
                "--locked",
                "--filter-platform=x86_64-unknown-linux-gnu",
            ])
            .current_dir(workspace),
    )?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let used = linked(&metadata);
    let mut parts: Vec<Part> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|package| {
            package["id"]
                .as_str()
                .is_some_and(|id| used.iter().any(|used| used == id))
        })
        .map(|package| Part {
            name: package["name"].as_str().unwrap_or_default().to_owned(),
            version: package["version"].as_str().unwrap_or_default().to_owned(),
            licence: package["license"].as_str().map(str::to_owned),
        })
        .collect();
    parts.sort_by(|left, right| (&left.name, &left.version).cmp(&(&right.name, &right.version)));
    Ok(parts)
}

/// Ids of what the box's programs depend on, development aside.
fn linked(metadata: &Value) -> Vec<String> {
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let roots = super::PROGRAMS.map(|(_, package)| package);
    let mut waiting: Vec<&str> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|package| {
            package["name"]
                .as_str()
                .is_some_and(|name| roots.contains(&name))
        })
        .filter_map(|package| package["id"].as_str())
        .collect();
    let mut seen: Vec<String> = Vec::new();
    while let Some(id) = waiting.pop() {
        if seen.iter().any(|seen| seen == id) {
            continue;
        }
        seen.push(id.to_owned());
        let dependencies = nodes.get(id).and_then(|node| node["deps"].as_array());
        waiting.extend(dependencies.into_iter().flatten().filter_map(|dependency| {
            let ordinary = dependency["dep_kinds"]
                .as_array()
                .is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()));
            if ordinary {
                dependency["pkg"].as_str()
            } else {
                None
            }
        }));
    }
    seen
}

/// CycloneDX 1.6. It carries no time and no serial number of its own: the same parts give the same bytes.
fn bill(version: &str, packages: &[Part], crates: &[Part]) -> Value {
    let component = |part: &Part, purl: String| {
        let mut component = json!({
            "type": "library", "bom-ref": purl, "name": part.name, "version": part.version, "purl": purl,
        });
        if let Some(licence) = &part.licence {
            component["licenses"] = json!([{ "expression": licence }]);
        }
        component
    };
    let debian = packages.iter().map(|part| {
        let purl = format!(
            "pkg:deb/debian/{}@{}?arch=amd64&distro=debian-13",
            part.name,
            escaped(&part.version)
        );
        component(part, purl)
    });
    let rust = crates.iter().map(|part| {
        component(
            part,
            format!("pkg:cargo/{}@{}", part.name, escaped(&part.version)),
        )
    });
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": {
            "type": "operating-system", "name": "renraku-gateway", "version": version,
        } },
        "components": debian.chain(rust).collect::<Vec<_>>(),
    })
}

/// What a package URL escapes in a version (purl specification: percent encoding but for `.-_~:`).
fn escaped(version: &str) -> String {
    version.replace('+', "%2B")
}

/// The licence list: each crate's expression, and of each Debian package its copyright file in full.
fn licences(packages: &[Part], crates: &[Part], copyright: &Path) -> String {
    let mut text =
        String::from("# What this image is made of, and under which licences\n\n## Crates\n\n");
    for part in crates {
        let licence = part.licence.as_deref().unwrap_or("(see its sources)");
        let _ = writeln!(text, "{} {}: {licence}", part.name, part.version);
    }
    text.push_str("\n## Debian packages\n");
    for part in packages {
        let _ = write!(text, "\n### {} {}\n\n", part.name, part.version);
        match fs::read_to_string(copyright.join(&part.name)) {
            Ok(file) => text.push_str(&file),
            Err(_) => text.push_str("As the source package it is built from.\n"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_installed_is_listed() {
        let text = "Package: zlib1g\nStatus: install ok installed\nVersion: 1:1.3+x-1\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: a\nVersion: 2\nStatus: install ok installed\n";
        let parts = parse_status(text);
        let names: Vec<_> = parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["a", "zlib1g"]);
        let bill = bill("1.0", &parts, &[]);
        assert_eq!(
            bill["components"][1]["purl"],
            "pkg:deb/debian/zlib1g@1:1.3%2Bx-1?arch=amd64&distro=debian-13"
        );
    }
}
