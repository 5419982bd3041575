//! The deployment's `/etc/fstab`: a line comes in, and stands behind what the image has there. Writes
//! nowhere else.

use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::Result;
use fn_error_context::context;
use rustix::fs::OFlags;

use crate::sys::fs::open_within;

/// The file, below the deployment.
const FILE: &str = "etc/fstab";

/// Adds a line. The image may have a link there, which leads nowhere else.
#[context("Adding to {FILE}")]
pub fn add(tree: &Path, line: &str) -> Result<()> {
    let mut file = open_within(tree, FILE, OFlags::APPEND, 0o644)?;
    let mut old = Vec::new();
    file.read_to_end(&mut old)?;
    let gap = match old.last() {
        None | Some(b'\n') => "",
        Some(_) => "\n",
    };
    Ok(file.write_all(format!("{gap}{line}").as_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_line_is_added_inside_the_tree() {
        let (tree, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(tree.path().join("etc")).unwrap();
        let add = |line| add(tree.path(), line);
        let read = || fs::read_to_string(tree.path().join(FILE)).unwrap();
        add("a\n").unwrap();
        add("b").unwrap();
        add("c\n").unwrap();
        assert_eq!(read(), "a\nb\nc\n");
        fs::write(host.path().join("fstab"), "of the host\n").unwrap();
        fs::remove_file(tree.path().join(FILE)).unwrap();
        let outside = host.path().join("fstab");
        symlink(&outside, tree.path().join(FILE)).unwrap();
        add("d\n").unwrap_err();
        assert_eq!(fs::read_to_string(outside).unwrap(), "of the host\n");
    }
}
