//! The memory that bodies may take, all together. Whoever asks for more waits a little and is then told that there is none.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

/// What is counted; finer is not worth a count.
const UNIT: u64 = 4096;

/// All of it.
#[derive(Clone)]
pub(crate) struct Rooms {
    units: Arc<Semaphore>,
    patience: Duration,
}

/// Nothing was left in time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl Rooms {
    pub(crate) fn new(bytes: u64, patience: Duration) -> Self {
        let units = usize::try_from(bytes / UNIT).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            units: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            patience,
        }
    }

    /// None of it yet.
    pub(crate) fn none(&self) -> Room {
        Room {
            rooms: self.clone(),
            units: 0,
        }
    }

    #[cfg(test)]
    fn left(&self) -> usize {
        self.units.available_permits()
    }
}

/// A part of it, given back when dropped.
pub(crate) struct Room {
    rooms: Rooms,
    units: u32,
}

impl Room {
    /// Whether `bytes` in all fit without waiting; then they are taken.
    pub(crate) fn try_hold(&mut self, bytes: u64) -> bool {
        let more = self.missing(bytes);
        if more == 0 {
            return true;
        }
        match self.rooms.units.try_acquire_many(more) {
            Ok(taken) => {
                taken.forget();
                self.units += more;
                true
            }
            Err(_) => false,
        }
    }

    /// Takes `bytes` in all, waiting if it must.
    pub(crate) async fn hold(&mut self, bytes: u64) -> Result<(), NoRoom> {
        if self.try_hold(bytes) {
            return Ok(());
        }
        let more = self.missing(bytes);
        let waiting = self.rooms.units.acquire_many(more);
        match tokio::time::timeout(self.rooms.patience, waiting).await {
            Ok(Ok(taken)) => {
                taken.forget();
                self.units += more;
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(NoRoom),
        }
    }

    fn missing(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT))
            .unwrap_or(u32::MAX)
            .saturating_sub(self.units)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.units > 0 {
            self.rooms.units.add_permits(self.units as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_held_is_given_back_and_no_more_is_given_than_there_is() {
        let rooms = Rooms::new(10 * UNIT, Duration::from_millis(20));
        let mut first = rooms.none();
        assert!(first.try_hold(8 * UNIT) && first.try_hold(UNIT));
        let mut second = rooms.none();
        assert_eq!(second.hold(3 * UNIT).await, Err(NoRoom));
        drop(first);
        assert_eq!(second.hold(10 * UNIT).await, Ok(()));
        drop(second);
        assert_eq!(rooms.left(), 10);
    }
}
