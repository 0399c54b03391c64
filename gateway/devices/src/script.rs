//! What our script for Windows sends (`scripts/renraku-device-check.ps1`): read strictly, brought into the common form.
//!
//! The script reports what Windows answers and leaves every conclusion to this side, so that a mistake is corrected here and
//! not on eighty PCs.

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::report::{
    Antivirus, Fact, Lock, Os, Platform, Program, Report, Signatures, UsbStorage, media,
    medium_serial, programs, tidy,
};
use crate::{Version, osquery};

/// `AntivirusSignatureAge` when there never were definitions.
const NEVER: u64 = 4_294_967_295;

const DAY: i64 = 86_400;

/// A report as it was sent.
pub struct Sent {
    /// The nonce it answers.
    pub nonce: Zeroizing<String>,
    /// Greater than that of every report before.
    pub counter: u64,
    /// What the firmware says of the hardware, in one spelling.
    pub hardware: Option<String>,
    /// What it says of the device, as of the moment it arrived.
    pub report: Report,
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sent")
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    version: u32,
    nonce: String,
    counter: u64,
    hardware_uuid: Option<String>,
    os: WireOs,
    defender: Option<Defender>,
    #[serde(default)]
    products: Vec<Product>,
    lock: WireLock,
    usbstor_start: Option<u32>,
    #[serde(default)]
    media: Vec<String>,
    /// `ProtectionStatus` of the system's drive: 0 off, 1 on, 2 unknown. Absent: it could not be asked.
    bitlocker: Option<u32>,
    portable: Option<bool>,
    #[serde(default)]
    programs: Vec<WireProgram>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireOs {
    major: u32,
    minor: u32,
    build: u32,
    revision: u32,
}

/// From Get-MpComputerStatus.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Defender {
    service: bool,
    realtime: bool,
    signature_age: u64,
}

/// From `root\SecurityCenter2`, class AntiVirusProduct.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Product {
    state: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireLock {
    inactivity: Option<u32>,
    saver_seconds: Option<u32>,
    saver_secure: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireProgram {
    name: String,
    version: Option<String>,
}

/// Reads a report. `now` is when it arrived: it answers a nonce of a few minutes ago, so the device's clock does not matter.
#[must_use]
pub fn read(body: &[u8], now: i64) -> Option<Sent> {
    let wire: Wire = serde_json::from_slice(body).ok()?;
    if wire.version != 1 {
        return None;
    }
    let WireOs {
        major,
        minor,
        build,
        revision,
    } = wire.os;
    let version = Version::parse(&format!("{major}.{minor}.{build}.{revision}"))?;
    let (antivirus, signatures) = protection(wire.defender.as_ref(), &wire.products, now);
    let serials = wire.media.iter().filter_map(|name| medium_serial(name));
    let listed = wire.programs.into_iter().map(|program| Program {
        name: tidy(&program.name, 120),
        version: tidy(&program.version.unwrap_or_default(), 40),
    });
    let listed = programs(listed);
    let report = Report {
        os: fact(
            now,
            Some(Os {
                platform: Platform::Windows,
                version,
            }),
        ),
        antivirus: fact(now, antivirus),
        signatures: fact(now, signatures),
        lock: fact(now, Some(lock(&wire.lock))),
        usb: fact(
            now,
            wire.usbstor_start.map(|start| UsbStorage {
                disabled: start == 4,
            }),
        ),
        media: fact(now, Some(media(serials))),
        encrypted: fact(now, wire.bitlocker.map(|status| status == 1)),
        programs: fact(now, (!listed.is_empty()).then_some(listed)),
        portable: fact(now, wire.portable),
    };
    Some(Sent {
        nonce: Zeroizing::new(wire.nonce),
        counter: wire.counter,
        hardware: wire
            .hardware_uuid
            .and_then(|uuid| osquery::hardware("uuid", &uuid)),
        report,
    })
}

fn fact<T>(at: i64, value: Option<T>) -> Option<Fact<T>> {
    value.map(|value| Fact { value, at })
}

fn protection(
    defender: Option<&Defender>,
    products: &[Product],
    now: i64,
) -> (Option<Antivirus>, Option<Signatures>) {
    let of_defender = defender.map(|defender| {
        if defender.service && defender.realtime {
            Antivirus::On
        } else {
            Antivirus::Off
        }
    });
    let all = products.iter().map(|product| state(product.state));
    let antivirus = all.chain(of_defender).reduce(Antivirus::better);
    // Definitions are those of the product that protects. Defender tells their age, another product only whether they do.
    let signatures = if of_defender == Some(Antivirus::On) {
        defender.map(|defender| age(defender.signature_age, now))
    } else {
        let on = products
            .iter()
            .filter(|product| state(product.state) == Antivirus::On);
        let mut current = on.map(|product| product.state & 0xf0 == 0);
        match current.next() {
            Some(first) if first || current.any(|current| current) => Some(Signatures::Current),
            Some(_) => Some(Signatures::Outdated),
            None => defender.map(|defender| age(defender.signature_age, now)),
        }
    };
    (antivirus, signatures)
}

/// `productState`: bits 12 to 15 are 0 off, 1 on, 2 snoozed, 3 expired. Microsoft does not document it; this is what its
/// users have found out.
const fn state(state: u32) -> Antivirus {
    match state & 0xf000 {
        0x1000 => Antivirus::On,
        0x2000 => Antivirus::Snoozed,
        0x3000 => Antivirus::Expired,
        _ => Antivirus::Off,
    }
}

fn age(days: u64, now: i64) -> Signatures {
    match i64::try_from(days) {
        Ok(days) if days.unsigned_abs() < NEVER => {
            Signatures::Built(now.saturating_sub(days.saturating_mul(DAY)))
        }
        _ => Signatures::Never,
    }
}

fn lock(wire: &WireLock) -> Lock {
    let saver = wire.saver_seconds.filter(|_| wire.saver_secure == Some(1));
    Lock {
        seconds: [wire.inactivity, saver]
            .into_iter()
            .flatten()
            .filter(|seconds| *seconds > 0)
            .min(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn sent(change: impl FnOnce(&mut Value)) -> Option<Sent> {
        let mut body = json!({
            "version": 1, "nonce": "00", "counter": 7, "hardware_uuid": "4C4C4544-0043-3010-8052-B4C04F564231",
            "os": {"major": 10, "minor": 0, "build": 26100, "revision": 4349},
            "defender": {"service": true, "realtime": true, "signature_age": 1},
            "products": [{"state": 397_568}],
            "lock": {"inactivity": 600, "saver_seconds": null, "saver_secure": null},
            "usbstor_start": 4, "media": ["4C53&0"], "bitlocker": 1, "portable": true,
            "programs": [{"name": "LibreOffice 25.2", "version": "25.2.4"}, {"name": "X", "version": null}],
        });
        change(&mut body);
        read(body.to_string().as_bytes(), NOW)
    }

    fn protection_of(change: impl FnOnce(&mut Value)) -> (Antivirus, Option<Signatures>) {
        let report = sent(change).unwrap().report;
        (
            report.antivirus.unwrap().value,
            report.signatures.map(|fact| fact.value),
        )
    }

    #[test]
    fn a_report_of_a_good_pc_says_so_in_every_point() {
        let sent = sent(|_| ()).unwrap();
        assert_eq!(sent.counter, 7);
        assert!(sent.hardware.unwrap().starts_with("uuid:4C4C"));
        let report = sent.report;
        assert_eq!(
            report.os.unwrap().value.version.to_string(),
            "10.0.26100.4349"
        );
        assert_eq!(
            report.signatures.unwrap().value,
            Signatures::Built(NOW - DAY)
        );
        assert_eq!(report.lock.unwrap().value.seconds, Some(600));
        assert!(report.usb.unwrap().value.disabled);
        assert!(report.encrypted.unwrap().value);
        assert_eq!(report.programs.unwrap().value.len(), 2);
    }

    #[test]
    fn an_age_that_means_never_is_never() {
        let (_, signatures) = protection_of(|body| {
            body["defender"]["signature_age"] = json!(4_294_967_295_u64);
        });
        assert_eq!(signatures, Some(Signatures::Never));
    }

    #[test]
    fn the_bits_of_product_state_tell_on_off_snoozed_expired_and_outdated() {
        for (bits, antivirus, signatures) in [
            (0x061_000, Antivirus::On, Some(Signatures::Current)),
            (0x061_010, Antivirus::On, Some(Signatures::Outdated)),
            (0x062_000, Antivirus::Snoozed, None),
            (0x063_000, Antivirus::Expired, None),
            (0x060_000, Antivirus::Off, None),
        ] {
            let found = protection_of(|body| {
                body["defender"] = Value::Null;
                body["products"] = json!([{"state": bits}]);
            });
            assert_eq!(found, (antivirus, signatures), "{bits:x}");
        }
    }

    #[test]
    fn another_product_that_is_on_makes_up_for_a_sleeping_defender() {
        let found = protection_of(|body| {
            body["defender"]["realtime"] = json!(false);
            body["defender"]["signature_age"] = json!(90);
            body["products"] = json!([{"state": 0x060_110}, {"state": 0x041_000}]);
        });
        assert_eq!(found, (Antivirus::On, Some(Signatures::Current)));
    }

    #[test]
    fn nothing_at_all_is_not_protection() {
        let report = sent(|body| {
            body["defender"] = Value::Null;
            body["products"] = json!([]);
            body["bitlocker"] = Value::Null;
            body["usbstor_start"] = Value::Null;
        })
        .unwrap()
        .report;
        assert!(report.antivirus.is_none() && report.signatures.is_none());
        assert!(report.encrypted.is_none() && report.usb.is_none());
    }

    #[test]
    fn a_report_with_more_or_less_than_agreed_is_refused() {
        assert!(sent(|body| body["user"] = json!("yamada")).is_none());
        assert!(sent(|body| body["version"] = json!(2)).is_none());
        assert!(sent(|body| drop(body.as_object_mut().unwrap().remove("os"))).is_none());
        assert!(read(b"", NOW).is_none());
    }
}
