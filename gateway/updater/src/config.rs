//! The updater's configuration: where the box's slots, kernels and state are, and when the facility may be interrupted.
//!
//! It opens nothing. What a manager can change is only the window and the bandwidth; the rest comes with the image.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::UpdateError;
use crate::slot::Slot;
use crate::window::Window;

/// A slower line than this is not asked for: the channel itself gives up below 8 KiB/s.
const SLOWEST: u64 = 16 * 1024;

/// `/etc/renraku-gateway/update.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The hardware's id, as releases name it.
    pub hardware: String,
    /// The first root of the signed channel, shipped with the image.
    pub root: PathBuf,
    /// The certificate in the firmware's `db`, PEM.
    pub signer: PathBuf,
    /// The updater's own directory: its copy of the channel's metadata and its record.
    #[serde(default = "state")]
    pub state: PathBuf,
    /// Where the firmware's partition keeps kernels.
    #[serde(default = "kernels")]
    pub kernels: PathBuf,
    /// gatewayd's relay of the signed channel.
    #[serde(default = "channel")]
    pub channel: PathBuf,
    /// gatewayd's control socket, for the health check.
    #[serde(default = "control")]
    pub control: PathBuf,
    /// What tells boxes apart in the waves; its content is hashed and sent nowhere.
    #[serde(default = "machine_id")]
    pub box_id: PathBuf,
    /// `/`, or the directory below which a test keeps `proc` and `etc`.
    #[serde(default = "system")]
    pub system: PathBuf,
    /// Where partitions are found by their UUID.
    #[serde(default = "by_uuid")]
    pub partitions: PathBuf,
    /// The partitions of slot a.
    pub a: Partitions,
    /// The partitions of slot b.
    pub b: Partitions,
    /// When the box may be restarted; always, when it is not there.
    pub window: Option<Window>,
    /// Bytes per second that an update may take of the line; no bound, when it is not there.
    pub bytes_per_second: Option<u64>,
    /// How long the health check waits for a system to become good, in seconds.
    #[serde(default = "patience")]
    pub health_seconds: u64,
    /// The command that restarts the box, as a list of arguments.
    #[serde(default = "restart")]
    pub restart: Vec<String>,
}

/// The UUIDs of a slot's partitions (`PARTUUID`), lower-case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partitions {
    /// Of the root file system.
    pub root: String,
    /// Of its hash tree.
    pub verity: String,
}

impl Partitions {
    /// Both, in the order of the kernel's command line: data, hash tree.
    #[must_use]
    pub fn both(&self) -> [String; 2] {
        [self.root.clone(), self.verity.clone()]
    }
}

fn state() -> PathBuf {
    "/var/lib/renraku-update".into()
}

fn kernels() -> PathBuf {
    "/efi/EFI/Linux".into()
}

fn channel() -> PathBuf {
    "/run/renraku-gateway/channel.sock".into()
}

fn control() -> PathBuf {
    "/run/renraku-gateway/control.sock".into()
}

fn machine_id() -> PathBuf {
    "/etc/machine-id".into()
}

fn system() -> PathBuf {
    "/".into()
}

fn by_uuid() -> PathBuf {
    "/dev/disk/by-partuuid".into()
}

const fn patience() -> u64 {
    180
}

fn restart() -> Vec<String> {
    vec!["/usr/bin/systemctl".to_owned(), "reboot".to_owned()]
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`UpdateError::Config`], with what is wrong.
    pub fn read(path: &Path) -> Result<Self, UpdateError> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| UpdateError::Config(format!("{shown}: {error}")))?;
        Self::parse(&text).map_err(|fault| UpdateError::Config(format!("{shown}: {fault}")))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let [a, b] = [&config.a, &config.b].map(Partitions::both);
        let all: Vec<&String> = a.iter().chain(&b).collect();
        for (number, uuid) in all.iter().enumerate() {
            if !is_uuid(uuid) {
                return Err(format!("{uuid:?} is not a UUID in lower case"));
            }
            if all[..number].contains(uuid) {
                return Err(format!("{uuid} stands for two partitions"));
            }
        }
        if config.bytes_per_second.is_some_and(|rate| rate < SLOWEST) {
            return Err(format!("bytes_per_second is below {SLOWEST}"));
        }
        if config.restart.is_empty() {
            return Err("restart is an empty command".to_owned());
        }
        Ok(config)
    }

    /// The partitions of a slot.
    #[must_use]
    pub const fn partitions_of(&self, slot: Slot) -> &Partitions {
        match slot {
            Slot::A => &self.a,
            Slot::B => &self.b,
        }
    }
}

fn is_uuid(text: &str) -> bool {
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
hardware = "box-1"
root = "/usr/share/renraku-gateway/root.json"
signer = "/usr/share/renraku-gateway/db.pem"
bytes_per_second = 500000
[a]
root = "8e0f7a52-93c4-4a0d-8f35-61c2b7e4a0a1"
verity = "8e0f7a52-93c4-4a0d-8f35-61c2b7e4a0a2"
[b]
root = "8e0f7a52-93c4-4a0d-8f35-61c2b7e4a0b1"
verity = "8e0f7a52-93c4-4a0d-8f35-61c2b7e4a0b2"
[window]
days = ["mon", "tue"]
from = "02:00"
until = "05:00"
"#;

    #[test]
    fn a_configuration_names_the_slots_and_the_window() {
        let config = Config::parse(GOOD).unwrap();
        assert!(config.window.is_some());
        assert_eq!(config.partitions_of(Slot::B).both()[0], config.b.root);
        assert_eq!(config.kernels, Path::new("/efi/EFI/Linux"));
    }

    #[test]
    fn the_commented_example_is_a_configuration_with_the_defaults_it_shows() {
        let example = include_str!("../update.toml");
        let shown = Config::parse(example).unwrap();
        let keys = [
            "state",
            "kernels",
            "channel",
            "control",
            "box_id",
            "system",
            "partitions",
            "health_seconds",
            "restart",
        ];
        let uncommented = keys.iter().fold(example.to_owned(), |text, key| {
            assert!(text.contains(&format!("\n# {key} = ")), "{key}");
            text.replace(&format!("\n# {key} = "), &format!("\n{key} = "))
        });
        let written = Config::parse(&uncommented).unwrap();
        assert_eq!(format!("{shown:?}"), format!("{written:?}"));
    }

    #[test]
    fn faults_are_named() {
        for (from, to, fault) in [
            ("61c2b7e4a0a1", "61C2B7E4A0A1", "UUID"),
            ("a0b1", "a0a1", "two partitions"),
            ("500000", "100", "bytes_per_second"),
            ("\"mon\"", "\"Monday\"", "Monday"),
            ("hardware", "hard_ware", "hard_ware"),
        ] {
            let refused = Config::parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(refused.contains(fault), "{refused}");
        }
    }
}
