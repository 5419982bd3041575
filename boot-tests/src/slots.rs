//! Two machines run side by side at most, on this host, whoever starts them: a slot is an exclusive
//! lock on one of two files. Comes free with the value, or with the process.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use crate::place;

/// More make all of them slower than their patience.
const SLOTS: u32 = 2;
/// Between two looks whether a slot is free.
const PAUSE: Duration = Duration::from_millis(200);

/// The right to run a machine.
#[derive(Debug)]
pub struct Slot {
    _lock: File,
}

impl Slot {
    /// Waits for a free slot.
    pub fn take() -> Result<Self> {
        let directory = place::directory("slots")?;
        loop {
            for number in 0..SLOTS {
                let path = directory.join(number.to_string());
                let lock = File::create(&path);
                let lock = lock.with_context(|| format!("Opening {}", path.display()))?;
                if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                    return Ok(Self { _lock: lock });
                }
            }
            std::thread::sleep(PAUSE);
        }
    }
}
