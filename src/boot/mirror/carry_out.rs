//! Carries the mirror's plan out. Steps come in, the ESP changes. Interrupted anywhere, the next
//! plan finds what is left to do, and removes what is half written.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use fn_error_context::context;

use super::{FILES, Step};
use crate::sys::fs::sync_filesystem;

/// Does all steps in their order; an error ends it there, with the ESP bootable.
#[context("Writing to the EFI system partition")]
pub fn carry_out(esp: &Path, steps: &[Step]) -> Result<()> {
    for step in steps {
        tracing::debug!("{step:?}");
        one(esp, step).with_context(|| describe(step))?;
    }
    Ok(())
}

fn one(esp: &Path, step: &Step) -> io::Result<()> {
    match step {
        Step::MakeDir(path) => fs::create_dir_all(esp.join(path)),
        Step::Copy(file) => {
            let mut from = File::open(&file.from)?;
            let copied = io::copy(&mut from, &mut File::create(esp.join(&file.to))?)?;
            match copied == file.size {
                true => Ok(()),
                false => Err(io::Error::other("the file changed while it was copied")),
            }
        }
        Step::Write(path, text) => fs::write(esp.join(path), text),
        Step::Rename(from, to) => fs::rename(esp.join(from), esp.join(to)),
        Step::Remove(path) => remove(esp, path),
        Step::Sync => sync_filesystem(esp),
    }
}

/// Removes a file, and the directory of a kernel with its last file.
fn remove(esp: &Path, path: &str) -> io::Result<()> {
    let file = esp.join(path);
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let dir = file.parent().filter(|_| Path::new(path).starts_with(FILES));
    match dir.map(fs::remove_dir) {
        Some(Err(error)) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        _ => Ok(()),
    }
}

fn describe(step: &Step) -> String {
    match step {
        Step::MakeDir(path) => format!("Making the directory {path}"),
        Step::Copy(file) => format!("Copying {} to {}", file.from.display(), file.to),
        Step::Write(path, _) => format!("Writing {path}"),
        Step::Rename(from, to) => format!("Renaming {from} to {to}"),
        Step::Remove(path) => format!("Removing {path}"),
        Step::Sync => "Waiting for the disk".into(),
    }
}
