//! A release as the image's build makes it: root image, hash tree, block index and two signed kernels.

use std::collections::HashMap;

use gateway_updater::hex;
use gateway_updater::index::{BlockIndex, sha256};
use gateway_updater::manifest::Manifest;
use gateway_updater::slot::Slot;
use gateway_updater::state::System;

use super::kernel::{Signer, command_line, image};

const BLOCK: usize = 4096;

/// One release.
#[derive(Clone)]
pub(crate) struct Release {
    pub(crate) version: String,
    pub(crate) root: Vec<u8>,
    pub(crate) verity: Vec<u8>,
    pub(crate) root_hash: [u8; 32],
    pub(crate) index: Vec<u8>,
    pub(crate) kernels: HashMap<Slot, Vec<u8>>,
}

impl Release {
    /// A release whose image is made of `root`, at a length that is a multiple of 4096.
    pub(crate) fn new(version: &str, mut root: Vec<u8>, signer: &Signer) -> Self {
        root.resize(root.len().next_multiple_of(BLOCK), 0);
        let (verity, root_hash) = tree(&root);
        let index = BlockIndex::build(&mut &root[..], &mut &verity[..]).unwrap();
        let kernel = |slot| {
            let line = command_line(&hex::of(&root_hash), slot);
            let release = format!("IMAGE_VERSION={version}\n");
            signer.sign(&image(&[
                (b".osrel", release.as_bytes()),
                (b".cmdline", line.as_bytes()),
                (b".linux", &[0x90; 1500]),
            ]))
        };
        Self {
            version: version.to_owned(),
            root_hash,
            index: index.encode(),
            kernels: Slot::ALL.map(|slot| (slot, kernel(slot))).into(),
            root,
            verity,
        }
    }

    pub(crate) fn system(&self, slot: Slot) -> System {
        System {
            version: self.version.clone(),
            root_hash: hex::of(&self.root_hash),
            slot,
        }
    }

    pub(crate) fn manifest(&self) -> Manifest {
        Manifest {
            version: self.version.clone(),
            hardware: "box-1".to_owned(),
            root_hash: self.root_hash,
            schedule: Vec::new(),
            deadline: None,
        }
    }
}

/// Bytes that no compression and no chance repeats.
pub(crate) fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut out: Vec<u8> = (0_u64..(length as u64).div_ceil(32))
        .flat_map(|n| sha256(&[&[seed][..], &n.to_le_bytes()].concat()))
        .collect();
    out.truncate(length);
    out
}

/// The hash tree as `veritysetup format` makes it, and the root hash.
pub(crate) fn tree(data: &[u8]) -> (Vec<u8>, [u8; 32]) {
    let salt = [0x5a; 32];
    let mut superblock = vec![0; BLOCK];
    superblock[..8].copy_from_slice(b"verity\0\0");
    superblock[8] = 1;
    superblock[12] = 1;
    superblock[32..38].copy_from_slice(b"sha256");
    superblock[65] = 0x10;
    superblock[69] = 0x10;
    superblock[72..80].copy_from_slice(&((data.len() / BLOCK) as u64).to_le_bytes());
    superblock[80] = 32;
    superblock[88..120].copy_from_slice(&salt);
    let digest = |block: &[u8]| sha256(&[&salt[..], block].concat());
    let mut levels = Vec::new();
    let mut below = data.to_vec();
    while below.len() > BLOCK {
        below = below.chunks(BLOCK).flat_map(digest).collect();
        below.resize(below.len().next_multiple_of(BLOCK), 0);
        levels.push(below.clone());
    }
    let root_hash = digest(&below);
    levels.push(superblock);
    levels.reverse();
    (levels.concat(), root_hash)
}
