//! Certificate numbers and access codes as people type them: no panic, and both are read by the same rules.
#![no_main]

use gateway_provisioning::{AccessCode, CertificateNumber};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|typed: &str| {
    let number = CertificateNumber::parse(typed.to_owned()).map(drop);
    let code = AccessCode::parse(typed.to_owned()).map(drop);
    assert_eq!(number.is_ok(), code.is_ok());
});
