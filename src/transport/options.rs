//! How sources behave and where they look on this host: plain values in, nothing read. The
//! command line fills them in; nothing here touches the environment or a file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::RateLimit;
use crate::progress::{ProgressSink, Silent};

/// What a source needs besides the image's name. [`Default`] fits a root process on the running
/// host; it reads neither the environment nor any file.
#[derive(Clone)]
pub struct SourceOptions {
    /// The only credentials file to use (`--authfile`); it must exist.
    pub authfile: Option<PathBuf>,
    /// How often a temporary failure is tried again before it counts, per request; a transfer
    /// that has moved starts counting anew.
    pub retries: u32,
    /// Pause before the first retry; it doubles with each one.
    pub first_pause: Duration,
    /// The longest pause, also where a registry asks for more with `Retry-After`.
    pub longest_pause: Duration,
    /// How long a connection may be silent.
    pub idle_timeout: Duration,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How fast blobs may come, all transfers together.
    pub limit: Option<Arc<RateLimit>>,
    /// Hears about retries and warnings.
    pub progress: Arc<dyn ProgressSink>,
    /// `$no_proxy`. Its usual forms, and the proxies themselves, are read by the HTTP client.
    pub no_proxy: Option<String>,
    /// Where files are looked up.
    pub host: HostPaths,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            authfile: None,
            retries: 5,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(30),
            limit: None,
            progress: Arc::new(Silent),
            no_proxy: None,
            host: HostPaths::default(),
        }
    }
}

impl fmt::Debug for SourceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceOptions")
            .field("authfile", &self.authfile)
            .field("retries", &self.retries)
            .field("idle_timeout", &self.idle_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("limit", &self.limit)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// The user, and values of the environment that lead to files of containers-* formats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPaths {
    /// What `/etc`, `/run` and `/usr` are under; `/` except in tests.
    pub root: PathBuf,
    /// The user's number; 0 looks at the system's files.
    pub uid: u32,
    /// `$HOME`.
    pub home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME`; [`Self::config_home`] falls back to `.config` in the home.
    pub config_dir: Option<PathBuf>,
    /// `$REGISTRY_AUTH_FILE`: a credentials file that counts like `--authfile`.
    pub registry_auth_file: Option<PathBuf>,
    /// `$CONTAINERS_REGISTRIES_CONF`: the only registries.conf.
    pub registries_conf: Option<PathBuf>,
    /// `$PATH`: where credential helpers are looked for first.
    pub search_path: Vec<PathBuf>,
}

impl Default for HostPaths {
    fn default() -> Self {
        Self {
            root: "/".into(),
            uid: 0,
            home: None,
            runtime_dir: None,
            config_dir: None,
            registry_auth_file: None,
            registries_conf: None,
            search_path: Vec::new(),
        }
    }
}

impl HostPaths {
    /// A system path (`/etc/…`) under the root.
    pub fn system(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Where the user's configuration lives, if there is a home.
    pub fn config_home(&self) -> Option<PathBuf> {
        let home = || self.home.as_deref().map(|home: &Path| home.join(".config"));
        self.config_dir.clone().or_else(home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_system_paths_to_the_root() {
        let mut paths = HostPaths::default();
        assert_eq!(paths.system("/etc/x"), Path::new("/etc/x"));
        paths.root = "/t".into();
        assert_eq!(paths.system("/etc/x"), Path::new("/t/etc/x"));
    }

    #[test]
    fn the_config_home_follows_xdg() {
        let mut paths = HostPaths::default();
        assert_eq!(paths.config_home(), None);
        paths.home = Some("/h".into());
        assert_eq!(paths.config_home(), Some("/h/.config".into()));
        paths.config_dir = Some("/c".into());
        assert_eq!(paths.config_home(), Some("/c".into()));
    }
}
