//! `kargs edit`: arguments as lines of a text file, an editor, and back. Holds no lock while a
//! person thinks; what changed meanwhile is noticed, and the text is kept.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::CWD;

use super::args::ThenArgs;
use super::{change_locked, current};
use crate::boot::kargs::{Karg, KernelArgs};
use crate::boot::kargs_edit::Edit;
use crate::cli::{Context, Outcome, UsageError, reboot, verdict};
use crate::deploy::{Kargs, Owner};
use crate::sys;
use crate::sysroot::{Deployment, Sysroot};

/// The largest text that is read back, in bytes; the kernel takes a few thousand.
const MAX_BYTES: u64 = 64 << 10;

/// Lets a person edit the arguments of what boots next.
pub fn run(then: ThenArgs, context: &Context) -> Result<Outcome> {
    if then.apply {
        reboot::check(context)?;
    }
    if !then.force {
        verdict::wait(context, true)?;
    }
    // With the lock, although only for a moment: whoever may not write learns it before typing.
    let (base, before) = current(&*Sysroot::open_locked(&context.sysroot)?, context)?;
    let file = Draft::new(context, &text(&base, &before))?;
    sys::command::edit(&context.environment.editor(), &file.path)?;
    let list = parse(&file.read()?, &before.args).map_err(|error| file.kept(error))?;
    let outcome = finish(&base, &before, list, then, context);
    outcome.map_err(|error| file.kept(error))
}

fn finish(
    base: &Deployment,
    before: &Kargs,
    list: KernelArgs,
    then: ThenArgs,
    context: &Context,
) -> Result<Outcome> {
    let sysroot = Sysroot::open_locked(&context.sysroot)?;
    let (now, kargs) = current(&sysroot, context)?;
    if now.id != base.id || kargs != *before {
        let message = "what boots next was changed while the arguments were edited";
        return Err(UsageError::new(message)
            .hint("run `bowline kargs edit` again")
            .into());
    }
    change_locked(&sysroot, vec![Edit::Set(list)], then, context)
}

/// What a person gets to see.
fn text(base: &Deployment, kargs: &Kargs) -> String {
    let of_image = kargs.args.filtered(|arg| kargs.owner(arg) == Owner::Image);
    let image = match of_image.is_empty() {
        true => "None of them comes from the image.".into(),
        false => format!("From the image: {of_image}"),
    };
    let lines: String = kargs.args.iter().map(|arg| format!("{arg}\n")).collect();
    format!(
        "# Kernel arguments of {}, one on each line, in their order.\n\
         # Lines that start with # do not count. {image}\n{lines}",
        base.id
    )
}

/// Reads the lines back. What was there before may be odd; what is new must be an argument.
fn parse(text: &str, before: &KernelArgs) -> Result<KernelArgs> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let arg = |line: &str| match before.iter().find(|arg| arg.as_str() == line) {
        Some(arg) => Ok(arg.clone()),
        None => Ok(Karg::new(line)?),
    };
    let list: KernelArgs = lines.map(arg).collect::<Result<_>>()?;
    if list.is_empty() && !before.is_empty() {
        let error = UsageError::new("no kernel argument is left: nothing was changed");
        return Err(error
            .hint("to remove them all, name them to `bowline kargs delete`")
            .into());
    }
    Ok(list)
}

/// A file that is removed when it is no longer needed.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn new(context: &Context, text: &str) -> Result<Self> {
        let name = format!("bowline-kargs-{}.txt", std::process::id());
        let path = context.environment.temporary().join(name);
        let what = || format!("Writing {}", path.display());
        let name = path
            .to_str()
            .context("the temporary directory has no UTF-8 name")?;
        let mut file = sys::fs::create_new(CWD, name).with_context(what)?;
        let draft = Self { path: path.clone() };
        file.write_all(text.as_bytes()).with_context(what)?;
        Ok(draft)
    }

    fn read(&self) -> Result<String> {
        let text = fs::File::open(&self.path).and_then(|file| sys::tree::text(file, MAX_BYTES));
        text.with_context(|| format!("Reading {}", self.path.display()))
    }

    /// Keeps the text beside its file, which goes, and says so.
    fn kept(&self, error: anyhow::Error) -> anyhow::Error {
        let kept = self.path.with_extension("rejected");
        match fs::rename(&self.path, &kept) {
            Ok(()) => error.context(format!(
                "Taking over the text, which is in {}",
                kept.display()
            )),
            Err(_) => error,
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!("{} is left: {error}", path.display());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_arguments() {
        let before = KernelArgs::parse("root=1 old=\"open");
        let text = "# comment\n\n  root=1\nold=\"open\n quiet \n#x\n";
        assert_eq!(
            parse(text, &before).unwrap().to_words(),
            ["root=1", "old=\"open", "quiet"]
        );
        let error = parse("root=1\na b\n", &before).unwrap_err().to_string();
        assert!(error.contains("more than one argument"), "{error}");
        let error = parse("# root=1\n", &before).unwrap_err().to_string();
        assert!(error.contains("no kernel argument is left"), "{error}");
    }
}
