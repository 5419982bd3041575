//! Checks and hooks that are programs in directories. The root of a system comes in; what would run,
//! in order, and the results of running it go out. Never runs what is masked or not executable.
//!
//! A name in `/etc` takes the place of the same name in `/usr/lib`; a link to `/dev/null` there
//! switches it off. Bowline's and greenboot's directories do not mask one another.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use fn_error_context::context;

use super::{CheckResult, Class};
use crate::sys::watched::{self, Ending};

/// Directories in `/usr/lib` and `/etc`, with whether their files are greenboot's, which need no
/// permission to run when they end in `.sh`.
const CHECKS: [(&str, bool); 2] = [("bowline/check.d", false), ("greenboot/check", true)];
/// Programs in one directory at most.
const MAX_PROGRAMS: usize = 200;

/// Which hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A boot is good.
    Good,
    /// A boot is red, or an update was given up.
    Bad,
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its file's name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Whether a shell has to run it.
    shell: bool,
}

/// The checks of one class, sorted by name.
#[context("Looking for {} checks", class.name())]
pub fn checks(root: &Path, class: Class) -> Result<Vec<Script>> {
    let dirs = CHECKS.map(|(dir, greenboot)| (format!("{dir}/{}.d", class.name()), greenboot));
    scripts(root, &dirs)
}

/// Runs all checks of one class in their order, `time` each at most. Where they cannot be found,
/// that is a red check: nobody knows what they would have said.
pub fn run_checks(root: &Path, class: Class, time: Duration) -> Vec<CheckResult> {
    match checks(root, class) {
        Ok(scripts) => scripts.iter().map(|s| s.check(class, time)).collect(),
        Err(error) => {
            let name = format!("{}.d", class.name());
            vec![CheckResult::new(&name, class, Some(format!("{error:#}")))]
        }
    }
}

/// The hooks for an occasion, sorted by name.
#[context("Looking for hooks")]
pub fn hooks(root: &Path, occasion: Occasion) -> Result<Vec<Script>> {
    let dirs = match occasion {
        Occasion::Good => [("bowline/on-good.d", false), ("greenboot/green.d", true)],
        Occasion::Bad => [("bowline/on-bad.d", false), ("greenboot/red.d", true)],
    };
    scripts(
        root,
        &dirs.map(|(dir, greenboot)| (dir.to_owned(), greenboot)),
    )
}

fn scripts(root: &Path, dirs: &[(String, bool)]) -> Result<Vec<Script>> {
    let mut all = Vec::new();
    for (dir, greenboot) in dirs {
        let mut named = BTreeMap::new();
        for place in ["usr/lib", "etc"] {
            for path in list(&root.join(place).join(dir))? {
                let name = path.file_name().unwrap_or_default();
                named.insert(name.to_string_lossy().into_owned(), path);
            }
        }
        let runnable = named.into_iter().filter_map(|(name, path)| {
            let shell = *greenboot && name.ends_with(".sh");
            runnable(name, path, shell)
        });
        all.extend(runnable);
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let what = || format!("Reading {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(what)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.with_context(what)?.path());
        anyhow::ensure!(
            paths.len() <= MAX_PROGRAMS,
            "{} holds more than {MAX_PROGRAMS} programs",
            dir.display()
        );
    }
    Ok(paths)
}

/// A regular file that may be run; links are followed, so `/dev/null` and dead links are not.
fn runnable(name: String, path: PathBuf, greenboot: bool) -> Option<Script> {
    if name.starts_with('.') {
        return None;
    }
    let found = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
    let executable = found.permissions().mode() & 0o111 != 0;
    if !executable && !greenboot {
        tracing::warn!("{} is not executable, so it is not run", path.display());
        return None;
    }
    Some(Script {
        name,
        path,
        shell: !executable,
    })
}

impl Script {
    /// Runs it; `None` is green, else why it is red. What it printed comes second.
    pub fn run(&self, env: &[(&str, &str)], time: Duration) -> (Option<String>, String) {
        let path = self.path.to_string_lossy();
        let run = match self.shell {
            true => watched::run(Path::new("/bin/sh"), &[&path], env, time),
            false => watched::run(&self.path, &[], env, time),
        };
        let red = match run.ending {
            Ending::Exit(0) => None,
            Ending::Exit(code) => Some(format!("it ended with code {code}")),
            Ending::Signal(signal) => Some(format!("signal {signal} ended it")),
            Ending::TimedOut(time) => {
                Some(format!("it did not end within {} s", time.as_secs_f32()))
            }
            Ending::NotStarted(why) => Some(format!("it could not be started ({why})")),
        };
        (red, run.output)
    }

    /// Runs it as a check.
    pub fn check(&self, class: Class, time: Duration) -> CheckResult {
        let (red, output) = self.run(&[("BOWLINE_CHECK", class.name())], time);
        CheckResult {
            name: self.name.clone(),
            class,
            red,
            output,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn script(root: &Path, path: &str, body: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn names(scripts: &[Script], root: &Path) -> Vec<String> {
        let short = |s: &Script| s.path.strip_prefix(root).unwrap().display().to_string();
        scripts.iter().map(short).collect()
    }

    #[test]
    fn etc_masks_and_names_sort() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for path in [
            "usr/lib/bowline/check.d/required.d/20-b",
            "usr/lib/bowline/check.d/required.d/10-a",
            "usr/lib/bowline/check.d/required.d/30-off",
            "usr/lib/bowline/check.d/required.d/.hidden",
            "etc/bowline/check.d/required.d/20-b",
            "etc/greenboot/check/required.d/15_own.sh",
            "usr/lib/greenboot/check/required.d/10-a",
            "usr/lib/bowline/check.d/wanted.d/50-w",
            "etc/greenboot/green.d/g.sh",
            "usr/lib/bowline/on-bad.d/b",
        ] {
            script(root, path, "exit 0");
        }
        symlink(
            "/dev/null",
            root.join("etc/bowline/check.d/required.d/30-off"),
        )
        .unwrap();
        let plain = fs::Permissions::from_mode(0o644);
        let readme = root.join("etc/bowline/check.d/required.d/README");
        fs::write(&readme, "x").unwrap();
        fs::set_permissions(root.join("etc/greenboot/check/required.d/15_own.sh"), plain).unwrap();
        assert_eq!(
            names(&checks(root, Class::Required).unwrap(), root),
            [
                "usr/lib/bowline/check.d/required.d/10-a",
                "usr/lib/greenboot/check/required.d/10-a",
                "etc/greenboot/check/required.d/15_own.sh",
                "etc/bowline/check.d/required.d/20-b",
            ]
        );
        let wanted = checks(root, Class::Wanted).unwrap();
        assert_eq!(
            names(&wanted, root),
            ["usr/lib/bowline/check.d/wanted.d/50-w"]
        );
        let green = hooks(root, Occasion::Good).unwrap();
        assert_eq!(names(&green, root), ["etc/greenboot/green.d/g.sh"]);
        let red = hooks(root, Occasion::Bad).unwrap();
        assert_eq!(names(&red, root), ["usr/lib/bowline/on-bad.d/b"]);
        assert_eq!(checks(&root.join("none"), Class::Wanted).unwrap(), []);
    }

    #[test]
    fn checks_that_cannot_be_found_are_red() {
        let dir = tempfile::tempdir().unwrap();
        let (root, time) = (dir.path(), Duration::from_secs(20));
        let place = "usr/lib/bowline/check.d/required.d";
        script(root, &format!("{place}/0"), "exit 0");
        let results = run_checks(root, Class::Required, time);
        assert_eq!(results, [CheckResult::new("0", Class::Required, None)]);
        for number in 1..=MAX_PROGRAMS {
            fs::write(root.join(place).join(number.to_string()), "").unwrap();
        }
        let results = run_checks(root, Class::Required, time);
        assert_eq!((results.len(), &*results[0].name), (1, "required.d"));
        let red = results[0].red.as_deref().unwrap_or_default();
        assert!(red.contains("holds more than 200 programs"), "{red}");
        assert_eq!(results[0].class, Class::Required);
        assert_eq!(run_checks(root, Class::Wanted, time), []);
    }

    #[test]
    fn results_say_what_happened() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let place = "etc/bowline/check.d/required.d";
        script(root, &format!("{place}/1"), "echo $BOWLINE_CHECK");
        script(root, &format!("{place}/2"), "echo no database >&2; exit 4");
        script(root, &format!("{place}/3"), "sleep 30");
        script(root, &format!("{place}/4"), "kill -6 $$");
        fs::write(root.join(place).join("5"), "#!/nonexistent/interpreter\n").unwrap();
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(root.join(place).join("5"), executable).unwrap();
        script(root, "etc/greenboot/check/required.d/6.sh", "exit 9");
        let plain = fs::Permissions::from_mode(0o644);
        fs::set_permissions(root.join("etc/greenboot/check/required.d/6.sh"), plain).unwrap();
        let all = checks(root, Class::Required).unwrap();
        let time = Duration::from_millis(500);
        let results = all.iter().map(|s| s.check(Class::Required, time));
        let said: Vec<_> = results
            .map(|r| (r.red.unwrap_or_default(), r.output))
            .collect();
        assert_eq!(said[0], (String::new(), "required\n".into()));
        assert_eq!(
            said[1],
            ("it ended with code 4".into(), "no database\n".into())
        );
        assert_eq!(said[2].0, "it did not end within 0.5 s");
        assert_eq!(said[3].0, "signal 6 ended it");
        assert!(
            said[4].0.starts_with("it could not be started ("),
            "{said:?}"
        );
        assert_eq!(said[5].0, "it ended with code 9");
    }
}
