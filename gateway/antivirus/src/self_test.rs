//! Shows that what must be found is found and what must pass passes (compliance check AV-SELF, 第27条).
//!
//! The samples can be sent through the scanner, or by their owner through the data path. It does not say what follows.

use crate::samples::{clean, eicar, nested, program, zip};
use crate::{BodyError, Kind, Outcome, Scanner, SealedBody, Unavailable, Unscannable};

/// What the scanner must say of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Malware.
    Infected,
    /// A kind that is forbidden.
    Forbidden(Kind),
    /// Encrypted.
    Encrypted,
    /// Beyond a limit.
    Limited,
    /// Nothing.
    Clean,
}

impl Expected {
    /// Whether an outcome is that.
    #[must_use]
    pub fn is_met_by(self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::Infected, Outcome::Infected(_)) | (Self::Clean, Outcome::Clean) => true,
            (Self::Forbidden(expected), Outcome::Forbidden(kind)) => expected == *kind,
            (Self::Encrypted, Outcome::Unscannable(why)) => {
                matches!(why, Unscannable::Encrypted(_))
            }
            (Self::Limited, Outcome::Unscannable(why)) => {
                matches!(why, Unscannable::LimitExceeded(_) | Unscannable::TooLarge)
            }
            _ => false,
        }
    }
}

/// One body of the self-test.
#[derive(Debug)]
pub struct Sample {
    /// Its name in the journal.
    pub name: &'static str,
    /// The body.
    pub body: SealedBody,
    /// What must become of it.
    pub expected: Expected,
}

/// The self-test of a box whose policy permits some kinds.
#[derive(Clone, Debug, Default)]
pub struct SelfTest {
    permitted: Vec<Kind>,
}

/// Why the self-test did not pass.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// Something was not judged as it must be.
    #[error("{sample} was taken for {outcome:?}")]
    Missed {
        /// Which.
        sample: &'static str,
        /// What was said of it.
        outcome: Outcome,
    },
    /// The scanner could not be asked; nothing is known.
    #[error("the scanner could not be asked about {sample}")]
    Unavailable {
        /// About which.
        sample: &'static str,
        /// Why.
        #[source]
        why: Unavailable,
    },
    /// A sample could not be prepared.
    #[error("a sample could not be prepared")]
    Prepare(#[from] BodyError),
}

/// Deeper than `MaxRecursion`.
const DEEP: usize = 24;

impl SelfTest {
    /// A self-test where these kinds are permitted.
    #[must_use]
    pub fn new(permitted: &[Kind]) -> Self {
        Self {
            permitted: permitted.to_vec(),
        }
    }

    /// The samples. The largest is one byte more than `largest` and takes no memory.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn samples(&self, largest: u64) -> Result<Vec<Sample>, BodyError> {
        let eicar = eicar();
        let mut samples = Vec::new();
        let mut add = |name, bytes: &[u8], expected| {
            samples.push(Sample {
                name,
                body: SealedBody::from_bytes(bytes)?,
                expected,
            });
            Ok::<_, BodyError>(())
        };
        add("eicar", &eicar, Expected::Infected)?;
        add(
            "eicar in three archives",
            &nested(&eicar, 3),
            Expected::Infected,
        )?;
        add(
            "eicar behind a program",
            &[program(), vec![0; 64], eicar.clone()].concat(),
            Expected::Infected,
        )?;
        add(
            "an encrypted archive",
            &zip("a.txt", &[7; 32], true),
            Expected::Encrypted,
        )?;
        add(
            "too many archives in archives",
            &nested(&eicar, DEEP),
            Expected::Limited,
        )?;
        if !self.permitted.contains(&Kind::LinuxProgram) {
            let forbidden = Expected::Forbidden(Kind::LinuxProgram);
            add(
                "a program in two archives",
                &nested(&program(), 2),
                forbidden,
            )?;
        }
        for (name, bytes) in clean() {
            add(name, &bytes, Expected::Clean)?;
        }
        samples.push(Sample {
            name: "a body beyond the limit",
            body: SealedBody::zeros(largest + 1)?,
            expected: Expected::Limited,
        });
        Ok(samples)
    }

    /// Sends all samples through the scanner, those it would refuse by itself included: clamd must refuse them too.
    ///
    /// # Errors
    /// [`SelfTestError`], the first.
    pub async fn run(&self, scanner: &Scanner) -> Result<(), SelfTestError> {
        for Sample {
            name: sample,
            body,
            expected,
        } in self.samples(scanner.largest())?
        {
            match scanner.probe(&body).await {
                outcome if expected.is_met_by(&outcome) => {}
                Outcome::Unavailable(why) => {
                    return Err(SelfTestError::Unavailable { sample, why });
                }
                outcome => return Err(SelfTestError::Missed { sample, outcome }),
            }
        }
        Ok(())
    }
}
