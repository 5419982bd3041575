//! The programs under test, and how each is told to do a step. A step and a place come in, a
//! command that has not been started goes out.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use bowline::repo::refs;

use crate::walk::{Step, Store};

/// The stateroot of scratch sysroots.
const STATEROOT: &str = "default";

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What all others are compared with.
    Bowline,
    /// The command line of the ostree-ext crate.
    OstreeExt,
    /// `skopeo copy` to an OCI layout, which unpacks nothing.
    Skopeo,
    /// `podman pull` into a storage of its own.
    Podman,
    /// This program itself, see `limit`.
    Limit,
}

/// A program: what the table calls it, its kind, its command with the arguments in front.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its name in the table.
    pub name: String,
    /// Who it is.
    pub kind: Kind,
    command: Vec<PathBuf>,
}

impl FromStr for Program {
    type Err = anyhow::Error;

    /// `NAME=KIND:COMMAND[ ARGUMENT...]`.
    fn from_str(text: &str) -> Result<Self> {
        let (name, rest) = text.split_once('=').context("it has no =")?;
        let (kind, command) = rest.split_once(':').context("it has no kind")?;
        let kind = match kind {
            "bowline" => Kind::Bowline,
            "ostree-ext" => Kind::OstreeExt,
            "skopeo" => Kind::Skopeo,
            "podman" => Kind::Podman,
            "limit" => Kind::Limit,
            other => bail!("there is no kind {other}"),
        };
        let command = command.split(' ').map(PathBuf::from).collect();
        let name = name.into();
        Ok(Self {
            name,
            kind,
            command,
        })
    }
}

impl Program {
    /// Whether it is there for a feel of the scale only: once is enough.
    pub const fn is_for_scale(&self) -> bool {
        matches!(self.kind, Kind::Skopeo | Kind::Podman)
    }

    fn start(&self) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        command
    }

    /// The command of a step in the directory `dir`; `None` where the program has no such step.
    pub fn command(
        &self,
        step: &Step,
        store: Store,
        dir: &Path,
        image: &str,
    ) -> Result<Option<Command>> {
        let repo = dir.join(store.repo());
        let sysroot = dir.join("sysroot");
        let mut command = self.start();
        match (self.kind, step) {
            (Kind::Bowline, Step::Pull(_)) => {
                command.args(["image", "--repo"]);
                command.arg(repo).args(["pull", image]);
            }
            (Kind::Bowline, Step::Deploy) => {
                command.args(["rebase", image, "--sysroot"]).arg(sysroot);
            }
            (Kind::Bowline, Step::Upgrade(_)) => {
                command.args(["upgrade", "--sysroot"]).arg(sysroot);
            }
            (Kind::OstreeExt, Step::Pull(_)) => {
                command.args(["container", "image", "pull", "--quiet"]);
                command.arg(repo).arg(unverified(image));
            }
            // The peer's own command does no more than this to an image that is there.
            (Kind::OstreeExt, Step::Deploy) => {
                command = Command::new("ostree");
                command.args(["admin", "deploy", "--os", STATEROOT, "--sysroot"]);
                command.arg(sysroot).arg(image_ref(image)?);
            }
            (Kind::OstreeExt, Step::Upgrade(_)) => {
                command.args(["container", "image", "deploy", "--stateroot", STATEROOT]);
                command.arg("--sysroot").arg(sysroot);
                command.arg("--imgref").arg(unverified(image));
            }
            (Kind::Skopeo, Step::Pull(_)) => {
                command.args(["copy", "--quiet", &format!("docker://{image}")]);
                command.arg(format!("oci:{}", dir.join("layout").display()));
            }
            (Kind::Podman, Step::Pull(_)) => {
                command.arg("--root").arg(dir.join("storage"));
                command.arg("--runroot").arg(dir.join("run"));
                command.args(["pull", "--quiet", image]);
            }
            (Kind::Limit, Step::Pull(_)) => {
                command.args(["limit", image]).arg(dir.join("files"));
            }
            (Kind::Skopeo | Kind::Podman | Kind::Limit, _) => return Ok(None),
        }
        Ok(Some(command))
    }
}

fn unverified(image: &str) -> String {
    format!("ostree-unverified-registry:{image}")
}

/// The ref of an image's merge commit; each program names it alike.
fn image_ref(image: &str) -> Result<String> {
    let image = format!("docker://{image}").parse()?;
    Ok(refs::of_image(&image)?)
}
