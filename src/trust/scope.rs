//! The scopes of policy.json that an image belongs to (containers-policy.json(5), "TRANSPORTS AND
//! SCOPES"). An image reference comes in; scope texts, the nearest first, go out. Follows links of
//! local paths, since a scope names where an image really is; touches nothing else.

use std::path::{Component, Path};

use crate::image::{ImageReference, RegistryName, Transport};

/// The transport's name in policy.json.
pub(super) const fn transport_word(transport: Transport) -> &'static str {
    match transport {
        Transport::Registry => "docker",
        other => other.name(),
    }
}

/// Every scope that may hold requirements for `imgref`, in the order of the search. The scope ""
/// (all images of the transport) comes after these and is not listed.
pub(super) fn scopes(imgref: &ImageReference) -> Result<Vec<String>, String> {
    match imgref.transport {
        Transport::Registry => {
            let name = imgref.name.parse::<RegistryName>();
            Ok(name.map_err(|error| error.to_string())?.scopes())
        }
        Transport::Dir => path_scopes(&imgref.name),
        Transport::OciDir | Transport::OciArchive => {
            path_scopes(imgref.name.split(':').next().unwrap_or_default())
        }
        Transport::DockerArchive | Transport::ContainerStorage | Transport::DockerDaemon => {
            Ok(Vec::new())
        }
    }
}

/// The real path, and each directory above it but the root.
fn path_scopes(path: &str) -> Result<Vec<String>, String> {
    let real = std::fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?;
    let above = real.ancestors().filter(|p| p.parent().is_some());
    let text = |p: &Path| p.to_str().map(str::to_owned);
    let texts: Option<_> = above.map(text).collect();
    texts.ok_or_else(|| format!("{path} is not UTF-8"))
}

/// Whether `scope` can belong to the transport; scopes of unknown transports are taken as they are.
pub(super) fn is_valid(transport: &str, scope: &str) -> bool {
    match transport {
        _ if scope.is_empty() => true,
        "dir" | "oci" | "oci-archive" | "sif" => is_clean_path(scope),
        "docker-archive" | "tarball" => false,
        _ => true,
    }
}

/// An absolute path, not the root, without anything that could be left out.
fn is_clean_path(text: &str) -> bool {
    let path = Path::new(text);
    let mut components = path.components();
    components.next() == Some(Component::RootDir)
        && text.len() > 1
        && components.clone().all(|c| matches!(c, Component::Normal(_)))
        // `components` leaves out what a clean path does not have.
        && components.fold(String::new(), |clean, c| {
            format!("{clean}/{}", c.as_os_str().to_string_lossy())
        }) == text
}
