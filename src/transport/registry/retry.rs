//! How long to wait after a temporary failure, and when to stop trying. Errors come in; a pause
//! or the last error goes out. Never decides which failures are temporary.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::progress::Event;
use crate::transport::{Error, SourceOptions};

/// Counts the retries of one request.
#[derive(Debug)]
pub(in crate::transport) struct Budget<'a> {
    options: &'a SourceOptions,
    used: u32,
}

impl<'a> Budget<'a> {
    pub(in crate::transport) const fn new(options: &'a SourceOptions) -> Self {
        Self { options, used: 0 }
    }

    /// Starts anew with `used` retries gone.
    pub(super) const fn resume(options: &'a SourceOptions, used: u32) -> Self {
        Self { options, used }
    }

    /// Retries so far.
    pub(super) const fn used(&self) -> u32 {
        self.used
    }

    /// Waits if another try may help; gives the error back if not.
    pub(in crate::transport) async fn pause(&mut self, error: Error) -> Result<(), Error> {
        let Error::Temporary {
            place,
            detail,
            retry_after,
        } = error
        else {
            return Err(error);
        };
        if self.used >= self.options.retries {
            let detail = match self.used {
                0 => detail,
                n => format!("{detail} (gave up after {} attempts)", n + 1),
            };
            return Err(Error::Temporary {
                place,
                detail,
                retry_after,
            });
        }
        let wait = pause(self.options, self.used, retry_after, random_fraction());
        self.used += 1;
        self.options.progress.event(Event::Retry {
            reason: format!("{place}: {detail}"),
            wait,
        });
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// The first pause doubled for every retry, between half and all of it (so that a fleet does not
/// come back as one), but at least what the registry asks for; never above the longest pause.
fn pause(
    options: &SourceOptions,
    used: u32,
    retry_after: Option<Duration>,
    fraction: f64,
) -> Duration {
    let full = options.first_pause.saturating_mul(1 << used.min(16));
    let jittered = full
        .min(options.longest_pause)
        .mul_f64(0.5 + fraction / 2.0);
    let asked = retry_after.unwrap_or_default();
    jittered.max(asked).min(options.longest_pause)
}

/// A number from 0 to 1 that differs from process to process and call to call.
fn random_fraction() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest() {
        let options = SourceOptions {
            first_pause: SECOND,
            longest_pause: 10 * SECOND,
            ..SourceOptions::default()
        };
        let table = [
            (0, None, 1.0, SECOND),
            (0, None, 0.0, SECOND / 2),
            (2, None, 1.0, 4 * SECOND),
            (9, None, 1.0, 10 * SECOND),
            (u32::MAX, None, 0.0, 5 * SECOND),
            (0, Some(3), 1.0, 3 * SECOND),
            (3, Some(3), 1.0, 8 * SECOND),
            (0, Some(3600), 0.0, 10 * SECOND),
        ];
        for (used, after, fraction, expected) in table {
            let after = after.map(Duration::from_secs);
            assert_eq!(pause(&options, used, after, fraction), expected, "{used}");
        }
    }

    #[test]
    fn random_fractions_are_fractions_and_differ() {
        let some: Vec<f64> = (0..20).map(|_| random_fraction()).collect();
        assert!(some.iter().all(|f| (0.0..=1.0).contains(f)));
        assert!(some.iter().any(|f| *f != some[0]));
    }
}
