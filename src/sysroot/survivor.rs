//! A way to boot that outlives the finishing of a staged deployment. libostree names deployments
//! for the bootloader by links below `ostree/boot.N`; when it finishes a staged one it makes those
//! of the other N and removes the old ones at once. A bootloader with a copy of the entries would
//! point at nothing until its copy is renewed. So the links of the other N are made before, as
//! libostree will make them, for the deployment that runs. Facts come in; the prediction is pure.
//!
//! ```text
//! ostree/boot.0 -> boot.0.1     in use; the other N is nobody's until libostree needs it
//! ostree/boot.1 -> boot.1.0     made here: STATEROOT/BOOTCSUM/BOOTSERIAL -> the deployment
//! ```
//!
//! Where nothing that a bootloader shows changes, libostree keeps N and only turns its links to the
//! new deployments (`ostree_sysroot_write_deployments_with_options`).

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result};
use fn_error_context::context;
use ostree::glib;

use super::error::from_glib;
use super::handle::id_of;
use super::{DeploymentId, LockedSysroot};

/// What libostree compares to see whether entries change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    id: DeploymentId,
    /// Checksum of kernel and initramfs.
    bootcsum: String,
    /// The commit's version, part of the title.
    version: Option<String>,
    /// Kernel arguments without `ostree=`.
    options: String,
}

/// How the running deployment boots after the staged one is finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// The value of its `ostree=` argument; works from now on if `renewed`.
    pub ostree: String,
    /// Whether libostree makes new links, so that today's are gone then.
    pub renewed: bool,
}

impl LockedSysroot {
    /// Makes the link by which `booted` boots while and after the staged deployment is finished
    /// and those in `dropped` go; `None` where nothing is staged. Durable when this returns.
    ///
    /// Interrupted, links are left that nothing names; libostree's next clean-up removes them.
    #[context("Preparing how {booted} boots after the shutdown")]
    pub fn prepare_survivor(
        &self,
        booted: &DeploymentId,
        dropped: &[DeploymentId],
    ) -> Result<Option<Survivor>> {
        let Some(staged) = self.inner.staged_deployment() else {
            return Ok(None);
        };
        let all = self.inner.deployments();
        let finished = all.iter().filter(|d| !d.is_staged());
        let now: Vec<_> = finished.map(|d| self.identity(d)).collect::<Result<_>>()?;
        let kept = now.iter().filter(|d| !dropped.contains(&d.id)).cloned();
        let next: Vec<_> = std::iter::once(self.identity(&staged)?)
            .chain(kept)
            .collect();
        let at = next.iter().position(|d| d.id == *booted);
        let at = at.context("It is not among those that stay")?;
        let version = 1 - self.bootversion()?;
        let survivor = &next[at];
        let serial = next[..at]
            .iter()
            .filter(|d| d.bootcsum == survivor.bootcsum)
            .count();
        let place = format!("{}/{}/{serial}", booted.stateroot, survivor.bootcsum);
        link(&self.path().join("ostree"), version, &place, booted)?;
        Ok(Some(Survivor {
            ostree: format!("/ostree/boot.{version}/{place}"),
            renewed: renewed(&now, &next),
        }))
    }

    fn identity(&self, deployment: &ostree::Deployment) -> Result<Identity> {
        let id = id_of(deployment);
        let options = deployment
            .bootconfig()
            .and_then(|config| config.get("options"));
        let options = options.unwrap_or_default();
        let words = options.split_ascii_whitespace();
        let words: Vec<_> = words.filter(|word| !word.starts_with("ostree=")).collect();
        let commit = self
            .inner
            .repo()
            .load_commit(&id.commit)
            .map_err(from_glib)?
            .0;
        let metadata = glib::VariantDict::new(Some(&commit.child_value(0)));
        Ok(Identity {
            bootcsum: deployment.bootcsum().into(),
            version: metadata.lookup::<String>("version").ok().flatten(),
            options: words.join(" "),
            id,
        })
    }

    /// The N in use: `boot/loader` points to `loader.N`.
    fn bootversion(&self) -> Result<u8> {
        let target = fs::read_link(self.path().join("boot/loader")).context("boot/loader")?;
        match target.to_str() {
            Some("loader.0") => Ok(0),
            Some("loader.1") => Ok(1),
            _ => anyhow::bail!("boot/loader points to {}", target.display()),
        }
    }
}

/// Whether the entries change; `now` and `next` are in boot order.
fn renewed(now: &[Identity], next: &[Identity]) -> bool {
    let shown = |d: &Identity| {
        let Identity {
            id,
            bootcsum,
            version,
            options,
        } = d.clone();
        (id.stateroot, bootcsum, version, options)
    };
    now.iter().map(shown).ne(next.iter().map(shown))
}

/// Replaces what is left of the other N by one link.
fn link(ostree: &Path, version: u8, place: &str, to: &DeploymentId) -> Result<()> {
    let absent = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let name = format!("boot.{version}");
    absent(fs::remove_file(ostree.join(&name)))?;
    for sub in [0, 1] {
        absent(fs::remove_dir_all(ostree.join(format!("{name}.{sub}"))))?;
    }
    let link = ostree.join(format!("{name}.0")).join(place);
    fs::create_dir_all(link.with_file_name(""))?;
    let target = format!(
        "../../../deploy/{}/deploy/{}.{}",
        to.stateroot, to.commit, to.serial
    );
    symlink(target, &link)?;
    symlink(format!("{name}.0"), ostree.join(&name))?;
    Ok(crate::sys::fs::sync_filesystem(ostree)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(commit: &str, bootcsum: &str, version: &str) -> Identity {
        Identity {
            id: DeploymentId {
                stateroot: "os".into(),
                commit: commit.into(),
                serial: 0,
            },
            bootcsum: bootcsum.into(),
            version: Some(version.into()),
            options: "rw".into(),
        }
    }

    #[test]
    fn entries_change_with_what_a_bootloader_shows() {
        let now = [identity("b", "k", "1"), identity("a", "k", "1")];
        let same = [identity("c", "k", "1"), identity("b", "k", "1")];
        assert!(!renewed(&now, &same));
        assert!(renewed(&now, &same[..1]));
        assert!(renewed(&now, &[identity("c", "l", "1"), same[1].clone()]));
        assert!(renewed(&now, &[identity("c", "k", "2"), same[1].clone()]));
        let mut other = same.clone();
        other[1].options = "ro".into();
        assert!(renewed(&now, &other));
        let mut other = same;
        other[0].id.stateroot = "x".into();
        assert!(renewed(&now, &other));
    }
}
