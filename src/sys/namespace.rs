//! A mount namespace of its own for programs that need mounts around them. Programs come in and
//! run in it, one after the other. It ends, and every mount in it, with the guard or with this
//! process, however that ends; nothing outside ever sees its mounts.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use fn_error_context::context;

use super::tool::{self, Tool};

/// A namespace, held by a program that waits for its input to end.
#[derive(Debug)]
pub struct MountNamespace {
    holder: Child,
}

impl MountNamespace {
    /// Makes a namespace that begins with the mounts of this process.
    #[context("Making a mount namespace")]
    pub fn new() -> Result<Self> {
        let mut command = tool::command("unshare");
        command.args(["--mount", "--propagation", "private", "--", "cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().context("Running unshare")?;
        let stdin = holder.stdin.as_mut().context("it has no input")?;
        // It may have ended by now; what it answers says so.
        let asked = stdin.write_all(b"ready\n").and_then(|()| stdin.flush());
        let stdout = holder.stdout.as_mut().context("it has no output")?;
        let mut answer = String::new();
        BufReader::new(stdout).read_line(&mut answer)?;
        let namespace = Self { holder };
        ensure!(
            asked.is_ok() && answer == "ready\n",
            "the kernel refused it"
        );
        Ok(namespace)
    }

    /// A call of a program in the namespace, with the root directory of this process: that of the
    /// namespace is another one in a chroot.
    pub fn tool(&self, program: impl AsRef<Path>) -> Tool {
        let holder = format!("/proc/{}", self.holder.id());
        let enter = Tool::new("nsenter").args([
            format!("--mount={holder}/ns/mnt"),
            format!("--root={holder}/root"),
            "--".into(),
        ]);
        enter.arg(program.as_ref().as_os_str())
    }

    /// Mounts a directory of the host at another place, with everything that is mounted below it.
    pub fn bind(&self, from: &Path, to: &Path) -> Result<()> {
        self.tool("mount").arg("--rbind").arg(from).arg(to).run()
    }

    /// Mounts a file system that the kernel makes up, or one on a device.
    pub fn mount(&self, kind: &str, source: &Path, to: &Path) -> Result<()> {
        self.tool("mount")
            .args(["-t", kind])
            .arg(source)
            .arg(to)
            .run()
    }
}

impl Drop for MountNamespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        if let Err(error) = self.holder.wait() {
            tracing::warn!("a mount namespace did not end: {error}");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Whether a namespace can be made: by root, and not where the root is no mount point, as in a
    /// plain chroot.
    #[allow(clippy::print_stdout, reason = "a test that cannot run says why")]
    pub(crate) fn can_be_made() -> bool {
        let tried = tool::command("unshare")
            .args(["--mount", "--", "true"])
            .output();
        let can = tried.is_ok_and(|output| output.status.success());
        if !can {
            println!("skipped: needs root, and a root directory that is a mount point");
        }
        can
    }

    #[test]
    fn mounts_are_seen_inside_alone() {
        if !can_be_made() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        std::fs::create_dir(&to).unwrap();
        std::fs::write(from.join("file"), "inside").unwrap();
        let namespace = MountNamespace::new().unwrap();
        namespace.bind(&from, &to).unwrap();
        let seen = namespace.tool("cat").arg(to.join("file")).output().unwrap();
        assert_eq!(seen, b"inside");
        assert!(!to.join("file").exists());
        assert!(namespace.tool("false").run().is_err());
    }
}
