//! TSS2 key files and sealed blobs: no panic, and what is accepted is written back as what it was read from.
#![no_main]

use gateway_tpm::{KeyBlob, SealedBlob};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(pem) = std::str::from_utf8(bytes) {
        if let Ok(key) = KeyBlob::from_pem(pem) {
            let again = KeyBlob::from_pem(&key.to_pem()).expect("what was written can be read");
            assert_eq!(again.spki_der(), key.spki_der());
        }
    }
    if let Ok(sealed) = SealedBlob::from_bytes(bytes) {
        let again =
            SealedBlob::from_bytes(&sealed.to_bytes()).expect("what was written can be read");
        assert_eq!(again.to_bytes(), sealed.to_bytes());
    }
});
