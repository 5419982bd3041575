//! From a reference to an open source: picks the transport and takes its name apart. Local images
//! are opened and their lists of contents read; a registry is not asked for anything yet.

use super::dir::DirSource;
use super::docker_archive::DockerArchive;
use super::files::Directory;
use super::oci_layout::OciLayout;
use super::tar_index::TarIndex;
use super::{Error, ImageSource, RegistrySource, SourceOptions};
use crate::image::{ImageReference, ReferenceError, Transport};

/// Opens what `imgref` names. A local image must be there; its files are read on demand.
pub async fn open(
    imgref: &ImageReference,
    options: &SourceOptions,
) -> Result<Box<dyn ImageSource>, Error> {
    if imgref.transport == Transport::Registry {
        let name = imgref.name.parse();
        let name = name.map_err(|why: ReferenceError| Error::Config(why.to_string()))?;
        return Ok(Box::new(RegistrySource::new(&name, options)?));
    }
    // Listing a large archive takes a while.
    let local = imgref.clone();
    let opened = tokio::task::spawn_blocking(move || open_local(&local)).await;
    opened.unwrap_or_else(|died| {
        Err(Error::Refused {
            place: imgref.to_string(),
            detail: died.to_string(),
        })
    })
}

fn open_local(imgref: &ImageReference) -> Result<Box<dyn ImageSource>, Error> {
    let (path, rest) = split_path(imgref)?;
    Ok(match imgref.transport {
        Transport::OciDir => Box::new(OciLayout::open(Directory::open(path)?, rest)?),
        Transport::OciArchive => Box::new(OciLayout::open(TarIndex::open(path)?, rest)?),
        Transport::DockerArchive => Box::new(DockerArchive::open(TarIndex::open(path)?, rest)?),
        Transport::Dir => Box::new(DirSource::open(Directory::open(&imgref.name)?)?),
        Transport::ContainerStorage | Transport::DockerDaemon | Transport::Registry => {
            return Err(unsupported(imgref));
        }
    })
}

/// Splits `PATH[:REST]` at the first colon, as skopeo and ostree-ext do.
pub(super) fn split_path(imgref: &ImageReference) -> Result<(&str, Option<&str>), Error> {
    let (path, rest) = match imgref.name.split_once(':') {
        Some((path, rest)) => (path, Some(rest).filter(|t| !t.is_empty())),
        None => (&*imgref.name, None),
    };
    match path {
        "" => Err(Error::Config(format!("{imgref}: there is no path"))),
        _ => Ok((path, rest)),
    }
}

fn unsupported(imgref: &ImageReference) -> Error {
    Error::Unsupported(format!(
        "Bowline does not read images of transport {}; push {imgref} to a registry, or copy it with \
         `skopeo copy {imgref} oci:DIRECTORY:TAG` and follow oci:DIRECTORY:TAG",
        imgref.transport.name()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> (String, Option<String>) {
        let imgref = text.parse().unwrap();
        let (path, rest) = split_path(&imgref).unwrap();
        (path.into(), rest.map(str::to_owned))
    }

    #[test]
    fn the_first_colon_ends_the_path() {
        let tagged = |path: &str, tag: &str| (path.to_owned(), Some(tag.to_owned()));
        assert_eq!(split("oci:/srv/a"), ("/srv/a".into(), None));
        assert_eq!(split("oci:/srv/a:"), ("/srv/a".into(), None));
        assert_eq!(split("oci:/srv/a:t:u"), tagged("/srv/a", "t:u"));
        assert_eq!(
            split("docker-archive:a.tar:localhost:5000/b:1"),
            tagged("a.tar", "localhost:5000/b:1")
        );
        let none = "oci::tag".parse().unwrap();
        assert!(matches!(split_path(&none), Err(Error::Config(_))));
    }

    #[tokio::test]
    async fn what_is_not_supported_says_what_to_do() {
        for text in ["containers-storage:localhost/a:1", "docker-daemon:a:1"] {
            let imgref = text.parse().unwrap();
            let error = open(&imgref, &SourceOptions::default()).await.unwrap_err();
            assert!(matches!(error, Error::Unsupported(_)));
            assert!(
                error
                    .to_string()
                    .contains(&format!("skopeo copy {text} oci:"))
            );
        }
    }
}
