//! Sealed attachment files and the rows about them: no panic; what was sealed opens, and changed by one bit it does not.
#![no_main]

use gateway_notes::attachments_fuzzing as attachments;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = attachments::chunks(input);
    if let Some(again) = attachments::row(input) {
        assert_eq!(again, input, "one row, one way to write it");
    }
    let Some((key, plain)) = input.split_at_checked(39) else {
        return;
    };
    let mut file = attachments::sealed(key, plain).expect("any key and content");
    assert_eq!(attachments::chunks(&file).as_deref(), Some(plain));
    let at = input
        .iter()
        .fold(0_usize, |sum, byte| sum * 31 % 65_521 + usize::from(*byte));
    let sealed = file.len() - 43;
    file[43 + at % sealed] ^= 1;
    assert_eq!(attachments::chunks(&file), None);
});
