//! osquery's remote API as its documentation describes it ("Remotely interfacing osquery"): enroll, config and log.
//!
//! Distributed queries and carving are not implemented and never will be: nobody can ask a device something that is not in
//! the published schedule. osquery does not look at HTTP's status, so every answer, refusals too, is JSON of its form.

mod schedule;
mod translate;

use std::io::Read as _;

use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub use schedule::{REPORT_INTERVAL, schedule};
pub use translate::translate;

use crate::Report;

/// What a body may grow to when it is unpacked. A list of all programs has some hundred kilobytes.
const MOST_UNPACKED: u64 = 8 << 20;

/// Result lines in one request. osquery sends at most 1024.
const MOST_LINES: usize = 2_048;

/// What enrolling tells of a device. Of the tables that osquery sends along only what pins the hardware is read.
#[derive(Debug)]
pub struct Enrolment {
    /// Hardware UUID, or else serial number; `None` when the firmware says nothing of use.
    pub hardware: Option<String>,
}

/// What a log request carries.
pub struct Log {
    /// The key from enrolling.
    pub node_key: Zeroizing<String>,
    /// What its results say. Status lines are not kept: they name files and users.
    pub report: Report,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log(..)")
    }
}

#[derive(Deserialize)]
struct WireEnrolment {
    #[serde(default)]
    host_details: HostDetails,
}

#[derive(Default, Deserialize)]
struct HostDetails {
    #[serde(default)]
    system_info: SystemInfo,
}

#[derive(Default, Deserialize)]
struct SystemInfo {
    #[serde(default)]
    uuid: String,
    #[serde(default)]
    hardware_serial: String,
}

#[derive(Deserialize)]
struct WireConfig {
    #[serde(default)]
    node_key: String,
}

#[derive(Deserialize)]
struct WireLog {
    #[serde(default)]
    node_key: String,
    #[serde(default)]
    log_type: String,
    #[serde(default)]
    data: Vec<Value>,
}

/// Unpacks a body that is gzip or nothing (`--logger_tls_compress`). `None`: another coding, damaged, or too large.
#[must_use]
pub fn unpack(coding: Option<&str>, body: &[u8]) -> Option<Vec<u8>> {
    match coding.map(str::trim) {
        None | Some("" | "identity") => Some(body.to_vec()),
        Some(coding) if coding.eq_ignore_ascii_case("gzip") => {
            let mut unpacked = Vec::new();
            let read = flate2::read::GzDecoder::new(body)
                .take(MOST_UNPACKED + 1)
                .read_to_end(&mut unpacked);
            let fits = unpacked.len() as u64 <= MOST_UNPACKED;
            (read.is_ok() && fits).then_some(unpacked)
        }
        Some(_) => None,
    }
}

/// Reads the body of an enrolment.
#[must_use]
pub fn read_enrolment(body: &[u8]) -> Option<Enrolment> {
    let wire: WireEnrolment = serde_json::from_slice(body).ok()?;
    let SystemInfo {
        uuid,
        hardware_serial,
    } = wire.host_details.system_info;
    let hardware = [("uuid", uuid), ("serial", hardware_serial)]
        .into_iter()
        .find_map(|(kind, value)| hardware(kind, &value));
    Some(Enrolment { hardware })
}

/// One spelling for the same hardware; `None` for what firmware writes where nothing was filled in.
#[must_use]
pub fn hardware(kind: &str, value: &str) -> Option<String> {
    let value: String = value
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_uppercase())
        .take(64)
        .collect();
    let says_nothing = value.len() < 5
        || value.bytes().all(|letter| letter == value.as_bytes()[0])
        || [
            "DEFAULTSTRING",
            "TOBEFILLEDBYOEM",
            "SYSTEMSERIALNUMBER",
            "NOTSPECIFIED",
            "NOTAPPLICABLE",
            // A well-known placeholder UUID of mainboards.
            "03000200040005000006000700080009",
        ]
        .contains(&value.as_str());
    (!says_nothing).then(|| format!("{kind}:{value}"))
}

/// Reads the node key of a config request.
#[must_use]
pub fn read_config(body: &[u8]) -> Option<Zeroizing<String>> {
    let wire: WireConfig = serde_json::from_slice(body).ok()?;
    Some(Zeroizing::new(wire.node_key))
}

/// Reads a log request. `now` bounds the times in it.
#[must_use]
pub fn read_log(body: &[u8], now: i64) -> Option<Log> {
    let wire: WireLog = serde_json::from_slice(body).ok()?;
    let mut report = Report::default();
    if wire.log_type == "result" {
        for line in wire.data.iter().take(MOST_LINES) {
            report.merge(translate(line, now));
        }
    }
    Some(Log {
        node_key: Zeroizing::new(wire.node_key),
        report,
    })
}

/// The answer to an enrolment that succeeded.
#[must_use]
pub fn enrolled(node_key: &str) -> Value {
    json!({ "node_key": node_key, "node_invalid": false })
}

/// The answer that makes osquery enrol again, and the only one to anything that is not understood.
#[must_use]
pub fn node_invalid() -> Value {
    json!({ "node_invalid": true })
}

/// The answer to logs that were taken.
#[must_use]
pub fn taken() -> Value {
    json!({ "node_invalid": false })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_body_is_unpacked_within_bounds() {
        let body = b"{\"node_key\":\"k\"}";
        assert_eq!(unpack(None, body).unwrap(), body);
        assert_eq!(unpack(Some("gzip"), &packed(body)).unwrap(), body);
        assert_eq!(unpack(Some("gzip"), body), None);
        assert_eq!(unpack(Some("br"), body), None);
        let bomb = packed(&vec![b' '; usize::try_from(MOST_UNPACKED).unwrap() + 1]);
        assert!(bomb.len() < 16 * 1024);
        assert_eq!(unpack(Some("gzip"), &bomb), None);
        let cut = packed(body);
        assert_eq!(unpack(Some("gzip"), &cut[..cut.len() - 4]), None);
    }

    #[test]
    fn hardware_is_spelt_in_one_way_and_placeholders_are_none() {
        let enrol = |uuid: &str, serial: &str| {
            let body = json!({
                "enroll_secret": "", "host_identifier": "PC-1", "platform_type": "2",
                "host_details": { "system_info": { "uuid": uuid, "hardware_serial": serial, "computer_name": "PC-1" } },
            });
            read_enrolment(body.to_string().as_bytes())
                .unwrap()
                .hardware
        };
        assert_eq!(
            enrol("4C4C4544-0043-3010-8052-b4c04f564231", "X"),
            enrol("4c4c4544004330108052B4C04F564231", "Y")
        );
        assert_eq!(
            enrol("00000000-0000-0000-0000-000000000000", "PF2ABCDE").unwrap(),
            "serial:PF2ABCDE"
        );
        assert_eq!(
            enrol("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "Default string"),
            None
        );
        assert!(read_enrolment(b"{}").unwrap().hardware.is_none());
        assert!(read_enrolment(b"7").is_none());
    }
}
