//! Checks a hash tree of dm-verity against the data below it and the root hash above it, as the kernel will.
//!
//! Of the format (kernel documentation, "dm-verity") only what our images use is read: version 1, SHA-256, blocks of 4096 bytes, the tree behind its
//! superblock. It makes no tree and changes nothing.

use std::io;

use aws_lc_rs::digest::{Context, SHA256};

use crate::device::Device;
use crate::index::Digest;

/// Bytes of a data block and of a hash block.
const BLOCK: usize = 4096;
/// Digests in a hash block.
const PER_BLOCK: usize = BLOCK / 32;
/// Hash blocks and data blocks are read so many at a time.
const AT_ONCE: usize = 256;

/// Why a slot's data is not what its root hash stands for.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// It cannot be read.
    #[error("the slot cannot be read back")]
    Read(#[source] io::Error),
    /// The hash tree has no superblock of the kind that our images have.
    #[error("the hash tree's superblock is not one of our images'")]
    Superblock,
    /// The tree is for another amount of data, or of another length itself.
    #[error("the hash tree does not fit the root image")]
    Size,
    /// A block of the tree is not made of what is below it.
    #[error("the hash tree is wrong at its level {level}, block {block}")]
    Tree {
        /// 0 is the level just above the data.
        level: usize,
        /// Counted within the level.
        block: usize,
    },
    /// Data and tree fit each other, and another root hash was expected.
    #[error("the root hash is another than the release's")]
    RootHash,
}

/// What the superblock says.
struct Superblock {
    data_blocks: u64,
    salt: Vec<u8>,
}

impl Superblock {
    fn parse(block: &[u8]) -> Option<Self> {
        let number = |at: usize, bytes: usize| {
            let field = block.get(at..at + bytes)?;
            Some(
                field
                    .iter()
                    .rev()
                    .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            )
        };
        let is_ours = block.starts_with(b"verity\0\0")
            && number(8, 4)? == 1
            && number(12, 4)? == 1
            && block.get(32..64)? == padded(b"sha256")
            && number(64, 4)? == BLOCK as u64
            && number(68, 4)? == BLOCK as u64;
        let salt = usize::try_from(number(80, 2)?).ok()?;
        if !is_ours || salt > 256 {
            return None;
        }
        Some(Self {
            data_blocks: number(72, 8)?,
            salt: block.get(88..88 + salt)?.to_vec(),
        })
    }

    fn digest(&self, block: &[u8]) -> Digest {
        let mut context = Context::new(&SHA256);
        context.update(&self.salt);
        context.update(block);
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        out
    }
}

fn padded(name: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out[..name.len()].copy_from_slice(name);
    out
}

/// Reads data and tree from the medium and checks every block of both, up to `root_hash`. Lengths in bytes.
///
/// # Errors
/// [`VerityError`].
pub fn verify(
    data: &dyn Device,
    data_length: u64,
    tree: &dyn Device,
    tree_length: u64,
    root_hash: &Digest,
) -> Result<(), VerityError> {
    let mut first = vec![0; BLOCK];
    if tree_length < BLOCK as u64 || !tree_length.is_multiple_of(BLOCK as u64) {
        return Err(VerityError::Size);
    }
    tree.read_back(0, &mut first).map_err(VerityError::Read)?;
    let superblock = Superblock::parse(&first).ok_or(VerityError::Superblock)?;
    if superblock.data_blocks == 0
        || superblock.data_blocks.checked_mul(BLOCK as u64) != Some(data_length)
    {
        return Err(VerityError::Size);
    }
    let blocks = usize::try_from(superblock.data_blocks).map_err(|_| VerityError::Size)?;
    let starts = levels(blocks);
    let length = (1 + starts.iter().map(|(_, count)| count).sum::<usize>()) * BLOCK;
    if length as u64 != tree_length {
        return Err(VerityError::Size);
    }
    let mut below = digests(data, 0, blocks, &superblock)?;
    for (level, (start, count)) in starts.iter().enumerate() {
        compare(tree, level, *start, *count, &below)?;
        below = digests(tree, *start as u64, *count, &superblock)?;
    }
    if below.as_slice() == [*root_hash] {
        Ok(())
    } else {
        Err(VerityError::RootHash)
    }
}

/// Where each level begins and how many hash blocks it has, from the lowest up. On the disk the highest comes first, after the superblock.
fn levels(data_blocks: usize) -> Vec<(usize, usize)> {
    let mut counts = Vec::new();
    let mut below = data_blocks;
    while below > 1 {
        below = below.div_ceil(PER_BLOCK);
        counts.push(below);
    }
    let mut start = 1;
    let mut out: Vec<(usize, usize)> = counts
        .iter()
        .rev()
        .map(|count| {
            let level = (start, *count);
            start += count;
            level
        })
        .collect();
    out.reverse();
    out
}

/// The digests of `count` blocks from block `start` on.
fn digests(
    device: &dyn Device,
    start: u64,
    count: usize,
    superblock: &Superblock,
) -> Result<Vec<Digest>, VerityError> {
    let mut out = Vec::with_capacity(count);
    let mut buffer = vec![0; AT_ONCE * BLOCK];
    while out.len() < count {
        let blocks = AT_ONCE.min(count - out.len());
        let piece = &mut buffer[..blocks * BLOCK];
        let at = (start + out.len() as u64) * BLOCK as u64;
        device.read_back(at, piece).map_err(VerityError::Read)?;
        out.extend(
            piece
                .chunks_exact(BLOCK)
                .map(|block| superblock.digest(block)),
        );
    }
    Ok(out)
}

/// Digests as hash blocks, the last one filled with zeros.
fn packed(digests: &[Digest]) -> impl Iterator<Item = Vec<u8>> + '_ {
    digests.chunks(PER_BLOCK).map(|digests| {
        let mut block = digests.as_flattened().to_vec();
        block.resize(BLOCK, 0);
        block
    })
}

/// Compares a level of the tree with the digests of what is below it.
fn compare(
    tree: &dyn Device,
    level: usize,
    start: usize,
    count: usize,
    below: &[Digest],
) -> Result<(), VerityError> {
    let mut found = vec![0; BLOCK];
    for (block, expected) in packed(below).enumerate().take(count) {
        let at = (start + block) as u64 * BLOCK as u64;
        tree.read_back(at, &mut found).map_err(VerityError::Read)?;
        if found != expected {
            return Err(VerityError::Tree { level, block });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Partition;
    use crate::index::sha256;

    /// `veritysetup format` of Debian's cryptsetup-bin 2.7.5 over [`data`] with the salt and UUID below: data blocks, root hash, length of the tree,
    /// SHA-256 of the tree.
    const BY_VERITYSETUP: [(usize, &str, u64, &str); 6] = [
        (
            1,
            "9106565d09c9b9479cf302dc4bf7def3536503d24c105786243c45d60fe5089a",
            4096,
            "012095352ad1552a19945c3eff84858209261984a05433a7ef536317ce6640ea",
        ),
        (
            5,
            "08d539162c814edb78ac640d47688b2b9b94215dca329bd49029a43d10d34cd7",
            8192,
            "92312e83856b0a915e1f2ee5291bdce0e330c7bceb5508b69b0b2345b0e0843f",
        ),
        (
            128,
            "6bb14425576ceddc78575d3601f72dc25ffdd50518abfc2ee6e16ee030ceabf9",
            8192,
            "c27f63af7ab5af96c7f25ee76932ccb7fda56fda82b6b9d4f98c0438b20b1b74",
        ),
        (
            129,
            "fce0352e2768e0a434ccd5897720efb0368a72d5ea77a7277a6ac221b4fb1c65",
            16_384,
            "913e0b9b6bb55a87b8793c27eeb80912c6f2391e27df02addc8f24ae685650a5",
        ),
        (
            1000,
            "27f4d0fac148aae6ea12b14071f4f8bdce2935944696d2a8f79a9aece94922c7",
            40_960,
            "3abbc1f1b64a7c63a48e244da9d489070943cf841e08e689011bedb741749e6e",
        ),
        (
            16_385,
            "622bb47158bfe1d7624012347a058a6542680970b24ed4060e6614f3f8a6cf6a",
            544_768,
            "61d835e49b3891f6717e8bc92b07bbd2be9e4b96534bc05ba715a8ec15550f84",
        ),
    ];

    fn data(blocks: usize) -> Vec<u8> {
        (0..blocks as u64)
            .flat_map(|block| sha256(&block.to_le_bytes()).repeat(BLOCK / 32))
            .collect()
    }

    /// A tree made without the code above: recursion from the top, as the format's description goes.
    fn tree(data: &[u8]) -> (Vec<u8>, Digest) {
        let salt: Vec<u8> = (0..32)
            .map(|n| u8::try_from(n % 16 * 0x11).unwrap())
            .collect();
        let mut superblock = vec![0; BLOCK];
        superblock[..8].copy_from_slice(b"verity\0\0");
        superblock[8] = 1;
        superblock[12] = 1;
        let uuid = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128;
        superblock[16..32].copy_from_slice(&uuid.to_be_bytes());
        superblock[32..38].copy_from_slice(b"sha256");
        superblock[65] = 0x10;
        superblock[69] = 0x10;
        superblock[72..80].copy_from_slice(&((data.len() / BLOCK) as u64).to_le_bytes());
        superblock[80] = 32;
        superblock[88..120].copy_from_slice(&salt);
        let above = |below: &[u8]| -> Vec<u8> {
            let mut level: Vec<u8> = below
                .chunks(BLOCK)
                .flat_map(|block| sha256(&[&salt[..], block].concat()))
                .collect();
            level.resize(level.len().next_multiple_of(BLOCK), 0);
            level
        };
        let mut levels = Vec::new();
        let mut below = data.to_vec();
        while below.len() > BLOCK {
            below = above(&below);
            levels.push(below.clone());
        }
        let root_hash = sha256(&[&salt[..], &below].concat());
        levels.push(superblock);
        levels.reverse();
        (levels.concat(), root_hash)
    }

    fn devices(data: &[u8], tree: &[u8]) -> (tempfile::TempDir, Partition, Partition) {
        let folder = tempfile::tempdir().unwrap();
        let opened = [("data", data), ("tree", tree)].map(|(name, bytes)| {
            let path = folder.path().join(name);
            // A partition is longer than what is in it.
            std::fs::write(&path, [bytes, &[0xee; 3 * BLOCK]].concat()).unwrap();
            Partition::open(&path, true).unwrap()
        });
        let [data, tree] = opened;
        (folder, data, tree)
    }

    fn unhex(text: &str) -> Digest {
        let byte = |n: usize| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap();
        std::array::from_fn(byte)
    }

    #[test]
    fn trees_of_veritysetup_are_verified() {
        for (blocks, root, length, digest) in BY_VERITYSETUP {
            let data = data(blocks);
            let (tree, found) = tree(&data);
            assert_eq!(tree.len() as u64, length, "{blocks}");
            assert_eq!(sha256(&tree), unhex(digest), "{blocks}: the very tree");
            let (_folder, on_data, on_tree) = devices(&data, &tree);
            let check = |root: &Digest| {
                verify(&on_data, data.len() as u64, &on_tree, length, root)
                    .map_err(|e| e.to_string())
            };
            assert_eq!(check(&unhex(root)), Ok(()), "{blocks}");
            assert_eq!(found, unhex(root), "{blocks}");
            assert!(check(&[0; 32]).is_err(), "{blocks}");
        }
    }

    #[test]
    fn one_bit_anywhere_is_seen() {
        let data = data(130);
        let (tree, root) = tree(&data);
        let (_folder, mut on_data, mut on_tree) = devices(&data, &tree);
        let check = |data_on: &Partition, tree_on: &Partition| {
            let (data, tree) = (data.len() as u64, tree.len() as u64);
            verify(data_on, data, tree_on, tree, &root)
        };
        for at in [0, BLOCK + 17, data.len() - 1] {
            on_data.write(at as u64, &[data[at] ^ 1]).unwrap();
            assert!(check(&on_data, &on_tree).is_err(), "data {at}");
            on_data.write(at as u64, &[data[at]]).unwrap();
        }
        // The salt, the top, the padding of the top, the lowest level.
        for at in [90, BLOCK, 2 * BLOCK - 1, 2 * BLOCK + 40, tree.len() - 1] {
            on_tree.write(at as u64, &[tree[at] ^ 1]).unwrap();
            assert!(check(&on_data, &on_tree).is_err(), "tree {at}");
            on_tree.write(at as u64, &[tree[at]]).unwrap();
        }
        check(&on_data, &on_tree).unwrap();
    }

    #[test]
    fn a_tree_for_another_amount_of_data_is_refused() {
        let data = data(130);
        let (tree, root) = tree(&data);
        let (_folder, on_data, on_tree) = devices(&data, &tree);
        for (data, tree) in [
            (data.len() - BLOCK, tree.len()),
            (data.len() + BLOCK, tree.len()),
            (data.len(), tree.len() + BLOCK),
            (data.len(), tree.len() - BLOCK),
            (data.len(), 0),
        ] {
            let refused = verify(&on_data, data as u64, &on_tree, tree as u64, &root).unwrap_err();
            assert!(matches!(refused, VerityError::Size), "{refused}");
        }
    }
}
