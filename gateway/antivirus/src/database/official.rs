//! ClamAV's own databases: what the head of a container says, and what a running engine says of the one it loaded.
//!
//! It does not check their signatures; the engine does when it loads them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use time::macros::format_description;
use time::{PrimitiveDateTime, UtcOffset};

/// The head of a container is this long; its fields are separated by colons.
const HEAD: usize = 512;

/// What a database says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its version: one more for each release.
    pub version: u64,
    /// When it was built, in seconds since 1970.
    pub built_at: i64,
}

/// Reads the head of a `.cvd`, `.cld` or `.cud`.
///
/// # Errors
/// When the file cannot be read or is no such container.
pub fn describe(path: &Path) -> io::Result<Described> {
    let mut head = [0; HEAD];
    File::open(path)?.read_exact(&mut head)?;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let text = std::str::from_utf8(&head).map_err(|_| invalid())?;
    // ClamAV-VDB:time in words:version:signatures:level:MD5:signature:builder:time
    let fields: Vec<&str> = text.split(':').collect();
    match fields.as_slice() {
        ["ClamAV-VDB", _, version, _, _, _, _, _, time, ..] => Ok(Described {
            version: version.trim().parse().map_err(|_| invalid())?,
            built_at: time.trim().parse().map_err(|_| invalid())?,
        }),
        _ => Err(invalid()),
    }
}

/// Reads clamd's answer to `VERSION`: `ClamAV 1.4.6/27001/Sun Nov 22 08:00:00 2026`. Without a `daily` container it says the
/// engine's version only, and nothing is known. The time has no zone; the unit of clamd sets UTC.
#[must_use]
pub(super) fn loaded(version: &str) -> Option<Described> {
    let mut parts = version.split('/');
    let (_, number, date) = (parts.next()?, parts.next()?, parts.next()?);
    // asctime(3) pads the day with a space.
    let date = date.split_whitespace().collect::<Vec<_>>().join(" ");
    let format = format_description!(
        "[weekday repr:short] [month repr:short] [day padding:none] [hour]:[minute]:[second] [year]"
    );
    let time = PrimitiveDateTime::parse(&date, &format).ok()?;
    Some(Described {
        version: number.trim().parse().ok()?,
        built_at: time.assume_offset(UtcOffset::UTC).unix_timestamp(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_engine_names_its_database_or_none() {
        assert_eq!(
            loaded("ClamAV 1.4.6/27001/Sun Nov  1 08:00:00 2026"),
            Some(Described {
                version: 27001,
                built_at: 1_793_520_000
            })
        );
        for nothing in [
            "ClamAV 1.4.6",
            "ClamAV 1.4.6/x/Sun Nov  1 08:00:00 2026",
            "ClamAV 1.4.6/27001/",
            "ClamAV 1.4.6/27001/yesterday",
        ] {
            assert_eq!(loaded(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn what_is_no_container_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("daily.cvd");
        for content in [&b"short"[..], &[b':'; 600], &[0xff; 600]] {
            std::fs::write(&path, content).unwrap();
            assert!(describe(&path).is_err());
        }
    }
}
