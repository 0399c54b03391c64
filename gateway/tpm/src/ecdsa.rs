//! Converts the TPM's number formats to those of X.509 and TLS: ECDSA-Sig-Value and uncompressed points; it verifies
//! nothing.

/// Length of a P-256 field element in bytes.
pub(crate) const COORDINATE: usize = 32;

/// ECDSA-Sig-Value (RFC 3279 section 2.2.3) from `r` and `s`, which the TPM may give short or with leading zeros.
///
/// Returns `None` when a number is longer than a P-256 one.
pub(crate) fn signature_der(r: &[u8], s: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = (integer(r)?, integer(s)?);
    let mut out = vec![0x30, u8::try_from(r.len() + s.len()).ok()?];
    out.extend_from_slice(&r);
    out.extend_from_slice(&s);
    Some(out)
}

/// DER INTEGER with the fewest octets (X.690 section 8.3.2), non-negative.
fn integer(value: &[u8]) -> Option<Vec<u8>> {
    let leading_zeros = value.iter().take_while(|byte| **byte == 0).count();
    let value = &value[leading_zeros..];
    if value.len() > COORDINATE {
        return None;
    }
    let mut out = vec![0x02, 0];
    // A set top bit would make it negative, and zero itself needs one octet.
    if value.first().is_none_or(|byte| byte & 0x80 != 0) {
        out.push(0);
    }
    out.extend_from_slice(value);
    out[1] = u8::try_from(out.len() - 2).ok()?;
    Some(out)
}

/// SEC 1 uncompressed point, each coordinate padded on the left to 32 bytes: a TPM may strip leading zeros.
///
/// Returns `None` when a coordinate is longer than 32 bytes.
pub(crate) fn uncompressed_point(x: &[u8], y: &[u8]) -> Option<[u8; 1 + 2 * COORDINATE]> {
    let mut point = [0; 1 + 2 * COORDINATE];
    point[0] = 4;
    for (coordinate, end) in [(x, 1 + COORDINATE), (y, 1 + 2 * COORDINATE)] {
        if coordinate.len() > COORDINATE {
            return None;
        }
        point[end - coordinate.len()..end].copy_from_slice(coordinate);
    }
    Some(point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use der::{Decode, asn1::UintRef};
    use proptest::prelude::*;

    #[derive(der::Sequence)]
    struct SigValue<'a> {
        r: UintRef<'a>,
        s: UintRef<'a>,
    }

    fn stripped(value: &[u8]) -> &[u8] {
        let zeros = value.iter().take_while(|byte| **byte == 0).count();
        if zeros == value.len() {
            &[0]
        } else {
            &value[zeros..]
        }
    }

    proptest! {
        #[test]
        fn a_strict_der_reader_gets_back_r_and_s_whatever_their_length(
            r in proptest::collection::vec(any::<u8>(), 0..=32),
            s in proptest::collection::vec(any::<u8>(), 0..=32),
            zeros in 0usize..3,
        ) {
            let padded = [vec![0; zeros], r.clone()].concat();
            let der = signature_der(&padded, &s).expect("fits");
            let parsed = SigValue::from_der(&der).expect("minimal DER");
            prop_assert_eq!(parsed.r.as_bytes(), stripped(&r));
            prop_assert_eq!(parsed.s.as_bytes(), stripped(&s));
        }

        #[test]
        fn a_point_is_always_65_bytes_and_keeps_its_numbers(
            x in proptest::collection::vec(any::<u8>(), 0..=32),
            y in proptest::collection::vec(any::<u8>(), 0..=32),
        ) {
            let point = uncompressed_point(&x, &y).expect("fits");
            prop_assert_eq!(point[0], 4);
            prop_assert_eq!(stripped(&point[1..33]), stripped(&x));
            prop_assert_eq!(stripped(&point[33..]), stripped(&y));
        }
    }

    #[test]
    fn numbers_longer_than_p256_are_refused() {
        assert_eq!(signature_der(&[1; 33], &[1]), None);
        assert_eq!(uncompressed_point(&[1; 33], &[1]), None);
    }

    #[test]
    fn a_set_top_bit_gets_a_zero_octet_and_a_short_number_none() {
        assert_eq!(
            signature_der(&[0x80], &[0x7f]),
            Some(vec![0x30, 7, 2, 2, 0, 0x80, 2, 1, 0x7f])
        );
    }
}
