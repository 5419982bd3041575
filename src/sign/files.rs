//! Signatures as files (containers-signature(5)): a directory and bytes come in, the next free
//! `signature-N` goes out. Never touches the signatures that are there.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::SignError;
use crate::sys::fs as sysfs;
pub(super) use crate::transport::MAX_SIGNATURES;

/// Writes a signature and gives its path.
pub(super) fn add(dir: &Path, signature: &[u8]) -> Result<String> {
    let making = || format!("Making the directory {}", dir.display());
    std::fs::create_dir_all(dir).with_context(making)?;
    let mut names = (1..=MAX_SIGNATURES).map(|number| dir.join(format!("signature-{number}")));
    // Readers stop at the first number that is missing, so that it is the one to fill.
    let free = names.find(|path| path.symlink_metadata().is_err());
    let path = free.ok_or_else(|| SignError::Full(dir.display().to_string()))?;
    let writing = || format!("Writing {}", path.display());
    sysfs::replace(&path, signature, 0o644).with_context(writing)?;
    Ok(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_signature_gets_the_next_number() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        for number in [1, 2] {
            let path = add(&dir, &[number]).unwrap();
            assert_eq!(
                path,
                dir.join(format!("signature-{number}")).to_str().unwrap()
            );
        }
        fs::remove_file(dir.join("signature-1")).unwrap();
        add(&dir, b"x").unwrap();
        assert_eq!(fs::read(dir.join("signature-1")).unwrap(), b"x");
        assert_eq!(fs::read(dir.join("signature-2")).unwrap(), [2]);
        for number in 3..=MAX_SIGNATURES {
            fs::write(dir.join(format!("signature-{number}")), "").unwrap();
        }
        let error = add(&dir, b"x").unwrap_err();
        let full = SignError::Full(dir.display().to_string());
        assert_eq!(error.downcast_ref(), Some(&full));
    }
}
