//! The header of an installed rpm package, as its database holds it: the number of entries and the
//! size of the data, both in big-endian order; entries of tag, type, offset and count; the data
//! (rpm's documentation, "RPM V4 Package format", without the magic). Bytes come in, a package goes out.

use super::lines::text;
use super::{Package, Release, Sink};

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const BUILD_TIME: u32 = 1006;
const SOURCE_RPM: u32 = 1044;
const CHANGELOG_TIME: u32 = 1080;
const DIR_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIR_NAMES: u32 = 1118;

const TYPE_INT32: u32 = 4;
const TYPE_STRING: u32 = 6;
const TYPE_STRING_ARRAY: u32 = 8;
const TYPE_I18N_STRING: u32 = 9;

/// More entries than rpm itself takes, and more values than any package has files.
const MAX_ENTRIES: usize = 65_536;
const MAX_VALUES: usize = 4 << 20;

/// A header.
#[derive(Debug)]
pub(super) struct Header<'a> {
    entries: &'a [u8],
    data: &'a [u8],
}

/// One entry: what type of values there are, how many, and where they begin.
struct Entry<'a> {
    kind: u32,
    count: usize,
    data: &'a [u8],
}

impl<'a> Header<'a> {
    /// Splits a blob into entries and data; `None` when its sizes make no sense.
    pub(super) fn parse(blob: &'a [u8]) -> Option<Self> {
        let count = usize::try_from(number(blob, 0)?).ok()?;
        let size = usize::try_from(number(blob, 4)?).ok()?;
        if count > MAX_ENTRIES {
            return None;
        }
        let start = 8 + count * 16;
        Some(Self {
            entries: blob.get(8..start)?,
            data: blob.get(start..start.checked_add(size)?)?,
        })
    }

    fn find(&self, tag: u32) -> Option<Entry<'a>> {
        let mut entries = self.entries.chunks_exact(16);
        let entry = entries.find(|entry| number(entry, 0) == Some(tag))?;
        let offset = usize::try_from(number(entry, 8)?).ok()?;
        let count = usize::try_from(number(entry, 12)?).ok()?;
        Some(Entry {
            kind: number(entry, 4)?,
            count: (count <= MAX_VALUES).then_some(count)?,
            data: self.data.get(offset..)?,
        })
    }

    fn strings(&self, tag: u32) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let strings = [TYPE_STRING, TYPE_STRING_ARRAY, TYPE_I18N_STRING];
        let entry = self.find(tag).filter(|entry| strings.contains(&entry.kind));
        let (mut data, count) = entry.map_or((&[][..], 0), |entry| (entry.data, entry.count));
        let next = move || {
            let end = data.iter().position(|b| *b == 0)?;
            let value = &data[..end];
            data = &data[end + 1..];
            Some(value)
        };
        std::iter::from_fn(next).take(count)
    }

    fn string(&self, tag: u32) -> Option<String> {
        self.strings(tag).next().map(text)
    }

    fn numbers(&self, tag: u32) -> impl Iterator<Item = u32> + use<'a> {
        let entry = self.find(tag).filter(|entry| entry.kind == TYPE_INT32);
        let (data, count) = entry.map_or((&[][..], 0), |entry| (entry.data, entry.count));
        let values = data.chunks_exact(4).take(count);
        values.filter_map(|value| number(value, 0))
    }

    /// The package; `None` for what has no name.
    pub(super) fn package(&self) -> Option<Package> {
        let name = self.string(NAME)?;
        let (version, release) = (self.string(VERSION)?, self.string(RELEASE)?);
        let epoch = self.numbers(EPOCH).next().filter(|epoch| *epoch != 0);
        let epoch = epoch.map(|epoch| format!("{epoch}:")).unwrap_or_default();
        let source = self.string(SOURCE_RPM);
        let source = source.as_deref().and_then(source_name).unwrap_or(&name);
        Some(Package {
            source: source.to_string(),
            version: format!("{epoch}{version}-{release}"),
            built: self.numbers(BUILD_TIME).next().map(i64::from),
            releases: self.numbers(CHANGELOG_TIME).map(in_changelog).collect(),
            name,
        })
    }

    /// Tells the paths of the package.
    pub(super) fn paths(&self, sink: &mut dyn Sink) {
        let dirs: Vec<&[u8]> = self.strings(DIR_NAMES).collect();
        let mut path = Vec::new();
        for (dir, name) in self.numbers(DIR_INDEXES).zip(self.strings(BASE_NAMES)) {
            let Some(dir) = dirs.get(dir as usize) else {
                continue;
            };
            path.clear();
            path.extend_from_slice(dir.strip_prefix(b"/").unwrap_or(dir));
            path.extend_from_slice(name);
            sink.path(&path);
        }
    }
}

/// Changelogs of rpm do not say for whom a release was: each distribution has its own.
fn in_changelog(time: u32) -> Release {
    Release {
        at: time.into(),
        development: false,
    }
}

/// `bash` of `bash-5.3.0-2.fc43.src.rpm`.
fn source_name(file: &str) -> Option<&str> {
    let stem = file.strip_suffix(".rpm")?;
    let mut parts = stem.rsplitn(3, '-').skip(2);
    parts.next().filter(|name| !name.is_empty())
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::files::tests::Record;
    use super::*;

    pub(in crate::packages) enum Value<'a> {
        Text(&'a str),
        Texts(&'a [&'a str]),
        Numbers(&'a [u32]),
    }

    /// Writes a header as rpm does.
    pub(in crate::packages) fn blob(entries: &[(u32, Value)]) -> Vec<u8> {
        let (mut index, mut data) = (Vec::new(), Vec::new());
        for (tag, value) in entries {
            let (kind, count) = match value {
                Value::Text(_) => (TYPE_STRING, 1),
                Value::Texts(texts) => (TYPE_STRING_ARRAY, texts.len()),
                Value::Numbers(numbers) => {
                    data.resize(data.len().next_multiple_of(4), 0);
                    (TYPE_INT32, numbers.len())
                }
            };
            for number in [*tag, kind, data.len() as u32, count as u32] {
                index.extend_from_slice(&number.to_be_bytes());
            }
            match value {
                Value::Text(text) => data.extend([text.as_bytes(), b"\0"].concat()),
                Value::Texts(texts) => {
                    texts
                        .iter()
                        .for_each(|t| data.extend([t.as_bytes(), b"\0"].concat()));
                }
                Value::Numbers(numbers) => {
                    numbers.iter().for_each(|n| data.extend(n.to_be_bytes()));
                }
            }
        }
        let mut blob = (entries.len() as u32).to_be_bytes().to_vec();
        blob.extend((data.len() as u32).to_be_bytes());
        [blob, index, data].concat()
    }

    pub(in crate::packages) fn bash() -> Vec<u8> {
        blob(&[
            (NAME, Value::Text("bash")),
            (VERSION, Value::Text("5.3.0")),
            (RELEASE, Value::Text("2.fc43")),
            (EPOCH, Value::Numbers(&[1])),
            (BUILD_TIME, Value::Numbers(&[1_750_000_000])),
            (SOURCE_RPM, Value::Text("bash-x-5.3.0-2.fc43.src.rpm")),
            (
                CHANGELOG_TIME,
                Value::Numbers(&[1_749_000_000, 1_740_000_000]),
            ),
            (DIR_INDEXES, Value::Numbers(&[0, 1, 7])),
            (BASE_NAMES, Value::Texts(&["bash", "skel", "lost"])),
            (DIR_NAMES, Value::Texts(&["/usr/bin/", "/etc/"])),
        ])
    }

    fn record(blob: &[u8]) -> Record {
        let mut record = Record::default();
        if let Some(header) = Header::parse(blob) {
            if let Some(package) = header.package() {
                record.package(package);
                header.paths(&mut record);
            }
        }
        record
    }

    #[test]
    fn packages_have_sources_versions_and_paths() {
        let record = record(&bash());
        assert_eq!(
            record.text(),
            "bash bash-x 1:5.3.0-2.fc43: usr/bin/bash etc/skel\n"
        );
        let package = &record.packages[0];
        assert_eq!(package.built, Some(1_750_000_000));
        assert_eq!(
            package.releases,
            [in_changelog(1_749_000_000), in_changelog(1_740_000_000)]
        );
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        let good = bash();
        for length in 0..good.len() {
            assert!(Header::parse(&good[..length]).is_none(), "{length}");
        }
        for (at, byte) in [(0, 0xff), (4, 0xff)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(Header::parse(&bad).is_none(), "{at}");
        }
        assert!(Header::parse(&[0; 8]).is_some_and(|h| h.package().is_none()));
    }

    proptest! {
        #[test]
        fn any_change_is_read(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
        ) {
            let mut blob = bash();
            for (at, byte) in changes {
                let at = at.index(blob.len());
                blob[at] = byte;
            }
            let record = record(&blob);
            prop_assert!(record.paths.iter().flatten().count() <= 3);
        }
    }
}
