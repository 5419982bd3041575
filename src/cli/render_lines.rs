//! Progress as plain lines, for logs and pipes: one per phase, one every few seconds while
//! layers come, one summary. Never redraws anything.

use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::progress_tally::Tally;
use super::text;
use crate::progress::{Event, Phase, ProgressSink};

/// The shortest time between two lines about layers on their way.
const INTERVAL: Duration = Duration::from_secs(3);

/// Writes the lines to stderr.
#[derive(Debug, Default)]
pub struct LineSink(Mutex<Lines>);

impl ProgressSink for LineSink {
    fn event(&self, event: Event) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.event(&event, Instant::now()) {
            // Nothing to do about a closed stderr; the work goes on.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

/// Decides which event makes a line.
#[derive(Debug, Default)]
struct Lines {
    tally: Tally,
    last: Option<Instant>,
    /// Phases that have ended, and how long they took.
    ended: Vec<(Phase, Duration)>,
}

impl Lines {
    fn event(&mut self, event: &Event, now: Instant) -> Option<String> {
        if let Some(ended) = self.tally.apply(event, now) {
            self.ended.push(ended);
        }
        match event {
            // Its line comes with the plan, which says how much there is.
            Event::Phase(Phase::Fetch) => None,
            Event::Phase(phase) => Some(phase.describe().into()),
            Event::Planned { .. } => {
                self.last = Some(now);
                Some(self.tally.planned.describe())
            }
            Event::LayerProgress { .. } | Event::LayerDone { .. } => self.transfer(now),
            Event::LayerStarted { .. } => None,
            Event::Retry { reason, wait } => {
                let (reason, wait) = (text::clean(reason), text::duration(*wait));
                Some(format!("{reason}; trying again in {wait}"))
            }
            Event::Warning(warning) => Some(format!("warning: {}", text::clean(warning))),
            Event::Finished => self.summary(),
        }
    }

    fn transfer(&mut self, now: Instant) -> Option<String> {
        let since = now.saturating_duration_since(self.last?);
        if since < INTERVAL {
            return None;
        }
        self.last = Some(now);
        let (bytes, total) = (self.tally.bytes(), self.tally.bytes_total());
        let rate = self.tally.rate(now).map_or(String::new(), |rate| {
            format!(", {}/s", text::bytes(rate as u64))
        });
        let left = self.tally.time_left(now).map_or(String::new(), |left| {
            format!(", {} left", text::duration(left))
        });
        Some(format!(
            "  {} of {}, {} of {}{rate}{left}",
            text::bytes(bytes),
            text::bytes(total),
            self.tally.layers_done,
            text::count(self.tally.planned.layers, "layer"),
        ))
    }

    /// Says what came and where the time went; true also where the work failed. Says nothing
    /// where nothing was to be fetched, or a second time.
    fn summary(&mut self) -> Option<String> {
        self.tally.fetch_began?;
        let ended = std::mem::take(&mut self.ended);
        let phases = ended
            .iter()
            .map(|(phase, span)| format!("{} {}", phase.id(), text::duration(*span)));
        let phases: Vec<String> = phases.collect();
        (!phases.is_empty()).then(|| {
            format!(
                "Fetched {} of {}, {} ({})",
                self.tally.layers_done,
                text::count(self.tally.planned.layers, "layer"),
                text::bytes(self.tally.bytes()),
                phases.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    fn script() -> Vec<(u64, Event)> {
        let digest = Digest::of(b"x");
        let progress = |bytes| Event::LayerProgress { index: 4, bytes };
        vec![
            (0, Event::Phase(Phase::Resolve)),
            (100, Event::Phase(Phase::Fetch)),
            (
                100,
                Event::Planned {
                    layers: 5,
                    layers_to_fetch: 1,
                    bytes_to_fetch: 40_000_000,
                    bytes_present: 7_000_000,
                    bytes_reused: 0,
                },
            ),
            (
                100,
                Event::LayerStarted {
                    index: 4,
                    digest,
                    size: Some(40_000_000),
                },
            ),
            (1000, progress(1)),
            (3000, progress(2)),
            (4100, progress(20_000_000)),
            (4200, progress(21_000_000)),
            (
                5000,
                Event::Retry {
                    reason: "quay.io:\nconnection\u{1b} reset".into(),
                    wait: Duration::from_secs(2),
                },
            ),
            (8100, Event::LayerDone { index: 4 }),
            (8200, Event::Phase(Phase::Publish)),
            (8300, Event::Warning("one path was dropped".into())),
            (8400, Event::Finished),
            (8500, Event::Finished),
        ]
    }

    #[test]
    fn lines_are_few_and_say_what_happens() {
        let (mut lines, start) = (Lines::default(), Instant::now());
        let text: Vec<String> = script()
            .iter()
            .filter_map(|(at, event)| lines.event(event, start + Duration::from_millis(*at)))
            .collect();
        assert_eq!(
            text,
            [
                "Resolving image",
                "Fetching 1 layer, 40.0 MB; 4 layers (7.0 MB) already here",
                "  20.0 MB of 40.0 MB, 0 of 1 layer, 5.0 MB/s, 4.0 s left",
                "quay.io: connection reset; trying again in 2.0 s",
                "  40.0 MB of 40.0 MB, 1 of 1 layer, 5.0 MB/s, 0.0 s left",
                "Writing to disk",
                "warning: one path was dropped",
                "Fetched 1 of 1 layer, 40.0 MB (resolve 0.1 s, fetch 8.1 s, publish 0.2 s)",
            ]
        );
    }
}
