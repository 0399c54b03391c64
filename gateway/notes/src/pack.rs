//! Packs fields into one buffer and takes them apart again, without leaving readable copies behind.
//!
//! A format of our own, because serialisers grow their buffers and leave the outgrown ones in memory.

use zeroize::Zeroizing;

use crate::Error;

/// Bytes of a field's length.
pub(crate) const LENGTH: usize = size_of::<u32>();

/// Each field as its length (u32, big-endian) and its bytes, in a buffer that is allocated once.
pub(crate) fn pack(fields: &[&[u8]]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let length = fields.iter().map(|field| LENGTH + field.len()).sum();
    let mut packed = Zeroizing::new(Vec::with_capacity(length));
    for field in fields {
        let length = u32::try_from(field.len()).map_err(|_| Error::Damaged)?;
        packed.extend_from_slice(&length.to_be_bytes());
        packed.extend_from_slice(field);
    }
    Ok(packed)
}

/// Reads the fields one after the other.
pub(crate) struct Unpack<'a>(&'a [u8]);

impl<'a> Unpack<'a> {
    pub(crate) const fn new(packed: &'a [u8]) -> Self {
        Self(packed)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let (length, rest) = self.0.split_first_chunk::<LENGTH>().ok_or(Error::Damaged)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Error::Damaged)?;
        let (field, rest) = rest.split_at_checked(length).ok_or(Error::Damaged)?;
        self.0 = rest;
        Ok(field)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::Damaged)
    }

    pub(crate) fn number(&mut self) -> Result<i64, Error> {
        let bytes = self.bytes()?.try_into().map_err(|_| Error::Damaged)?;
        Ok(i64::from_be_bytes(bytes))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Error> {
        match self.bytes()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Error::Damaged),
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_packed_comes_out(fields: Vec<Vec<u8>>) {
            let borrowed: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
            let packed = pack(&borrowed).unwrap();
            prop_assert_eq!(packed.capacity(), packed.len());
            let mut unpack = Unpack::new(&packed);
            for field in &fields {
                prop_assert_eq!(unpack.bytes().unwrap(), field.as_slice());
            }
            prop_assert!(unpack.is_empty());
        }

        #[test]
        fn garbage_is_refused_without_a_panic(garbage: Vec<u8>) {
            let mut unpack = Unpack::new(&garbage);
            while unpack.bytes().is_ok() && !unpack.is_empty() {}
        }
    }
}
