//! How fast bytes may come, all transfers together: a number of bytes comes in, a pause goes out.
//! Never looks at the bytes.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A limit that several transfers share: a token bucket that holds nothing, so that the average keeps
/// to the limit from the first byte on.
#[derive(Debug)]
pub struct RateLimit {
    bytes_per_second: NonZeroU64,
    /// When the bytes that have been let through are paid for.
    paid: Mutex<Option<Instant>>,
}

impl RateLimit {
    /// Lets so many bytes through per second.
    pub const fn new(bytes_per_second: NonZeroU64) -> Self {
        Self {
            bytes_per_second,
            paid: Mutex::new(None),
        }
    }

    /// Waits until `bytes` that have come are paid for.
    pub async fn pay(&self, bytes: usize) {
        let wait = self.pause(bytes, Instant::now());
        tokio::time::sleep(wait).await;
    }

    fn pause(&self, bytes: usize, now: Instant) -> Duration {
        let seconds = bytes as f64 / self.bytes_per_second.get() as f64;
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let from = paid.map_or(now, |paid| paid.max(now));
        // A pause of years ends with the patience of whoever asked for it.
        let price = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let until = from.checked_add(price).unwrap_or(from);
        *paid = Some(until);
        until - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_share_the_rate() {
        let limit = RateLimit::new(NonZeroU64::new(1000).unwrap());
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let table = [
            (500, 0, 500),
            (1000, 0, 1500),
            (0, 0, 1500),
            (1000, 1, 1500),
            (1, 60, 1),
        ];
        for (bytes, at, expected) in table {
            let pause = limit.pause(bytes, start + at * second);
            assert_eq!(pause, Duration::from_millis(expected), "{bytes} {at}");
        }
    }

    #[test]
    fn the_slowest_rate_is_no_error() {
        let limit = RateLimit::new(NonZeroU64::MIN);
        let now = Instant::now();
        for _ in 0..3 {
            // Only a panic would be wrong.
            limit.pause(usize::MAX, now);
        }
    }
}
