//! rpm's database in its SQLite format: a table with a header per package. It is copied to a
//! scratch file, since it may be part of a commit, and opened so that nothing is written beside it.

use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rusqlite::{Connection, OpenFlags};

use super::rpm_header::Header;
use super::{Detail, Files, Sink};

/// Where the database may be: in images, since `/var` belongs to the host, and as installed.
pub(super) const PATHS: [&str; 3] = [
    "usr/share/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "var/lib/rpm/rpmdb.sqlite",
];

/// The largest database, in bytes.
const MAX_DATABASE: u64 = 4 << 30;

/// The largest header, in bytes: rpm's own limit.
const MAX_HEADER: i64 = 256 << 20;

/// What is stored as a package, but is a key for signatures.
const KEY: &str = "gpg-pubkey";

/// Reads the database, if there is one.
pub(super) fn read(files: &dyn Files, detail: Detail, sink: &mut dyn Sink) -> Result<bool> {
    for path in PATHS {
        let context = || format!("Reading /{path}");
        if let Some(file) = files.open(path).with_context(context)? {
            let copy = copy(file).with_context(context)?;
            packages(&copy, detail, sink).with_context(context)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// A copy of the database under a name that goes away: SQLite opens nothing without a name.
#[derive(Debug)]
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        // What cannot be removed is scratch in a directory for that.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn copy(from: impl Read) -> Result<Copy> {
    let dir = std::env::temp_dir();
    let name = format!("bowline-rpmdb-{}", uuid::Uuid::new_v4());
    let open = crate::sys::fs::open_dir_path(&dir);
    let open = open.and_then(|dir| crate::sys::fs::create_new(dir, &name));
    let mut file = open.with_context(|| format!("Making a scratch file in {}", dir.display()))?;
    let copy = Copy(dir.join(name));
    let size = io::copy(&mut from.take(MAX_DATABASE + 1), &mut file)?;
    ensure!(
        size <= MAX_DATABASE,
        "it is larger than {MAX_DATABASE} bytes, which no package database is"
    );
    Ok(copy)
}

fn packages(copy: &Copy, detail: Detail, sink: &mut dyn Sink) -> Result<()> {
    // An immutable file: neither a journal nor a lock is looked for, and none is made.
    let uri = format!("file:{}?immutable=1", escape(&copy.0));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let database = Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    database.pragma_update(None, "trusted_schema", false)?;
    database.pragma_update(None, "cell_size_check", true)?;
    let query = "SELECT blob FROM Packages WHERE length(blob) <= ?1 ORDER BY hnum";
    let mut statement = database.prepare(query)?;
    let mut rows = statement.query([MAX_HEADER])?;
    while let Some(row) = rows.next()? {
        let blob = row.get_ref(0)?.as_blob()?;
        let header = Header::parse(blob).context("a package's header is damaged")?;
        let Some(package) = header.package().filter(|package| package.name != KEY) else {
            continue;
        };
        sink.package(package);
        if detail == Detail::Paths {
            header.paths(sink);
        }
    }
    Ok(())
}

/// A path as part of a URI.
fn escape(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' => text.push(char::from(*byte)),
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(*byte)),
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::files::tests::{Memory, Record};
    use super::super::rpm_header::tests::{Value, bash, blob};
    use super::*;

    fn database(blobs: &[Vec<u8>]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rpmdb.sqlite");
        let database = Connection::open(&path).unwrap();
        // As rpm leaves it: in the journal mode that would need a second file.
        database.pragma_update(None, "journal_mode", "wal").unwrap();
        let table =
            "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)";
        database.execute(table, []).unwrap();
        for blob in blobs {
            let insert = "INSERT INTO Packages (blob) VALUES (?1)";
            database.execute(insert, [blob]).unwrap();
        }
        drop(database);
        std::fs::read(path).unwrap()
    }

    fn files(path: &str, data: Vec<u8>) -> Memory {
        let mut files = Memory::default();
        files.add(path, data);
        files
    }

    #[test]
    fn packages_are_found_and_keys_are_left_out() {
        let texts = [(1000, "gpg-pubkey"), (1001, "1"), (1002, "1")];
        let key = blob(&texts.map(|(tag, text)| (tag, Value::Text(text))));
        let data = database(&[key, bash()]);
        for path in PATHS {
            let files = files(path, data.clone());
            let mut record = Record::default();
            assert!(read(&files, Detail::Paths, &mut record).unwrap());
            let bash = "bash bash-x 1:5.3.0-2.fc43:";
            assert_eq!(record.text(), format!("{bash} usr/bin/bash etc/skel\n"));
            let mut record = Record::default();
            read(&files, Detail::Packages, &mut record).unwrap();
            assert_eq!(record.text(), format!("{bash}\n"));
        }
        assert!(!read(&Memory::default(), Detail::Paths, &mut Record::default()).unwrap());
    }

    #[test]
    fn any_name_can_be_part_of_a_uri() {
        assert_eq!(
            escape(Path::new("/tmp/a b?%é/x-1.y_z")),
            "/tmp/a%20b%3F%25%C3%A9/x-1.y_z"
        );
    }

    #[test]
    fn what_is_no_database_is_refused() {
        let cases = [
            b"no database".to_vec(),
            Vec::new(),
            database(&[vec![1, 2, 3]]),
            database(&[bash()])[..5000].to_vec(),
        ];
        for data in cases {
            let error = read(
                &files(PATHS[0], data),
                Detail::Paths,
                &mut Record::default(),
            );
            let error = format!("{:#}", error.unwrap_err());
            assert!(
                error.starts_with("Reading /usr/share/rpm/rpmdb.sqlite: "),
                "{error}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_damage_is_an_error_or_harmless(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)
        ) {
            let mut data = database(&[bash(), bash()]);
            for (at, byte) in changes {
                let at = at.index(data.len());
                data[at] = byte;
            }
            let mut record = Record::default();
            let _ = read(&files(PATHS[1], data), Detail::Paths, &mut record);
            prop_assert!(record.packages.len() <= 1000);
        }
    }
}
