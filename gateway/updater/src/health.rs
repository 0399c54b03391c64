//! Whether the system that runs is good: asks gatewayd over its control socket, until it is or the patience is over.
//!
//! gatewayd says what it does; what of it makes a system good is decided here. It restarts and records nothing.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::install::Verdict;

/// The control protocol's version.
const VERSION: u64 = 1;
const LONGEST_ANSWER: u64 = 64 * 1024;
const ONE_QUESTION: Duration = Duration::from_secs(10);
const BETWEEN: Duration = Duration::from_secs(2);

/// What gatewayd says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Answer {
    /// Whether it has a facility certificate. Without one only the setup page is served, and neither city nor store are there yet.
    pub provisioned: bool,
    /// How it stands with the city.
    pub city: City,
    /// Whether the scanner has caught the canary since gatewayd started.
    pub scanner: bool,
    /// Whether the store of notes is open.
    pub store: bool,
}

/// How the box stands with the city.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum City {
    /// It answers.
    Reached,
    /// It does not, and no cable or radio is connected: nothing that the release could be blamed for.
    NoLink,
    /// It does not.
    Away,
}

/// What is missing for a good system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// gatewayd does not answer.
    Gateway,
    /// The city.
    City,
    /// The scanner.
    Scanner,
    /// The store.
    Store,
}

impl Missing {
    /// A word for the journal.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Gateway => "UPD-HEALTH-GATEWAY",
            Self::City => "UPD-HEALTH-CITY",
            Self::Scanner => "UPD-HEALTH-SCANNER",
            Self::Store => "UPD-HEALTH-STORE",
        }
    }
}

impl Answer {
    /// The first thing that is missing; `None` for a good system.
    #[must_use]
    pub const fn missing(&self) -> Option<Missing> {
        if !self.scanner {
            return Some(Missing::Scanner);
        }
        if !self.provisioned {
            return None;
        }
        if !self.store {
            return Some(Missing::Store);
        }
        match self.city {
            City::Reached | City::NoLink => None,
            City::Away => Some(Missing::City),
        }
    }
}

/// Asks until the system is good or `patience` is over; the last thing that was missing with a bad verdict.
pub async fn examine(socket: &Path, patience: Duration) -> (Verdict, Option<Missing>) {
    let until = Instant::now() + patience;
    loop {
        let asked = tokio::time::timeout(ONE_QUESTION, ask(socket)).await;
        let missing = match asked {
            Ok(Some(answer)) => answer.missing(),
            _ => Some(Missing::Gateway),
        };
        if missing.is_none() {
            return (Verdict::Good, None);
        }
        if Instant::now() + BETWEEN > until {
            return (Verdict::Bad, missing);
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

/// One question; `None` when there is no answer that can be understood.
async fn ask(socket: &Path) -> Option<Answer> {
    #[derive(Deserialize)]
    struct Envelope {
        version: u64,
        health: Answer,
    }
    let mut stream = UnixStream::connect(socket).await.ok()?;
    let request = format!("{{\"version\":{VERSION},\"ask\":\"health\"}}\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut line = Vec::new();
    BufReader::new(stream.take(LONGEST_ANSWER))
        .read_until(b'\n', &mut line)
        .await
        .ok()?;
    let envelope: Envelope = serde_json::from_slice(&line).ok()?;
    (envelope.version == VERSION).then_some(envelope.health)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Answer = Answer {
        provisioned: true,
        city: City::Reached,
        scanner: true,
        store: true,
    };

    #[test]
    fn each_part_that_is_missing_makes_a_system_bad() {
        assert_eq!(GOOD.missing(), None);
        let missing = |change: fn(&mut Answer)| {
            let mut answer = GOOD;
            change(&mut answer);
            answer.missing()
        };
        assert_eq!(missing(|it| it.scanner = false), Some(Missing::Scanner));
        assert_eq!(missing(|it| it.store = false), Some(Missing::Store));
        assert_eq!(missing(|it| it.city = City::Away), Some(Missing::City));
        // No cable is nobody's fault; before the enrolment there is neither city nor store.
        assert_eq!(missing(|it| it.city = City::NoLink), None);
        assert_eq!(
            missing(|it| (it.provisioned, it.store, it.city) = (false, false, City::Away)),
            None
        );
    }

    #[tokio::test]
    async fn nobody_behind_the_socket_is_a_bad_system() {
        let folder = tempfile::tempdir().unwrap();
        let examined = examine(&folder.path().join("none"), Duration::ZERO).await;
        assert_eq!(examined, (Verdict::Bad, Some(Missing::Gateway)));
    }

    #[tokio::test]
    async fn it_asks_again_until_the_answer_is_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let answering = tokio::spawn(async move {
            for scanner in ["false", "true"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let answer = format!(
                    "{{\"version\":1,\"health\":{{\"provisioned\":true,\"city\":\"reached\",\"scanner\":{scanner},\"store\":true}}}}\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let examined = examine(&path, Duration::from_secs(20)).await;
        assert_eq!(examined, (Verdict::Good, None));
        answering.await.unwrap();
    }
}
