//! A box on plain files, and a city that releases for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use der::EncodePem as _;
use gateway_policy::Timestamp;
use gateway_release::{Role, SoftwareRelease};
use gateway_updater::UpdateError;
use gateway_updater::config::Config;
use gateway_updater::hex;
use gateway_updater::index::sha256;
use gateway_updater::slot::Slot;
use gateway_updater::work::{self, Checked};
use serde_json::json;
use tempfile::TempDir;

use crate::support::kernel::{Signer, command_line, partitions};
use crate::support::release::{Release, noise};
use crate::town::{HOUR, NOON, Town, at};

const ROOM: [usize; 2] = [6 * 65_536, 2 * 65_536];

pub(crate) struct Appliance {
    pub(crate) folder: TempDir,
    pub(crate) town: Town,
    pub(crate) signer: Signer,
    pub(crate) old: Release,
    pub(crate) now: i64,
}

impl Appliance {
    /// Version 1.1 runs in slot a and has been found to be good; slot b is empty.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::new("db");
        let old = Release::new("1.1", noise(1, 4 * 65_536), &signer);
        let town = Town::new();
        let it = Self {
            folder,
            town,
            signer,
            old,
            now: NOON + HOUR,
        };
        for name in ["proc", "etc", "partitions", "kernels"] {
            std::fs::create_dir(it.path(name)).unwrap();
        }
        std::fs::write(it.path("etc/machine-id"), "0123456789abcdef\n").unwrap();
        std::fs::write(it.path("root.json"), it.town.first_root()).unwrap();
        let pem = it.signer.certificate.to_pem(der::pem::LineEnding::LF);
        std::fs::write(it.path("db.pem"), pem.unwrap()).unwrap();
        for slot in Slot::ALL {
            let contents = [&it.old.root, &it.old.verity];
            for ((uuid, content), room) in partitions(slot).iter().zip(contents).zip(ROOM) {
                let mut bytes = if slot == Slot::A {
                    content.clone()
                } else {
                    Vec::new()
                };
                bytes.resize(room, 0xee);
                std::fs::write(it.path("partitions").join(uuid), bytes).unwrap();
            }
        }
        let kernel = &it.old.kernels[&Slot::A];
        std::fs::write(it.path("kernels/renraku-gateway_1.1_a.efi"), kernel).unwrap();
        it.runs(&it.old, Slot::A);
        it.judge(true).await.unwrap();
        assert_eq!(
            work::status(&it.config()).unwrap().state.floor(),
            Some("1.1")
        );
        it
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// What the kernel and the image say of themselves from now on.
    pub(crate) fn runs(&self, release: &Release, slot: Slot) {
        let line = command_line(&hex::of(&release.root_hash), slot);
        std::fs::write(self.path("proc/cmdline"), line).unwrap();
        let name = format!(
            "IMAGE_ID=renraku-gateway\nIMAGE_VERSION={}\n",
            release.version
        );
        std::fs::write(self.path("etc/os-release"), name).unwrap();
    }

    pub(crate) fn config(&self) -> Config {
        let path = |below: &str| self.path(below).display().to_string();
        let slot = |slot| {
            let [root, verity] = partitions(slot);
            json!({ "root": root, "verity": verity })
        };
        let value = json!({
            "hardware": "box-1", "root": path("root.json"), "signer": path("db.pem"),
            "state": path("state"), "kernels": path("kernels"), "channel": path("channel.sock"),
            "control": path("control.sock"), "box_id": path("etc/machine-id"), "system": path(""),
            "partitions": path("partitions"), "a": slot(Slot::A), "b": slot(Slot::B),
            "health_seconds": 0, "restart": ["/usr/bin/touch", path("restarted")],
        });
        serde_json::from_value(value).unwrap()
    }

    pub(crate) async fn check(&self) -> Result<Checked, UpdateError> {
        self.check_with(&self.config()).await
    }

    pub(crate) async fn check_with(&self, config: &Config) -> Result<Checked, UpdateError> {
        let now = self.now;
        let medium = self.town.repository.directory().to_owned();
        work::check(config, Some(&medium), &|| Timestamp(now)).await
    }

    /// A verdict, with gatewayd answering as told.
    pub(crate) async fn judge(
        &self,
        good: bool,
    ) -> Result<gateway_updater::install::Judged, UpdateError> {
        let config = self.config();
        let _ = std::fs::remove_file(&config.control);
        let listener = tokio::net::UnixListener::bind(&config.control).unwrap();
        let answering = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = json!({ "version": 1, "health": {
                "provisioned": true, "city": "reached", "scanner": good, "store": true,
            } });
            let line = format!("{answer}\n");
            stream.write_all(line.as_bytes()).await.unwrap();
        });
        let now = self.now;
        let judged = work::health(&config, &|| Timestamp(now)).await;
        answering.await.unwrap();
        judged.map(|(judged, _)| judged)
    }

    /// The firmware and the boot loader: the kernel loses its attempt, the release runs.
    pub(crate) fn boots(&self, release: &Release, slot: Slot) {
        let name = |tries: &str| {
            let letter = slot.letter();
            let file = format!(
                "kernels/renraku-gateway_{}_{letter}{tries}.efi",
                release.version
            );
            self.path(&file)
        };
        std::fs::rename(name("+1-0"), name("+0-1")).unwrap();
        self.runs(release, slot);
    }

    /// A release whose image shares most of its blocks with the old one.
    pub(crate) fn made(&self, version: &str) -> Release {
        let mut root = self.old.root.clone();
        let seed = version.bytes().last().unwrap();
        root[65_536..2 * 65_536].copy_from_slice(&noise(seed, 65_536));
        Release::new(version, root, &self.signer)
    }

    pub(crate) fn release_folder(&self, release: &Release) -> PathBuf {
        let folder = self.path(&format!("release-{}", release.version));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
        write("root.img", &release.root);
        write("root.verity", &release.verity);
        write("sbom.cdx.json", b"{}");
        for slot in Slot::ALL {
            write(slot.kernel(), &release.kernels[&slot]);
        }
        folder
    }

    pub(crate) fn described(release: &Release) -> SoftwareRelease {
        SoftwareRelease {
            root_hash: Some(hex::of(&release.root_hash)),
            ..SoftwareRelease::new(&release.version, "box-1")
        }
    }

    pub(crate) fn publish(&self, release: &Release) {
        self.publish_as(release, &Self::described(release));
    }

    pub(crate) fn publish_as(&self, release: &Release, described: &SoftwareRelease) {
        let folder = self.release_folder(release);
        let repository = &self.town.repository;
        repository
            .add_release(&folder, described, at(NOON))
            .unwrap();
        self.town.sign_everything();
        self.town.publish(NOON);
    }

    /// Whoever holds the key of `releases` replaces targets by hand, past the tool that would refuse it.
    pub(crate) fn replace_targets(&self, changes: &[(&str, &[u8])]) {
        let file = self
            .town
            .repository
            .published(Role::Releases)
            .unwrap()
            .unwrap();
        let version = file.version();
        let mut signed = self.town.metadata(&format!("{version}.releases.json"))["signed"].clone();
        signed["version"] = json!(version + 1);
        for (name, bytes) in changes {
            let digest = hex::of(&sha256(bytes));
            signed["targets"][name] =
                json!({ "length": bytes.len(), "hashes": { "sha256": digest } });
            let (folder, last) = name.rsplit_once('/').unwrap();
            let folder = self
                .town
                .repository
                .directory()
                .join("targets")
                .join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("{digest}.{last}")), bytes).unwrap();
        }
        let key = &self.town.keys[&Role::Releases][0];
        let forged = Town::forge(&signed, &[key]);
        self.town
            .publish_forged(&[(Role::Releases, forged)], None, NOON);
    }

    /// Everything an update may change, to see that it has not.
    pub(crate) fn disk(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut out = BTreeMap::new();
        for folder in ["partitions", "kernels"] {
            for entry in std::fs::read_dir(self.path(folder)).unwrap() {
                let path = entry.unwrap().path();
                out.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
        out
    }

    pub(crate) fn kernels(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("kernels")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn restarted(&self) -> bool {
        let mark = self.path("restarted");
        let was = mark.exists();
        if was {
            std::fs::remove_file(mark).unwrap();
        }
        was
    }

    pub(crate) fn partition(&self, slot: Slot) -> Vec<u8> {
        let path: &Path = &self.path("partitions");
        std::fs::read(path.join(&partitions(slot)[0])).unwrap()
    }
}
