//! What was staged, kept until it boots: libostree's own word for it is in `/run` and does not
//! outlive a power cut. A record and the deployments come in, what became of the update goes out.
//! Pure; [`super::staged_store`] keeps the record.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Deployment, DeploymentId, Slot};

/// Version of the record's form. A newer one is read as far as its fields are known.
pub(super) const VERSION: u32 = 1;

/// What was staged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StagedRecord {
    /// Version of this form.
    pub version: u32,
    /// The image, as an origin writes it; `None` for a deployment without.
    pub image: Option<String>,
    /// Digest of its manifest.
    pub image_digest: Option<String>,
    /// Its version label.
    pub image_version: Option<String>,
    /// Stateroot of the staged deployment.
    pub stateroot: String,
    /// Its commit.
    pub commit: String,
    /// Its serial; `None` until it is staged.
    pub serial: Option<u32>,
    /// The deployment that ran, or the one that boots next where none did.
    pub grew_from: Option<String>,
    /// When.
    pub staged_at: DateTime<Utc>,
    /// The boot in which that was, 32 hex digits.
    pub boot_id: String,
    /// What libostree said when it could not finish it.
    #[serde(default)]
    pub failure: Option<String>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It waits for its boot.
    Waiting,
    /// It was finished, or something else took its place, or somebody discarded it.
    Settled,
    /// It was not finished, and what ran before runs again.
    Missed {
        /// What libostree said; `None` where it did not come so far: the power went, or somebody
        /// pulled the plug.
        failure: Option<String>,
    },
}

impl StagedRecord {
    /// Judges by what is there now. `stamp` is what libostree left of a failure since then,
    /// `boot_id` the boot that runs.
    pub fn fate(&self, all: &[Deployment], stamp: Option<&str>, boot_id: &str) -> Fate {
        let is_it = |d: &&Deployment| self.is(&d.id);
        let staged = all.iter().find(|d| d.slot == Slot::Staged);
        if staged.is_some_and(|d| is_it(&d)) {
            return Fate::Waiting;
        }
        let finished = all.iter().filter(|d| d.slot != Slot::Staged);
        if staged.is_some() || finished.clone().any(|d| is_it(&d)) {
            return Fate::Settled;
        }
        let home = finished.clone().find(|d| d.slot == Slot::Booted);
        let home = home.or_else(|| finished.clone().next());
        // Something else booted since: this update is of no interest any more.
        if home.map(|d| d.id.to_string()) != self.grew_from {
            return Fate::Settled;
        }
        match self.failure.as_deref().or(stamp) {
            Some(failure) => Fate::Missed {
                failure: Some(failure.to_owned()),
            },
            // Still the same boot: somebody discarded it, or staging was interrupted.
            None if boot_id == self.boot_id => Fate::Settled,
            None => Fate::Missed { failure: None },
        }
    }

    fn is(&self, id: &DeploymentId) -> bool {
        let same = id.stateroot == self.stateroot && id.commit == self.commit;
        same && match self.serial {
            Some(serial) => serial == id.serial,
            // Of a commit that ran already, another deployment is meant.
            None => self.grew_from != Some(id.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Origin;
    use super::*;

    fn deployment(name: &str, slot: Slot) -> Deployment {
        let (commit, serial) = name.split_once('.').unwrap();
        Deployment {
            id: DeploymentId {
                stateroot: "os".into(),
                commit: commit.into(),
                serial: serial.parse().unwrap(),
            },
            slot,
            pinned: false,
            origin: Origin::default(),
            kargs: Vec::new(),
        }
    }

    fn record(serial: Option<u32>) -> StagedRecord {
        StagedRecord {
            version: VERSION,
            image: None,
            image_digest: None,
            image_version: None,
            stateroot: "os".into(),
            commit: "b".into(),
            serial,
            grew_from: Some("os/a.0".into()),
            staged_at: DateTime::UNIX_EPOCH,
            boot_id: "1".into(),
            failure: None,
        }
    }

    #[test]
    fn the_fate_is_read_from_what_is_there() {
        use Slot::{Booted, Other, Rollback, Staged};
        let missed = |failure: Option<&str>| Fate::Missed {
            failure: failure.map(str::to_owned),
        };
        for (host, stamp, boot, fate) in [
            (
                &[("b.1", Staged), ("a.0", Booted)][..],
                None,
                "1",
                Fate::Waiting,
            ),
            (
                &[("b.1", Booted), ("a.0", Rollback)],
                None,
                "2",
                Fate::Settled,
            ),
            (
                &[("a.0", Booted), ("b.1", Rollback)],
                None,
                "2",
                Fate::Settled,
            ),
            // Finished, and not booted yet.
            (&[("b.1", Other), ("a.0", Booted)], None, "1", Fate::Settled),
            (
                &[("c.0", Staged), ("a.0", Booted)],
                None,
                "2",
                Fate::Settled,
            ),
            (
                &[("c.0", Booted), ("a.0", Rollback)],
                None,
                "2",
                Fate::Settled,
            ),
            (&[("a.0", Booted)], None, "1", Fate::Settled),
            (&[("a.0", Booted)], None, "2", missed(None)),
            (
                &[("a.0", Booted), ("b.0", Rollback)],
                None,
                "2",
                missed(None),
            ),
            (&[("a.0", Booted)], Some("no"), "2", missed(Some("no"))),
            (&[("a.0", Booted)], Some("no"), "1", missed(Some("no"))),
            (&[("a.0", Other)], None, "2", missed(None)),
            (&[], None, "2", Fate::Settled),
        ] {
            let all: Vec<_> = host
                .iter()
                .map(|(name, slot)| deployment(name, *slot))
                .collect();
            assert_eq!(record(Some(1)).fate(&all, stamp, boot), fate, "{host:?}");
        }
    }

    #[test]
    fn a_record_from_before_the_serial_was_known() {
        let all = [deployment("b.3", Slot::Booted)];
        assert_eq!(record(None).fate(&all, None, "2"), Fate::Settled);
        let mut again = record(None);
        again.commit = "a".into();
        let all = [deployment("a.0", Slot::Booted)];
        assert_eq!(again.fate(&all, None, "2"), Fate::Missed { failure: None });
        let all = [
            deployment("a.1", Slot::Staged),
            deployment("a.0", Slot::Booted),
        ];
        assert_eq!(again.fate(&all, None, "2"), Fate::Waiting);
    }

    #[test]
    fn the_form_is_stable() {
        let text = r#"{"version":1,"image":null,"imageDigest":null,"imageVersion":null,
            "stateroot":"os","commit":"b","serial":1,"grewFrom":"os/a.0",
            "stagedAt":"1970-01-01T00:00:00Z","bootId":"1","future":{}}"#;
        assert_eq!(
            serde_json::from_str::<StagedRecord>(text).unwrap(),
            record(Some(1))
        );
        let printed = serde_json::to_string(&record(None)).unwrap();
        assert_eq!(
            serde_json::from_str::<StagedRecord>(&printed).unwrap(),
            record(None)
        );
    }

    #[test]
    fn a_noted_failure_outlives_its_stamp() {
        let mut noted = record(Some(1));
        noted.failure = Some("noted".into());
        let all = [deployment("a.0", Slot::Booted)];
        let failure = Some("noted".to_owned());
        assert_eq!(noted.fate(&all, None, "2"), Fate::Missed { failure });
    }
}
