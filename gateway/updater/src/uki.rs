//! A unified kernel image, looked at before it is given a name that the boot loader starts.
//!
//! The boot loader returns to the firmware when a kernel's signature is refused, and some firmware stops there: what is wrong with a kernel must
//! be found here. It checks that the kernel is signed by the box's certificate and starts exactly one slot with exactly one root hash. It does
//! not know what else the kernel does; that is what the release's signatures are for.

use object::LittleEndian as LE;
use object::read::pe::{ImageNtHeaders as _, PeFile64};
use x509_cert::Certificate;

use crate::authenticode::{self, SignatureError};

/// The largest kernel in bytes.
pub const LARGEST: u64 = 192 << 20;

/// Which section holds the kernel's command line.
const COMMAND_LINE: &[u8; 8] = b".cmdline";

/// What a kernel must start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Starts {
    /// The root hash, lower-case hexadecimal.
    pub root_hash: String,
    /// The UUID of the partition with the root file system, lower-case.
    pub data: String,
    /// The UUID of the partition with its hash tree, lower-case.
    pub hash: String,
}

/// Why a kernel is not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UkiError {
    /// No PE32+ file, or one without exactly one command line.
    #[error("it is not a unified kernel image: {0}")]
    Form(&'static str),
    /// See [`SignatureError`].
    #[error("its signature does not count")]
    Signature(#[source] SignatureError),
    /// The command line names something twice, or not at all.
    #[error("its command line does not name {0} exactly once")]
    CommandLine(&'static str),
    /// The command line names another root hash than the release.
    #[error("its command line names another root hash")]
    RootHash,
    /// The command line names the partitions of the other slot, or of no slot.
    #[error("its command line names the partitions of another slot")]
    Slot,
}

/// Checks a kernel.
///
/// # Errors
/// [`UkiError`]; signature first, so that nothing is read from what nobody has signed.
pub fn check(bytes: &[u8], expected: &Starts, signer: &Certificate) -> Result<(), UkiError> {
    let file = parse(bytes)?;
    authenticode::check(bytes, &file, signer).map_err(UkiError::Signature)?;
    let starts = starts_of(&file)?;
    if starts.root_hash != expected.root_hash {
        return Err(UkiError::RootHash);
    }
    if starts != *expected {
        return Err(UkiError::Slot);
    }
    Ok(())
}

/// What a kernel starts, whoever has signed it.
///
/// # Errors
/// [`UkiError::Form`], [`UkiError::CommandLine`].
pub fn starts(bytes: &[u8]) -> Result<Starts, UkiError> {
    starts_of(&parse(bytes)?)
}

fn parse(bytes: &[u8]) -> Result<PeFile64<'_>, UkiError> {
    PeFile64::parse(bytes).map_err(|_| UkiError::Form("no PE32+ file"))
}

fn starts_of(file: &PeFile64<'_>) -> Result<Starts, UkiError> {
    Starts::of(&command_line(file)?)
}

impl Starts {
    /// What a kernel's command line starts.
    ///
    /// # Errors
    /// [`UkiError::CommandLine`].
    pub fn of(command_line: &str) -> Result<Self, UkiError> {
        let one = |name: &'static str| {
            let mut values = command_line
                .split_ascii_whitespace()
                .filter_map(|word| word.split_once('='))
                .filter(|(key, _)| *key == name)
                .map(|(_, value)| value.to_ascii_lowercase());
            match (values.next(), values.next()) {
                (Some(value), None) => Ok(value),
                _ => Err(UkiError::CommandLine(name)),
            }
        };
        let partition = |name| {
            let value = one(name)?;
            let uuid = value.strip_prefix("partuuid=");
            uuid.map(str::to_owned).ok_or(UkiError::CommandLine(name))
        };
        Ok(Self {
            root_hash: one("roothash")?,
            data: partition("systemd.verity_root_data")?,
            hash: partition("systemd.verity_root_hash")?,
        })
    }
}

/// The content of the only `.cmdline` section. A second one (a further profile of the image) would be another way to start.
fn command_line(file: &PeFile64<'_>) -> Result<String, UkiError> {
    let mut found = None;
    for section in file.section_table().iter() {
        if section.name != *COMMAND_LINE {
            continue;
        }
        let data = section
            .pe_data(file.data())
            .map_err(|_| UkiError::Form("a section outside the file"))?;
        if found.replace(data).is_some() {
            return Err(UkiError::Form("two command lines"));
        }
    }
    let data = found.ok_or(UkiError::Form("no command line"))?;
    let text = data.split(|byte| *byte == 0).next().unwrap_or_default();
    // Nothing of ours is started from an image for another kind of firmware application.
    if file.nt_headers().optional_header().subsystem.get(LE)
        != object::pe::IMAGE_SUBSYSTEM_EFI_APPLICATION
    {
        return Err(UkiError::Form("no firmware application"));
    }
    String::from_utf8(text.to_vec()).map_err(|_| UkiError::Form("a command line that is no text"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = "root=/dev/mapper/root roothash=ABCD systemd.verity_root_data=PARTUUID=8E0F \
                        systemd.verity_root_hash=PARTUUID=8e10 ro";

    #[test]
    fn a_command_line_says_what_it_starts() {
        let starts = Starts::of(LINE).unwrap();
        assert_eq!(
            (
                starts.root_hash.as_str(),
                starts.data.as_str(),
                starts.hash.as_str()
            ),
            ("abcd", "8e0f", "8e10")
        );
    }

    #[test]
    fn what_is_named_twice_or_not_at_all_is_refused() {
        for (line, missing) in [
            (LINE.replace("roothash=ABCD", ""), "roothash"),
            (format!("{LINE} roothash=EF"), "roothash"),
            (
                LINE.replace("data=PARTUUID", "data=LABEL"),
                "systemd.verity_root_data",
            ),
            (
                format!("{LINE} systemd.verity_root_hash=PARTUUID=1"),
                "systemd.verity_root_hash",
            ),
        ] {
            assert_eq!(
                Starts::of(&line),
                Err(UkiError::CommandLine(missing)),
                "{line}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(starts(&bytes).is_err());
        }
    }
}
