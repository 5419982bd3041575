//! GPG simple signing (containers-signature(5)): bytes and the name of a key come in, a signed message
//! goes out. GnuPG signs; its agent keeps the keys.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::SignError;
use crate::sys::tool::{Tool, ToolMissing};

/// A key of GnuPG's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpgKey {
    /// Which one, as `gpg --local-user` takes it.
    pub key: String,
    /// A file with the passphrase; without one GnuPG's agent has to know it.
    pub passphrase: Option<PathBuf>,
    /// GnuPG's directory, instead of its own choice.
    pub home: Option<PathBuf>,
}

impl GpgKey {
    /// A signed message with `payload` in it, not compressed, so that every reader can read it.
    pub(super) async fn sign(&self, payload: Vec<u8>) -> Result<Vec<u8>> {
        let gpg = self.command().input(payload);
        // It may wait for somebody who types a passphrase.
        let output = tokio::task::spawn_blocking(|| gpg.output());
        let output = output.await.context("Waiting for GnuPG")?;
        output.map_err(|error| match error.is::<ToolMissing>() {
            true => error,
            false => SignError::Gpg {
                key: self.key.clone(),
                said: format!("{error:#}"),
            }
            .into(),
        })
    }

    fn command(&self) -> Tool {
        let mut gpg = Tool::new("gpg").args(["--batch", "--no-tty", "--quiet"]);
        if let Some(home) = &self.home {
            gpg = gpg.arg("--homedir").arg(home);
        }
        if let Some(file) = &self.passphrase {
            let loopback = ["--pinentry-mode", "loopback", "--passphrase-file"];
            gpg = gpg.args(loopback).arg(file);
        }
        gpg.args([
            "--compress-algo",
            "none",
            "--local-user",
            &self.key,
            "--sign",
        ])
    }
}
