//! dpkg's database: `status`, or a file per package in `status.d`, and the lists of paths in `info`
//! (deb-control(5), dpkg(1)). When a package was released is told by its changelog, if it is there.

use std::io::{self, Read};

use anyhow::{Context as _, Result};
use flate2::read::GzDecoder;

use super::lines::{for_each, text};
use super::{Detail, Files, Package, Release, Sink};

/// Where the database may be: in images, since `/var` belongs to the host, and as installed.
const DIRS: [&str; 2] = ["usr/lib/sysimage/dpkg", "var/lib/dpkg"];

/// The most of a changelog that is read, in bytes: the releases of the last years are on top.
const MAX_CHANGELOG: u64 = 256 << 10;

pub(super) fn is_database(path: &str) -> bool {
    let below = |dir| path.strip_prefix(dir)?.strip_prefix('/');
    let mut names = DIRS.into_iter().filter_map(below);
    names.any(|name| name == "status" || name.starts_with("status.d/"))
}

/// Reads the database, if there is one.
pub(super) fn read(files: &dyn Files, detail: Detail, sink: &mut dyn Sink) -> Result<bool> {
    for dir in DIRS {
        let mut installed = Vec::new();
        let mut sources = vec![format!("{dir}/status")];
        let parts = files.names(&format!("{dir}/status.d"))?;
        let parts = parts.iter().filter(|name| !name.ends_with(".md5sums"));
        sources.extend(parts.map(|name| format!("{dir}/status.d/{name}")));
        let mut found = false;
        for path in &sources {
            let context = || format!("Reading /{path}");
            let Some(file) = files.open(path).with_context(context)? else {
                continue;
            };
            found = true;
            paragraphs(file, path != &sources[0], &mut installed).with_context(context)?;
        }
        if found {
            for package in installed {
                tell(files, dir, package, detail, sink)?;
            }
            return Ok(true);
        }
    }
    Ok(false)
}

/// A paragraph of the status file.
#[derive(Debug, Default)]
struct Installed {
    package: Package,
    architecture: String,
    installed: bool,
}

fn paragraphs(file: impl Read, all: bool, found: &mut Vec<Installed>) -> io::Result<()> {
    let mut current = Installed::default();
    let mut end = |current: &mut Installed| {
        let mut whole = std::mem::take(current);
        if whole.package.source.is_empty() {
            whole.package.source = whole.package.name.clone();
        }
        if (whole.installed || all) && !whole.package.name.is_empty() {
            found.push(whole);
        }
    };
    for_each(file, |line| {
        if line.trim_ascii().is_empty() {
            return end(&mut current);
        }
        // Lines that begin with a space continue a field that is of no interest here.
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            return;
        };
        let value = text(&line[colon + 1..]);
        match &line[..colon] {
            b"Package" => current.package.name = value,
            b"Version" => current.package.version = value,
            b"Architecture" => current.architecture = value,
            b"Source" => {
                // With a version in parentheses where it is another.
                let name = value.split_once(' ').map_or(&*value, |(name, _)| name);
                current.package.source = name.to_string();
            }
            b"Status" => current.installed = value.ends_with(" installed"),
            _ => {}
        }
    })?;
    end(&mut current);
    Ok(())
}

fn tell(
    files: &dyn Files,
    dir: &str,
    installed: Installed,
    detail: Detail,
    sink: &mut dyn Sink,
) -> Result<()> {
    let (mut package, architecture) = (installed.package, installed.architecture);
    if detail == Detail::Packages || package.name.contains('/') || architecture.contains('/') {
        sink.package(package);
        return Ok(());
    }
    let name = package.name.clone();
    package.releases = releases(files, &name)?;
    package.built = package.releases.first().map(|release| release.at);
    sink.package(package);
    // Packages that may be installed for several architectures have theirs in the name.
    for stem in [format!("{name}:{architecture}"), name] {
        let path = format!("{dir}/info/{stem}.list");
        let context = || format!("Reading /{path}");
        if let Some(list) = files.open(&path).with_context(context)? {
            let each = |line: &[u8]| sink.path(line.strip_prefix(b"/").unwrap_or(line));
            return for_each(list, each).with_context(context);
        }
    }
    Ok(())
}

/// When the package was released, the newest first. A changelog that cannot be read tells nothing.
fn releases(files: &dyn Files, name: &str) -> Result<Vec<Release>> {
    for file in ["changelog.Debian.gz", "changelog.gz"] {
        let path = format!("usr/share/doc/{name}/{file}");
        if let Some(file) = files.open(&path)? {
            let (mut releases, mut development) = (Vec::new(), false);
            let head = GzDecoder::new(file).take(MAX_CHANGELOG);
            let _ = for_each(head, |line| {
                development = for_development(line).unwrap_or(development);
                releases.extend(signed_off(line).map(|at| Release { at, development }));
            });
            return Ok(releases);
        }
    }
    Ok(Vec::new())
}

/// Whom a line `package (version) distribution...; key=value...` that begins an entry is for
/// (deb-changelog(5)); nothing for other lines.
fn for_development(line: &[u8]) -> Option<bool> {
    let line = std::str::from_utf8(line).ok()?;
    let (_, rest) = line.split_once(") ").filter(|_| !line.starts_with(' '))?;
    let (distributions, _) = rest.split_once(';')?;
    let mut names = distributions.split(' ');
    Some(names.any(|name| ["unstable", "experimental"].contains(&name)))
}

/// The time of a line ` -- Name <address>  Thu, 01 Jan 1970 00:00:00 +0000`.
fn signed_off(line: &[u8]) -> Option<i64> {
    let rest = std::str::from_utf8(line.strip_prefix(b" -- ")?).ok()?;
    let (_, date) = rest.rsplit_once("  ")?;
    let date = chrono::DateTime::parse_from_rfc2822(date.trim()).ok()?;
    Some(date.timestamp())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::super::files::tests::{Memory, Record};
    use super::*;

    const STATUS: &str = "Package: libfoo1\nStatus: install ok installed\nArchitecture: amd64\n\
        Multi-Arch: same\nSource: foo (1.2)\nVersion: 1.2-3+b1\nDescription: a\n Package: none\n\n\
        Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
        Package: bar\nStatus: hold ok installed\nArchitecture: all\nVersion: 2:7\n";

    #[test]
    fn packages_have_sources_versions_and_paths() {
        for dir in DIRS {
            let files = Memory::new(&[
                (&format!("{dir}/status"), STATUS),
                (
                    &format!("{dir}/info/libfoo1:amd64.list"),
                    "/.\n/usr/lib/libfoo.so\n",
                ),
                (&format!("{dir}/info/bar.list"), "/usr/bin/bar\n"),
            ]);
            let mut record = Record::default();
            assert!(read(&files, Detail::Paths, &mut record).unwrap());
            assert_eq!(
                record.text(),
                "libfoo1 foo 1.2-3+b1: . usr/lib/libfoo.so\nbar bar 2:7: usr/bin/bar\n"
            );
            let mut record = Record::default();
            assert!(read(&files, Detail::Packages, &mut record).unwrap());
            assert_eq!(record.text(), "libfoo1 foo 1.2-3+b1:\nbar bar 2:7:\n");
        }
        assert!(!read(&Memory::new(&[]), Detail::Paths, &mut Record::default()).unwrap());
    }

    #[test]
    fn a_file_per_package_is_read_too() {
        let files = Memory::new(&[
            (
                "var/lib/dpkg/status.d/base",
                "Package: base-files\nVersion: 13\n",
            ),
            ("var/lib/dpkg/status.d/base.md5sums", "Package: no\n"),
        ]);
        let mut record = Record::default();
        assert!(read(&files, Detail::Packages, &mut record).unwrap());
        assert_eq!(record.text(), "base-files base-files 13:\n");
        assert!(is_database("var/lib/dpkg/status.d/base"));
        assert!(is_database("usr/lib/sysimage/dpkg/status"));
        assert!(!is_database("var/lib/dpkg/status-old"));
    }

    #[test]
    fn changelogs_tell_when_there_were_releases() {
        let changelog = "foo (2) trixie; urgency=low\n\n  * New.\n\n \
            -- A B <a@b>  Sun, 06 Nov 1994 08:49:37 +0000\n\n\
            foo (1) unstable; urgency=low\n\n  * (foo) trixie; no\n \
            -- A B <a@b>  Sat, 01 Jan 1994 00:00:00 +0100\n -- broken\n";
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(changelog.as_bytes()).unwrap();
        let mut files = Memory::new(&[("var/lib/dpkg/status", STATUS)]);
        files.add(
            "usr/share/doc/bar/changelog.Debian.gz",
            gz.finish().unwrap(),
        );
        let mut record = Record::default();
        read(&files, Detail::Paths, &mut record).unwrap();
        let releases = [(784_111_777, false), (757_378_800, true)];
        let releases = releases.map(|(at, development)| Release { at, development });
        assert_eq!(record.packages[1].releases, releases);
        assert_eq!(record.packages[1].built, Some(784_111_777));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(status in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut files = Memory::default();
            files.add("var/lib/dpkg/status", status);
            read(&files, Detail::Paths, &mut Record::default()).unwrap();
        }

        #[test]
        fn each_installed_package_is_found(names in prop::collection::vec("[a-z0-9][a-z0-9+.-]{1,9}", 0..20)) {
            let paragraph = |n: &String| format!("Package: {n}\nVersion: 1\nStatus: install ok installed\n");
            let status: Vec<String> = names.iter().map(paragraph).collect();
            let files = Memory::new(&[("var/lib/dpkg/status", &status.join("\n"))]);
            let mut record = Record::default();
            read(&files, Detail::Paths, &mut record).unwrap();
            let found: Vec<&String> = record.packages.iter().map(|p| &p.name).collect();
            prop_assert_eq!(found, names.iter().collect::<Vec<_>>());
        }
    }
}
