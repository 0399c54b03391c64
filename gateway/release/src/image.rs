//! Whether the parts of a software release fit each other, judged by the code that will judge them on the boxes.
//!
//! It does not check who has signed the kernels: the boxes' certificate is not known here, and each box checks that itself.

use std::fs::File;
use std::path::{Path, PathBuf};

use gateway_updater::device::{Device as _, Partition};
use gateway_updater::hex;
use gateway_updater::index::{BlockIndex, Image};
use gateway_updater::manifest::{INDEX, Manifest, ManifestError};
use gateway_updater::slot::Slot;
use gateway_updater::uki::{self, Starts, UkiError};
use gateway_updater::verity::{self, VerityError};

use crate::{ReleaseError, SoftwareRelease};

/// What every release with an image must have besides.
const BILL: &str = "sbom.cdx.json";

/// What does not fit.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is an image, and nobody has said its root hash.
    #[error("root.img があるのに --root-hash がありません (an image needs its root hash)")]
    NoRootHash,
    /// The root hash is none.
    #[error("ルートハッシュは小文字の16進数64桁です (a root hash is 64 digits in lower case)")]
    RootHash,
    /// A part is missing.
    #[error("{0} がありません (missing)")]
    Missing(&'static str),
    /// The index is made here.
    #[error(
        "root.index は自動で作ります。フォルダーから除いてください (the index is made here; take it out)"
    )]
    Index,
    /// Image, hash tree and root hash.
    #[error("イメージ、ハッシュ木、ルートハッシュが合いません (image, hash tree and root hash)")]
    Verity(#[source] VerityError),
    /// A kernel that cannot be read.
    #[error("{0} を読めません (cannot be read)")]
    Kernel(&'static str, #[source] UkiError),
    /// A kernel that starts something else.
    #[error("{0} のルートハッシュが違います (its command line names another root hash)")]
    KernelRootHash(&'static str),
    /// Both kernels start the same slot, or mix the slots.
    #[error(
        "2つのカーネルが同じパーティションを指しています (both kernels name the same partition)"
    )]
    Slots,
    /// The description.
    #[error("説明ファイルを機器が読めません (a box cannot read the description)")]
    Description(#[source] ManifestError),
}

/// Checks the files of a release; its block index when it has an image.
pub(crate) fn check(
    folder: &Path,
    root_hash: Option<&str>,
) -> Result<Option<Vec<u8>>, ReleaseError> {
    let wrong = ReleaseError::Image;
    if folder.join(INDEX).exists() {
        return Err(wrong(ImageError::Index));
    }
    let Some(root_hash) = root_hash else {
        if folder.join(Image::Root.file()).exists() {
            return Err(wrong(ImageError::NoRootHash));
        }
        return Ok(None);
    };
    let expected = hex::digest(root_hash).ok_or(wrong(ImageError::RootHash))?;
    let part = |name: &'static str| {
        let path = folder.join(name);
        if path.is_file() {
            Ok(path)
        } else {
            Err(wrong(ImageError::Missing(name)))
        }
    };
    let (data, tree) = (part(Image::Root.file())?, part(Image::Verity.file())?);
    part(BILL)?;
    let starts = |slot: Slot| -> Result<Starts, ReleaseError> {
        let name = slot.kernel();
        let path = part(name)?;
        let bytes = std::fs::read(&path).map_err(|error| ReleaseError::File(path, error))?;
        let starts = uki::starts(&bytes).map_err(|error| wrong(ImageError::Kernel(name, error)))?;
        if starts.root_hash != root_hash {
            return Err(wrong(ImageError::KernelRootHash(name)));
        }
        Ok(starts)
    };
    let (a, b) = (starts(Slot::A)?, starts(Slot::B)?);
    let mut partitions = vec![a.data, a.hash, b.data, b.hash];
    partitions.sort();
    partitions.dedup();
    if partitions.len() != 4 {
        return Err(wrong(ImageError::Slots));
    }
    verify(&data, &tree, &expected)?;
    index(&data, &tree).map(Some)
}

/// The description as a box reads it; one without an image is not for the boxes' updater.
pub(crate) fn check_description(release: &SoftwareRelease) -> Result<(), ReleaseError> {
    if release.root_hash.is_none() {
        return Ok(());
    }
    let bytes = serde_json::to_vec(release)
        .map_err(|_| ReleaseError::Malformed("releases/current.json".to_owned()))?;
    Manifest::parse(&bytes)
        .map(drop)
        .map_err(|error| ReleaseError::Image(ImageError::Description(error)))
}

fn verify(data: &PathBuf, tree: &PathBuf, root_hash: &[u8; 32]) -> Result<(), ReleaseError> {
    let open = |path: &PathBuf| {
        let opened = Partition::open(path, false);
        let opened = opened.and_then(|file| Ok((file.length()?, file)));
        opened.map_err(|error| ReleaseError::File(path.clone(), error))
    };
    let ((data_length, data), (tree_length, tree)) = (open(data)?, open(tree)?);
    verity::verify(&data, data_length, &tree, tree_length, root_hash)
        .map_err(|error| ReleaseError::Image(ImageError::Verity(error)))
}

fn index(data: &PathBuf, tree: &PathBuf) -> Result<Vec<u8>, ReleaseError> {
    let failed = |error| ReleaseError::File(data.clone(), error);
    let mut data = File::open(data).map_err(failed)?;
    let mut tree = File::open(tree).map_err(failed)?;
    let index = BlockIndex::build(&mut data, &mut tree).map_err(failed)?;
    Ok(index.encode())
}
