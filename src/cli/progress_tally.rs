//! What all displays of progress know: events come in with the time, sums go out. Pure: no
//! clock, no terminal.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::text;
use crate::image::Digest;
use crate::progress::{Event, Phase};

/// A layer on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFlight {
    /// Digest of the blob.
    pub digest: Digest,
    /// Bytes taken so far.
    pub bytes: u64,
    /// Size, where the manifest gives one.
    pub size: Option<u64>,
}

/// What the manifest promised before the first layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planned {
    /// Layers that must be fetched.
    pub layers: usize,
    /// Bytes that must be fetched.
    pub bytes: u64,
    /// Layers that are here already.
    pub layers_present: usize,
    /// Bytes of the layers that are here already.
    pub bytes_present: u64,
    /// Bytes of the others that files that are here have, or that an interrupted pull has fetched.
    pub bytes_reused: u64,
}

impl Planned {
    /// The plan in words.
    pub fn describe(&self) -> String {
        let layers = text::count(self.layers, "layer");
        let mut bytes = text::bytes(self.bytes);
        if self.bytes_reused > 0 {
            let reused = text::bytes(self.bytes_reused);
            bytes = format!("{bytes} ({reused} more is reused)");
        }
        let present = format!(
            "{} ({}) already here",
            text::count(self.layers_present, "layer"),
            text::bytes(self.bytes_present)
        );
        match (self.layers, self.layers_present) {
            (0, _) => format!("Nothing to fetch: {present}"),
            (_, 0) => format!("Fetching {layers}, {bytes}"),
            _ => format!("Fetching {layers}, {bytes}; {present}"),
        }
    }
}

/// The state of an operation, summed up from its events.
#[derive(Debug, Default)]
pub struct Tally {
    /// The phase that runs, and since when.
    pub phase: Option<(Phase, Instant)>,
    /// What there was to do.
    pub planned: Planned,
    /// Layers on their way, by index.
    pub in_flight: BTreeMap<usize, InFlight>,
    /// Layers done.
    pub layers_done: usize,
    /// When fetching began.
    pub fetch_began: Option<Instant>,
    bytes_done: u64,
}

impl Tally {
    /// Takes one event; gives the phase that ended by it and how long it took.
    pub fn apply(&mut self, event: &Event, now: Instant) -> Option<(Phase, Duration)> {
        match event {
            Event::Phase(phase) => {
                if *phase == Phase::Fetch {
                    self.fetch_began = Some(now);
                }
                return self.end_phase(now, Some((*phase, now)));
            }
            Event::Finished => return self.end_phase(now, None),
            Event::Planned {
                layers,
                layers_to_fetch,
                bytes_to_fetch,
                bytes_present,
                bytes_reused,
            } => {
                self.planned = Planned {
                    layers: *layers_to_fetch,
                    bytes: *bytes_to_fetch,
                    layers_present: layers.saturating_sub(*layers_to_fetch),
                    bytes_present: *bytes_present,
                    bytes_reused: *bytes_reused,
                };
            }
            Event::LayerStarted {
                index,
                digest,
                size,
            } => {
                let (digest, size) = (*digest, *size);
                let layer = InFlight {
                    digest,
                    bytes: 0,
                    size,
                };
                self.in_flight.insert(*index, layer);
            }
            Event::LayerProgress { index, bytes } => {
                if let Some(layer) = self.in_flight.get_mut(index) {
                    layer.bytes = *bytes;
                }
            }
            Event::LayerDone { index } => {
                if let Some(layer) = self.in_flight.remove(index) {
                    self.layers_done += 1;
                    self.bytes_done += layer.size.unwrap_or(layer.bytes);
                }
            }
            Event::Retry { .. } | Event::Warning(_) => {}
        }
        None
    }

    fn end_phase(
        &mut self,
        now: Instant,
        next: Option<(Phase, Instant)>,
    ) -> Option<(Phase, Duration)> {
        let (phase, since) = std::mem::replace(&mut self.phase, next)?;
        Some((phase, now.saturating_duration_since(since)))
    }

    /// Bytes that have come so far.
    pub fn bytes(&self) -> u64 {
        self.bytes_done
            + self
                .in_flight
                .values()
                .map(|layer| layer.bytes)
                .sum::<u64>()
    }

    /// Bytes there are in all; grows where the manifest promised too little.
    pub fn bytes_total(&self) -> u64 {
        self.planned.bytes.max(self.bytes())
    }

    /// Bytes per second since fetching began; none in the first moments.
    pub fn rate(&self, now: Instant) -> Option<f64> {
        let span = now
            .saturating_duration_since(self.fetch_began?)
            .as_secs_f64();
        (span >= 0.5).then(|| self.bytes() as f64 / span)
    }

    /// Time until all bytes are here at the present rate.
    pub fn time_left(&self, now: Instant) -> Option<Duration> {
        let rate = self.rate(now).filter(|rate| *rate >= 1.0)?;
        let seconds = (self.bytes_total() - self.bytes()) as f64 / rate;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// A phase that has ended, for people.
pub const fn past(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolve => "Resolved image",
        Phase::Compare => "Compared with local files",
        Phase::Fetch => "Fetched layers",
        Phase::Publish => "Wrote to disk",
        Phase::Merge => "Merged layers",
        Phase::Deploy => "Deployed",
        Phase::Prune => "Pruned",
        Phase::Install => "Written to its disk",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_layers_done_and_in_flight() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let mut at = |millis, event| tally.apply(&event, start + Duration::from_millis(millis));
        assert_eq!(at(0, Event::Phase(Phase::Fetch)), None);
        at(
            0,
            Event::Planned {
                layers: 3,
                layers_to_fetch: 2,
                bytes_to_fetch: 300,
                bytes_present: 50,
                bytes_reused: 0,
            },
        );
        for (index, size) in [(0, Some(100)), (1, None)] {
            let digest = Digest::of(&[index as u8]);
            at(
                0,
                Event::LayerStarted {
                    index,
                    digest,
                    size,
                },
            );
        }
        at(
            500,
            Event::LayerProgress {
                index: 0,
                bytes: 90,
            },
        );
        at(
            500,
            Event::LayerProgress {
                index: 1,
                bytes: 20,
            },
        );
        at(900, Event::LayerDone { index: 0 });
        assert_eq!(
            at(1000, Event::Phase(Phase::Publish)),
            Some((Phase::Fetch, Duration::from_secs(1)))
        );
        assert_eq!((tally.bytes(), tally.bytes_total()), (120, 300));
        assert_eq!((tally.layers_done, tally.planned.layers_present), (1, 1));
        let now = start + Duration::from_secs(1);
        assert_eq!(tally.rate(now), Some(120.0));
        assert_eq!(tally.time_left(now), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn plans_say_what_comes_and_what_is_here() {
        let mut planned = Planned {
            layers: 0,
            bytes: 0,
            layers_present: 1,
            bytes_present: 1000,
            bytes_reused: 0,
        };
        assert_eq!(
            planned.describe(),
            "Nothing to fetch: 1 layer (1.0 kB) already here"
        );
        (planned.layers, planned.bytes) = (2, 5);
        assert_eq!(
            planned.describe(),
            "Fetching 2 layers, 5 B; 1 layer (1.0 kB) already here"
        );
        planned.layers_present = 0;
        assert_eq!(planned.describe(), "Fetching 2 layers, 5 B");
        planned.bytes_reused = 7000;
        assert_eq!(
            planned.describe(),
            "Fetching 2 layers, 5 B (7.0 kB more is reused)"
        );
    }

    #[test]
    fn a_total_never_falls_behind_what_came() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        let digest = Digest::of(b"");
        let size = None;
        let index = 7;
        tally.apply(
            &Event::LayerStarted {
                index,
                digest,
                size,
            },
            now,
        );
        tally.apply(&Event::LayerProgress { index, bytes: 9 }, now);
        assert_eq!(tally.bytes_total(), 9);
    }
}
