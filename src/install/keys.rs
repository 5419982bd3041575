//! Who may log in as root: the text of an `authorized_keys` file comes in, a tmpfiles.d snippet in
//! the deployment's `/etc` goes out. `/root` is usually in `/var`, which no deployment has yet, so
//! systemd-tmpfiles makes the file at the first boot.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fn_error_context::context;
use rustix::fs::OFlags;

use crate::sys;

/// The snippet, below the deployment.
const SNIPPET: &str = "etc/tmpfiles.d/bowline-root-ssh.conf";
/// Permissions of the snippet: it holds public keys.
const MODE: u32 = 0o644;
/// Where root lives if nothing else is known.
const HOME: &str = "root";

/// Lets the owners of these keys log in as root.
#[context("Writing {SNIPPET}")]
pub fn write(tree: &Path, keys: &str) -> Result<()> {
    sys::fs::ensure_dir_within(tree, "etc", "tmpfiles.d")?;
    let mut file = sys::fs::open_within(tree, SNIPPET, OFlags::TRUNC, MODE)?;
    file.write_all(snippet(&home(tree), keys).as_bytes())?;
    Ok(file.set_permissions(fs::Permissions::from_mode(MODE))?)
}

/// Root's home, without links on the way: systemd-tmpfiles follows none that leads elsewhere.
fn home(tree: &Path) -> String {
    match fs::read_link(tree.join(HOME)) {
        Ok(link) => link.to_string_lossy().trim_start_matches('/').to_owned(),
        // A directory of the tree.
        Err(_) => HOME.into(),
    }
}

/// See tmpfiles.d(5): `f~` takes its content as base64.
fn snippet(home: &str, keys: &str) -> String {
    let content = STANDARD.encode(keys);
    format!(
        "d /{home} 0700 root root -\n\
         d /{home}/.ssh 0700 root root -\n\
         f~ /{home}/.ssh/authorized_keys 0600 root root - {content}\n"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_of_the_image_do_not_lead_out_of_it() {
        let (tree, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(tree.path().join("etc")).unwrap();
        symlink(host.path(), tree.path().join("etc/tmpfiles.d")).unwrap();
        write(tree.path(), "key").unwrap_err();
        assert_eq!(host.path().read_dir().unwrap().count(), 0);
        let inside = host.path().strip_prefix("/").unwrap();
        fs::create_dir_all(tree.path().join(inside)).unwrap();
        write(tree.path(), "key").unwrap();
        assert_eq!(host.path().read_dir().unwrap().count(), 0);
        let there = tree.path().join(inside).join("bowline-root-ssh.conf");
        assert!(there.is_file(), "where the running system looks");
    }

    #[test]
    fn the_snippet_names_the_place_behind_the_link() {
        let tree = tempfile::tempdir().unwrap();
        symlink("var/roothome", tree.path().join("root")).unwrap();
        fs::create_dir(tree.path().join("etc")).unwrap();
        write(tree.path(), "ssh-ed25519 AAAA me@here\n").unwrap();
        let text = fs::read_to_string(tree.path().join(SNIPPET)).unwrap();
        assert_eq!(
            text,
            "d /var/roothome 0700 root root -\n\
             d /var/roothome/.ssh 0700 root root -\n\
             f~ /var/roothome/.ssh/authorized_keys 0600 root root - \
             c3NoLWVkMjU1MTkgQUFBQSBtZUBoZXJlCg==\n"
        );
    }

    #[test]
    fn a_home_in_the_tree_stays_there() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("root")).unwrap();
        assert_eq!(home(tree.path()), "root");
    }
}
