//! Fills the other slot's two partitions, block by block, and proves afterwards that they hold the release.
//!
//! A block is left where it is already right (what an attempt before has written), copied from the running slot where that has the same
//! one, and fetched otherwise; every block is checked before it is written and again when it is read back. So an update costs about what has
//! changed, and goes on after a power cut where it stopped. Kernels and the record are not its business.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::UpdateError;
use crate::device::Device;
use crate::index::{BLOCK, BlockIndex, Blocks, Digest, Image, sha256};
use crate::source::{Bucket, Pieces as _, Source};
use crate::verity;

/// Blocks that are right already and lie between two that are not are read over, up to so many: cheaper than asking anew.
const READ_OVER: usize = 16;
/// Written blocks are sent to the medium at least so often; what a power cut undoes is no more than that.
const FLUSHED_AFTER: usize = 1024;

/// The partitions of one slot.
#[derive(Debug)]
pub struct Pair<D> {
    /// Of the root file system.
    pub root: D,
    /// Of its hash tree.
    pub verity: D,
}

impl<D> Pair<D> {
    /// The partition of an image.
    pub const fn of(&self, image: Image) -> &D {
        match image {
            Image::Root => &self.root,
            Image::Verity => &self.verity,
        }
    }

    const fn of_mut(&mut self, image: Image) -> &mut D {
        match image {
            Image::Root => &mut self.root,
            Image::Verity => &mut self.verity,
        }
    }
}

/// Where the bytes of an update came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Bytes that were there already.
    pub kept: u64,
    /// Bytes copied from the running slot.
    pub copied: u64,
    /// Bytes that came, which is a little more than was taken: pieces do not end where blocks do.
    pub fetched: u64,
}

/// Checks that both images fit into the slot's partitions.
///
/// # Errors
/// [`UpdateError::Room`].
pub fn check_room<D: Device>(index: &BlockIndex, slot: &Pair<D>) -> Result<(), UpdateError> {
    for image in Image::ALL {
        let room = slot.of(image).length();
        if room.map_err(|error| UpdateError::Device(image, error))? < index.of(image).length() {
            return Err(UpdateError::Room(image));
        }
    }
    Ok(())
}

/// Brings the slot `other` to what `index` says. Nothing is proved by this; [`prove`] does.
///
/// # Errors
/// [`UpdateError::Block`] before a wrong block is written, and what disk and source say.
pub async fn fill<D: Device, S: Source>(
    index: &BlockIndex,
    running: &Pair<D>,
    other: &mut Pair<D>,
    source: &S,
    bucket: &mut Bucket,
) -> Result<Origin, UpdateError> {
    let mut origin = Origin::default();
    let began = Instant::now();
    for image in Image::ALL {
        let blocks = index.of(image);
        let device = other.of_mut(image);
        let missing = wrong_blocks(image, blocks, device)?;
        origin.kept += blocks.length() - bytes_of(blocks, &missing);
        let (copied, missing) = copy(image, blocks, running.of(image), device, missing)?;
        origin.copied += copied;
        for run in runs(&missing) {
            origin.fetched += fetch(image, blocks, run, device, source, bucket, began).await?;
        }
        device
            .flush()
            .map_err(|error| UpdateError::Device(image, error))?;
    }
    Ok(origin)
}

/// Reads the slot from the medium and checks each block, and that the whole comes to `root_hash` as the kernel computes it.
///
/// # Errors
/// [`UpdateError::ReadBack`], [`UpdateError::Verity`].
pub fn prove<D: Device>(
    index: &BlockIndex,
    slot: &Pair<D>,
    root_hash: &Digest,
) -> Result<(), UpdateError> {
    for image in Image::ALL {
        let blocks = index.of(image);
        let mut buffer = vec![0; BLOCK];
        for number in 0..blocks.digests().len() {
            let piece = &mut buffer[..blocks.size(number)];
            slot.of(image)
                .read_back(offset(number), piece)
                .map_err(|error| UpdateError::Device(image, error))?;
            if !blocks.is(number, piece) {
                return Err(UpdateError::ReadBack { image, number });
            }
        }
    }
    let (data, tree) = (index.of(Image::Root), index.of(Image::Verity));
    verity::verify(
        &slot.root,
        data.length(),
        &slot.verity,
        tree.length(),
        root_hash,
    )?;
    Ok(())
}

const fn offset(number: usize) -> u64 {
    number as u64 * BLOCK as u64
}

fn bytes_of(blocks: &Blocks, numbers: &[usize]) -> u64 {
    let sizes = numbers.iter().map(|number| blocks.size(*number) as u64);
    sizes.sum()
}

/// The blocks that are not right on the device yet.
fn wrong_blocks(
    image: Image,
    blocks: &Blocks,
    device: &impl Device,
) -> Result<Vec<usize>, UpdateError> {
    let mut wrong = Vec::new();
    let mut buffer = vec![0; BLOCK];
    for number in 0..blocks.digests().len() {
        let piece = &mut buffer[..blocks.size(number)];
        device
            .read(offset(number), piece)
            .map_err(|error| UpdateError::Device(image, error))?;
        if !blocks.is(number, piece) {
            wrong.push(number);
        }
    }
    Ok(wrong)
}

/// Copies what the running slot has, at whatever place; returns the bytes, and the blocks that are still missing.
fn copy<D: Device>(
    image: Image,
    blocks: &Blocks,
    running: &D,
    device: &mut D,
    missing: Vec<usize>,
) -> Result<(u64, Vec<usize>), UpdateError> {
    if missing.is_empty() {
        return Ok((0, missing));
    }
    let failed = |error| UpdateError::Device(image, error);
    let has = places(running).map_err(failed)?;
    let (mut copied, mut left) = (0, Vec::new());
    let mut buffer = vec![0; BLOCK];
    for number in missing {
        let size = blocks.size(number);
        let piece = &mut buffer[..size];
        let from = has.get(&blocks.digests()[number]).filter(|_| size == BLOCK);
        // Read and checked once more: the map may be minutes old, and a disk that fails answers differently each time.
        if let Some(from) = from
            && running.read(*from, piece).is_ok()
            && blocks.is(number, piece)
        {
            device.write(offset(number), piece).map_err(failed)?;
            copied += size as u64;
        } else {
            left.push(number);
        }
    }
    Ok((copied, left))
}

/// Where the running slot has which whole block.
fn places(device: &impl Device) -> std::io::Result<HashMap<Digest, u64>> {
    let mut out = HashMap::new();
    let mut buffer = vec![0; BLOCK];
    let whole = device.length()? / BLOCK as u64;
    for number in 0..whole {
        let at = number * BLOCK as u64;
        device.read(at, &mut buffer)?;
        out.insert(sha256(&buffer), at);
    }
    Ok(out)
}

/// Numbers in ascending order, as runs that are fetched in one go; small gaps are part of a run.
fn runs(missing: &[usize]) -> Vec<&[usize]> {
    missing
        .chunk_by(|before, next| next - before <= READ_OVER)
        .collect()
}

/// Fetches the blocks of one run; returns the bytes that came.
async fn fetch<S: Source>(
    image: Image,
    blocks: &Blocks,
    run: &[usize],
    device: &mut impl Device,
    source: &S,
    bucket: &mut Bucket,
    began: Instant,
) -> Result<u64, UpdateError> {
    let failed = |error| UpdateError::Device(image, error);
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return Ok(0);
    };
    let mut pieces = source.open(image, offset(*first)).await?;
    let mut waiting = Vec::with_capacity(2 * BLOCK);
    let mut fetched = 0;
    for (count, number) in (*first..=*last).enumerate() {
        let size = blocks.size(number);
        while waiting.len() < size {
            let Some(piece) = pieces.next().await? else {
                return Err(UpdateError::Block { image, number });
            };
            fetched += piece.len() as u64;
            waiting.extend_from_slice(&piece);
            let pause = bucket.take(piece.len(), began.elapsed());
            if pause > Duration::ZERO {
                tokio::time::sleep(pause).await;
            }
        }
        if run.binary_search(&number).is_ok() {
            if !blocks.is(number, &waiting[..size]) {
                return Err(UpdateError::Block { image, number });
            }
            device
                .write(offset(number), &waiting[..size])
                .map_err(failed)?;
        }
        waiting.drain(..size);
        if count % FLUSHED_AFTER == FLUSHED_AFTER - 1 {
            device.flush().map_err(failed)?;
        }
    }
    Ok(fetched)
}

#[cfg(test)]
#[path = "writer/tests.rs"]
mod tests;
