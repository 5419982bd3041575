//! Tar streams as tests need them: ordinary ones, and ones that no sane program writes. Entries
//! come in, bytes go to any writer. Never corrects what it is told to write: names, sizes and
//! header fields are taken as they are.
//!
//! Layout and magic numbers: POSIX.1-2017 `pax`, and GNU tar's manual, "Basic Tar Format".

use std::io::{self, Write};

use anyhow::Result;

use super::lines::{Entry, Kind, parse};

const BLOCK: usize = 512;
const NAME_FIELD: usize = 100;

/// How what does not fit into a header is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Long names as GNU `L` and `K` entries; extended attributes are dropped.
    #[default]
    Gnu,
    /// Long names and extended attributes (`SCHILY.xattr.…`) as PAX records.
    Pax,
}

/// The bytes of a tar stream with the entries of some fixture lines, in the PAX dialect.
pub fn layer(lines: &str) -> Result<Vec<u8>> {
    let mut tar = Tar::new(Vec::new(), Dialect::Pax);
    tar.entries(&parse(lines)?)?;
    Ok(tar.finish()?)
}

/// One header, every field as it will stand there. Numbers are written in octal.
#[derive(Debug, Clone)]
pub struct Header {
    /// Up to 100 bytes; anything longer needs an entry in front (see [`Tar::entry`]).
    pub name: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of content that the header promises.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Type flag: `b'0'` file, `b'1'` hard link, `b'2'` symbolic link, `b'5'` directory …
    pub flag: u8,
    /// Target of a link, up to 100 bytes.
    pub link: Vec<u8>,
    /// Device numbers, major and minor.
    pub device: (u32, u32),
}

impl Header {
    /// A header of root's with mode 0644, no content and no link.
    pub fn new(name: &str, flag: u8) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            flag,
            link: Vec::new(),
            device: (0, 0),
        }
    }

    /// The 512 bytes, with the checksum that belongs to them.
    pub fn to_bytes(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| {
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &self.name[..self.name.len().min(NAME_FIELD)]);
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, format!("{:07o}", self.uid).as_bytes());
        put(116, format!("{:07o}", self.gid).as_bytes());
        put(124, format!("{:011o}", self.size).as_bytes());
        put(136, format!("{:011o}", self.mtime).as_bytes());
        put(148, b"        ");
        put(156, &[self.flag]);
        put(157, &self.link[..self.link.len().min(NAME_FIELD)]);
        put(257, b"ustar  \0");
        put(329, format!("{:07o}", self.device.0).as_bytes());
        put(337, format!("{:07o}", self.device.1).as_bytes());
        stamp(&mut block);
        block
    }
}

/// Writes the checksum of a header block into it.
fn stamp(block: &mut [u8; BLOCK]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A tar stream being written.
#[derive(Debug)]
pub struct Tar<W> {
    out: W,
    dialect: Dialect,
    mtime: u64,
}

impl<W: Write> Tar<W> {
    /// Starts a stream.
    pub const fn new(out: W, dialect: Dialect) -> Self {
        Self {
            out,
            dialect,
            mtime: 0,
        }
    }

    /// Sets the modification time of the entries that follow, in seconds since 1970.
    pub const fn mtime(&mut self, seconds: u64) {
        self.mtime = seconds;
    }

    /// Writes entries one after the other.
    pub fn entries(&mut self, entries: &[Entry]) -> io::Result<()> {
        entries.iter().try_for_each(|entry| self.entry(entry))
    }

    /// Writes one entry, with whatever its dialect needs in front of it.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let (flag, link, data, device): (u8, &str, &[u8], _) = match &entry.kind {
            Kind::Dir => (b'5', "", &[], (0, 0)),
            Kind::File(data) => (b'0', "", data, (0, 0)),
            Kind::Symlink(target) => (b'2', target, &[], (0, 0)),
            Kind::Hardlink(target) => (b'1', target, &[], (0, 0)),
            Kind::Char(major, minor) => (b'3', "", &[], (*major, *minor)),
            Kind::Fifo => (b'6', "", &[], (0, 0)),
        };
        match self.dialect {
            Dialect::Gnu => self.gnu_names(&entry.path, link)?,
            Dialect::Pax => self.pax(&pax_records(entry, link))?,
        }
        let header = Header {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: data.len() as u64,
            mtime: self.mtime,
            link: link.as_bytes().to_vec(),
            device,
            ..Header::new(&entry.path, flag)
        };
        self.raw(&header.to_bytes(), data)
    }

    fn gnu_names(&mut self, path: &str, link: &str) -> io::Result<()> {
        for (flag, name) in [(b'K', link), (b'L', path)] {
            if name.len() > NAME_FIELD {
                let data = [name.as_bytes(), b"\0"].concat();
                let size = data.len() as u64;
                let header = Header::new("././@LongLink", flag);
                self.raw(&Header { size, ..header }.to_bytes(), &data)?;
            }
        }
        Ok(())
    }

    /// Writes a PAX extended header with these records for the next entry; none, no header.
    pub fn pax(&mut self, records: &[(String, Vec<u8>)]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let data: Vec<u8> = records.iter().flat_map(|(k, v)| record(k, v)).collect();
        let size = data.len() as u64;
        let header = Header::new("././@PaxHeader", b'x');
        self.raw(&Header { size, ..header }.to_bytes(), &data)
    }

    /// Writes a sparse file in GNU's old format (type `S`, the map in the header: at most four
    /// pieces); `pieces` are offset and bytes.
    pub fn sparse_gnu(&mut self, path: &str, size: u64, pieces: &[(u64, &[u8])]) -> io::Result<()> {
        let stored: u64 = pieces.iter().map(|(_, data)| data.len() as u64).sum();
        let header = Header::new(path, b'S');
        let header = Header {
            size: stored,
            ..header
        };
        let mut block = header.to_bytes();
        for (slot, (offset, data)) in block[386..482].chunks_exact_mut(24).zip(pieces) {
            slot[..11].copy_from_slice(format!("{offset:011o}").as_bytes());
            slot[12..23].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
        }
        block[483..494].copy_from_slice(format!("{size:011o}").as_bytes());
        stamp(&mut block);
        self.raw(&block, &joined(pieces))
    }

    /// Writes a sparse file in PAX format 1.0 (the map in front of the data).
    pub fn sparse_pax(&mut self, path: &str, size: u64, pieces: &[(u64, &[u8])]) -> io::Result<()> {
        let text = |s: &str| s.as_bytes().to_vec();
        self.pax(&[
            ("GNU.sparse.major".into(), text("1")),
            ("GNU.sparse.minor".into(), text("0")),
            ("GNU.sparse.name".into(), text(path)),
            ("GNU.sparse.realsize".into(), text(&size.to_string())),
        ])?;
        let mut data = format!("{}\n", pieces.len());
        for (offset, piece) in pieces {
            data.push_str(&format!("{offset}\n{}\n", piece.len()));
        }
        let mut data = data.into_bytes();
        data.resize(data.len().next_multiple_of(BLOCK), 0);
        data.extend(joined(pieces));
        let header = Header::new("./GNUSparseFile.0/sparse", b'0');
        let size = data.len() as u64;
        self.raw(&Header { size, ..header }.to_bytes(), &data)
    }

    /// Writes a header block and content, padded to whole blocks, whatever they are.
    pub fn raw(&mut self, header: &[u8; BLOCK], data: &[u8]) -> io::Result<()> {
        self.out.write_all(header)?;
        self.out.write_all(data)?;
        let padding = data.len().next_multiple_of(BLOCK) - data.len();
        self.out.write_all(&[0; BLOCK][..padding])
    }

    /// Writes the two empty blocks at the end and gives the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }
}

fn joined(pieces: &[(u64, &[u8])]) -> Vec<u8> {
    pieces.iter().flat_map(|(_, data)| data.to_vec()).collect()
}

fn pax_records(entry: &Entry, link: &str) -> Vec<(String, Vec<u8>)> {
    let long = |name: &str| name.len() > NAME_FIELD || !name.is_ascii();
    let names = [("path", entry.path.as_str()), ("linkpath", link)];
    let names = names.into_iter().filter(|(_, name)| long(name));
    let names = names.map(|(key, name)| (key.to_string(), name.as_bytes().to_vec()));
    let xattrs = entry.xattrs.iter();
    let xattrs = xattrs.map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.clone()));
    names.chain(xattrs).collect()
}

/// One PAX record: its own length in decimal, a space, `key=value`, a newline.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut bytes = format!("{length} {key}=").into_bytes();
    bytes.extend(value);
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn names(bytes: &[u8]) -> Vec<(String, String)> {
        let mut archive = ::tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            let link = entry.link_name_bytes().unwrap_or_default().into_owned();
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            (name, content + &String::from_utf8(link).unwrap())
        });
        entries.collect()
    }

    #[test]
    fn both_dialects_are_read_back_by_an_independent_reader() {
        let long = "d/".repeat(70) + "name";
        let lines = format!("file {long} 0 0 644 hello\nhardlink /x/../y {long}\nlink l {long}");
        let entries = parse(&lines).unwrap();
        for dialect in [Dialect::Gnu, Dialect::Pax] {
            let mut tar = Tar::new(Vec::new(), dialect);
            tar.entries(&entries).unwrap();
            let expected = [
                (long.clone(), "hello".to_string()),
                ("/x/../y".into(), long.clone()),
                ("l".into(), long.clone()),
            ];
            assert_eq!(names(&tar.finish().unwrap()), expected, "{dialect:?}");
        }
    }

    #[test]
    fn xattrs_and_sparse_files_are_read_back() {
        let bytes = layer("file a 0 0 644 x\nxattr a security.capability 0x0100").unwrap();
        let mut archive = ::tar::Archive::new(bytes.as_slice());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let mut records = entry.pax_extensions().unwrap().unwrap();
        let record = records.next().unwrap().unwrap();
        assert_eq!(record.key().unwrap(), "SCHILY.xattr.security.capability");
        assert_eq!(record.value_bytes(), [1, 0]);

        let mut tar = Tar::new(Vec::new(), Dialect::Gnu);
        let pieces: [(u64, &[u8]); 2] = [(0, &[b'a'; 512]), (1024, b"cd")];
        tar.sparse_gnu("s", 1026, &pieces).unwrap();
        let bytes = tar.finish().unwrap();
        let content = format!("{}{}cd", "a".repeat(512), "\0".repeat(512));
        assert_eq!(names(&bytes), [("s".into(), content)]);
    }

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(record("a", b"b"), b"6 a=b\n");
        assert_eq!(record("aaa", b"bbbb"), b"12 aaa=bbbb\n".to_vec());
    }
}
