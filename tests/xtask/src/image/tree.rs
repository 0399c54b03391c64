//! The two trees that mkosi makes: the box's root file system and what runs before it.
//!
//! It decides nothing about what is in them: `image/system` and `image/initrd` do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{PROGRAMS, Site, tools};
use crate::debian::mirror;

/// What the city brings at least: the configuration, and what the box trusts from the beginning.
const CITY: [&str; 3] = [
    "gateway.toml",
    "city-anchor.pem",
    "signed-channel-root.json",
];

/// Files of this tree and where the image has them.
const FILES: [(&str, &str); 3] = [
    (
        "gateway/antivirus/clamd.conf",
        "usr/share/renraku-gateway/clamd.conf",
    ),
    ("LICENSE", "usr/share/renraku-gateway/LICENSE"),
    (
        "systemd/catalog/renraku-gateway.catalog",
        "usr/lib/systemd/catalog/renraku-gateway.catalog",
    ),
];

/// Units and their kind, copied as folders.
const FOLDERS: [(&str, &str); 4] = [
    ("systemd/sysusers.d", "usr/lib/sysusers.d"),
    ("systemd/tmpfiles.d", "usr/lib/tmpfiles.d"),
    (
        "systemd/clamav-daemon.service.d",
        "usr/lib/systemd/system/clamav-daemon.service.d",
    ),
    (
        "systemd/clamav-daemon.socket.d",
        "usr/lib/systemd/system/clamav-daemon.socket.d",
    ),
];

/// Puts together, in `work/stage`, what comes from this tree and from the city.
pub(super) fn stage(site: &Site, city: &Path, programs: &[PathBuf]) -> Result<(), String> {
    let stage = site.work.join("stage");
    let _ = fs::remove_dir_all(&stage);
    for (program, built) in PROGRAMS.iter().map(|(name, _)| name).zip(programs) {
        let to = stage.join("usr/bin").join(program);
        copy(built, &to)?;
        // Debug information is the larger part of a program and nothing on the box reads it.
        tools::run(Command::new("strip").arg(&to))?;
    }
    for (from, to) in FILES {
        copy(&site.workspace.join(from), &stage.join(to))?;
    }
    for entry in files(&site.workspace.join("systemd"))? {
        if let Some(name) = entry.file_name()
            && ["service", "socket", "timer", "path", "target"]
                .iter()
                .any(|kind| {
                    entry
                        .extension()
                        .is_some_and(|extension| extension == *kind)
                })
        {
            copy(&entry, &stage.join("usr/lib/systemd/system").join(name))?;
        }
    }
    for (from, to) in FOLDERS {
        for entry in files(&site.workspace.join(from))? {
            if let Some(name) = entry.file_name() {
                copy(&entry, &stage.join(to).join(name))?;
            }
        }
    }
    for name in CITY {
        copy(
            &city.join(name),
            &stage.join("etc/renraku-gateway").join(name),
        )?;
    }
    for entry in files(&city.join("antivirus")).unwrap_or_default() {
        if let Some(name) = entry.file_name() {
            let to = stage.join("usr/share/renraku-gateway/antivirus").join(name);
            copy(&entry, &to)?;
        }
    }
    let configuration = fs::read_to_string(city.join("gateway.toml"))
        .map_err(|error| format!("{}: {error}", city.join("gateway.toml").display()))?;
    let ports = city_ports(&configuration)?;
    let list: Vec<String> = ports.iter().map(u16::to_string).collect();
    write(
        &stage.join("etc/nftables.d/city-ports.conf"),
        &format!("define city_ports = {{ {} }}\n", list.join(", ")),
    )
}

/// The updater's configuration: the slots as the disk's layout has them, and whose signature a kernel must carry.
pub(super) fn updater(site: &Site, hardware: &str) -> Result<(), String> {
    let stage = site.work.join("stage");
    copy(
        &site.work.join("keys/db.crt"),
        &stage.join("usr/share/renraku-gateway/db.pem"),
    )?;
    let mut text = format!(
        "# Made with the image: what the updater must know of this box.\nhardware = {hardware:?}\n\
         root = \"/etc/renraku-gateway/signed-channel-root.json\"\n\
         signer = \"/usr/share/renraku-gateway/db.pem\"\n"
    );
    for slot in ["a", "b"] {
        let [root, verity] =
            ["root", "verity"].map(|kind| super::kernel::partition(site, kind, slot));
        text += &format!("\n[{slot}]\nroot = {:?}\nverity = {:?}\n", root?, verity?);
    }
    write(&stage.join("etc/renraku-gateway/update.toml"), &text)
}

/// Every port on which the configuration reaches the city or another site.
fn city_ports(configuration: &str) -> Result<Vec<u16>, String> {
    let table: toml::Table = configuration
        .parse()
        .map_err(|error| format!("gateway.toml: {error}"))?;
    let city = table.get("city").and_then(toml::Value::as_table);
    let sites = table.get("site").and_then(toml::Value::as_array);
    let ends = city
        .into_iter()
        .flat_map(|city| [city.get("est"), city.get("gateway_api")])
        .flatten()
        .chain(sites.into_iter().flatten());
    let mut ports: Vec<u16> = ends
        .filter_map(|end| {
            let connect = end.get("connect").and_then(toml::Value::as_str);
            match connect.and_then(|address| address.rsplit_once(':')) {
                Some((_, port)) => port.parse().ok(),
                None => u16::try_from(end.get("port")?.as_integer()?).ok(),
            }
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    if ports.is_empty() {
        return Err("gateway.toml names no city".to_owned());
    }
    Ok(ports)
}

/// Runs mkosi on `image/<which>`; the tree is `work/out/<which>` afterwards.
pub(super) fn build(site: &Site, which: &str) -> Result<(), String> {
    eprintln!("mkosi: {which}");
    let sandbox = site.work.join("sandbox");
    write(
        &sandbox.join("etc/apt/sources.list.d/mkosi.sources"),
        &sources(&mirror()?),
    )?;
    let out = site.work.join("out");
    let cache = site.work.join("cache");
    for folder in [&out, &cache] {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let mut mkosi = Command::new("python3");
    mkosi
        .args(["-m", "mkosi"])
        .env(
            "PYTHONPATH",
            site.tools.root.join("usr/lib/python3/dist-packages"),
        )
        .env("SOURCE_DATE_EPOCH", site.epoch.to_string())
        .arg("--directory")
        .arg(site.workspace.join("image").join(which))
        .arg("--tools-tree")
        .arg(&site.tools.root)
        .arg("--sandbox-tree")
        .arg(&sandbox)
        .arg("--output-directory")
        .arg(&out)
        .arg("--workspace-directory")
        .arg(&site.work)
        .arg("--package-cache-dir")
        .arg(&cache)
        .arg("--image-version")
        .arg(&site.version);
    if which == "system" {
        mkosi.arg("--extra-tree").arg(site.work.join("stage"));
    }
    // What the packages alone make is kept, by their list: only the files on top are laid anew.
    mkosi.arg("--cache-directory").arg(&cache);
    tools::run(mkosi.args(["--incremental=yes", "--force", "build"])).map(drop)
}

/// Whether the initial file system that is there came from what `image/initrd` says now. It takes nothing from elsewhere in this tree.
pub(super) fn initrd_is_current(site: &Site) -> bool {
    site.work.join("out/initrd").is_dir()
        && described(site).is_ok_and(|wanted| {
            fs::read_to_string(site.work.join("initrd-of")).is_ok_and(|made| made == wanted)
        })
}

/// Notes what the initial file system came from.
pub(super) fn initrd_was_built(site: &Site) -> Result<(), String> {
    write(&site.work.join("initrd-of"), &described(site)?)
}

/// Digests of every file that `image/initrd` consists of.
fn described(site: &Site) -> Result<String, String> {
    tools::run(
        Command::new("sh")
            .args([
                "-euc",
                "find initrd trim-modules -type f | LC_ALL=C sort | xargs sha256sum",
            ])
            .current_dir(site.workspace.join("image")),
    )
}

/// The packages' sources: Debian 13 with its updates, security included, from the mirror this machine uses.
fn sources(mirror: &str) -> String {
    let security = format!("{}-security", mirror.trim_end_matches('/'));
    let source = |uri: &str, suites: &str| {
        format!(
            "Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        )
    };
    source(mirror, "trixie trixie-updates") + "\n" + &source(&security, "trixie-security")
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    fs::copy(from, to)
        .map(drop)
        .map_err(|error| format!("{}: {error}", from.display()))
}

fn write(to: &Path, text: &str) -> Result<(), String> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    fs::write(to, text).map_err(|error| format!("{}: {error}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_the_city_are_those_it_is_really_dialled_at() {
        let text = r#"
            [city]
            est = { host = "est.example", port = 443 }
            gateway_api = { host = "gw.example", port = 443, connect = "10.0.2.100:8443" }
            [[site]]
            hosts = ["renraku.example"]
            port = 9443
        "#;
        assert_eq!(city_ports(text).unwrap(), [443, 8443, 9443]);
        assert!(city_ports("[city]\n").is_err());
    }
}
