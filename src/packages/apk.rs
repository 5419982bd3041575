//! apk's database: one text file, a paragraph per package (apk-tools, `apk.5`, "installed").

use anyhow::{Context as _, Result};

use super::lines::{for_each, text};
use super::{Detail, Files, Package, Sink};

/// Where the database is, in systems with a merged `/usr` and without.
pub(super) const PATHS: [&str; 2] = ["usr/lib/apk/db/installed", "lib/apk/db/installed"];

/// Reads the database, if there is one.
pub(super) fn read(files: &dyn Files, detail: Detail, sink: &mut dyn Sink) -> Result<bool> {
    for path in PATHS {
        let context = || format!("Reading /{path}");
        if let Some(file) = files.open(path).with_context(context)? {
            let mut reader = Reader::new(sink, detail);
            for_each(file, |line| reader.line(line)).with_context(context)?;
            reader.tell();
            return Ok(true);
        }
    }
    Ok(false)
}

struct Reader<'a> {
    sink: &'a mut dyn Sink,
    detail: Detail,
    package: Package,
    told: bool,
    dir: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(sink: &'a mut dyn Sink, detail: Detail) -> Self {
        Self {
            sink,
            detail,
            package: Package::default(),
            told: false,
            dir: Vec::new(),
        }
    }

    fn line(&mut self, line: &[u8]) {
        let [kind, b':', value @ ..] = line else {
            if line.is_empty() {
                self.tell();
                (self.package, self.told) = (Package::default(), false);
            }
            return;
        };
        match kind {
            b'P' => self.package.name = text(value),
            b'V' => self.package.version = text(value),
            b'o' => self.package.source = text(value),
            b't' => self.package.built = text(value).parse().ok(),
            b'F' => self.dir = value.to_vec(),
            b'R' => self.file(value),
            _ => {}
        }
    }

    /// What describes the package stands before its files.
    fn tell(&mut self) {
        if self.told || self.package.name.is_empty() {
            return;
        }
        if self.package.source.is_empty() {
            self.package.source = self.package.name.clone();
        }
        self.sink.package(self.package.clone());
        self.told = true;
    }

    fn file(&mut self, name: &[u8]) {
        self.tell();
        if !self.told || self.detail == Detail::Packages {
            return;
        }
        let mut path = self.dir.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        self.sink.path(&path);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::files::tests::{Memory, Record};
    use super::*;

    const INSTALLED: &str = "C:Q1abc=\nP:busybox-binsh\nV:1.37.0-r12\nA:x86_64\nt:1736000000\n\
        o:busybox\nF:bin\nR:sh\na:0:0:777\nZ:Q1x\nF:\nR:top\n\nP:musl\nV:1.2.5-r8\nF:lib\nR:ld-musl.so\n";

    #[test]
    fn packages_have_sources_versions_and_paths() {
        for path in PATHS {
            let files = Memory::new(&[(path, INSTALLED)]);
            let mut record = Record::default();
            assert!(read(&files, Detail::Paths, &mut record).unwrap());
            assert_eq!(
                record.text(),
                "busybox-binsh busybox 1.37.0-r12: bin/sh top\nmusl musl 1.2.5-r8: lib/ld-musl.so\n"
            );
            assert_eq!(record.packages[0].built, Some(1_736_000_000));
            let mut record = Record::default();
            read(&files, Detail::Packages, &mut record).unwrap();
            assert_eq!(
                record.text(),
                "busybox-binsh busybox 1.37.0-r12:\nmusl musl 1.2.5-r8:\n"
            );
        }
    }

    proptest! {
        #[test]
        fn any_lines_are_read(lines in prop::collection::vec("[CPVAtoFRaZ]?:?.{0,9}", 0..50)) {
            let files = Memory::new(&[(PATHS[0], &lines.join("\n"))]);
            let mut record = Record::default();
            read(&files, Detail::Paths, &mut record).unwrap();
            prop_assert!(record.packages.iter().all(|p| !p.name.is_empty() && !p.source.is_empty()));
        }

        #[test]
        fn any_bytes_are_read(data in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut files = Memory::default();
            files.add(PATHS[1], data);
            read(&files, Detail::Paths, &mut Record::default()).unwrap();
        }
    }
}
