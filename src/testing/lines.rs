//! The little language of fixtures: one line of text, one entry of a tree. Text comes in, entries
//! in the order of their lines go out, for [`super::Fixture`] (an ostree commit) and for
//! [`super::tar`] (a layer). Never touches a file.
//!
//! | line | entry |
//! |---|---|
//! | `dir PATH UID GID MODE` | a directory |
//! | `file PATH UID GID MODE [TEXT]` | a regular file; `\n` in the text is a newline |
//! | `data PATH UID GID MODE BYTES [SEED]` | a regular file of that many incompressible bytes |
//! | `link PATH TARGET` | a symbolic link |
//! | `hardlink PATH TARGET` | a second name of TARGET |
//! | `char PATH MAJOR MINOR`, `fifo PATH` | a device node, a pipe |
//! | `whiteout PATH`, `opaque DIR` | the OCI marks "removed" and "emptied first" |
//! | `xattr PATH NAME VALUE` | an extended attribute of an earlier entry; `0x…` is hex |
//!
//! Modes are octal; empty lines and lines that start with `#` are skipped.

use anyhow::{Context, Result, bail, ensure};

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file with its content.
    File(Vec<u8>),
    /// A symbolic link with its target.
    Symlink(String),
    /// A second name of the path it holds.
    Hardlink(String),
    /// A character device: major, minor.
    Char(u32, u32),
    /// A named pipe.
    Fifo,
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path as written.
    pub path: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub kind: Kind,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

impl Entry {
    /// An entry of root's without extended attributes.
    pub fn new(path: &str, mode: u32, kind: Kind) -> Self {
        Self {
            path: path.into(),
            uid: 0,
            gid: 0,
            mode,
            kind,
            xattrs: Vec::new(),
        }
    }
}

/// Reads lines of the fixture language; an error names the line.
pub fn parse(text: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let lines = text.lines().map(str::trim_start).enumerate();
    for (number, line) in lines.filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
        parse_line(line, &mut entries)
            .with_context(|| format!("Reading fixture line {}: {line:?}", number + 1))?;
    }
    Ok(entries)
}

fn parse_line(line: &str, entries: &mut Vec<Entry>) -> Result<()> {
    let (word, rest) = line.split_once(' ').context("it has one word only")?;
    let entry = match word {
        "dir" | "file" | "data" => owned(word, rest)?,
        "xattr" => return add_xattr(rest, entries),
        "fifo" => Entry::new(rest, 0o644, Kind::Fifo),
        "whiteout" => Entry::new(&whiteout(rest), 0o644, Kind::File(Vec::new())),
        "opaque" => {
            let path = format!("{}/.wh..wh..opq", rest.trim_end_matches('/'));
            Entry::new(&path, 0o644, Kind::File(Vec::new()))
        }
        "link" | "hardlink" | "char" => {
            let (path, target) = rest.split_once(' ').context("it has no second word")?;
            let (mode, kind) = match word {
                "link" => (0o777, Kind::Symlink(target.into())),
                "hardlink" => (0o644, Kind::Hardlink(target.into())),
                _ => (0o644, device(target)?),
            };
            Entry::new(path, mode, kind)
        }
        other => bail!("{other:?} is no word of the fixture language"),
    };
    entries.push(entry);
    Ok(())
}

/// Reads what stands after `dir`, `file` and `data`.
fn owned(word: &str, rest: &str) -> Result<Entry> {
    let fields: Vec<&str> = rest.splitn(5, ' ').collect();
    ensure!(fields.len() >= 4, "it needs PATH UID GID MODE");
    let text = fields.get(4).copied().unwrap_or_default();
    let kind = match word {
        "dir" => Kind::Dir,
        "file" => Kind::File(text.replace("\\n", "\n").into_bytes()),
        _ => {
            let (size, seed) = text.split_once(' ').unwrap_or((text, "0"));
            Kind::File(noise(size.parse()?, seed.parse()?))
        }
    };
    Ok(Entry {
        uid: fields[1].parse()?,
        gid: fields[2].parse()?,
        ..Entry::new(fields[0], u32::from_str_radix(fields[3], 8)?, kind)
    })
}

fn device(numbers: &str) -> Result<Kind> {
    let (major, minor) = numbers.split_once(' ').context("it has no minor number")?;
    Ok(Kind::Char(major.parse()?, minor.parse()?))
}

fn whiteout(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((parent, name)) => format!("{parent}/.wh.{name}"),
        None => format!(".wh.{path}"),
    }
}

fn add_xattr(rest: &str, entries: &mut [Entry]) -> Result<()> {
    let mut fields = rest.splitn(3, ' ');
    let (path, name) = fields.next().zip(fields.next()).context("it has no name")?;
    let value = fields.next().unwrap_or_default();
    let value = match value.strip_prefix("0x") {
        Some(hex) => unhex(hex)?,
        None => value.as_bytes().to_vec(),
    };
    let entry = entries.iter_mut().rev().find(|e| e.path == path);
    let entry = entry.with_context(|| format!("no earlier line makes {path}"))?;
    entry.xattrs.push((name.into(), value));
    entry.xattrs.sort();
    Ok(())
}

fn unhex(hex: &str) -> Result<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?));
    bytes.collect()
}

/// `size` bytes that do not compress, the same for the same seed (xorshift64*).
pub fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_word() {
        let text = "
            # A comment.
            dir /usr 0 0 755
            file /usr/a 1 2 4755 one two\\n
            xattr /usr/a user.x 0x00ff
            data /usr/b 0 0 644 9 7
            link /usr/c a
            hardlink /usr/d usr/a
            char /dev/null 1 3
            fifo /run/p
            whiteout /usr/e
            whiteout top
            opaque /etc/";
        let entries = parse(text).unwrap();
        let paths: Vec<&str> = entries.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/usr",
                "/usr/a",
                "/usr/b",
                "/usr/c",
                "/usr/d",
                "/dev/null",
                "/run/p",
                "/usr/.wh.e",
                ".wh.top",
                "/etc/.wh..wh..opq"
            ]
        );
        let a = Entry {
            uid: 1,
            gid: 2,
            xattrs: vec![("user.x".into(), vec![0, 255])],
            ..Entry::new("/usr/a", 0o4755, Kind::File(b"one two\n".to_vec()))
        };
        assert_eq!(entries[1], a);
        assert_eq!(entries[2].kind, Kind::File(noise(9, 7)));
        assert_eq!(entries[4].kind, Kind::Hardlink("usr/a".into()));
        assert_eq!(entries[5].kind, Kind::Char(1, 3));
    }

    #[test]
    fn an_error_names_the_line() {
        for bad in [
            "dir",
            "dir /a 0 0",
            "file /a 0 0 9",
            "mkdir /a",
            "xattr /a b c",
        ] {
            let error = parse(&format!("dir /ok 0 0 755\n{bad}")).unwrap_err();
            assert!(error.to_string().contains("line 2"), "{bad}: {error}");
        }
    }

    #[test]
    fn noise_is_a_function_of_its_seed() {
        assert_eq!(noise(100, 1), noise(100, 1));
        assert_ne!(noise(100, 1), noise(100, 2));
        assert_eq!(noise(3, 1).len(), 3);
    }
}
