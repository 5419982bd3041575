//! pacman's database: a directory per package with the files `desc` and `files`, in which a line
//! `%NAME%` is followed by values up to an empty line (libalpm, `be_local.c`).

use anyhow::{Context as _, Result};

use super::lines::{for_each, text};
use super::{Detail, Files, Package, Sink};

/// Where the database may be: in images, since `/var` belongs to the host, and as installed.
const DIRS: [&str; 2] = ["usr/lib/sysimage/lib/pacman/local", "var/lib/pacman/local"];

pub(super) fn is_database(path: &str) -> bool {
    let below = |dir| path.strip_prefix(dir)?.strip_prefix('/');
    let mut names = DIRS.into_iter().filter_map(below);
    names.any(|name| name.split_once('/').is_some_and(|(_, file)| file == "desc"))
}

/// Reads the database, if there is one.
pub(super) fn read(files: &dyn Files, detail: Detail, sink: &mut dyn Sink) -> Result<bool> {
    for dir in DIRS {
        let mut found = false;
        for name in files.names(dir)? {
            let path = format!("{dir}/{name}");
            let Some(package) = description(files, &format!("{path}/desc"))? else {
                continue;
            };
            found = true;
            sink.package(package);
            if detail == Detail::Paths {
                values(files, &format!("{path}/files"), |field, value| {
                    // Directories end with a slash and are of many packages.
                    if field == b"FILES" && !value.ends_with(b"/") {
                        sink.path(value);
                    }
                })?;
            }
        }
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn description(files: &dyn Files, path: &str) -> Result<Option<Package>> {
    let mut package = Package::default();
    values(files, path, |field, value| match field {
        b"NAME" => package.name = text(value),
        b"VERSION" => package.version = text(value),
        b"BASE" => package.source = text(value),
        b"BUILDDATE" => package.built = text(value).parse().ok(),
        _ => {}
    })?;
    if package.source.is_empty() {
        package.source = package.name.clone();
    }
    Ok((!package.name.is_empty()).then_some(package))
}

/// Calls `each` with every value and the name of its field.
fn values(files: &dyn Files, path: &str, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
    let context = || format!("Reading /{path}");
    let Some(file) = files.open(path).with_context(context)? else {
        return Ok(());
    };
    let mut field: Option<Vec<u8>> = None;
    let read = for_each(file, |line| match (line, &field) {
        (b"", _) => field = None,
        ([b'%', name @ .., b'%'], None) => field = Some(name.to_vec()),
        (value, Some(name)) => each(name, value),
        (_, None) => {}
    });
    read.with_context(context)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::files::tests::{Memory, Record};
    use super::*;

    const DESC: &str = "%NAME%\ngcc-libs\n\n%VERSION%\n15.1.1-2\n\n%BASE%\ngcc\n\n\
        %DESC%\n%100%\n\n%BUILDDATE%\n1750000000\n\n";
    const FILES: &str =
        "%FILES%\nusr/\nusr/lib/\nusr/lib/libgcc_s.so\nusr/lib/%x%\n\n%BACKUP%\netc/x\tabc\n";

    #[test]
    fn packages_have_sources_versions_and_paths() {
        for dir in DIRS {
            let files = Memory::new(&[
                (&format!("{dir}/ALPM_DB_VERSION"), "9\n"),
                (&format!("{dir}/gcc-libs-15.1.1-2/desc"), DESC),
                (&format!("{dir}/gcc-libs-15.1.1-2/files"), FILES),
            ]);
            let mut record = Record::default();
            assert!(read(&files, Detail::Paths, &mut record).unwrap());
            assert_eq!(
                record.text(),
                "gcc-libs gcc 15.1.1-2: usr/lib/libgcc_s.so usr/lib/%x%\n"
            );
            assert_eq!(record.packages[0].built, Some(1_750_000_000));
            assert!(is_database(&format!("{dir}/gcc-libs-15.1.1-2/desc")));
            assert!(!is_database(&format!("{dir}/gcc-libs-15.1.1-2/files")));
        }
        let none = Memory::new(&[("var/lib/pacman/local/ALPM_DB_VERSION", "9\n")]);
        assert!(!read(&none, Detail::Paths, &mut Record::default()).unwrap());
    }

    proptest! {
        #[test]
        fn any_text_is_read(desc in "(%(NAME|BASE|FILES)%\n|.{0,9}\n|\n){0,20}") {
            let files = Memory::new(&[
                ("var/lib/pacman/local/x/desc", &desc),
                ("var/lib/pacman/local/x/files", &desc),
            ]);
            read(&files, Detail::Paths, &mut Record::default()).unwrap();
        }

        #[test]
        fn any_bytes_are_read(data in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut files = Memory::new(&[("var/lib/pacman/local/x/desc", DESC)]);
            files.add("var/lib/pacman/local/x/files", data);
            read(&files, Detail::Paths, &mut Record::default()).unwrap();
        }
    }
}
