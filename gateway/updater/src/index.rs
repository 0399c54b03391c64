//! The block index of a release: the SHA-256 of every block of its two images, as one signed target.
//!
//! It is what lets a box take from its own disk what has not changed, and go on after a power cut where it stopped. It fetches and
//! writes nothing, and that the index is the signed one is known to whoever hands the bytes in.
//!
//! The file, all numbers little-endian: `RGWBLKS\n`; `u32` format (1); `u32` block size in bytes (65,536); for the root image and then
//! for its hash tree `u64` length in bytes and `u32` number of blocks; then the digests of the root image's blocks, 32 bytes each, and those
//! of the hash tree's. The last block of an image is as long as what is left of it. Nothing follows.

use std::io::{self, Read};

use aws_lc_rs::digest::{SHA256, digest};

/// Bytes of one block: an erofs image changes in runs of some 100 KiB, and 640 MiB have an index of 320 KiB.
pub const BLOCK: usize = 64 * 1024;
/// The largest root image in bytes.
pub const LARGEST_ROOT: u64 = 4 << 30;
/// The largest hash tree in bytes.
pub const LARGEST_VERITY: u64 = 64 << 20;
/// The largest index in bytes: both images at their largest.
pub const LARGEST_INDEX: u64 =
    HEADER as u64 + (LARGEST_ROOT + LARGEST_VERITY) / BLOCK as u64 * DIGEST as u64;

const MAGIC: &[u8; 8] = b"RGWBLKS\n";
const FORMAT: u32 = 1;
const HEADER: usize = 40;
const DIGEST: usize = 32;

/// A SHA-256.
pub type Digest = [u8; DIGEST];

/// Which of a release's two images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Image {
    /// The root file system, `root.img`.
    Root,
    /// Its dm-verity hash tree, `root.verity`.
    Verity,
}

impl Image {
    /// Both, in the order of the index and of writing.
    pub const ALL: [Self; 2] = [Self::Root, Self::Verity];

    /// Its file in the release's folder.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Root => "root.img",
            Self::Verity => "root.verity",
        }
    }
}

/// The blocks of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    length: u64,
    digests: Vec<Digest>,
}

impl Blocks {
    /// The image's length in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// The digest of each block.
    #[must_use]
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// How many bytes block `number` has; 0 beyond the end.
    #[must_use]
    pub fn size(&self, number: usize) -> usize {
        let from = number as u64 * BLOCK as u64;
        let left = self.length.saturating_sub(from);
        usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK))
    }

    /// True when `bytes` are block `number`.
    #[must_use]
    pub fn is(&self, number: usize, bytes: &[u8]) -> bool {
        self.digests
            .get(number)
            .is_some_and(|expected| *expected == sha256(bytes))
    }
}

/// The index of one release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockIndex {
    root: Blocks,
    verity: Blocks,
}

/// Why bytes are no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// It is shorter than a header, or begins otherwise.
    #[error("it does not begin as a block index of this format")]
    Header,
    /// An image is empty or too large, or its blocks do not make its length.
    #[error("the length of {} and its number of blocks are not possible", .0.file())]
    Lengths(Image),
    /// Digests are missing, or something follows.
    #[error("it has another length than its header says")]
    Size,
}

impl BlockIndex {
    /// Reads an index.
    ///
    /// # Errors
    /// [`IndexError`]; nothing is allocated beyond what `bytes` hold.
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let (header, digests) = bytes.split_at_checked(HEADER).ok_or(IndexError::Header)?;
        if &header[..8] != MAGIC
            || u32_at(header, 8) != FORMAT
            || usize::try_from(u32_at(header, 12)) != Ok(BLOCK)
        {
            return Err(IndexError::Header);
        }
        let root = lengths(header, 16, Image::Root)?;
        let verity = lengths(header, 28, Image::Verity)?;
        let (all, rest) = digests.as_chunks::<DIGEST>();
        if !rest.is_empty() || all.len() != root.1 + verity.1 {
            return Err(IndexError::Size);
        }
        let (of_root, of_verity) = all.split_at(root.1);
        Ok(Self {
            root: Blocks {
                length: root.0,
                digests: of_root.to_vec(),
            },
            verity: Blocks {
                length: verity.0,
                digests: of_verity.to_vec(),
            },
        })
    }

    /// Makes the index of two images, each given as a reader of its bytes.
    ///
    /// # Errors
    /// What reading says; `InvalidData` when an image is empty or too large.
    pub fn build(root: &mut dyn Read, verity: &mut dyn Read) -> io::Result<Self> {
        Ok(Self {
            root: blocks_of(root, LARGEST_ROOT)?,
            verity: blocks_of(verity, LARGEST_VERITY)?,
        })
    }

    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(FORMAT.to_le_bytes());
        // Both fit: the constant is 65,536, and `parse` and `build` bound the number of blocks.
        out.extend(u32::try_from(BLOCK).unwrap_or_default().to_le_bytes());
        for blocks in [&self.root, &self.verity] {
            out.extend(blocks.length.to_le_bytes());
            let count = u32::try_from(blocks.digests.len()).unwrap_or(u32::MAX);
            out.extend(count.to_le_bytes());
        }
        for blocks in [&self.root, &self.verity] {
            out.extend(blocks.digests.as_flattened());
        }
        out
    }

    /// The blocks of one image.
    #[must_use]
    pub const fn of(&self, image: Image) -> &Blocks {
        match image {
            Image::Root => &self.root,
            Image::Verity => &self.verity,
        }
    }
}

/// The SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; DIGEST];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

/// Length and number of blocks of an image, as the header at `at` says.
fn lengths(header: &[u8], at: usize, image: Image) -> Result<(u64, usize), IndexError> {
    let length = u64::from(u32_at(header, at)) | u64::from(u32_at(header, at + 4)) << 32;
    let count = u64::from(u32_at(header, at + 8));
    let largest = match image {
        Image::Root => LARGEST_ROOT,
        Image::Verity => LARGEST_VERITY,
    };
    if length == 0 || length > largest || count != length.div_ceil(BLOCK as u64) {
        return Err(IndexError::Lengths(image));
    }
    // At most 65,536, by the line above.
    Ok((length, usize::try_from(count).unwrap_or(usize::MAX)))
}

fn blocks_of(reader: &mut dyn Read, largest: u64) -> io::Result<Blocks> {
    let mut blocks = Blocks {
        length: 0,
        digests: Vec::new(),
    };
    let mut buffer = Vec::with_capacity(BLOCK);
    loop {
        buffer.clear();
        (&mut *reader).take(BLOCK as u64).read_to_end(&mut buffer)?;
        if buffer.is_empty() {
            break;
        }
        blocks.length += buffer.len() as u64;
        if blocks.length > largest {
            return Err(io::ErrorKind::InvalidData.into());
        }
        blocks.digests.push(sha256(&buffer));
    }
    if blocks.length == 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index(root: usize, verity: usize) -> BlockIndex {
        BlockIndex::build(&mut &vec![7; root][..], &mut &vec![9; verity][..]).unwrap()
    }

    #[test]
    fn the_last_block_is_as_long_as_what_is_left() {
        let index = index(2 * BLOCK + 5, BLOCK);
        let root = index.of(Image::Root);
        assert_eq!(root.digests().len(), 3);
        assert_eq!(
            [0, 1, 2, 3].map(|number| root.size(number)),
            [BLOCK, BLOCK, 5, 0]
        );
        assert!(root.is(2, &[7; 5]) && !root.is(2, &[7; 6]) && !root.is(3, &[]));
        assert_eq!(index.of(Image::Verity).size(0), BLOCK);
    }

    #[test]
    fn an_image_that_is_empty_has_no_index() {
        assert!(BlockIndex::build(&mut &b""[..], &mut &b"x"[..]).is_err());
        assert!(BlockIndex::build(&mut &b"x"[..], &mut &b""[..]).is_err());
    }

    #[test]
    fn lengths_that_do_not_fit_each_other_are_refused() {
        let good = index(2 * BLOCK + 5, 4096).encode();
        assert!(BlockIndex::parse(&good).is_ok());
        for (at, with, why) in [
            (0, 0, IndexError::Header),
            (8, 2, IndexError::Header),
            (13, 1, IndexError::Header),
            (18, 0, IndexError::Lengths(Image::Root)),
            (24, 2, IndexError::Lengths(Image::Root)),
            (23, 1, IndexError::Lengths(Image::Root)),
            (36, 0, IndexError::Lengths(Image::Verity)),
        ] {
            let mut bad = good.clone();
            assert_ne!(bad[at], with, "{at}");
            bad[at] = with;
            assert_eq!(BlockIndex::parse(&bad), Err(why), "{at}");
        }
        assert_eq!(BlockIndex::parse(&good[..39]), Err(IndexError::Header));
        assert_eq!(
            BlockIndex::parse(&good[..good.len() - 1]),
            Err(IndexError::Size)
        );
        assert_eq!(
            BlockIndex::parse(&[&good[..], &[0; 32]].concat()),
            Err(IndexError::Size)
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(root in 1usize..300_000, verity in 1usize..140_000) {
            let index = index(root, verity);
            let bytes = index.encode();
            prop_assert!(bytes.len() as u64 <= LARGEST_INDEX);
            prop_assert_eq!(BlockIndex::parse(&bytes), Ok(index));
        }

        #[test]
        fn no_bytes_make_it_panic_and_only_its_own_form_is_read(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            real in any::<bool>(),
        ) {
            if real && bytes.len() >= 16 {
                bytes[..16].copy_from_slice(&index(1, 1).encode()[..16]);
            }
            if let Ok(index) = BlockIndex::parse(&bytes) {
                prop_assert_eq!(index.encode(), bytes);
            }
        }
    }
}
