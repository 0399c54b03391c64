//! What devices send: osquery's bodies, packed or not, the script's report, certificate requests. Nothing is believed of the
//! future, and what was understood is written back the same.
#![no_main]

use gateway_devices::{CertificateRequest, Report, Standards, judge, osquery, script};
use gateway_policy::Source;
use libfuzzer_sys::fuzz_target;

const NOW: i64 = 1_800_000_000;

fuzz_target!(|bytes: &[u8]| {
    let _ = osquery::unpack(Some("gzip"), bytes);
    let _ = osquery::read_enrolment(bytes);
    let _ = CertificateRequest::from_der(bytes);
    let _ = std::str::from_utf8(bytes).map(CertificateRequest::from_text);
    let logged = osquery::read_log(bytes, NOW).map(|log| log.report);
    let sent = script::read(bytes, NOW).map(|sent| sent.report);
    for report in logged.into_iter().chain(sent) {
        for observed in judge(&report, &Standards::default(), None, Source::Agent) {
            assert!((0..=NOW).contains(&observed.at.0), "{observed:?}");
        }
        let text = serde_json::to_string(&report).expect("a report is JSON");
        let again: Report = serde_json::from_str(&text).expect("it reads what it writes");
        assert_eq!(again, report);
    }
});
