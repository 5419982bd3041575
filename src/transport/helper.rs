//! Credential helpers, the programs that keep passwords for docker and podman (protocol of
//! docker-credential-helpers): a helper's name and a registry come in, its credentials go out. Never
//! shows a secret, and believes nothing that a helper prints before it has ended well.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::HostPaths;
use super::auth::Credentials;
use crate::sys::answer::{self, NoAnswer};

/// How long a helper may take: some ask a service of their own.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// How much of a helper's complaint is shown, in characters.
const MAX_WORDS: usize = 300;

/// What helpers say, with an exit code that is not 0, where they have nothing.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// The name that docker itself keeps the credentials of its own registry under.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Where podman keeps its own programs, besides PATH.
const PODMAN_DIRS: [&str; 4] = [
    "/usr/local/libexec/podman",
    "/usr/local/lib/podman",
    "/usr/libexec/podman",
    "/usr/lib/podman",
];

/// A helper that may know credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Helper {
    /// What stands behind `docker-credential-`.
    pub(super) name: String,
    /// What it is asked for: a host, or what the file that names the helper says.
    pub(super) server: String,
    /// The file that names it.
    pub(super) file: PathBuf,
    /// Whether it is an error if it is not installed.
    pub(super) required: bool,
}

/// Why a helper is no help.
#[derive(Debug, Error)]
pub(super) enum Unhelpful {
    #[error("its name is not one of a program")]
    Name,
    #[error("it is not installed: install it, or name a credentials file with --authfile")]
    Missing,
    #[error("{0}")]
    NoAnswer(#[from] NoAnswer),
    #[error("it says: {0:?}")]
    Failed(String),
    #[error("it failed, and did not say why on its standard output")]
    Silent,
    #[error("its answer is not JSON of a user name and a secret")]
    Answer,
}

impl Helper {
    /// The name of its program.
    pub(super) fn program(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    /// Asks it. Blocks, for a minute at most; `Ok(None)`: it knows nothing of that registry.
    pub(super) fn ask(&self, host: &HostPaths) -> Result<Option<Credentials>, Unhelpful> {
        if self.name.is_empty() || self.name.contains('/') {
            return Err(Unhelpful::Name);
        }
        let name = self.program();
        let podman = PODMAN_DIRS.map(|dir| host.system(dir));
        let dirs = host.search_path.iter().chain(&podman);
        let mut programs = dirs.map(|dir| dir.join(&name));
        let Some(program) = programs.find(|program| program.is_file()) else {
            return match self.required {
                true => Err(Unhelpful::Missing),
                false => Ok(None),
            };
        };
        for server in self.servers() {
            tracing::info!(
                "asking {} for the credentials for {server}",
                program.display()
            );
            let question = format!("{server}\n");
            let answer = answer::ask(
                &program,
                &["get"],
                question.as_bytes(),
                PATIENCE,
                MAX_ANSWER,
            )?;
            let found = understand(answer.success, &answer.output)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// What to ask for, one after the other.
    fn servers(&self) -> impl Iterator<Item = &str> {
        let hub = self.server == "docker.io";
        let hub = hub.then_some(DOCKER_HUB);
        std::iter::once(self.server.as_str()).chain(hub)
    }
}

/// Reads an answer; `None`: there are no credentials.
fn understand(success: bool, output: &[u8]) -> Result<Option<Credentials>, Unhelpful> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Wire {
        username: String,
        secret: String,
    }
    if !success {
        let words = String::from_utf8_lossy(output);
        return match words.trim() {
            words if words.contains(NOT_FOUND) => Ok(None),
            "" => Err(Unhelpful::Silent),
            words => Err(Unhelpful::Failed(words.chars().take(MAX_WORDS).collect())),
        };
    }
    let wire: Wire = serde_json::from_slice(output).map_err(|_| Unhelpful::Answer)?;
    Ok(match wire.username.as_str() {
        "" => None,
        TOKEN_USER => Some(Credentials {
            user: wire.username,
            password: String::new(),
            identity_token: Some(wire.secret),
        }),
        _ => Some(Credentials {
            user: wire.username,
            password: wire.secret,
            identity_token: None,
        }),
    })
}

/// Reads an answer.
#[cfg(feature = "testing")]
pub(super) fn probe(data: &[u8]) {
    for success in [false, true] {
        // Whatever is said is an answer.
        drop(understand(success, data));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    fn helper(name: &str, server: &str) -> Helper {
        Helper {
            name: name.into(),
            server: server.into(),
            file: "auth.json".into(),
            required: true,
        }
    }

    /// A root with the helper `test` in podman's directory.
    fn installed(script: &str) -> (tempfile::TempDir, HostPaths) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("usr/libexec/podman");
        fs::create_dir_all(&dir).unwrap();
        let program = dir.join("docker-credential-test");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let paths = HostPaths {
            root: root.path().into(),
            ..HostPaths::default()
        };
        (root, paths)
    }

    #[test]
    fn a_helper_is_asked_for_the_server() {
        let (root, mut paths) = installed(
            r#"read server; echo "{\"ServerURL\":\"x\",\"Username\":\"$server\",\"Secret\":\"$1\"}""#,
        );
        let found = helper("test", "quay.example").ask(&paths).unwrap().unwrap();
        assert_eq!((&*found.user, &*found.password), ("quay.example", "get"));
        let missing = helper("other", "quay.example");
        let error = missing.ask(&paths).unwrap_err().to_string();
        assert!(error.starts_with("it is not installed: "), "{error}");
        let optional = Helper {
            required: false,
            ..missing
        };
        assert_eq!(optional.ask(&paths).unwrap(), None);
        let outside = helper("x/../test", "quay.example").ask(&paths);
        assert!(matches!(outside, Err(Unhelpful::Name)));
        paths.search_path = vec![root.path().join("usr/libexec/podman")];
        paths.root = "/nonexistent".into();
        assert!(
            helper("test", "quay.example")
                .ask(&paths)
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn dockers_own_registry_has_two_names() {
        let (_root, paths) = installed(
            r#"read server; case $server in
               https://index.docker.io/v1/) echo '{"Username":"u","Secret":"p"}';;
               *) echo credentials not found in native keychain; exit 1;; esac"#,
        );
        assert!(helper("test", "docker.io").ask(&paths).unwrap().is_some());
        assert_eq!(helper("test", "quay.example").ask(&paths).unwrap(), None);
    }

    #[test]
    fn answers_are_understood_or_refused() {
        let token = understand(true, br#"{"Username":"<token>","Secret":"t"}"#);
        let token = token.unwrap().unwrap().identity_token;
        assert_eq!(token.as_deref(), Some("t"));
        let empty = understand(true, br#"{"Username":"","Secret":""}"#);
        assert_eq!(empty.unwrap(), None);
        for junk in [&b""[..], b"{}", b"[]", br#"{"Username":"u"}"#] {
            let error = understand(true, junk).unwrap_err();
            assert!(matches!(error, Unhelpful::Answer), "{error}");
        }
        let error = understand(false, b"locked\x1b[31m\n").unwrap_err();
        assert_eq!(error.to_string(), r#"it says: "locked\u{1b}[31m""#);
        let error = understand(false, b" \n").unwrap_err();
        assert!(matches!(error, Unhelpful::Silent), "{error}");
    }

    proptest! {
        #[test]
        fn any_answer_is_understood_or_refused(success: bool, output: Vec<u8>) {
            // Only a panic would be wrong.
            let _ = understand(success, &output);
        }
    }
}
