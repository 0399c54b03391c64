//! The field by which the city says whose session it is: no panic, and no session without user and cookie.
#![no_main]

use gateway_city::wire::RenrakuStaff;
use http::HeaderValue;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    if let Some(RenrakuStaff::SignedIn {
        user_id, cookie, ..
    }) = RenrakuStaff::parse(&value)
    {
        assert!(!user_id.is_empty() && !cookie.is_empty(), "{value:?}");
    }
});
