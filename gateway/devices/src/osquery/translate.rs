//! From one line of osquery's result log to what it says of the device. Pure, and silent on whatever it does not know.
//!
//! Nothing is concluded from an empty answer but where emptiness is the fact: a table that could not be read looks the same.

use serde_json::{Map, Value};

use crate::Version;
use crate::report::{
    Antivirus, Fact, Lock, Os, Platform, Program, Report, Signatures, UsbStorage, media,
    medium_serial, programs, tidy,
};

/// The longest name of a program that is kept.
const LONGEST_NAME: usize = 120;

/// Reads one line. `now` bounds its time: a device whose clock is ahead does not make its evidence last longer.
#[must_use]
pub fn translate(line: &Value, now: i64) -> Report {
    let nothing = Report::default();
    let Some(rows) = line["snapshot"].as_array() else {
        return nothing;
    };
    let Some(at) = number(&line["unixTime"]) else {
        return nothing;
    };
    let at = at.clamp(0, now);
    let rows: Vec<&Map<String, Value>> = rows.iter().filter_map(Value::as_object).collect();
    let mut report = nothing;
    match line["name"].as_str().unwrap_or_default() {
        "renraku_security_products" => {
            report.antivirus = fact(at, products(&rows));
            report.signatures = fact(at, product_signatures(&rows));
        }
        "renraku_security_center" => report.antivirus = fact(at, center(&rows)),
        "renraku_windows_version" => report.os = fact(at, windows(&rows)),
        "renraku_os_version" => report.os = fact(at, unix(&rows)),
        "renraku_windows_lock" => report.lock = fact(at, windows_lock(&rows)),
        "renraku_screenlock" => report.lock = fact(at, mac_lock(&rows)),
        "renraku_usbstor" => report.usb = fact(at, usbstor(&rows)),
        "renraku_usb_media" => {
            let serials = rows
                .iter()
                .filter_map(|row| medium_serial(&text(row, "name")));
            report.media = fact(at, Some(media(serials)));
        }
        "renraku_bitlocker" => report.encrypted = fact(at, bitlocker(&rows)),
        "renraku_disk_encryption" => {
            report.encrypted = fact(at, only(&rows, "encrypted").map(|on| on == 1));
        }
        "renraku_battery" => {
            report.portable = fact(at, only(&rows, "batteries").map(|count| count > 0));
        }
        "renraku_gatekeeper" => {
            let on = only(&rows, "assessments_enabled");
            report.antivirus = fact(at, on.map(|on| on_or_off(on == 1)));
        }
        "renraku_xprotect_updates" => {
            let on = only(&rows, "value").map(|on| on == 1);
            let state = |on| {
                if on {
                    Signatures::Current
                } else {
                    Signatures::Outdated
                }
            };
            report.signatures = fact(at, on.map(state));
        }
        "renraku_clamd" => {
            report.antivirus = fact(at, only(&rows, "running").map(|count| on_or_off(count > 0)));
        }
        "renraku_clamav_database" => {
            let built = only(&rows, "built").filter(|built| *built > 0);
            let built = built.map_or(Signatures::Never, |built| Signatures::Built(built.min(now)));
            report.signatures = fact(at, (!rows.is_empty()).then_some(built));
        }
        "renraku_programs" if !rows.is_empty() => {
            let listed = rows.iter().map(|row| Program {
                name: tidy(&text(row, "name"), LONGEST_NAME),
                version: tidy(&text(row, "version"), 40),
            });
            report.programs = fact(at, Some(programs(listed)));
        }
        _ => {}
    }
    report
}

fn fact<T>(at: i64, value: Option<T>) -> Option<Fact<T>> {
    value.map(|value| Fact { value, at })
}

/// osquery writes numbers as text unless told otherwise.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn cell(row: &Map<String, Value>, column: &str) -> Option<i64> {
    row.get(column).and_then(number)
}

fn text(row: &Map<String, Value>, column: &str) -> String {
    match row.get(column) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// The value in an answer of exactly one row.
fn only(rows: &[&Map<String, Value>], column: &str) -> Option<i64> {
    match rows {
        [row] => cell(row, column),
        _ => None,
    }
}

/// A row of the pair form `name`, `data`.
fn named(rows: &[&Map<String, Value>], name: &str) -> Option<i64> {
    rows.iter()
        .find(|row| text(row, "name").eq_ignore_ascii_case(name))
        .and_then(|row| cell(row, "data"))
}

const fn on_or_off(on: bool) -> Antivirus {
    if on { Antivirus::On } else { Antivirus::Off }
}

/// `windows_security_products.state`: On, Off, Snoozed, Expired.
fn products(rows: &[&Map<String, Value>]) -> Option<Antivirus> {
    rows.iter()
        .filter_map(|row| product(row))
        .reduce(Antivirus::better)
}

fn product(row: &Map<String, Value>) -> Option<Antivirus> {
    match text(row, "state").to_ascii_lowercase().as_str() {
        "on" => Some(Antivirus::On),
        "snoozed" => Some(Antivirus::Snoozed),
        "expired" => Some(Antivirus::Expired),
        "off" => Some(Antivirus::Off),
        _ => None,
    }
}

/// The definitions of the product that is on; a second one that sleeps beside it says nothing.
fn product_signatures(rows: &[&Map<String, Value>]) -> Option<Signatures> {
    let of = |row: &&Map<String, Value>| match cell(row, "signatures_up_to_date")? {
        1 => Some(Signatures::Current),
        0 => Some(Signatures::Outdated),
        _ => None,
    };
    let on = rows
        .iter()
        .filter(|row| product(row) == Some(Antivirus::On));
    let states: Vec<Signatures> = on.filter_map(of).collect();
    if states.contains(&Signatures::Current) {
        return Some(Signatures::Current);
    }
    states.first().copied().or_else(|| {
        // None is on, so all that is known is what the sleeping ones say.
        rows.iter().find_map(of)
    })
}

/// `windows_security_center.antivirus`: Good, Poor, Snoozed, Not Monitored, Error. Coarser than the list of products; it
/// stands in where that list is empty.
fn center(rows: &[&Map<String, Value>]) -> Option<Antivirus> {
    let [row] = rows else { return None };
    match text(row, "antivirus").to_ascii_lowercase().as_str() {
        "good" => Some(Antivirus::On),
        "snoozed" => Some(Antivirus::Snoozed),
        "poor" | "not monitored" => Some(Antivirus::Off),
        _ => None,
    }
}

fn windows(rows: &[&Map<String, Value>]) -> Option<Os> {
    let build = named(rows, "CurrentBuildNumber")?;
    // Windows 8 and earlier have no such values; their builds are below every release in support.
    let major = named(rows, "CurrentMajorVersionNumber").unwrap_or(6);
    let minor = named(rows, "CurrentMinorVersionNumber").unwrap_or(0);
    let revision = named(rows, "UBR").unwrap_or(0);
    Some(Os {
        platform: Platform::Windows,
        version: Version::parse(&format!("{major}.{minor}.{build}.{revision}"))?,
    })
}

fn unix(rows: &[&Map<String, Value>]) -> Option<Os> {
    let [row] = rows else { return None };
    // Debian writes "12 (bookworm)", Ubuntu "24.04.2 LTS (Noble Numbat)".
    let version = text(row, "version");
    Some(Os {
        platform: Platform::parse(&text(row, "platform").to_ascii_lowercase())?,
        version: Version::parse(version.split(' ').next()?)?,
    })
}

/// Windows locks by the machine's policy (0 is off), or by a screen saver that every user's policy demands.
fn windows_lock(rows: &[&Map<String, Value>]) -> Option<Lock> {
    if rows.is_empty() {
        return None;
    }
    let positive = |name| named(rows, name).filter(|seconds| *seconds > 0);
    let inactivity = positive("inactivity");
    let saver = positive("saver_seconds").filter(|_| named(rows, "saver_secure") == Some(1));
    let soonest = [inactivity, saver].into_iter().flatten().min();
    Some(Lock {
        seconds: soonest.and_then(|seconds| u32::try_from(seconds).ok()),
    })
}

/// `screenlock`: whether a password is asked for after sleep or screen saver, and after how long. When the saver begins is
/// not in the table; a grace period within bounds is what can be known.
fn mac_lock(rows: &[&Map<String, Value>]) -> Option<Lock> {
    let on = only(rows, "enabled")?;
    let grace = only(rows, "grace_period").and_then(|grace| u32::try_from(grace).ok());
    Some(Lock {
        seconds: grace.filter(|_| on == 1).map(|grace| grace.max(1)),
    })
}

/// `Start` of the driver for USB storage: 3 on demand, 4 disabled.
fn usbstor(rows: &[&Map<String, Value>]) -> Option<UsbStorage> {
    only(rows, "data").map(|start| UsbStorage {
        disabled: start == 4,
    })
}

/// Protection of the system's drive; where none is called C:, of all drives. 1 is on.
fn bitlocker(rows: &[&Map<String, Value>]) -> Option<bool> {
    if rows.is_empty() {
        return None;
    }
    let on = |row: &&&Map<String, Value>| cell(row, "protection_status") == Some(1);
    let system: Vec<_> = rows
        .iter()
        .filter(|row| text(row, "drive_letter").eq_ignore_ascii_case("C:"))
        .collect();
    Some(if system.is_empty() {
        rows.iter().all(|row| on(&row))
    } else {
        system.iter().all(on)
    })
}

#[cfg(test)]
mod tests;
