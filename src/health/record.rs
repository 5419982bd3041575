//! What is remembered about updates across boots: the deployment on trial, the images that failed
//! their trial on this host, and the last thing that happened. Bytes come in, a value goes out and
//! prints back. Pure; the file itself is the business of [`super::Store`].
//!
//! Both the old and the new system read and write this record, in whatever versions of Bowline they
//! carry. So every field may be missing, unknown ones are skipped, and all is bounded.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::boot::MAX_TRIES;

/// The version that this program writes. A higher one only adds fields.
const VERSION: u32 = 1;
/// The largest record that is read, in bytes; one full of bad images has about 40000.
pub const LIMIT: u64 = 256 << 10;
/// Bad images that are remembered at most; the oldest go first.
const MAX_BAD: usize = 32;
/// Tries whose failure is kept, per trial.
const MAX_FAILURES: usize = 16;
/// Characters of any text that is kept.
const MAX_TEXT: usize = 600;
/// Why a deployment on trial did not boot.
const NOT_COUNTED: &str = "the bootloader could not write down that it counts, and booted the \
                           deployment before it";

/// Everything that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Version of the program that wrote it.
    pub version: u32,
    /// The deployment that must prove itself.
    pub trial: Option<Trial>,
    /// One whose trial ended before it was good. It is on trial again if it boots by default again.
    pub unproven: Option<Trial>,
    /// Images that failed, the newest last.
    pub bad: Vec<BadImage>,
    /// What happened last.
    pub last: Option<Event>,
}

/// An image as far as a trial is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrialImage {
    /// Its reference, as in an origin; empty where it came from no image.
    pub image: String,
    /// Digest of its manifest; empty where that is not known.
    pub digest: String,
    /// Its version label; empty where it has none.
    pub version: String,
}

/// A deployment that must prove itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Trial {
    /// What it was made from.
    #[serde(flatten)]
    pub image: TrialImage,
    /// `STATEROOT/COMMIT.SERIAL`.
    pub deployment: String,
    /// How many boots it gets.
    pub tries: u32,
    /// When it was recorded.
    pub started: DateTime<Utc>,
    /// Number of the try that last reported, from 1; 0 before the first.
    pub reached: u32,
    /// The kernel's id of the boot that was that try; before the first one, of the boot in which
    /// counting began.
    pub boot_id: String,
    /// Whether the bootloader does not take away the tries that it should.
    pub uncounted: bool,
    /// Whether it failed for good, and the previous deployment has to take its place.
    pub failed: bool,
    /// Which tries failed, and how.
    pub failures: Vec<Failure>,
}

/// A try that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failure {
    /// Number of the try, from 1.
    pub number: u32,
    /// The check that failed; empty where it did not come to that.
    pub check: String,
    /// What it said last; without a check, what went wrong.
    pub said: String,
}

/// An image that failed its trial here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BadImage {
    /// The image.
    #[serde(flatten)]
    pub image: TrialImage,
    /// When the host gave it up.
    pub when: DateTime<Utc>,
    /// The number of tries that it had.
    pub tries: u32,
    /// The check that failed last; empty where the last tries never reported back.
    pub check: String,
    /// Why, as a part of a sentence.
    pub reason: String,
}

/// Something that happened to an update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// When.
    pub when: DateTime<Utc>,
    /// To which image.
    #[serde(flatten)]
    pub image: TrialImage,
    /// The check that decided it; empty where none did.
    pub check: String,
    /// Why, as a part of a sentence; empty where there is nothing to add.
    pub reason: String,
}

/// What can happen to an update.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// It proved itself.
    Good,
    /// A try failed, and another one follows.
    Retry,
    /// It failed, and the previous deployment took its place.
    FellBack,
    /// It failed, and there is nothing else to boot.
    Degraded,
    /// It never became what boots: the shutdown that should have finished it was cut short.
    NotApplied,
    /// Somebody made another deployment boot, which ended the trial.
    Withdrawn,
    /// A word of another version of the program.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Bytes that are no record.
#[derive(Debug, Error)]
#[error("this is no record of boots")]
pub struct RecordError(#[from] serde_json::Error);

impl Default for Record {
    fn default() -> Self {
        Self {
            version: VERSION,
            trial: None,
            unproven: None,
            bad: Vec::new(),
            last: None,
        }
    }
}

impl Record {
    /// Reads a record; whatever is too much of it is cut off.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut record: Self = serde_json::from_slice(bytes)?;
        record.version = VERSION;
        record.bound();
        Ok(record)
    }

    /// The record as text, no longer than what is read again.
    pub fn print(&self) -> String {
        let mut bounded = self.clone();
        bounded.bound();
        // Strings, numbers and times: nothing that JSON could refuse.
        let text = serde_json::to_string_pretty(&bounded).unwrap_or_default();
        format!("{text}\n")
    }

    /// What is known against an image with this manifest digest.
    pub fn bad(&self, digest: &str) -> Option<&BadImage> {
        let known = |bad: &&BadImage| !digest.is_empty() && bad.image.digest == digest;
        self.bad.iter().rev().find(known)
    }

    /// Remembers that an image is bad; a second time only what is new about it.
    pub fn remember_bad(&mut self, bad: BadImage) {
        if bad.image.digest.is_empty() {
            return;
        }
        self.bad.retain(|b| b.image.digest != bad.image.digest);
        self.bad.push(bad);
        self.bound();
    }

    /// Puts a deployment on trial. Another one that is on trial stays unproven.
    pub fn begin(&mut self, trial: Trial) {
        let same = |other: &Option<Trial>| {
            let other = other.as_ref();
            other.is_some_and(|other| other.deployment == trial.deployment)
        };
        if !same(&self.trial) {
            self.withdraw();
        }
        if same(&self.unproven) {
            self.unproven = None;
        }
        self.trial = Some(trial);
    }

    /// Ends a trial without a verdict, and gives what was on trial.
    pub fn withdraw(&mut self) -> Option<Trial> {
        let trial = self.trial.take()?;
        self.unproven = Some(trial.anew());
        Some(trial)
    }

    /// Whether this deployment never was good.
    pub fn is_unproven(&self, deployment: &str) -> bool {
        let mut unproven = self.trial.iter().chain(&self.unproven);
        unproven.any(|trial| trial.deployment == deployment)
    }

    /// Forgets what was held against an image.
    pub fn forgive(&mut self, digest: &str) {
        self.bad.retain(|bad| bad.image.digest != digest);
    }

    fn bound(&mut self) {
        let excess = self.bad.len().saturating_sub(MAX_BAD);
        self.bad.drain(..excess);
        for bad in &mut self.bad {
            bad.image.bound();
            bound(&mut bad.check);
            bound(&mut bad.reason);
        }
        for trial in self.trial.iter_mut().chain(&mut self.unproven) {
            trial.bound();
        }
        if let Some(event) = &mut self.last {
            event.image.bound();
            bound(&mut event.check);
            bound(&mut event.reason);
        }
    }
}

impl TrialImage {
    fn bound(&mut self) {
        bound(&mut self.image);
        bound(&mut self.digest);
        bound(&mut self.version);
    }

    /// The image for people: `quay.io/os:stable (version 2, sha256:0123456789ab…)`.
    pub fn words(&self) -> String {
        let name = self.image.split_once(':').map_or("", |(_, rest)| rest);
        let name = name.strip_prefix("docker://").unwrap_or(name);
        let name = if name.is_empty() {
            "a deployment without image"
        } else {
            name
        };
        let mut facts = Vec::new();
        if !self.version.is_empty() {
            facts.push(format!("version {}", self.version));
        }
        if !self.digest.is_empty() {
            facts.push(self.digest.chars().take(19).collect());
        }
        match facts.is_empty() {
            true => name.into(),
            false => format!("{name} ({})", facts.join(", ")),
        }
    }
}

impl Trial {
    fn bound(&mut self) {
        self.tries = self.tries.clamp(1, MAX_TRIES);
        self.image.bound();
        bound(&mut self.deployment);
        bound(&mut self.boot_id);
        let excess = self.failures.len().saturating_sub(MAX_FAILURES);
        self.failures.drain(..excess);
        for failure in &mut self.failures {
            bound(&mut failure.check);
            bound(&mut failure.said);
        }
    }

    /// The same trial before its first try.
    pub fn anew(&self) -> Self {
        Self {
            image: self.image.clone(),
            deployment: self.deployment.clone(),
            tries: self.tries,
            started: self.started,
            ..Self::default()
        }
    }

    /// Remembers how a try failed, once for each try.
    pub fn failed_try(&mut self, failure: Failure) {
        self.failures.retain(|known| known.number != failure.number);
        self.failures.push(failure);
    }

    /// Remembers a try at which the bootloader booted something else, as it cannot count.
    pub fn passed_over(&mut self, number: u32) {
        self.uncounted = true;
        self.failed_try(Failure {
            number,
            check: String::new(),
            said: NOT_COUNTED.into(),
        });
    }

    /// Why it failed, once it has: the check of its last try, and what else is known.
    pub fn verdict(&self) -> (String, String) {
        const SILENT: &str = "never reported back: it hung, panicked or lost power";
        match self.failures.last() {
            None => (String::new(), SILENT.into()),
            Some(failure) => {
                let check = failure.check.clone();
                let mut reason = failure.words();
                if failure.number < self.tries {
                    reason = format!("{reason} (try {}); after that it {SILENT}", failure.number);
                }
                (check, reason)
            }
        }
    }
}

impl Failure {
    /// The failure as a part of a sentence.
    pub fn words(&self) -> String {
        if self.check.is_empty() {
            return self.said.clone();
        }
        match self.said.is_empty() {
            true => format!("check {} failed", self.check),
            false => format!("check {} failed: {}", self.check, self.said),
        }
    }
}

impl Event {
    /// What happened, when, and which check decided it, in one sentence.
    pub fn sentence(&self) -> String {
        let image = self.image.words();
        let when = self.when.format("%Y-%m-%d %H:%M:%S UTC");
        let why = match self.reason.is_empty() {
            true => String::new(),
            false => format!(": {}", self.reason),
        };
        match self.kind {
            EventKind::Good => format!("{image} proved itself at {when}"),
            EventKind::Retry => format!("{image} failed a try at {when}{why}; it is tried again"),
            EventKind::FellBack => format!(
                "{image} failed its trial at {when}, and the host went back to the deployment \
                 before it{why}"
            ),
            EventKind::Degraded => format!(
                "{image} failed its trial at {when}, and there is no other deployment to go back \
                 to{why}"
            ),
            EventKind::NotApplied => {
                format!("{image} was staged but not applied, found at {when}{why}")
            }
            EventKind::Withdrawn => format!("the trial of {image} was ended at {when}{why}"),
            EventKind::Unknown => format!("something happened to {image} at {when}{why}"),
        }
    }
}

/// Texts come from programs: one line, and not too long.
fn bound(text: &mut String) {
    if text.chars().any(char::is_control) {
        let spaced = text.replace(char::is_control, " ");
        *text = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if let Some((at, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(at);
    }
}

#[cfg(test)]
mod tests;
