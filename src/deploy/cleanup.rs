//! Removes what no deployment needs any more, after a deployment was made. Works from what is on
//! disk alone, so a run after an interruption finds the same work. Never removes an image that a
//! deployment follows, nor one that none of the removed deployments followed.

use anyhow::Result;

use super::plan::{doomed, only_in};
use crate::image::ImageReference;
use crate::sysroot::{Deployment, Origin, Sysroot};

/// Images that only removed deployments followed: those whose directory is still there but which
/// no longer boot, and those that go when the staged deployment is finished.
pub fn unneeded_images(sysroot: &Sysroot) -> Result<Vec<ImageReference>> {
    let deployments = sysroot.deployments()?;
    Ok(unneeded(&deployments, &sysroot.leftovers()?))
}

fn unneeded(deployments: &[Deployment], leftovers: &[Origin]) -> Vec<ImageReference> {
    let going = doomed(deployments);
    let is_going = |d: &&Deployment| going.iter().any(|gone| gone.id == d.id);
    let staying: Vec<_> = deployments.iter().filter(|d| !is_going(d)).collect();
    let mut images = only_in(&going, &staying, None);
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
