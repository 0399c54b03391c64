//! What is published and what waits, for the person who looks after it.
//!
//! It changes nothing.

use std::fmt;

use crate::{ReleaseError, Repository, Role};

/// One role's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownRole {
    /// The role.
    pub role: Role,
    /// Published version.
    pub version: Option<u64>,
    /// Until when, RFC 3339.
    pub expires: String,
    /// How many signatures it takes, of how many keys.
    pub threshold: (usize, usize),
    /// The beginnings of the keys' ids.
    pub keys: Vec<String>,
    /// A version that waits: its number, signatures so far, signatures needed.
    pub waiting: Option<(u64, usize, usize)>,
}

/// Every role's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(pub Vec<ShownRole>);

impl Repository {
    /// Looks at every role.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn show(&self) -> Result<Shown, ReleaseError> {
        let mut rows = Vec::new();
        for role in Role::ALL {
            let published = self.published(role)?;
            let (keys, threshold) = self.keys_of(role)?;
            let waiting = match self.staged(role)? {
                None => None,
                Some(staged) => {
                    let (found, needed) = self.progress(role)?;
                    Some((staged.version(), found, needed))
                }
            };
            rows.push(ShownRole {
                role,
                version: published.as_ref().map(crate::Signed::version),
                expires: published.map_or_else(String::new, |file| file.expires().to_owned()),
                threshold: (threshold, keys.len()),
                keys: keys
                    .iter()
                    .map(|id| id[..id.len().min(8)].to_owned())
                    .collect(),
                waiting,
            });
        }
        Ok(Shown(rows))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<10} {:>7}  {:<21} {:>9}  keys",
            "role", "version", "expires", "threshold"
        )?;
        for row in &self.0 {
            let version = row
                .version
                .map_or_else(|| "-".to_owned(), |v| v.to_string());
            let threshold = format!("{}/{}", row.threshold.0, row.threshold.1);
            writeln!(
                f,
                "{:<10} {version:>7}  {:<21} {threshold:>9}  {}",
                row.role.name(),
                row.expires,
                row.keys.join(" ")
            )?;
            if let Some((version, found, needed)) = row.waiting {
                writeln!(
                    f,
                    "{:<10} {version:>7}  署名待ち (waits for signatures): {found}/{needed}",
                    ""
                )?;
            }
        }
        Ok(())
    }
}
