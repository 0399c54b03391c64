//! BOOT: is what runs what was signed? Root under dm-verity with the hash on the signed command line, UEFI Secure Boot on,
//! kernel locked down. Does not measure PCRs; the TPM crate's attestation does.

use gateway_policy::{Check, Grade, Missing, Observation, Observed, Timestamp};

use crate::System;
use crate::evidence::Raw;

/// UEFI 2.10 section 3.3: the global variables' vendor GUID.
const SECURE_BOOT: &str =
    "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
const SETUP_MODE: &str = "sys/firmware/efi/efivars/SetupMode-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// What one of the sources says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Good,
    Bad,
    Nothing,
}

/// Measures how this box booted. On a system that is not our image nothing is known.
#[must_use]
pub fn boot(system: &System, at: Timestamp) -> Observed {
    let mut raw = Raw::default();
    let Some(image) = system.image() else {
        raw.note("image", None);
        return raw.observed(Check::Boot, Observation::Unknown(Missing::Never), at);
    };
    raw.note("image", Some(&image.version));
    let found = [
        secure_boot(system, &mut raw),
        lockdown(system, &mut raw),
        verity(system, &mut raw),
    ];
    let observation = if found.contains(&Says::Bad) {
        Observation::Fail {
            grade: Grade::Major,
            since: None,
        }
    } else if found.contains(&Says::Nothing) {
        Observation::Unknown(Missing::Error)
    } else {
        Observation::Pass
    };
    raw.observed(Check::Boot, observation, at)
}

/// On, and not in the setup mode in which anybody could enrol keys.
fn secure_boot(system: &System, raw: &mut Raw) -> Says {
    let mut says = |name, path, good: u8| {
        // efivarfs: four bytes of attributes, then the value, here one byte.
        let value = match system.bytes(path).as_deref() {
            Ok([_, _, _, _, value]) => Some(*value),
            _ => None,
        };
        raw.note(name, value.map(|value| value.to_string()).as_deref());
        match value {
            Some(value) if value == good => Says::Good,
            Some(_) => Says::Bad,
            None => Says::Nothing,
        }
    };
    match (
        says("secure-boot", SECURE_BOOT, 1),
        says("setup-mode", SETUP_MODE, 0),
    ) {
        (Says::Bad, _) | (_, Says::Bad) => Says::Bad,
        (Says::Good, Says::Good) => Says::Good,
        _ => Says::Nothing,
    }
}

/// kernel_lockdown(7): the level in brackets is the one in force.
fn lockdown(system: &System, raw: &mut Raw) -> Says {
    let text = system.text("sys/kernel/security/lockdown").ok();
    let level = text
        .as_deref()
        .and_then(|text| text.split_once('[')?.1.split_once(']'))
        .map(|(level, _)| level);
    raw.note("lockdown", level);
    match level {
        Some("integrity" | "confidentiality") => Says::Good,
        Some(_) => Says::Bad,
        None => Says::Nothing,
    }
}

/// The root file system lies on dm-verity, and the hash it is checked against came with the kernel command line, which
/// the signature of the unified kernel image covers.
fn verity(system: &System, raw: &mut Raw) -> Says {
    let command_line = system.text("proc/cmdline").ok();
    let hash = command_line.as_deref().and_then(root_hash);
    raw.note("root-hash", hash);
    let device = system
        .text("proc/self/mountinfo")
        .ok()
        .and_then(|text| root_device(&text).map(str::to_owned));
    raw.note("root-device", device.as_deref());
    let Some(device) = device else {
        return Says::Nothing;
    };
    let uuid = system.text(format!("sys/dev/block/{device}/dm/uuid"));
    raw.note("dm-uuid", uuid.as_deref().ok().map(str::trim));
    match (uuid, hash) {
        // A command line that cannot be read says nothing, one without a hash says enough.
        (Ok(uuid), None) if command_line.is_none() && is_verity(&uuid) => Says::Nothing,
        (Ok(uuid), Some(_)) if is_verity(&uuid) => Says::Good,
        (Ok(_), _) => Says::Bad,
        // A root that is no device-mapper device at all is an answer, too.
        (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => Says::Bad,
        (Err(_), _) => Says::Nothing,
    }
}

/// libdevmapper's prefix for dm-verity devices, whatever made them.
fn is_verity(uuid: &str) -> bool {
    uuid.starts_with("CRYPT-VERITY-")
}

/// `roothash=` or `usrhash=` (systemd-veritysetup-generator(8)): 64 hexadecimal digits.
pub(crate) fn root_hash(command_line: &str) -> Option<&str> {
    command_line
        .split_ascii_whitespace()
        .find_map(|word| {
            word.strip_prefix("roothash=")
                .or_else(|| word.strip_prefix("usrhash="))
        })
        .filter(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// `renraku.slot=`, which the image's build puts beside the partitions' ids.
pub(crate) fn slot(command_line: &str) -> Option<&str> {
    command_line
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("renraku.slot="))
        .filter(|slot| ["a", "b"].contains(slot))
}

/// The device (`major:minor`) that is mounted last on `/` (proc_pid_mountinfo(5)).
fn root_device(mountinfo: &str) -> Option<&str> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let device = fields.nth(2)?;
            (fields.nth(1)? == "/").then_some(device)
        })
        .next_back()
        .filter(|device| {
            device
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b':')
        })
}
