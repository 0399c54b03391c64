//! Brings a target to a file or into memory, checked against what was signed while it comes.
//!
//! It does not decide what is worth fetching. A file is under its name only when it is whole and right; what came of a
//! broken transfer waits beside it and is continued.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256, SHA512};
use bytes::Bytes;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::names::with_hash;
use crate::pace::Allowance;
use crate::transport::Body;
use crate::{Refused, Target, Trusted};

/// Attempts in one call that bring nothing new before it gives up for this time.
const FRUITLESS: u32 = 3;

/// The digests that are signed and that we know.
struct Digests {
    sha256: Option<(Context, String)>,
    sha512: Option<(Context, String)>,
}

impl Digests {
    fn of(target: &Target) -> Self {
        let signed = |name: &str| target.hashes.get(name).map(|hex| hex.to_ascii_lowercase());
        Self {
            sha256: signed("sha256").map(|hex| (Context::new(&SHA256), hex)),
            sha512: signed("sha512").map(|hex| (Context::new(&SHA512), hex)),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        for (context, _) in self.sha256.iter_mut().chain(self.sha512.iter_mut()) {
            context.update(bytes);
        }
    }

    /// True when there is at least one, and every one is right.
    fn are_right(self) -> bool {
        let mut some = false;
        for (context, signed) in self.sha256.into_iter().chain(self.sha512) {
            if hex(context.finish().as_ref()) != signed {
                return false;
            }
            some = true;
        }
        some
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Trusted {
    /// Brings a target to the file `to`. One that is there and right already is left alone.
    ///
    /// Broken transfers are continued where they broke, in this call and in later ones, over a restart too.
    ///
    /// # Errors
    /// [`Refused`]; then there is no file `to` that was not there before.
    pub async fn fetch(&self, target: &Target, to: &Path) -> Result<(), Refused> {
        self.check_length(target)?;
        let disk = |source| Refused::Disk {
            file: target.name.clone(),
            source,
        };
        if is_right(to, target).await {
            return Ok(());
        }
        let part = beside(to, ".part");
        let mut resumed = tokio::fs::metadata(&part).await.is_ok();
        loop {
            match self.transfer(target, &part).await {
                Ok(()) => break,
                // What an earlier call left may have been damaged; one attempt is made without it.
                Err(Refused::WrongHash { .. }) if resumed => resumed = false,
                Err(refused) => return Err(refused),
            }
        }
        tokio::fs::rename(&part, to).await.map_err(disk)?;
        if let Some(folder) = to.parent() {
            let folder = File::open(folder).await.map_err(disk)?;
            folder.sync_all().await.map_err(disk)?;
        }
        Ok(())
    }

    /// Brings a small target of at most `limit` bytes into memory.
    ///
    /// # Errors
    /// [`Refused`]; [`Refused::EndlessData`] when more is signed than the caller can use.
    pub async fn read(&self, target: &Target, limit: u64) -> Result<Vec<u8>, Refused> {
        if target.length > limit {
            return Err(Refused::EndlessData {
                file: target.name.clone(),
                limit,
            });
        }
        let path = self.path_of(target)?;
        let opening = self.transport.target(&path, 0);
        let bytes = crate::pace::read(&target.name, opening, target.length, &self.limits.pace)
            .await?
            .ok_or_else(|| missing(&path))?;
        if bytes.len() as u64 != target.length {
            return Err(Refused::WrongLength {
                target: target.name.clone(),
                length: target.length,
                found: bytes.len() as u64,
            });
        }
        let mut digests = Digests::of(target);
        digests.update(&bytes);
        if digests.are_right() {
            Ok(bytes)
        } else {
            Err(wrong(target))
        }
    }

    /// Opens a target from the offset `from` on, *without* checking what comes: for a caller that holds a signed digest of every block
    /// of it, and takes no block that is not right.
    ///
    /// # Errors
    /// [`Refused`] when it is not to be had.
    pub async fn open_unchecked(&self, target: &Target, from: u64) -> Result<Unchecked, Refused> {
        self.check_length(target)?;
        let path = self.path_of(target)?;
        let allowance = Allowance::new(&self.limits.pace, target.length.saturating_sub(from));
        let opened = allowance
            .wait(&target.name, self.transport.target(&path, from))
            .await?
            .map_err(|error| Refused::unreachable(&path, error))?;
        let body = opened.ok_or_else(|| missing(&path))?;
        if body.starts_at > from {
            return Err(missing(&path));
        }
        Ok(Unchecked {
            target: target.name.clone(),
            allowance,
            // Where ranges are not served, what comes before is read over.
            skip: from - body.starts_at,
            left: target.length.saturating_sub(from),
            body,
        })
    }

    fn check_length(&self, target: &Target) -> Result<(), Refused> {
        if target.length <= self.limits.target {
            return Ok(());
        }
        Err(Refused::EndlessData {
            file: target.name.clone(),
            limit: self.limits.target,
        })
    }

    /// Where the target's file lies in the repository.
    fn path_of(&self, target: &Target) -> Result<String, Refused> {
        if !self.set.root().consistent_snapshot {
            return Ok(target.name.clone());
        }
        let hash = target
            .hashes
            .get("sha256")
            .or_else(|| target.hashes.get("sha512"))
            .ok_or_else(|| wrong(target))?;
        Ok(with_hash(&target.name, hash))
    }

    /// Fills `part`, from where it ends, until it is whole and right.
    async fn transfer(&self, target: &Target, part: &Path) -> Result<(), Refused> {
        let disk = |source| Refused::Disk {
            file: target.name.clone(),
            source,
        };
        let path = self.path_of(target)?;
        let (mut file, mut have, mut digests) = continued(target, part).await.map_err(disk)?;
        let allowance = Allowance::new(&self.limits.pace, target.length - have);
        let mut fruitless = 0;
        while have < target.length {
            let before = have;
            let broke = match allowance
                .wait(&target.name, self.transport.target(&path, have))
                .await?
            {
                Ok(None) => return Err(missing(&path)),
                Ok(Some(mut body)) => {
                    if body.starts_at != have {
                        // Ranges are not served here: from the beginning, then.
                        drop(file);
                        tokio::fs::remove_file(part).await.map_err(disk)?;
                        (file, have, digests) = continued(target, part).await.map_err(disk)?;
                    }
                    loop {
                        match allowance.next(&target.name, &mut body).await? {
                            Ok(Some(piece)) => {
                                have += piece.len() as u64;
                                if have > target.length {
                                    let _ = tokio::fs::remove_file(part).await;
                                    return Err(Refused::EndlessData {
                                        file: target.name.clone(),
                                        limit: target.length,
                                    });
                                }
                                digests.update(&piece);
                                file.write_all(&piece).await.map_err(disk)?;
                            }
                            Ok(None) => break None,
                            Err(error) => break Some(error),
                        }
                    }
                }
                Err(error) => Some(error),
            };
            // What came is kept for the next attempt, whoever makes it.
            file.flush().await.map_err(disk)?;
            fruitless = if have > before { 0 } else { fruitless + 1 };
            if have < target.length && fruitless >= FRUITLESS {
                return Err(match broke {
                    Some(error) => Refused::unreachable(&path, error),
                    None => Refused::WrongLength {
                        target: target.name.clone(),
                        length: target.length,
                        found: have,
                    },
                });
            }
        }
        file.sync_all().await.map_err(disk)?;
        if digests.are_right() {
            return Ok(());
        }
        tokio::fs::remove_file(part).await.map_err(disk)?;
        Err(wrong(target))
    }
}

/// Bytes of a target that nobody has checked yet.
#[derive(Debug)]
pub struct Unchecked {
    target: String,
    allowance: Allowance,
    skip: u64,
    left: u64,
    body: Body,
}

impl Unchecked {
    /// The next bytes; `None` at the end of the target or of what comes.
    ///
    /// # Errors
    /// [`Refused::SlowRetrieval`], and [`Refused::Unreachable`] when it breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Refused> {
        while self.left > 0 {
            let next = self.allowance.next(&self.target, &mut self.body).await?;
            let next = next.map_err(|error| Refused::unreachable(&self.target, error))?;
            let Some(mut piece) = next else {
                return Ok(None);
            };
            let length = piece.len() as u64;
            let skipped = self.skip.min(length);
            self.skip -= skipped;
            // Both at most the piece's own length.
            drop(piece.split_to(usize::try_from(skipped).unwrap_or(piece.len())));
            piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            if !piece.is_empty() {
                self.left -= piece.len() as u64;
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }
}

/// Opens `part` for more, with what is in it counted and digested. One that is too long is begun anew.
async fn continued(target: &Target, part: &Path) -> std::io::Result<(File, u64, Digests)> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(part)
        .await?;
    let mut digests = Digests::of(target);
    let mut have = 0;
    if file.metadata().await?.len() > target.length {
        file.set_len(0).await?;
    }
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut buffer).await?;
        if count == 0 {
            return Ok((file, have, digests));
        }
        have += count as u64;
        digests.update(&buffer[..count]);
    }
}

/// True when the file is there, whole and right.
async fn is_right(path: &Path, target: &Target) -> bool {
    let Ok(mut file) = File::open(path).await else {
        return false;
    };
    if file.metadata().await.map(|data| data.len()).ok() != Some(target.length) {
        return false;
    }
    let mut digests = Digests::of(target);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer).await {
            Ok(0) => return digests.are_right(),
            Ok(count) => digests.update(&buffer[..count]),
            Err(_) => return false,
        }
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn wrong(target: &Target) -> Refused {
    Refused::WrongHash {
        target: target.name.clone(),
    }
}

fn missing(path: &str) -> Refused {
    Refused::MissingFile {
        file: path.to_owned(),
    }
}
