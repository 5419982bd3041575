//! Runs work on foreign bytes with as little power as it needs: work, and perhaps a directory, come in,
//! what the work gave goes out. The thread that does it sees nothing of the file system but that
//! directory, starts no program, opens no TCP connection and signals no process (Landlock). Never changes what
//! other threads may do.
//!
//! A kernel without Landlock, or with less of it, confines less; nothing fails because of that.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Once;
use std::thread;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use tokio::sync::oneshot;

/// The newest rights that are asked for (Linux 6.12); older kernels confine what they know.
const RIGHTS: ABI = ABI::V6;

/// Does `work` on a thread of its own that is confined to what is below `dir`, or sees no file at all.
///
/// Files that are open already stay usable. An error where the thread cannot be started or died.
pub async fn run<T, F>(dir: impl Into<Option<OwnedFd>>, work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let dir = dir.into();
    let (sender, receiver) = oneshot::channel();
    let thread = thread::Builder::new().name("confined".into());
    thread.spawn(move || {
        report(&enter(dir));
        // Whoever no longer waits has ended the pull.
        let _ = sender.send(work());
    })?;
    receiver.await.map_err(io::Error::other)
}

/// Confines this thread for the rest of its life.
fn enter(dir: Option<OwnedFd>) -> Result<RulesetStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(RIGHTS))?
        .handle_access(AccessNet::from_all(RIGHTS))?
        .scope(Scope::from_all(RIGHTS))?
        .create()?;
    if let Some(dir) = dir {
        rules = rules.add_rule(PathBeneath::new(dir, needed()))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// What a writer of objects does: files, directories and links, none of which it runs.
fn needed() -> BitFlags<AccessFs> {
    let never = AccessFs::Execute
        | AccessFs::MakeChar
        | AccessFs::MakeBlock
        | AccessFs::MakeFifo
        | AccessFs::MakeSock
        | AccessFs::IoctlDev;
    AccessFs::from_all(RIGHTS) & !never
}

/// Says once how far this kernel confines.
fn report(status: &Result<RulesetStatus, RulesetError>) {
    static SAID: Once = Once::new();
    SAID.call_once(|| match status {
        Ok(RulesetStatus::FullyEnforced) => tracing::debug!("layers are unpacked confined"),
        Ok(RulesetStatus::PartiallyEnforced) => {
            tracing::debug!("layers are unpacked confined as far as this kernel can");
        }
        Ok(_) => tracing::info!("this kernel has no Landlock: layers are unpacked unconfined"),
        Err(error) => tracing::warn!("layers are unpacked unconfined: {error}"),
    });
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use landlock::{CompatLevel, Compatible as _};

    use super::*;

    /// Whether this kernel confines at all; says so where it does not.
    #[allow(clippy::print_stderr, reason = "a test that cannot run says so")]
    fn works() -> bool {
        let dir = tempfile::tempdir().unwrap();
        let dir = OwnedFd::from(File::open(dir.path()).unwrap());
        let status = thread::spawn(move || enter(Some(dir)).unwrap())
            .join()
            .unwrap();
        if status == RulesetStatus::NotEnforced {
            eprintln!("skipped: this kernel has no Landlock");
        }
        status != RulesetStatus::NotEnforced
    }

    #[tokio::test]
    async fn nothing_is_seen_but_the_directory() {
        if !works() {
            return;
        }
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = outside.path().join("secret");
        fs::write(&secret, "s").unwrap();
        let own = inside.path().to_owned();
        let dir = OwnedFd::from(File::open(&own).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tried = run(dir, move || {
            fs::create_dir(own.join("d")).unwrap();
            fs::write(own.join("f"), "x").unwrap();
            fs::rename(own.join("f"), own.join("d/g")).unwrap();
            std::os::unix::fs::symlink(&secret, own.join("link")).unwrap();
            [
                fs::read(&secret).err(),
                fs::read(own.join("link")).err(),
                fs::write(&secret, "changed").err(),
                fs::remove_file(&secret).err(),
                fs::read_dir("/etc").err(),
                Command::new("/bin/true").status().err(),
            ]
            .map(|error| error.map(|e| e.kind()))
        });
        let denied = Some(io::ErrorKind::PermissionDenied);
        assert_eq!(tried.await.unwrap(), [denied; 6]);
        assert_eq!(fs::read_to_string(inside.path().join("d/g")).unwrap(), "x");
        assert_eq!(
            fs::read_to_string(outside.path().join("secret")).unwrap(),
            "s"
        );
        let own = inside.path().to_owned();
        let tried = run(None, move || {
            [fs::read_dir(&own).err(), fs::write(own.join("x"), "").err()]
                .map(|error| error.map(|e| e.kind()))
        });
        assert_eq!(tried.await.unwrap(), [denied; 2]);
        // Newer than the rest: Linux 6.7.
        let dir = OwnedFd::from(File::open(inside.path()).unwrap());
        let connected = run(dir, move || TcpStream::connect(address).is_ok());
        let knows_net = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessNet::ConnectTcp);
        assert_eq!(connected.await.unwrap(), knows_net.is_err());
        // This thread is as it was.
        assert!(TcpStream::connect(address).is_ok() && fs::read_dir("/etc").is_ok());
    }

    #[tokio::test]
    async fn what_dies_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let dir = OwnedFd::from(File::open(dir.path()).unwrap());
        let died = run::<(), _>(dir, || panic!("expected by a test"));
        assert!(died.await.is_err());
    }
}
