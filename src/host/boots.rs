//! Where the record of boots is kept, and what of it belongs into a status. A sysroot comes in, a
//! store or plain data goes out.

use serde::Serialize;

use crate::health::{Record, Store, Trial};
use crate::sysroot::{Sysroot, leading};

/// The record of boots of a sysroot: below `/var` of the running system, else below that of the
/// stateroot that leads.
pub fn store(sysroot: &Sysroot) -> Store {
    let deployments = sysroot.deployments().unwrap_or_default();
    let home = leading(&deployments, None).map_or("default", |d| &d.id.stateroot);
    Store::of(sysroot.path(), sysroot.is_booted(), home)
}

/// What is known about trials; an addition to bootc's schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// The deployment that must prove itself.
    pub on_trial: Option<OnTrial>,
    /// What happened last.
    pub last_event: Option<LastEvent>,
    /// Images that are not installed again by themselves, the newest last.
    pub bad_images: Vec<Bad>,
}

/// A deployment that must prove itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OnTrial {
    /// `STATEROOT/COMMIT.SERIAL`.
    pub deployment: String,
    /// Digest of its image's manifest.
    pub image_digest: String,
    /// Number of the try that last reported, from 1; 0 before the first.
    pub tried: u32,
    /// How many tries it gets.
    pub tries: u32,
    /// Whether the bootloader does not take away the tries that it should.
    pub uncounted: bool,
    /// The same as a sentence.
    pub message: String,
}

/// What happened last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastEvent {
    /// `good`, `retry`, `fell-back`, `degraded`, `not-applied`, `withdrawn` or `unknown`.
    pub kind: crate::health::EventKind,
    /// When, RFC 3339 in UTC.
    pub timestamp: String,
    /// The image's digest; empty where it has none.
    pub image_digest: String,
    /// The check that decided it; empty where none did.
    pub check: String,
    /// All of it as a sentence.
    pub message: String,
}

/// An image that failed its trial here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bad {
    /// Where it came from.
    pub image: String,
    /// Digest of its manifest.
    pub image_digest: String,
    /// When it was given up, RFC 3339 in UTC.
    pub timestamp: String,
    /// The check that failed; empty where it never reported back.
    pub check: String,
    /// Why, as a part of a sentence.
    pub reason: String,
}

fn on_trial(trial: &Trial) -> String {
    let (image, tries) = (trial.image.words(), trial.tries);
    let tried = match trial.reached {
        0 => format!("{image} is on trial: it has {tries} tries"),
        number => format!("{image} is on trial: try {number} of {tries}"),
    };
    match trial.uncounted {
        true => format!(
            "{tried}; the bootloader cannot write down that it counts, so Bowline counts by itself: \
             see \"GRUB\" in the documentation of how a host boots"
        ),
        false => tried,
    }
}

/// A record as a status tells it; `None` where there is nothing to tell.
pub(super) fn health(record: &Record) -> Option<Health> {
    let time = |time: chrono::DateTime<chrono::Utc>| {
        time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    };
    let on_trial = record.trial.as_ref().map(|trial| OnTrial {
        deployment: trial.deployment.clone(),
        image_digest: trial.image.digest.clone(),
        tried: trial.reached,
        tries: trial.tries,
        uncounted: trial.uncounted,
        message: on_trial(trial),
    });
    let last_event = record.last.as_ref().map(|event| LastEvent {
        kind: event.kind,
        timestamp: time(event.when),
        image_digest: event.image.digest.clone(),
        check: event.check.clone(),
        message: event.sentence(),
    });
    let bad = record.bad.iter().map(|bad| Bad {
        image: bad.image.image.clone(),
        image_digest: bad.image.digest.clone(),
        timestamp: time(bad.when),
        check: bad.check.clone(),
        reason: bad.reason.clone(),
    });
    let health = Health {
        on_trial,
        last_event,
        bad_images: bad.collect(),
    };
    (*record != Record::default()).then_some(health)
}
