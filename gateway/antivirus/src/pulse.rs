//! Tells a busy scanner from a dead one.
//!
//! It does not say what follows from either.

use crate::{CanaryError, Caught, Scanner, Unavailable};

/// Measured: under overload a mere PING took 2.8 s. So one answer that does not come in time proves nothing yet.
const STRIKES: u8 = 3;

/// How the scanner is.
#[derive(Debug)]
pub enum Beat {
    /// It caught its canary.
    Alive(Caught),
    /// No answer in time, but not often enough to call it dead. Nothing is proven either way: ask again soon.
    Busy,
    /// It does not work.
    Dead(CanaryError),
}

/// Remembers how often in a row the scanner was too slow.
#[derive(Debug, Default)]
pub struct Pulse {
    strikes: u8,
}

impl Pulse {
    /// Scans the canary once.
    pub async fn beat(&mut self, scanner: &Scanner) -> Beat {
        match scanner.canary().await {
            Ok(caught) => {
                self.strikes = 0;
                Beat::Alive(caught)
            }
            Err(CanaryError::Unavailable(why @ (Unavailable::TimedOut | Unavailable::GaveUp))) => {
                self.strikes = self.strikes.saturating_add(1);
                if self.strikes < STRIKES {
                    Beat::Busy
                } else {
                    Beat::Dead(CanaryError::Unavailable(why))
                }
            }
            // Nobody there, or it lets everything pass: there is nothing to wait for.
            Err(error) => {
                self.strikes = STRIKES;
                Beat::Dead(error)
            }
        }
    }
}
