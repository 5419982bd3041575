//! From a reference to an open source: picks the transport and takes its name apart. Never asks a
//! registry for anything yet.

use super::files::Directory;
use super::oci_layout::OciLayout;
use super::{Error, ImageSource, RegistrySource, SourceOptions};
use crate::image::{ImageReference, ReferenceError, Transport};

/// Opens what `imgref` names. A local image must be there; its files are read on demand.
pub async fn open(
    imgref: &ImageReference,
    options: &SourceOptions,
) -> Result<Box<dyn ImageSource>, Error> {
    if imgref.transport != Transport::Registry {
        return open_local(imgref);
    }
    let name = imgref.name.parse();
    let name = name.map_err(|why: ReferenceError| Error::Config(why.to_string()))?;
    Ok(Box::new(RegistrySource::new(&name, options)?))
}

fn open_local(imgref: &ImageReference) -> Result<Box<dyn ImageSource>, Error> {
    let (path, tag) = split_tag(imgref)?;
    match imgref.transport {
        Transport::OciDir => {
            let files = Directory::open(path)?;
            Ok(Box::new(OciLayout::open(files, tag)?))
        }
        other => Err(Error::Unsupported(format!(
            "images of {} are not supported",
            other.prefix()
        ))),
    }
}

/// Splits `PATH[:TAG]` at the first colon, as skopeo and ostree-ext do.
fn split_tag(imgref: &ImageReference) -> Result<(&str, Option<&str>), Error> {
    let (path, tag) = match imgref.name.split_once(':') {
        Some((path, tag)) => (path, Some(tag).filter(|t| !t.is_empty())),
        None => (&*imgref.name, None),
    };
    match path {
        "" => Err(Error::Config(format!("{imgref}: there is no path"))),
        _ => Ok((path, tag)),
    }
}
