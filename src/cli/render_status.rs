//! The status for people: the deployments in the order in which they matter, each with what it is
//! and what it came from. A status comes in, text goes out. Never prints, never reads a sysroot.
//!
//! ```text
//! ● booted (boots next)
//!     Image       quay.io/example/os:stable (unverified)
//!     Version     42 (2026-01-01T00:00:00Z)
//! ```

use std::fmt::Write as _;

use super::{render_not_applied, text};
use crate::health::EventKind;
use crate::host::{
    Bad, BootEntry, Health, Host, ImageSpec, ImageStatus, LastEvent, Signature, Transfer,
};

/// Renders a whole status.
pub fn human(host: &Host) -> String {
    let status = &host.status;
    let mut entries: Vec<(String, bool, &BootEntry)> = Vec::new();
    let booted = status.booted.as_ref();
    let staged = status.staged.as_ref();
    let queued = status.rollback_queued && staged.is_none();
    // Where nothing is booted, the first of the others boots next.
    let (first, others) = match (booted, status.other_deployments.split_first()) {
        (None, Some((first, others))) => (Some(first), others),
        _ => (None, &status.other_deployments[..]),
    };
    entries.extend(staged.map(|e| ("staged".to_owned(), true, e)));
    let stays = staged.is_none() && !queued;
    entries.extend(booted.map(|e| ("booted".to_owned(), stays, e)));
    entries.extend(first.map(|e| ("deployed".to_owned(), true, e)));
    entries.extend(
        status
            .rollback
            .as_ref()
            .map(|e| ("rollback".to_owned(), queued, e)),
    );
    entries.extend(others.iter().map(|e| ("other".to_owned(), false, e)));
    if entries.is_empty() {
        return "Nothing is deployed\n".into();
    }
    let missed = status.not_applied.as_ref();
    let missed = missed.map(render_not_applied::lines);
    let blocks = entries
        .iter()
        .map(|(slot, next, entry)| block(slot, *next, entry));
    let blocks = missed.into_iter().chain(blocks);
    let blocks = blocks.collect::<Vec<_>>().join("\n");
    match &status.health {
        Some(health) => format!("{blocks}{}", news(health, status.not_applied.is_some())),
        None => blocks,
    }
}

/// What happened to updates, a sentence each.
fn news(health: &Health, missed: bool) -> String {
    let trial = health.on_trial.iter().map(|trial| trial.message.clone());
    // That an update was not applied is said once.
    let said = |event: &&LastEvent| missed && event.kind == EventKind::NotApplied;
    let last = health.last_event.iter().filter(|event| !said(event));
    let last = last.map(|event| event.message.clone());
    let told = |bad: &&Bad| {
        let last = health.last_event.as_ref();
        last.is_some_and(|event| event.image_digest == bad.image_digest)
    };
    let bad = health.bad_images.iter().map(|bad| match told(&bad) {
        true => format!(
            "{} is not installed again until its tag moves, or with --force",
            bad.image_digest
        ),
        false => format!(
            "{} is not installed again until its tag moves, or with --force: at {} it failed its \
             trial: {}",
            bad.image_digest, bad.timestamp, bad.reason
        ),
    });
    let mut text = String::new();
    for sentence in trial.chain(last).chain(bad) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{}\n", text::clean(&sentence));
    }
    text
}

fn block(slot: &str, next: bool, entry: &BootEntry) -> String {
    let mark = if slot == "booted" { '●' } else { ' ' };
    let mut notes = Vec::new();
    if next {
        notes.push("boots next");
    }
    if entry.pinned {
        notes.push("pinned");
    }
    let notes = match notes.is_empty() {
        true => String::new(),
        false => format!(" ({})", notes.join(", ")),
    };
    let mut lines = format!("{mark} {slot}{notes}\n");
    // What an upgrade would bring concerns what runs and what boots next, not what is kept.
    let mut facts = facts(entry);
    if next || slot == "booted" {
        facts.extend(update(entry));
    }
    for (key, value) in facts {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "    {key:<10}  {}", text::clean(&value));
    }
    lines
}

fn facts(entry: &BootEntry) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    match &entry.image {
        Some(image) => {
            facts.push(("Image", spec(&image.image)));
            facts.push(("Digest", image.image_digest.clone()));
            facts.extend(version(image).map(|version| ("Version", version)));
        }
        None => facts.push(("Image", "none: not deployed from a container image".into())),
    }
    if let Some(ostree) = &entry.ostree {
        let commit = format!("{}.{}", ostree.checksum, ostree.deploy_serial);
        facts.push(("Commit", commit));
        facts.push(("Stateroot", ostree.stateroot.clone()));
    }
    facts.extend(verified(entry));
    if let Some(Transfer { fetched, reused }) = entry.transfer {
        let (fetched, reused) = (text::bytes(fetched), text::bytes(reused));
        facts.push(("Fetched", format!("{fetched}, {reused} reused")));
    }
    if entry.incompatible {
        let why = "no: rpm-ostree changed it locally";
        facts.push(("Updatable", why.into()));
    }
    facts
}

/// Who vouched for the image, one line each. That nobody had to is said plainly.
fn verified(entry: &BootEntry) -> Vec<(&'static str, String)> {
    let by = entry.verified.as_deref().unwrap_or_default();
    let follows = entry
        .image
        .as_ref()
        .and_then(|i| i.image.signature.as_ref());
    match (by, follows) {
        ([], Some(Signature::Insecure)) => {
            vec![("Verified", "no: it follows an unverified reference".into())]
        }
        (by, _) => by.iter().map(|by| ("Verified", by.to_string())).collect(),
    }
}

fn update(entry: &BootEntry) -> Option<(&'static str, String)> {
    let update = entry.cached_update.as_ref()?;
    let version = version(update)
        .map(|v| format!("{v}, "))
        .unwrap_or_default();
    Some(("Update", format!("{version}{}", update.image_digest)))
}

fn version(image: &ImageStatus) -> Option<String> {
    match (&image.version, &image.timestamp) {
        (Some(version), Some(time)) => Some(format!("{version} ({time})")),
        (Some(one), None) | (None, Some(one)) => Some(one.clone()),
        (None, None) => None,
    }
}

fn spec(image: &ImageSpec) -> String {
    let name = match image.transport.as_str() {
        "registry" => image.image.clone(),
        other => format!("{other}:{}", image.image),
    };
    match &image.signature {
        Some(Signature::Insecure) | None => format!("{name} (unverified)"),
        Some(Signature::ContainerPolicy) => name,
        Some(Signature::OstreeRemote(remote)) => format!("{name} (ostree remote {remote})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::ImageSpec;

    fn image(version: &str) -> ImageStatus {
        ImageStatus {
            image: ImageSpec {
                image: "quay.io/example/os:stable".into(),
                transport: "registry".into(),
                signature: None,
            },
            version: Some(version.into()),
            timestamp: None,
            image_digest: format!("sha256:{version}"),
            architecture: "amd64".into(),
        }
    }

    #[test]
    fn an_update_concerns_what_runs_and_what_boots_next() {
        let entry = BootEntry {
            image: Some(image("1")),
            cached_update: Some(image("2")),
            incompatible: false,
            pinned: false,
            store: None,
            verified: None,
            transfer: Some(Transfer {
                fetched: 481_000,
                reused: 2_600_000,
            }),
            ostree: None,
        };
        for (slot, next, shown) in [
            ("booted", true, true),
            ("booted", false, true),
            ("deployed", true, true),
            ("rollback", true, true),
            ("rollback", false, false),
            ("other", false, false),
        ] {
            let text = block(slot, next, &entry);
            let update = text.contains("    Update      2, sha256:2\n");
            assert_eq!(update, shown, "{text}");
            assert!(
                text.contains("    Fetched     481.0 kB, 2.6 MB reused\n"),
                "{text}"
            );
        }
    }
}
