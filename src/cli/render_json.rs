//! Progress as JSON lines, the protocol 0.1.0 of `bootc --progress-fd`
//! (<https://bootc-dev.github.io/bootc/experimental-progress-fd.html>). Events come in, lines go
//! to a pipe. A reader that is slow or gone never holds up the work: lines it does not take are
//! dropped.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::progress_tally::{InFlight, Tally};
use super::text;
use crate::progress::{Event, Phase, ProgressSink};

/// Version of the protocol (semantic versioning), the first thing a reader gets.
const VERSION: &str = "0.1.0";

/// The shortest time between two lines about bytes: five a second.
const INTERVAL: Duration = Duration::from_millis(200);

/// Lines that may wait for a slow reader before they are dropped.
const QUEUE: usize = 256;

/// How long the end of the work waits for the reader to take the last lines.
const GRACE: Duration = Duration::from_secs(1);

/// Writes the lines from a thread of its own.
pub struct JsonSink {
    state: Mutex<State>,
}

struct State {
    report: Report,
    /// Gone once the work has finished.
    lines: Option<SyncSender<String>>,
    written: Receiver<()>,
}

impl fmt::Debug for JsonSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JsonSink")
    }
}

impl JsonSink {
    /// Starts the thread and sends the `Start` line; `image` names the image in every line.
    pub fn new(file: File, image: &str) -> Self {
        let (lines, queue) = mpsc::sync_channel::<String>(QUEUE);
        let (done, written) = mpsc::channel();
        thread::spawn(move || {
            write_lines(file, &queue);
            // Nobody waits when the work ended without `Finished`.
            let _ = done.send(());
        });
        let report = Report::new(image);
        let _ = lines.try_send(to_line(&Line::Start { version: VERSION }));
        let state = State {
            report,
            lines: Some(lines),
            written,
        };
        Self {
            state: Mutex::new(state),
        }
    }
}

/// Ends when all senders are gone, or the reader is.
fn write_lines(mut file: File, queue: &Receiver<String>) {
    for line in queue {
        if file.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

impl ProgressSink for JsonSink {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for line in state.report.event(&event, Instant::now()) {
            if let Some(lines) = &state.lines {
                // Full: the reader is stuck. Disconnected: it is gone. Neither is our trouble.
                let _ = lines.try_send(line);
            }
        }
        if event == Event::Finished && state.lines.take().is_some() {
            let _ = state.written.recv_timeout(GRACE);
        }
    }
}

/// One line of the protocol.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
enum Line<'a> {
    Start {
        version: &'static str,
    },
    ProgressBytes {
        task: &'static str,
        description: &'a str,
        id: &'a str,
        bytes_cached: u64,
        bytes: u64,
        bytes_total: u64,
        steps_cached: usize,
        steps: usize,
        steps_total: usize,
        subtasks: Vec<SubTaskBytes>,
    },
    ProgressSteps {
        task: &'static str,
        description: &'a str,
        id: &'a str,
        steps_cached: usize,
        steps: usize,
        steps_total: usize,
        subtasks: Vec<SubTaskStep>,
    },
}

/// A layer; complete when `bytes` equals `bytesTotal`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SubTaskBytes {
    subtask: &'static str,
    description: String,
    id: String,
    bytes_cached: u64,
    bytes: u64,
    bytes_total: u64,
}

impl SubTaskBytes {
    fn new(layer: &InFlight, complete: bool) -> Self {
        let total = layer.size.unwrap_or(0).max(layer.bytes);
        Self {
            subtask: "layer",
            description: format!("Layer: {}", text::short(&layer.digest)),
            id: layer.digest.to_string(),
            bytes_cached: 0,
            bytes: if complete { total } else { layer.bytes },
            bytes_total: total,
        }
    }
}

/// A phase.
#[derive(Debug, Serialize)]
struct SubTaskStep {
    subtask: &'static str,
    description: &'static str,
    id: &'static str,
    completed: bool,
}

/// A task with discrete steps, and the phases that are its steps in order.
struct StepTask {
    task: &'static str,
    description: &'static str,
    phases: &'static [Phase],
}

/// The tasks around `pulling`; names as bootc uses them where the meaning is the same.
const STEP_TASKS: [StepTask; 4] = [
    StepTask {
        task: "resolving",
        description: "Resolving image",
        phases: &[Phase::Resolve],
    },
    StepTask {
        task: "comparing",
        description: "Comparing image with local files",
        phases: &[Phase::Compare],
    },
    StepTask {
        task: "importing",
        description: "Importing image",
        phases: &[Phase::Merge, Phase::Publish],
    },
    StepTask {
        task: "staging",
        description: "Deploying image",
        phases: &[Phase::Deploy, Phase::Prune, Phase::Install],
    },
];

/// Decides which event makes a line.
struct Report {
    image: String,
    pulling: String,
    tally: Tally,
    last: Option<Instant>,
    /// Layers that are done and have not been reported as such.
    completed: Vec<InFlight>,
}

impl Report {
    fn new(image: &str) -> Self {
        Self {
            image: image.into(),
            pulling: format!("Pulling image: {image}"),
            tally: Tally::default(),
            last: None,
            completed: Vec::new(),
        }
    }

    fn event(&mut self, event: &Event, now: Instant) -> Vec<String> {
        if let Event::LayerDone { index } = event {
            self.completed
                .extend(self.tally.in_flight.get(index).cloned());
        }
        let ended = self.tally.apply(event, now);
        let mut lines = Vec::new();
        match ended {
            // The last word about bytes is never dropped.
            Some((Phase::Fetch, _)) => lines.push(self.bytes(now)),
            Some((phase, _)) => lines.extend(self.step(phase, true)),
            None => {}
        }
        match event {
            Event::Phase(Phase::Fetch) => {}
            Event::Phase(phase) => lines.extend(self.step(*phase, false)),
            Event::Planned { .. } => lines.push(self.bytes(now)),
            Event::LayerStarted { .. } | Event::LayerProgress { .. } | Event::LayerDone { .. }
                if self.is_due(now) =>
            {
                lines.push(self.bytes(now));
            }
            _ => {}
        }
        lines
    }

    fn is_due(&self, now: Instant) -> bool {
        self.last
            .is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL)
    }

    fn bytes(&mut self, now: Instant) -> String {
        self.last = Some(now);
        let done = self
            .completed
            .drain(..)
            .map(|l| SubTaskBytes::new(&l, true));
        let running = self.tally.in_flight.values();
        let subtasks = done
            .chain(running.map(|l| SubTaskBytes::new(l, false)))
            .collect();
        to_line(&Line::ProgressBytes {
            task: "pulling",
            description: &self.pulling,
            id: &self.image,
            bytes_cached: self.tally.planned.bytes_present + self.tally.planned.bytes_reused,
            bytes: self.tally.bytes(),
            bytes_total: self.tally.bytes_total(),
            steps_cached: self.tally.planned.layers_present,
            steps: self.tally.layers_done,
            steps_total: self.tally.planned.layers,
            subtasks,
        })
    }

    fn step(&self, phase: Phase, completed: bool) -> Option<String> {
        let task = STEP_TASKS.iter().find(|t| t.phases.contains(&phase))?;
        let before = task.phases.iter().take_while(|p| **p != phase).count();
        let subtask = SubTaskStep {
            subtask: phase.id(),
            description: phase.describe(),
            id: phase.id(),
            completed,
        };
        Some(to_line(&Line::ProgressSteps {
            task: task.task,
            description: task.description,
            id: &self.image,
            steps_cached: 0,
            steps: before + usize::from(completed),
            steps_total: task.phases.len(),
            subtasks: vec![subtask],
        }))
    }
}

fn to_line(line: &Line<'_>) -> String {
    // Strings and numbers always serialize; an empty line would be skipped by every reader.
    let mut text = serde_json::to_string(line).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
#[path = "render_json_tests.rs"]
mod tests;
