//! Small values that many tests start from: a deployment, files in a directory, an image of the
//! fixture system, a program that was run. Names and texts come in.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::Result;
use fn_error_context::context;
use tempfile::TempDir;

use super::{CommitOptions, Encapsulation, Fixture, Image, OS};
use crate::sysroot::{Deployment, DeploymentId, Origin, Slot};

/// A policy.json that accepts every image.
pub const ANY_IMAGE: &str = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;

/// The deployment `STATEROOT/COMMIT`, or that of `COMMIT` in the stateroot `os`. It follows no
/// image and has no kernel arguments.
pub fn deployment(name: &str, slot: Slot) -> Deployment {
    let (stateroot, commit) = name.split_once('/').unwrap_or(("os", name));
    Deployment {
        id: DeploymentId {
            stateroot: stateroot.into(),
            commit: commit.into(),
            serial: 0,
        },
        slot,
        pinned: false,
        origin: Origin::default(),
        kargs: Vec::new(),
    }
}

/// Writes a file below a directory, with the directories above it.
#[context("Writing {path} below {}", root.display())]
pub fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(fs::write(path, text)?)
}

/// A directory with these files, paths and texts.
pub fn files(files: &[(&str, &str)]) -> Result<TempDir> {
    let dir = tempfile::tempdir()?;
    for (path, text) in files {
        write(dir.path(), path, text)?;
    }
    Ok(dir)
}

/// A bootable image of a version of the fixture system in several layers, with further lines.
pub fn os_image(version: &str, more: &str) -> Result<Image> {
    let fixture = Fixture::new()?;
    let mut options = CommitOptions::default();
    options.metadata[0].1 = version.into();
    let commit = fixture.commit_with(&format!("{OS}\n{more}"), &options)?;
    let image = Encapsulation::chunked().image(fixture.repo(), &commit)?;
    Ok(image.build())
}

/// Runs a program that must end with 0; its stdout goes out.
///
/// # Panics
/// Where it ends otherwise, with what it said.
pub fn stdout(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{command:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// What a program said on stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
