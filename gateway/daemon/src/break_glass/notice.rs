//! Of which emergencies the city has been told already: each once, and once more when it was drawn out, also across restarts.
//! Does not speak to the city; `reporting` does, when the line is back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use gateway_policy::Emergency;

/// The file below the box's state: numbers and ends, nothing else.
const FILE: &str = "break-glass-told.json";
/// As many as the policy keeps emergencies.
const KEPT: usize = 32;

/// See the module.
#[derive(Debug)]
pub(crate) struct Notices {
    path: PathBuf,
    /// By the emergency's number: its end, in Unix seconds of the ledger's time, when the city was told.
    told: Mutex<BTreeMap<u64, i64>>,
}

impl Notices {
    /// Reads the file. Without one, or with a damaged one, the city is told again of what the box still knows: the same
    /// report has the same key there, so that it is filed once.
    #[must_use]
    pub(crate) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let read = std::fs::read(&path).ok();
        let told = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            path,
            told: Mutex::new(told.unwrap_or_default()),
        }
    }

    /// Those the city has not heard of, or whose end it does not know.
    #[must_use]
    pub(crate) fn untold(&self, emergencies: &[Emergency]) -> Vec<Emergency> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = |emergency: &&Emergency| {
            let known = told.get(&emergency.number);
            known.is_none_or(|until| *until < emergency.until.0)
        };
        emergencies.iter().filter(is_news).cloned().collect()
    }

    /// The city has filed the report of this one. Blocking.
    pub(crate) fn was_told(&self, emergency: &Emergency) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(emergency.number, emergency.until.0);
        while told.len() > KEPT {
            told.pop_first();
        }
        if let Err(error) = write(&self.path, &told) {
            tracing::warn!(event = "break-glass", %error, "that the city was told of an emergency could not be kept; it is told again after a restart");
        }
    }
}

/// Whole or not at all.
fn write(path: &Path, told: &BTreeMap<u64, i64>) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let bytes = serde_json::to_vec(told).map_err(std::io::Error::other)?;
    let new = path.with_extension("new");
    let mut options = std::fs::File::options();
    options.create(true).truncate(true).write(true).mode(0o600);
    let mut file = options.open(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use gateway_policy::{Reason, Timestamp};

    use super::*;

    fn emergency(number: u64, until: i64) -> Emergency {
        Emergency {
            number,
            opened: Timestamp(until - 100),
            until: Timestamp(until),
            reason: Reason::Disaster,
            by_code: false,
            reviewed: None,
            countersigned: false,
        }
    }

    #[test]
    fn each_is_told_once_and_again_when_it_was_drawn_out_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let notices = Notices::open(directory.path());
        let (first, second) = (emergency(1, 1_000), emergency(2, 2_000));
        let both = [first.clone(), second.clone()];
        assert_eq!(notices.untold(&both), both);
        notices.was_told(&first);
        assert_eq!(notices.untold(&both), [second]);
        // Ended early is no news; drawn out is.
        assert_eq!(notices.untold(&[emergency(1, 900)]), []);
        let again = Notices::open(directory.path());
        assert_eq!(again.untold(&[first]), []);
        assert_eq!(again.untold(&[emergency(1, 1_500)]).len(), 1);
        std::fs::write(directory.path().join(FILE), b"{").unwrap();
        let damaged = Notices::open(directory.path());
        assert_eq!(damaged.untold(&both).len(), 2);
    }
}
