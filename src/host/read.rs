//! From a sysroot to its status. Deployments, commits and what was remembered come in; a part
//! that cannot be read is left out with a warning, because a broken commit must not hide the
//! deployments beside it.

use anyhow::Result;
use chrono::{DateTime, SecondsFormat, Utc};
use fn_error_context::context;

use super::boots;
use super::not_applied;
use super::status::*;
use crate::image::{Digest, ImageConfig, Manifest, OstreeImageReference};
use crate::repo::{ImageRecord, Repo};
use crate::sysroot::{CachedUpdate, Deployment, Slot, Sysroot, leading};

/// Reads the status of a sysroot.
///
/// In one that is not booted nothing is staged or booted: the deployment that boots next is the
/// first of `other_deployments`, and the rollback is what `rollback` would boot instead.
#[context("Reading the status of {}", sysroot.path().display())]
pub fn read(sysroot: &Sysroot) -> Result<Host> {
    let deployments = sysroot.deployments()?;
    let repo = sysroot.repo()?;
    let mut status = Status {
        rollback_queued: rollback_queued(&deployments),
        not_applied: not_applied(sysroot).unwrap_or_else(|error| {
            tracing::warn!("{error:#}");
            None
        }),
        health: health(sysroot),
        ..Status::default()
    };
    for deployment in &deployments {
        let entry = entry(sysroot, &repo, deployment);
        match deployment.slot {
            Slot::Staged => status.staged = Some(entry),
            Slot::Booted => status.booted = Some(entry),
            Slot::Rollback => status.rollback = Some(entry),
            Slot::Other => status.other_deployments.push(entry),
        }
    }
    let runs_image = status.booted.as_ref().is_some_and(|b| b.image.is_some());
    status.system_type = runs_image.then_some(SystemType::BootcHost);
    Ok(Host {
        api_version: API_VERSION,
        kind: KIND,
        metadata: Metadata { name: "host" },
        spec: Spec {
            image: followed(&deployments),
            boot_order: match status.rollback_queued {
                true => BootOrder::Rollback,
                false => BootOrder::Default,
            },
        },
        status,
    })
}

/// A record that cannot be read hides nothing else.
fn health(sysroot: &Sysroot) -> Option<super::Health> {
    let record = boots::store(sysroot).read().unwrap_or_else(|error| {
        tracing::warn!("{error:#}");
        Default::default()
    });
    boots::health(&record)
}

/// On the booted host the rollback is queued once it stands in front of what runs. Elsewhere
/// nobody can tell a rollback from an update: the first deployment just boots next.
fn rollback_queued(all: &[Deployment]) -> bool {
    let booted = all.iter().any(|d| d.slot == Slot::Booted);
    booted && all.first().is_some_and(|d| d.slot == Slot::Rollback)
}

/// The image that an upgrade would follow.
fn followed(all: &[Deployment]) -> Option<ImageSpec> {
    let image = leading(all, None)?.origin.image().ok()??;
    Some(ImageSpec::from(&image))
}

fn entry(sysroot: &Sysroot, repo: &Repo, deployment: &Deployment) -> BootEntry {
    let id = &deployment.id;
    let origin = deployment.origin.image().unwrap_or_else(|error| {
        tracing::warn!("the origin of {id}: {error}");
        None
    });
    let record = origin.as_ref().and_then(|_| {
        let record = repo.image_of_commit(&id.commit);
        record.unwrap_or_else(|error| {
            tracing::warn!("{error:#}");
            None
        })
    });
    let image = origin.as_ref().zip(record.as_ref());
    let image = image.map(|(origin, record)| of_record(origin, record));
    let cached = origin.as_ref().and_then(|origin| {
        let update = sysroot.cached_update(&id.commit).and_then(|update| {
            let status = update.map(|update| of_update(origin, &update));
            status.transpose()
        });
        update.unwrap_or_else(|error| {
            tracing::warn!("{error:#}");
            None
        })
    });
    let deployed = image.as_ref().map(|image| image.image_digest.clone());
    let transfer = repo.transfer(&id.commit).unwrap_or_else(|error| {
        tracing::warn!("{error:#}");
        None
    });
    BootEntry {
        transfer: transfer.map(|cost| Transfer {
            fetched: cost.fetched,
            reused: cost.reused,
        }),
        verified: deployment.origin.vouched(),
        cached_update: cached.filter(|update| Some(&update.image_digest) != deployed.as_ref()),
        incompatible: deployment.origin.has_local_changes(),
        pinned: deployment.pinned,
        store: image.is_some().then_some(Store::OstreeContainer),
        image,
        ostree: Some(OstreeEntry {
            stateroot: id.stateroot.clone(),
            checksum: id.commit.clone(),
            deploy_serial: id.serial,
        }),
    }
}

fn of_record(origin: &OstreeImageReference, record: &ImageRecord) -> ImageStatus {
    let digest = record.manifest_digest;
    image_status(origin, digest, &record.manifest, &record.config)
}

fn of_update(origin: &OstreeImageReference, update: &CachedUpdate) -> Result<ImageStatus> {
    let manifest = crate::repo::catalog::parse_manifest(update.manifest.clone())?;
    let config = ImageConfig::parse(update.config.clone().into_bytes())?;
    let digest: Digest = update.manifest_digest.parse()?;
    Ok(image_status(origin, digest, &manifest, &config))
}

fn image_status(
    origin: &OstreeImageReference,
    digest: Digest,
    manifest: &Manifest,
    config: &ImageConfig,
) -> ImageStatus {
    let created = manifest.annotations.get("org.opencontainers.image.created");
    let created = created.or(config.created.as_ref());
    ImageStatus {
        image: ImageSpec::from(origin),
        version: config.version().map(str::to_owned),
        timestamp: created.and_then(|text| utc(text)),
        image_digest: digest.to_string(),
        architecture: config.architecture.clone(),
    }
}

/// The same moment in UTC, to the second; a text that is no RFC 3339 time says nothing.
pub fn utc(text: &str) -> Option<String> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    let time = time.with_timezone(&Utc);
    Some(time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        assert_eq!(utc("2026-01-01T00:00:00Z").unwrap(), "2026-01-01T00:00:00Z");
        assert_eq!(
            utc("2026-01-01T02:00:00.5+02:00").unwrap(),
            "2026-01-01T00:00:00Z"
        );
        assert_eq!(utc("yesterday"), None);
    }
}
