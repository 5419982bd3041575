//! Image references as users type them: text comes in, a reference that means the same from any
//! working directory goes out. Never looks whether the image exists. The same for names of refs.

use std::path;

use anyhow::{Context as _, Result};

use super::UsageError;
use crate::image::{OstreeImageReference, Transport};
use crate::repo::Repo;

/// Parses what a user typed.
pub fn parse(text: &str) -> Result<OstreeImageReference> {
    absolute(OstreeImageReference::from_user(text)?)
}

/// Refuses what no ref of a repository can be called, before there is any work for it.
pub fn check_ref_name(name: Option<&str>) -> Result<(), UsageError> {
    match name {
        Some(name) if !Repo::is_ref_name(name) => {
            let error = UsageError::new(format!("{name:?} is no name for a ref"));
            Err(error
                .hint("write words of letters, digits, `.`, `-` and `_`, with `/` between them"))
        }
        _ => Ok(()),
    }
}

/// The origin is read from other working directories: a path in it must not be relative.
fn absolute(mut image: OstreeImageReference) -> Result<OstreeImageReference> {
    use Transport::{Dir, DockerArchive, OciArchive, OciDir};
    if matches!(
        image.imgref.transport,
        Dir | DockerArchive | OciArchive | OciDir
    ) {
        // The tag behind the path is not touched: it belongs to the last component.
        let path = path::absolute(&image.imgref.name);
        let path = path.with_context(|| format!("Finding the image {}", image.imgref))?;
        image.imgref.name = path.to_string_lossy().into_owned();
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_names_stay() {
        let here = std::env::current_dir().unwrap();
        let here = here.display();
        for (text, stored) in [
            (
                "oci:a/b:t",
                format!("ostree-unverified-image:oci:{here}/a/b:t"),
            ),
            ("oci:./b", format!("ostree-unverified-image:oci:{here}/b")),
            ("dir:/x", "ostree-unverified-image:dir:/x".into()),
            (
                "quay.io/a/b",
                "ostree-unverified-registry:quay.io/a/b".into(),
            ),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), stored);
        }
    }
}
