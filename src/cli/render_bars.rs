//! Progress on a terminal: one bar for all bytes, one line per layer on its way, and a line with
//! a running clock for every other phase. Draws on stderr and takes down what it drew; a phase
//! that has ended leaves one line behind.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::progress_tally::{Tally, past};
use super::text;
use crate::image::Digest;
use crate::progress::{Event, Phase, ProgressSink};

/// How often a line redraws by itself, so that its clock runs while nothing is heard.
const TICK: Duration = Duration::from_millis(100);

const TOTAL: &str = "Fetching {wide_bar} {msg}";
const LAYER: &str = "  {prefix} {bar:24} {msg}";
const CLOCK: &str = "{spinner} {prefix} {clock}";
const CHARS: &str = "=> ";

/// Draws the events of one operation.
pub struct BarSink {
    screen: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tally: Tally,
    /// The bar of all bytes, or the clock of another phase.
    main: Option<ProgressBar>,
    layers: BTreeMap<usize, ProgressBar>,
}

impl fmt::Debug for BarSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BarSink")
    }
}

impl BarSink {
    /// Draws on `screen`, which log lines share.
    pub fn new(screen: MultiProgress) -> Self {
        let state = Mutex::default();
        Self { screen, state }
    }

    fn lines(&self, text: &str) {
        // Nothing to do about a terminal that has gone; the work goes on.
        let _ = self.screen.println(text);
    }
}

impl ProgressSink for BarSink {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((phase, span)) = state.tally.apply(&event, now) {
            state.clear();
            self.lines(&ended(&state.tally, phase, span));
        }
        match event {
            Event::Phase(phase) => state.begin(&self.screen, phase),
            Event::LayerStarted {
                index,
                digest,
                size,
            } => state.add_layer(&self.screen, index, &digest, size),
            Event::LayerProgress { index, .. } => state.move_layer(index),
            Event::LayerDone { index } => state.remove_layer(index),
            Event::Retry { reason, wait } => {
                let (reason, wait) = (text::clean(&reason), text::duration(wait));
                self.lines(&format!("{reason}; trying again in {wait}"));
            }
            Event::Warning(warning) => self.lines(&format!("warning: {}", text::clean(&warning))),
            Event::Planned {
                layers_to_fetch: 0, ..
            } => self.lines(&state.tally.planned.describe()),
            Event::Planned { .. } => {}
            Event::Finished => state.clear(),
        }
        state.draw_total(now);
    }
}

impl Drop for BarSink {
    fn drop(&mut self) {
        // Where the work was dropped half-way there is no `Finished`.
        let state = self.state.get_mut();
        state.unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl State {
    fn begin(&mut self, screen: &MultiProgress, phase: Phase) {
        let bar = if phase == Phase::Fetch {
            ProgressBar::new(0).with_style(style(TOTAL).progress_chars(CHARS))
        } else {
            ProgressBar::new_spinner()
                .with_style(clock())
                .with_prefix(phase.describe())
        };
        let bar = screen.add(bar);
        bar.enable_steady_tick(TICK);
        self.main = Some(bar);
    }

    fn add_layer(
        &mut self,
        screen: &MultiProgress,
        index: usize,
        digest: &Digest,
        size: Option<u64>,
    ) {
        let bar = ProgressBar::new(size.unwrap_or(0))
            .with_style(style(LAYER).progress_chars(CHARS))
            .with_prefix(text::short(digest));
        if let Some(before) = self.layers.insert(index, screen.add(bar)) {
            // It is fetched once more, whole.
            before.finish_and_clear();
        }
        self.move_layer(index);
    }

    fn move_layer(&mut self, index: usize) {
        let Some((bar, layer)) = self
            .layers
            .get(&index)
            .zip(self.tally.in_flight.get(&index))
        else {
            return;
        };
        bar.set_message(match layer.size {
            // The last bytes may still be on their way to the disk.
            Some(size) if layer.bytes >= size => format!("{}, importing", text::bytes(size)),
            Some(size) => format!("{} of {}", text::bytes(layer.bytes), text::bytes(size)),
            None => text::bytes(layer.bytes),
        });
        bar.set_position(layer.bytes);
    }

    fn remove_layer(&mut self, index: usize) {
        if let Some(bar) = self.layers.remove(&index) {
            bar.finish_and_clear();
        }
    }

    fn draw_total(&self, now: Instant) {
        let (Some(bar), Some((Phase::Fetch, _))) = (&self.main, self.tally.phase) else {
            return;
        };
        bar.set_length(self.tally.bytes_total());
        bar.set_position(self.tally.bytes());
        bar.set_message(total(&self.tally, now));
    }

    fn clear(&mut self) {
        for bar in self.layers.values().chain(&self.main) {
            bar.finish_and_clear();
        }
        self.layers.clear();
        self.main = None;
    }
}

/// What stands behind the bar of all bytes.
fn total(tally: &Tally, now: Instant) -> String {
    let left = match tally.time_left(now) {
        _ if tally.layers_done == tally.planned.layers => ", writing to disk".into(),
        Some(left) if tally.bytes() < tally.bytes_total() => {
            format!(", {} left", text::duration(left))
        }
        _ => String::new(),
    };
    format!(
        "{} of {}, {} of {}{left}",
        text::bytes(tally.bytes()),
        text::bytes(tally.bytes_total()),
        tally.layers_done,
        text::count(tally.planned.layers, "layer"),
    )
}

/// The line that a phase leaves behind.
fn ended(tally: &Tally, phase: Phase, span: Duration) -> String {
    let span = text::duration(span);
    match phase {
        Phase::Fetch => format!(
            "Fetched {}, {}, in {span}",
            text::count(tally.layers_done, "layer"),
            text::bytes(tally.bytes())
        ),
        _ => format!("{} in {span}", past(phase)),
    }
}

fn style(template: &'static str) -> ProgressStyle {
    // The templates are constants; a test renders them.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn clock() -> ProgressStyle {
    let elapsed = |state: &ProgressState, out: &mut dyn fmt::Write| {
        // A terminal that cannot take it shows the line without its clock.
        let _ = out.write_str(&text::duration(state.elapsed()));
    };
    style(CLOCK).with_key("clock", elapsed).tick_chars("|/-\\ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_well_formed() {
        for template in [TOTAL, LAYER, CLOCK] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn a_phase_leaves_one_line_behind() {
        let mut tally = Tally::default();
        let span = Duration::from_millis(2100);
        assert_eq!(ended(&tally, Phase::Merge, span), "Merged layers in 2.1 s");
        tally.layers_done = 3;
        assert_eq!(
            ended(&tally, Phase::Fetch, span),
            "Fetched 3 layers, 0 B, in 2.1 s"
        );
    }

    #[test]
    fn nothing_stays_on_the_screen() {
        let screen = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden());
        let sink = BarSink::new(screen);
        let (digest, size) = (Digest::of(b""), Some(10));
        let index = 0;
        sink.event(Event::Phase(Phase::Fetch));
        sink.event(Event::LayerStarted {
            index,
            digest,
            size,
        });
        sink.event(Event::LayerProgress { index, bytes: 5 });
        let main = sink.state.lock().unwrap().main.clone().unwrap();
        assert_eq!((main.position(), main.length()), (5, Some(5)));
        sink.event(Event::Finished);
        let state = sink.state.lock().unwrap();
        assert!(main.is_finished() && state.layers.is_empty() && state.main.is_none());
    }
}
