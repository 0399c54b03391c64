//! Doors for the fuzz targets (tests/fuzz) to what reads sealed files and rows. Nothing else uses them.

use super::chunks::{FileKey, Layout};
use super::rows::Body;

/// Reads a sealed file: the first bytes are the key of a file, then its size, then the file. Answers what of it opens.
#[must_use]
pub fn chunks(input: &[u8]) -> Option<Vec<u8>> {
    let (key, rest) = input.split_at_checked(39)?;
    let (size, mut file) = rest.split_first_chunk::<4>()?;
    let (key, layout) = (
        FileKey::from_slice(key).ok()?,
        Layout::of(u64::from(u32::from_be_bytes(*size)))?,
    );
    let cipher = key.cipher().ok()?;
    let mut plain = Vec::new();
    for number in 0..layout.chunks() {
        let (_, length) = layout.sealed(number);
        let chunk;
        (chunk, file) = file.split_at_checked(length)?;
        plain.extend_from_slice(&cipher.open(number, layout.is_last(number), chunk.to_vec())?);
    }
    Some(plain)
}

/// Seals `plain` under the key that `input` begins with; in the form that [`chunks`] reads.
#[must_use]
pub fn sealed(input: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let key = input.get(..39)?;
    let layout = Layout::of(plain.len() as u64)?;
    let cipher = FileKey::from_slice(key).ok()?.cipher().ok()?;
    let mut out = key.to_vec();
    out.extend_from_slice(&u32::try_from(plain.len()).ok()?.to_be_bytes());
    let mut rest = plain;
    for number in 0..layout.chunks() {
        let now;
        (now, rest) = rest.split_at_checked(layout.length(number))?;
        out.extend_from_slice(&cipher.seal(number, layout.is_last(number), now).ok()?);
    }
    Some(out)
}

/// Reads the body of a row. What is accepted is answered as it is written.
#[must_use]
pub fn row(input: &[u8]) -> Option<Vec<u8>> {
    Body::parse(input)
        .ok()?
        .pack()
        .ok()
        .map(|packed| packed.to_vec())
}
