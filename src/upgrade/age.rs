//! Whether an image is older than what runs, and so would take back what updates have mended. Records
//! of both come in, a refusal or nothing goes out. Never decides about going back to a deployment
//! that is here: that is `rollback`.

use anyhow::Result;
use chrono::{DateTime, FixedOffset};
use thiserror::Error;

use super::{Request, Target};
use crate::image::{
    ImageConfig, ImageReference, Manifest, OstreeImageReference, RegistryName, Transport,
    compare_versions,
};
use crate::sysroot::{Deployment, Slot, Sysroot, leading};

/// An image that is older than what runs.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the image {image} is older than what {}: {why}", if *.runs { "runs" } else { "boots next" })]
pub struct Downgrade {
    /// The image.
    pub image: String,
    /// Whether the other one runs, rather than boots next in a sysroot that does not run.
    pub runs: bool,
    /// How this shows.
    pub why: String,
}

/// What tells how old an image is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Age {
    created: Option<DateTime<FixedOffset>>,
    version: Option<String>,
}

impl Age {
    fn of(manifest: &Manifest, config: &ImageConfig) -> Self {
        let created = manifest.annotations.get("org.opencontainers.image.created");
        let created = created.or(config.created.as_ref());
        Self {
            created: created.and_then(|text| DateTime::parse_from_rfc3339(text).ok()),
            version: config.version().map(str::to_owned),
        }
    }

    /// How it shows that this is older than `other`: by either of both, where both images have it.
    fn older_than(&self, other: &Self) -> Option<String> {
        let text = |time: &DateTime<FixedOffset>| {
            let utc = time.to_utc();
            utc.format("%Y-%m-%d %H:%M:%S UTC").to_string()
        };
        if let (Some(this), Some(other)) = (&self.created, &other.created) {
            if this < other {
                let (this, other) = (text(this), text(other));
                return Some(format!("it was made at {this}, the other one at {other}"));
            }
        }
        let (this, other) = (self.version.as_ref()?, other.version.as_ref()?);
        let order = compare_versions(this, other)?;
        let older = format!("its version is {this}, that of the other one {other}");
        order.is_lt().then_some(older)
    }
}

/// Refuses an image that is older than what runs, if it comes from the same repository: of two
/// different ones neither dates nor versions say which is the newer. In a sysroot that does not run,
/// what boots next counts.
pub(super) fn check(
    sysroot: &Sysroot,
    request: &Request,
    image: &OstreeImageReference,
    manifest: &Manifest,
    config: &ImageConfig,
) -> Result<()> {
    if request.allow_downgrade {
        return Ok(());
    }
    let all = sysroot.deployments()?;
    let named = request.stateroot.as_deref();
    let booted = all.iter().find(|d| d.slot == Slot::Booted);
    let booted = booted.filter(|d| named.is_none_or(|name| d.id.stateroot == name));
    let same = |d: &&Deployment| {
        let follows = d.origin.image().ok().flatten();
        follows.is_some_and(|follows| repository(&follows.imgref) == repository(&image.imgref))
    };
    let present = match (booted, &request.target) {
        (Some(booted), _) if same(&booted) => Some(booted),
        (Some(_), Target::Image(_)) => None,
        // What runs is of another repository than what is staged and followed, or nothing runs.
        _ => leading(&all, named).filter(same),
    };
    let record = match present {
        Some(present) => sysroot.repo()?.image_of_commit(&present.id.commit)?,
        None => None,
    };
    let Some(record) = record else {
        return Ok(());
    };
    let age = Age::of(manifest, config);
    match age.older_than(&Age::of(&record.manifest, &record.config)) {
        Some(why) => Err(Downgrade {
            image: image.imgref.to_string(),
            runs: present.is_some_and(|d| d.slot == Slot::Booted),
            why,
        }
        .into()),
        None => Ok(()),
    }
}

/// An image's name without what chooses one of its versions.
fn repository(imgref: &ImageReference) -> String {
    let name = match imgref.transport {
        Transport::Registry => imgref.name.parse::<RegistryName>().map_or_else(
            |_| imgref.name.clone(),
            |name| format!("{}/{}", name.host, name.repository),
        ),
        _ => imgref.name.split(':').next().unwrap_or_default().to_owned(),
    };
    format!("{}{name}", imgref.transport.prefix())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(created: &str, version: &str) -> Age {
        Age {
            created: DateTime::parse_from_rfc3339(created).ok(),
            version: Some(version.to_owned()).filter(|v| !v.is_empty()),
        }
    }

    #[test]
    fn either_sign_of_age_is_enough() {
        let present = age("2026-03-01T12:00:00+02:00", "42.9");
        let table = [
            ("2026-03-01T12:00:00Z", "42.10", None),
            ("2026-03-01T10:00:00Z", "42.9", None),
            (
                "2026-03-01T09:59:59Z",
                "42.10",
                Some(
                    "it was made at 2026-03-01 09:59:59 UTC, the other one at 2026-03-01 10:00:00 UTC",
                ),
            ),
            (
                "2026-03-02T00:00:00Z",
                "42.8",
                Some("its version is 42.8, that of the other one 42.9"),
            ),
            (
                "",
                "42.8",
                Some("its version is 42.8, that of the other one 42.9"),
            ),
            ("2026-03-02T00:00:00Z", "", None),
            ("", "", None),
            ("", "rolling", None),
        ];
        for (created, version, expected) in table {
            let found = age(created, version).older_than(&present);
            assert_eq!(found.as_deref(), expected, "{created} {version}");
        }
    }

    #[test]
    fn tags_and_digests_choose_within_a_repository() {
        let digest = format!("docker://quay.io/a/b@sha256:{}", "0".repeat(64));
        for (one, other, same) in [
            ("docker://quay.io/a/b:1", "docker://quay.io/a/b:2", true),
            ("docker://quay.io/a/b:1", &digest, true),
            (
                "docker://debian",
                "docker://docker.io/library/debian:12",
                true,
            ),
            ("docker://quay.io/a/b:1", "docker://quay.io/a/c:1", false),
            ("oci:/srv/a:1", "oci:/srv/a:2", true),
            ("oci:/srv/a:1", "oci-archive:/srv/a:1", false),
        ] {
            let name = |text: &str| repository(&text.parse().unwrap());
            assert_eq!(name(one) == name(other), same, "{one} {other}");
        }
    }
}
