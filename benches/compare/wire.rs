//! What went over the wire, by the access log of the registry. Its lines come in, bytes and
//! requests go out. Headers are not counted, bodies are, as far as they were sent.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

/// The registry writes its log by itself; between two looks it has time to.
const SETTLE: Duration = Duration::from_millis(50);

/// What a registry was asked for and gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests answered.
    pub requests: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// The access log of a registry.
#[derive(Debug)]
pub struct RegistryLog(pub PathBuf);

impl RegistryLog {
    /// Its length when it has stopped growing.
    pub fn settled(&self) -> Result<u64> {
        let length = || fs::metadata(&self.0).map(|m| m.len());
        let context = || format!("Reading the registry's log {}", self.0.display());
        let mut before = length().with_context(context)?;
        loop {
            std::thread::sleep(SETTLE);
            let now = length()?;
            if now == before {
                return Ok(now);
            }
            before = now;
        }
    }

    /// What it tells from byte `start` on.
    pub fn since(&self, start: u64) -> Result<Traffic> {
        self.settled()?;
        let log = fs::read(&self.0)?;
        let text = String::from_utf8_lossy(&log[usize::try_from(start)?..]).into_owned();
        Ok(traffic(&text))
    }
}

/// Sums up access lines of the common log format: `... "GET /v2/ HTTP/1.1" 200 2 ...`.
fn traffic(log: &str) -> Traffic {
    let answers = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once(" HTTP/1.1\" ")?;
        let mut fields = rest.split_whitespace();
        let _status: u16 = fields.next()?.parse().ok()?;
        fields.next()?.parse::<u64>().ok()
    });
    answers.fold(Traffic::default(), |sum, bytes| Traffic {
        requests: sum.requests + 1,
        bytes: sum.bytes + bytes,
    })
}
