//! Certificates per registry host, as containers-certs.d(5) lays them out: a host comes in, extra
//! CAs and client certificates go out. Reads only; trusts nothing by itself.
//!
//! ```text
//! /etc/containers/certs.d/HOST[:PORT]/NAME.crt          an extra CA
//!                                     NAME.cert, .key   a client certificate and its key
//! /etc/docker/certs.d/HOST[:PORT]/                      the same, looked at last
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::config_file::{self, io_error};
use super::{Error, HostPaths};

const SYSTEM_DIRS: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// What the certificate directories hold for one host.
#[derive(Default)]
pub(super) struct HostCerts {
    /// CAs that are trusted for this host besides the system's.
    pub(super) authorities: Vec<CertificateDer<'static>>,
    /// Chains and their keys, of which one is shown to a registry that asks for a client certificate.
    pub(super) clients: Vec<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl fmt::Debug for HostCerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostCerts")
            .field("authorities", &self.authorities.len())
            .field("clients", &self.clients.len())
            .finish()
    }
}

impl HostCerts {
    /// Reads the first directory that exists for `host`, the user's before the system's.
    pub(super) fn load(host: &str, paths: &HostPaths) -> Result<Self, Error> {
        let user = paths.config_home();
        let user = user.map(|config| config.join("containers/certs.d"));
        let system = SYSTEM_DIRS.map(|dir| paths.system(dir));
        let mut dirs = user.into_iter().chain(system).map(|dir| dir.join(host));
        match dirs.find(|dir| dir.is_dir()) {
            Some(dir) => {
                tracing::info!("using the certificates in {}", dir.display());
                Self::read(&dir)
            }
            None => Ok(Self::default()),
        }
    }

    fn read(dir: &Path) -> Result<Self, Error> {
        let files = list(dir).map_err(|source| io_error(dir, source))?;
        let mut certs = Self::default();
        for file in &files {
            let partner = |extension| {
                let path = file.with_extension(extension);
                match files.contains(&path) {
                    true => Ok(path),
                    false => Err(Error::Config(format!(
                        "{} has no {} beside it: a client certificate needs both",
                        file.display(),
                        path.display()
                    ))),
                }
            };
            match file.extension().and_then(|e| e.to_str()) {
                Some("crt") => certs.authorities.extend(certificates(file)?),
                Some("cert") => {
                    let key = partner("key")?;
                    let client = (certificates(file)?, private_key(&key)?);
                    certs.clients.push(client);
                }
                Some("key") => drop(partner("cert")?),
                _ => {}
            }
        }
        Ok(certs)
    }
}

fn list(dir: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let entries = std::fs::read_dir(dir)?;
    entries.map(|entry| entry.map(|e| e.path())).collect()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path)?;
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certs = certs.map_err(|error| bad(path, &error))?;
    match certs.is_empty() {
        true => Err(bad(path, &"it holds no certificate")),
        false => Ok(certs),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| bad(path, &error))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    config_file::read(path)?.ok_or_else(|| bad(path, &"it does not exist"))
}

fn bad(path: &Path, detail: &dyn fmt::Display) -> Error {
    Error::Config(format!("{} cannot be used: {detail}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_dir(files: &[(&str, &str)]) -> (tempfile::TempDir, HostPaths) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("etc/containers/certs.d/quay.example:8443");
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let paths = HostPaths {
            root: root.path().into(),
            ..HostPaths::default()
        };
        (root, paths)
    }

    fn message(files: &[(&str, &str)]) -> String {
        let (root, paths) = host_dir(files);
        let error = HostCerts::load("quay.example:8443", &paths).unwrap_err();
        let dir = root
            .path()
            .join("etc/containers/certs.d/quay.example:8443/");
        error.to_string().replace(dir.to_str().unwrap(), "")
    }

    #[test]
    fn no_directory_is_no_certificates() {
        let (_root, paths) = host_dir(&[("ca.crt", "junk")]);
        let certs = HostCerts::load("quay.example", &paths).unwrap();
        assert!(certs.authorities.is_empty() && certs.clients.is_empty());
    }

    #[test]
    fn other_files_are_ignored() {
        let (_root, paths) = host_dir(&[("README", "junk")]);
        assert!(HostCerts::load("quay.example:8443", &paths).is_ok());
    }

    #[test]
    fn bad_files_are_named() {
        let lonely = "c.cert has no c.key beside it: a client certificate needs both";
        assert_eq!(message(&[("c.cert", "")]), lonely);
        let lonely = "c.key has no c.cert beside it: a client certificate needs both";
        assert_eq!(message(&[("c.key", "")]), lonely);
        let empty = "ca.crt cannot be used: it holds no certificate";
        assert_eq!(message(&[("ca.crt", "junk")]), empty);
    }
}
