//! Keeps the record of what was staged, crash-safely, until that boots, is replaced or discarded.
//!
//! ```text
//! ostree/bowline/staged.json         the record; written before libostree stages, and once more after
//! boot/ostree/finalize-failure.stamp what libostree says of a failure; gone early in the next boot
//! ```

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use fn_error_context::context;

use super::staged_record::{Fate, StagedRecord, VERSION};
use super::{DeploymentId, LockedSysroot, NewDeployment, Slot, Sysroot};
use crate::sys;

const FILE: &str = "ostree/bowline/staged.json";
/// libostree's (ostree-sysroot-private.h).
const STAMP: &str = "boot/ostree/finalize-failure.stamp";
/// Most bytes that are read of either file.
const LIMIT: u64 = 64 << 10;
/// Most characters that are kept of what libostree says.
const MESSAGE: usize = 2000;

impl Sysroot {
    /// What was staged, and what became of it; nothing where nothing is known. A damaged record
    /// counts as none, with a warning.
    #[context("Reading what was staged")]
    pub fn staged_record(&self) -> Result<Option<(StagedRecord, Fate)>> {
        let Some(text) = self.read_small(FILE)? else {
            return Ok(None);
        };
        let record: StagedRecord = match serde_json::from_str(&text) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!("{}: {error}", self.path().join(FILE).display());
                return Ok(None);
            }
        };
        let stamp = self.failure_since(record.staged_at)?;
        let fate = record.fate(&self.deployments()?, stamp.as_deref(), &boot_id());
        Ok(Some((record, fate)))
    }

    /// What libostree left of a failure to finish a deployment.
    fn failure_since(&self, start: DateTime<Utc>) -> Result<Option<String>> {
        let changed = fs::metadata(self.path().join(STAMP)).and_then(|found| found.modified());
        match changed {
            // To the second, as file systems may count no finer.
            Ok(time) if DateTime::<Utc>::from(time).timestamp() >= start.timestamp() => {}
            _ => return Ok(None),
        }
        let text = self.read_small(STAMP)?;
        let message = text.map(|text| text.trim().chars().take(MESSAGE).collect());
        Ok(message)
    }

    fn read_small(&self, name: &str) -> Result<Option<String>> {
        let path = self.path().join(name);
        let what = || format!("Reading {}", path.display());
        let file = match fs::File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.with_context(what)?,
        };
        let mut data = Vec::new();
        file.take(LIMIT).read_to_end(&mut data).with_context(what)?;
        Ok(Some(String::from_utf8_lossy(&data).into_owned()))
    }
}

impl LockedSysroot {
    /// Forgets what is settled, and keeps what libostree said of a failure before its own file
    /// goes. To be called as often as may be.
    pub fn settle_staged_record(&self) -> Result<()> {
        match self.staged_record()? {
            None | Some((_, Fate::Waiting)) => Ok(()),
            Some((_, Fate::Settled)) => self.forget_staged(),
            Some((record, Fate::Missed { failure })) if record.failure == failure => Ok(()),
            Some((record, Fate::Missed { failure })) => {
                self.write_record(&StagedRecord { failure, ..record })
            }
        }
    }

    /// Removes the record. Before what is staged is discarded, so that no interruption leaves a
    /// record that looks like a miss.
    #[context("Forgetting what was staged")]
    pub fn forget_staged(&self) -> Result<()> {
        match fs::remove_file(self.record_path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Stages with a record around it. A failure leaves the record that was there before.
    pub(super) fn with_record(
        &self,
        new: &NewDeployment<'_>,
        stage: impl FnOnce() -> Result<DeploymentId>,
    ) -> Result<DeploymentId> {
        let before = self.staged_record()?.map(|(record, _)| record);
        let mut record = self.record_of(new)?;
        self.write_record(&record)?;
        match stage() {
            Ok(id) => {
                record.serial = Some(id.serial);
                if let Err(error) = self.write_record(&record) {
                    // It is staged all the same, and known by its commit.
                    tracing::warn!("{error:#}");
                }
                Ok(id)
            }
            Err(error) => {
                let restored = match before {
                    Some(before) => self.write_record(&before),
                    None => self.forget_staged(),
                };
                if let Err(error) = restored {
                    tracing::warn!("{error:#}");
                }
                Err(error)
            }
        }
    }

    fn record_of(&self, new: &NewDeployment<'_>) -> Result<StagedRecord> {
        let all = self.deployments()?;
        let mut finished = all.iter().filter(|d| d.slot != Slot::Staged);
        let booted = finished.clone().find(|d| d.slot == Slot::Booted);
        let home = booted.or_else(|| finished.next());
        // For the words of the report; a commit that no image made has none.
        let image = self.repo()?.image_of_commit(new.commit).ok().flatten();
        Ok(StagedRecord {
            version: VERSION,
            image: new.origin.image().ok().flatten().map(|i| i.to_string()),
            image_digest: image.as_ref().map(|i| i.manifest_digest.to_string()),
            image_version: image.and_then(|i| i.config.version().map(str::to_owned)),
            stateroot: new.stateroot.into(),
            commit: new.commit.into(),
            serial: None,
            grew_from: home.map(|d| d.id.to_string()),
            staged_at: Utc::now(),
            boot_id: boot_id(),
            failure: None,
        })
    }

    #[context("Recording what is staged")]
    fn write_record(&self, record: &StagedRecord) -> Result<()> {
        let path = self.record_path();
        let text = serde_json::to_string_pretty(record).context("Writing JSON")?;
        let directory = path.parent().unwrap_or(&path);
        fs::create_dir_all(directory)?;
        // The name of a new directory must outlive a power cut, too.
        fs::File::open(directory.parent().unwrap_or(directory))?.sync_all()?;
        sys::fs::replace(&path, format!("{text}\n").as_bytes(), 0o644)?;
        Ok(())
    }

    fn record_path(&self) -> PathBuf {
        self.path().join(FILE)
    }
}

/// The kernel's name for this boot, as the journal writes it; empty where it cannot be read, which
/// is no boot's name.
fn boot_id() -> String {
    let id = sys::kernel::boot_id().unwrap_or_default();
    id.replace('-', "")
}
