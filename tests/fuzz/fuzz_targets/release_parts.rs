//! The parts of a software release: block index, description, kernel and its name. No panic; an index is written back as what it was read from,
//! and no kernel that these bytes make is signed by the certificate of the seed.
#![no_main]

use std::sync::LazyLock;

use gateway_updater::index::BlockIndex;
use gateway_updater::manifest::Manifest;
use gateway_updater::slot::KernelName;
use gateway_updater::uki::{self, Starts};
use libfuzzer_sys::fuzz_target;
use x509_cert::Certificate;
use x509_cert::der::DecodePem as _;

const SIGNED: &[u8] = include_bytes!("../../../gateway/updater/tests/kernels/signed-by-sbsign.efi");

static SIGNER: LazyLock<Certificate> = LazyLock::new(|| {
    let pem = include_bytes!("../../../gateway/updater/tests/kernels/db.pem");
    Certificate::from_pem(pem).expect("the seed's certificate")
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(index) = BlockIndex::parse(bytes) {
        assert_eq!(index.encode(), bytes);
    }
    let _ = Manifest::parse(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Some(name) = KernelName::parse(text) {
            let again = KernelName::parse(&name.to_string());
            assert_eq!(again, Some(name));
        }
        let _ = Starts::of(text);
    }
    if let Ok(starts) = uki::starts(bytes)
        && uki::check(bytes, &starts, &SIGNER).is_ok()
    {
        // Only what no signature covers may differ: the header's checksum, and the rest of the signature's structure.
        assert_eq!(bytes[..0x98], SIGNED[..0x98]);
        assert_eq!(bytes[0x9c..0x200], SIGNED[0x9c..0x200]);
    }
});
