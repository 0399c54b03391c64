//! The recovery key of `/var` as the console's pages see it.
//!
//! The image makes the key with the partition and lays it here (`image/system`, tmpfiles.d): 32 hexadecimal digits and a line's end,
//! which is the whole of the key. It lies on the disk that it opens, so whoever can read it has no need of it. An empty file says that
//! it was handed over; no file, that this is no image.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway_audit::{Event, RecoveryKeyChange};
use gateway_console::{Answer, Entry, Message, RecoveryDesk, RecoveryKey};
use zeroize::Zeroizing;

use crate::audit::loosening;
use crate::posture::Posture;

/// In the state directory.
const FILE: &str = "recovery-key";

/// Digits of the key.
const DIGITS: usize = 32;

/// See the module.
#[derive(Debug)]
pub(crate) struct RecoveryPages {
    file: PathBuf,
    posture: Arc<Posture>,
}

impl RecoveryPages {
    /// The key of the box that keeps its state in `state_dir`.
    pub(crate) fn new(state_dir: &Path, posture: Arc<Posture>) -> Self {
        Self {
            file: state_dir.join(FILE),
            posture,
        }
    }

    async fn written_down(&self, what: RecoveryKeyChange) -> Result<(), Message> {
        loosening::before(&self.posture, Event::RecoveryKey { what })
            .await
            .map_err(|_| loosening::message())
    }
}

impl RecoveryDesk for RecoveryPages {
    fn state(&self) -> RecoveryKey {
        match fs::metadata(&self.file) {
            Ok(data) if data.len() > 0 => RecoveryKey::OnTheBox,
            Ok(_) => RecoveryKey::HandedOver,
            Err(_) => RecoveryKey::None,
        }
    }

    fn show(&self) -> Answer<'_, Result<Entry, Message>> {
        Box::pin(async {
            let key = read(&self.file).map_err(|error| damaged(&error))?;
            self.written_down(RecoveryKeyChange::Shown).await?;
            Ok(Entry::new(in_groups(&key)))
        })
    }

    fn hand_over(&self) -> Answer<'_, Result<(), Message>> {
        Box::pin(async {
            self.written_down(RecoveryKeyChange::HandedOver).await?;
            forget(&self.file).map_err(|error| damaged(&error))
        })
    }
}

fn read(file: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(DIGITS * 2));
    File::open(file)?
        .take(DIGITS as u64 * 2)
        .read_to_string(&mut text)?;
    let key = text.trim_end();
    if key.len() == DIGITS && key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(Zeroizing::new(key.to_owned()))
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Four digits at a time, as people copy them.
fn in_groups(key: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(DIGITS + DIGITS / 4));
    for (place, digit) in key.chars().enumerate() {
        if place > 0 && place % 4 == 0 {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

/// Written over where it stands, then emptied; both on the disk before it is said to be gone.
fn forget(file: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).open(file)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(DIGITS * 2);
    file.write_all(&vec![b'0'; length.min(DIGITS * 2)])?;
    file.sync_all()?;
    file.set_len(0)?;
    file.sync_all()
}

fn damaged(error: &io::Error) -> Message {
    tracing::error!(
        event = "control",
        reason = "RECOVERY-KEY",
        kind = ?error.kind(),
        "the recovery key cannot be read or erased"
    );
    Message {
        sentence: "復旧キーを読み書きできませんでした。".into(),
        next_step: "もう一度お試しください。続くときは下の問い合わせ先に電話し、コード D-RECOVERY を伝えてください。".into(),
        code: "D-RECOVERY".into(),
    }
}

#[cfg(test)]
mod tests {
    use gateway_audit::Settings;

    use super::*;

    const KEY: &str = "00112233445566778899aabbccddeeff";

    fn pages(folder: &Path) -> RecoveryPages {
        RecoveryPages::new(folder, Arc::new(Posture::new()))
    }

    #[tokio::test]
    async fn a_key_is_shown_only_when_that_is_on_record() {
        let folder = tempfile::tempdir().unwrap();
        let pages = pages(folder.path());
        assert_eq!(pages.state(), RecoveryKey::None);
        fs::write(folder.path().join(FILE), format!("{KEY}\n")).unwrap();
        assert_eq!(pages.state(), RecoveryKey::OnTheBox);
        // There is no log yet.
        assert_eq!(pages.show().await.unwrap_err().code, "A-LOG");
        assert_eq!(pages.hand_over().await.unwrap_err().code, "A-LOG");
        assert_eq!(pages.state(), RecoveryKey::OnTheBox);

        let log = tempfile::tempdir().unwrap();
        let clock = Arc::new(crate::posture::now);
        let (sink, _status) =
            gateway_audit::start(log.path().to_owned(), Settings::default(), clock).unwrap();
        pages.posture.set_audit(sink);
        let shown = pages.show().await.unwrap();
        assert_eq!(shown.as_str(), "0011-2233-4455-6677-8899-aabb-ccdd-eeff");
        assert_eq!(pages.state(), RecoveryKey::OnTheBox);
        pages.hand_over().await.unwrap();
        assert_eq!(pages.state(), RecoveryKey::HandedOver);
        assert_eq!(fs::read(folder.path().join(FILE)).unwrap(), b"");
        assert_eq!(pages.show().await.unwrap_err().code, "D-RECOVERY");
    }

    #[test]
    fn what_is_no_key_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        for content in ["", "\n", "0011", &KEY.replace('f', "g"), &format!("{KEY}0")] {
            fs::write(&file, content).unwrap();
            assert!(read(&file).is_err(), "{content:?}");
        }
        fs::write(&file, KEY).unwrap();
        assert_eq!(read(&file).unwrap().as_str(), KEY);
    }
}
