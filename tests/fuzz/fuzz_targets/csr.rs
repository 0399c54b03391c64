//! Certificate requests as the reference city reads them: no panic, for either purpose.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reference_city::est::csr::{Csr, Purpose};

fuzz_target!(|bytes: &[u8]| {
    let _ = Csr::read(bytes, Purpose::Client);
    let _ = Csr::read(bytes, Purpose::Server);
});
