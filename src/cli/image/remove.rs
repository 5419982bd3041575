//! `image remove` and `image prune`: takes images and layers away, and says what that freed.
//! Never takes away what a deployment boots from.

use anyhow::Result;
use thiserror::Error;

use super::args::{PruneArgs, RemoveArgs};
use super::{Place, find, open};
use crate::cli::{Context, text};
use crate::image::ImageReference;
use crate::repo::{PruneReport, Repo};
use crate::sysroot::{LockedSysroot, Sysroot};

/// A deployment follows the image that should be removed.
#[derive(Debug, Error)]
#[error("{image} is used by deployment {deployment}")]
pub struct InUse {
    /// The image.
    pub image: ImageReference,
    /// The first deployment that follows it.
    pub deployment: String,
}

/// Removes images, all or none of them, and prunes.
pub fn remove(args: &RemoveArgs, place: &Place, context: &Context) -> Result<()> {
    let sysroot = lock(place)?;
    let repo = open(&place.repo)?;
    let images = args.images.iter().map(|image| Ok(find(&repo, image)?.0));
    let images: Vec<ImageReference> = images.collect::<Result<_>>()?;
    if !args.force {
        refuse_deployed(&images, &deployed(sysroot.as_ref())?)?;
    }
    remove_and_prune(&repo, &images, context)
}

/// Removes images that no deployment follows where that is asked for, and prunes.
pub fn prune(args: &PruneArgs, place: &Place, context: &Context) -> Result<()> {
    let sysroot = lock(place)?;
    let repo = open(&place.repo)?;
    let images = match args.undeployed {
        true => undeployed(repo.images()?, &deployed(sysroot.as_ref())?),
        false => Vec::new(),
    };
    remove_and_prune(&repo, &images, context)
}

fn remove_and_prune(repo: &Repo, images: &[ImageReference], context: &Context) -> Result<()> {
    let mut removed = 0;
    for image in images {
        // Somebody else may have been faster.
        removed += usize::from(repo.remove_image(image)?);
    }
    context.say(&freed(removed, &repo.prune()?))
}

fn freed(images: usize, report: &PruneReport) -> String {
    let objects = usize::try_from(report.objects).unwrap_or(usize::MAX);
    format!(
        "Removed {}, {} and {}; {} freed\n",
        text::count(images, "image"),
        text::count(report.layers, "layer"),
        text::count(objects, "object"),
        text::bytes(report.bytes),
    )
}

/// Locks the sysroot, so that nobody deploys meanwhile.
fn lock(place: &Place) -> Result<Option<LockedSysroot>> {
    place
        .sysroot
        .as_deref()
        .map(Sysroot::open_locked)
        .transpose()
}

/// Image and name of every deployment that follows an image.
fn deployed(sysroot: Option<&LockedSysroot>) -> Result<Vec<(ImageReference, String)>> {
    let Some(sysroot) = sysroot else {
        return Ok(Vec::new());
    };
    let mut deployed = Vec::new();
    for deployment in sysroot.deployments()? {
        if let Some(image) = deployment.origin.image()? {
            deployed.push((image.imgref, deployment.id.to_string()));
        }
    }
    Ok(deployed)
}

fn refuse_deployed(
    images: &[ImageReference],
    deployed: &[(ImageReference, String)],
) -> Result<(), InUse> {
    match deployed.iter().find(|(image, _)| images.contains(image)) {
        None => Ok(()),
        Some((image, deployment)) => Err(InUse {
            image: image.clone(),
            deployment: deployment.clone(),
        }),
    }
}

fn undeployed(
    images: Vec<ImageReference>,
    deployed: &[(ImageReference, String)],
) -> Vec<ImageReference> {
    let is_deployed = |image: &ImageReference| deployed.iter().any(|(used, _)| used == image);
    images
        .into_iter()
        .filter(|image| !is_deployed(image))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str) -> ImageReference {
        format!("docker://quay.io/a/{name}").parse().unwrap()
    }

    #[test]
    fn an_image_in_use_is_refused_by_name() {
        let deployed = [(image("a"), "debian/0123.0".to_owned())];
        assert!(refuse_deployed(&[image("b")], &deployed).is_ok());
        let refused = refuse_deployed(&[image("b"), image("a")], &deployed).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "docker://quay.io/a/a is used by deployment debian/0123.0"
        );
    }

    #[test]
    fn what_no_deployment_follows_is_undeployed() {
        let deployed = [(image("a"), "debian/0123.0".to_owned())];
        let images = vec![image("a"), image("b")];
        assert_eq!(undeployed(images, &deployed), [image("b")]);
    }

    #[test]
    fn the_report_counts_what_went() {
        let report = PruneReport {
            layers: 1,
            objects: 20,
            bytes: 1_500_000,
        };
        assert_eq!(
            freed(2, &report),
            "Removed 2 images, 1 layer and 20 objects; 1.5 MB freed\n"
        );
    }
}
