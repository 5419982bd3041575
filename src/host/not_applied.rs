//! The update that was staged and did not come to be: what it was, and why. A sysroot comes in,
//! facts for status and upgrade go out. Asks the journal where nothing else knows the reason;
//! changes nothing.

use std::time::Duration;

use anyhow::Result;
use chrono::SecondsFormat;
use serde::Serialize;

use crate::sys::command;
use crate::sysroot::{Fate, StagedRecord, Sysroot};

/// How long the journal may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// libostree's units: what finishes a staged deployment, and what reports that on the next boot.
const FINISHES: &str = "ostree-finalize-staged.service";
const REPORTS: &str = "ostree-boot-complete.service";

/// A staged update that was not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotApplied {
    /// The image, as `bowline rebase` takes it; null where none was deployed.
    pub image: Option<String>,
    /// Its version label.
    pub version: Option<String>,
    /// Digest of its manifest.
    pub image_digest: Option<String>,
    /// Commit of the deployment.
    pub checksum: String,
    /// When it was staged, RFC 3339 in UTC.
    pub staged_at: String,
    /// What happened.
    pub cause: Cause,
    /// The reason in words.
    pub reason: String,
}

/// What kept an update from being applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// libostree could not finish it at shutdown.
    FinalizeFailed,
    /// The machine stopped before it was finished.
    Interrupted,
}

/// Looks for a staged update that was not applied.
pub fn not_applied(sysroot: &Sysroot) -> Result<Option<NotApplied>> {
    let Some((record, Fate::Missed { failure })) = sysroot.staged_record()? else {
        return Ok(None);
    };
    let failure = failure.or_else(|| from_journal(&record.boot_id));
    Ok(Some(told(record, failure)))
}

fn told(record: StagedRecord, failure: Option<String>) -> NotApplied {
    let (cause, reason) = match failure {
        Some(failure) => (Cause::FinalizeFailed, failure),
        None => (
            Cause::Interrupted,
            "it was still to be finished when the machine stopped: the power went, or it was \
             reset or switched off by force"
                .into(),
        ),
    };
    NotApplied {
        image: record.image,
        version: record.image_version,
        image_digest: record.image_digest,
        checksum: record.commit,
        staged_at: record.staged_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        cause,
        reason,
    }
}

/// What libostree said when it gave up, in the boot that staged, or in the one after.
fn from_journal(boot_id: &str) -> Option<String> {
    let lines = |boot: &str, unit: &str| {
        let args = [
            &format!("--boot={boot}"),
            &format!("--unit={unit}"),
            "--output=cat",
            "--no-pager",
            "--quiet",
            "--lines=50",
        ];
        command::ask("journalctl", &args, PATIENCE).unwrap_or_default()
    };
    error_in(&lines(boot_id, FINISHES)).or_else(|| error_in(&lines("0", REPORTS)))
}

/// The last line in which libostree names an error.
fn error_in(lines: &str) -> Option<String> {
    let errors = lines.lines().rev();
    let mut errors = errors.filter_map(|line| line.trim().strip_prefix("error: "));
    let error = errors.next()?;
    let prefix = format!("{FINISHES} failed on previous boot: ");
    Some(error.strip_prefix(&prefix).unwrap_or(error).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_error() {
        let lines =
            "Finalizing staged deployment\nerror: old\n  error: During /etc merge: x\nStopped\n";
        assert_eq!(error_in(lines).unwrap(), "During /etc merge: x");
        let lines = "error: ostree-finalize-staged.service failed on previous boot: y: z\n";
        assert_eq!(error_in(lines).unwrap(), "y: z");
        assert_eq!(error_in("Finished writing deployment\n"), None);
        assert_eq!(error_in(""), None);
    }
}
