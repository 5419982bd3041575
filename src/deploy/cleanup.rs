//! Removes what no deployment needs any more, after a deployment was made. Works from what is on
//! disk alone, so a run after an interruption finds the same work. Never removes an image that a
//! deployment follows, nor one that none of the removed deployments followed.

use anyhow::Result;
use fn_error_context::context;

use super::bootloader;
use super::plan::{doomed, only_in};
use crate::image::ImageReference;
use crate::repo::PruneReport;
use crate::sysroot::{Deployment, LockedSysroot, Origin, Sysroot};

/// What a clean-up removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CleanupReport {
    /// Images that only removed deployments followed.
    pub images: Vec<ImageReference>,
    /// Layers and objects.
    pub pruned: PruneReport,
}

/// Removes deployments that no longer boot, the images that only they followed, and what nothing
/// needs of the repository. With `retain`, images of deployments that still boot are left alone.
///
/// Images lose their name before the directories that tell of them go: interrupted anywhere, the
/// next clean-up finds what is left to do.
#[context("Cleaning up")]
pub fn clean_up(sysroot: &LockedSysroot, retain: bool) -> Result<CleanupReport> {
    let repo = sysroot.repo()?;
    let deployments = sysroot.deployments()?;
    let leftovers = sysroot.leftovers()?;
    let mut images = match retain {
        true => unneeded(&deployments, &leftovers, &[]),
        false => unneeded(&deployments, &leftovers, &doomed(&deployments)),
    };
    let mut removed = Vec::new();
    for image in images.drain(..) {
        if repo.remove_image(&image)? {
            removed.push(image);
        }
    }
    // Before kernels go: the mirror on the ESP may be of yesterday, and must not name them.
    bootloader::catch_up(sysroot)?;
    sysroot.clean_deployments()?;
    Ok(CleanupReport {
        images: removed,
        pruned: repo.prune()?,
    })
}

/// Whether an interrupted deploy or clean-up left work for [`clean_up`].
pub fn is_pending(sysroot: &Sysroot) -> Result<bool> {
    Ok(!sysroot.leftovers()?.is_empty())
}

/// Images that only `going` deployments and the leftovers of earlier ones followed.
fn unneeded(
    deployments: &[Deployment],
    leftovers: &[Origin],
    going: &[&Deployment],
) -> Vec<ImageReference> {
    let is_going = |d: &&Deployment| going.iter().any(|gone| gone.id == d.id);
    let staying: Vec<_> = deployments.iter().filter(|d| !is_going(d)).collect();
    let mut images = only_in(going, &staying, None);
    let needed = |image: &ImageReference| {
        let follows = |d: &&Deployment| {
            let origin = d.origin.image().ok().flatten();
            origin.is_some_and(|origin| origin.imgref == *image)
        };
        staying.iter().any(follows)
    };
    for origin in leftovers {
        let image = origin.image().ok().flatten().map(|image| image.imgref);
        images.extend(image.filter(|image| !needed(image) && !images.contains(image)));
    }
    images
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysroot::Slot;
    use crate::testing::samples;

    fn origin(tag: &str) -> Origin {
        let image = format!("ostree-unverified-registry:quay.io/os:{tag}");
        Origin::of_image(&image.parse().unwrap())
    }

    fn deployment(tag: &str, slot: Slot) -> Deployment {
        Deployment {
            origin: origin(tag),
            ..samples::deployment(&format!("commit of {tag}"), slot)
        }
    }

    #[test]
    fn images_go_with_the_last_deployment_that_follows_them() {
        use Slot::{Booted, Other, Rollback, Staged};
        let tags = |deployments: &[Deployment], leftovers: &[&str]| -> Vec<String> {
            let leftovers: Vec<_> = leftovers.iter().map(|tag| origin(tag)).collect();
            let images = unneeded(deployments, &leftovers, &doomed(deployments));
            let tag = |image: &ImageReference| image.name.split(':').nth(1).unwrap().to_owned();
            images.iter().map(tag).collect()
        };
        let scratch = [deployment("b", Other), deployment("a", Rollback)];
        assert_eq!(tags(&scratch, &[]), [""; 0]);
        assert_eq!(tags(&scratch, &["a", "c", "c"]), ["c"]);
        let mut staged = [
            deployment("c", Staged),
            deployment("b", Booted),
            deployment("a", Rollback),
        ];
        assert_eq!(tags(&staged, &[]), ["a"]);
        staged[0].origin = origin("a");
        assert_eq!(tags(&staged, &[]), [""; 0]);
        staged[0].origin = origin("c");
        staged[2].pinned = true;
        assert_eq!(tags(&staged, &["d"]), ["d"]);
    }
}
