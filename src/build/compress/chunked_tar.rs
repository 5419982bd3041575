//! A tar stream taken apart while it passes: what is content of a file, and what is not. Bytes come in
//! in pieces of any size, [`Piece`]s go out. Knows the entries that Bowline writes: GNU headers with long
//! names, PAX headers with extended attributes and nothing else, no sparse files.

use std::io;

use tar::{EntryType, Header, PaxExtensions};

const BLOCK: usize = 512;
/// Most bytes of a long name.
const MAX_NAME: u64 = 64 << 10;
/// Most bytes of a file's extended attributes.
const MAX_XATTRS: u64 = 1 << 20;
const XATTR: &str = "SCHILY.xattr.";

/// What an entry says about itself.
#[derive(Debug, Clone)]
pub struct TarEntry {
    /// Its header.
    pub header: Header,
    /// Its path, whole.
    pub path: String,
    /// Target of a link, whole.
    pub link: String,
    /// Extended attributes.
    pub xattrs: Vec<(String, Vec<u8>)>,
    /// Bytes of content that follow; only regular files have some.
    pub size: u64,
}

/// A part of a stream.
#[derive(Debug)]
pub enum Piece<'a> {
    /// Bytes that are no content: headers, padding, the end.
    Between(&'a [u8]),
    /// An entry begins; its header has passed.
    Entry(&'a TarEntry),
    /// Bytes of its content.
    Content(&'a [u8]),
    /// All its content has passed.
    End(&'a TarEntry),
}

/// Takes a stream.
#[derive(Debug, Default)]
pub struct TarParts {
    /// The block that is being filled.
    block: Vec<u8>,
    state: State,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    xattrs: Vec<(String, Vec<u8>)>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Header,
    /// A long name, or extended attributes: what it is, bytes to come, padding.
    Name(EntryType, u64, u64),
    Content(Box<TarEntry>, u64, u64),
    Padding(u64),
}

impl TarParts {
    /// Takes bytes and calls `each` with what they are.
    pub fn take(
        &mut self,
        mut data: &[u8],
        each: &mut dyn FnMut(Piece<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        while !data.is_empty() {
            let length = self.step(data, each)?;
            data = &data[length..];
        }
        Ok(())
    }

    /// Takes some bytes and tells how many.
    fn step(
        &mut self,
        data: &[u8],
        each: &mut dyn FnMut(Piece<'_>) -> io::Result<()>,
    ) -> io::Result<usize> {
        match std::mem::take(&mut self.state) {
            State::Header => {
                let length = data.len().min(BLOCK - self.block.len());
                self.block.extend_from_slice(&data[..length]);
                each(Piece::Between(&data[..length]))?;
                if self.block.len() == BLOCK {
                    self.state = self.header(each)?;
                    self.block.clear();
                }
                Ok(length)
            }
            State::Name(kind, left, padding) => {
                let length = shorter(left, data.len());
                self.block.extend_from_slice(&data[..length]);
                each(Piece::Between(&data[..length]))?;
                self.state = match left - length as u64 {
                    0 => self.name(kind, padding)?,
                    left => State::Name(kind, left, padding),
                };
                Ok(length)
            }
            State::Content(entry, left, padding) => {
                let length = shorter(left, data.len());
                each(Piece::Content(&data[..length]))?;
                self.state = match left - length as u64 {
                    0 => {
                        each(Piece::End(&entry))?;
                        padded(padding)
                    }
                    left => State::Content(entry, left, padding),
                };
                Ok(length)
            }
            State::Padding(left) => {
                let length = shorter(left, data.len());
                each(Piece::Between(&data[..length]))?;
                self.state = padded(left - length as u64);
                Ok(length)
            }
        }
    }

    fn header(&mut self, each: &mut dyn FnMut(Piece<'_>) -> io::Result<()>) -> io::Result<State> {
        if self.block.iter().all(|byte| *byte == 0) {
            return Ok(State::Header);
        }
        let header = Header::from_byte_slice(&self.block).clone();
        let kind = header.entry_type();
        let most = match kind {
            EntryType::GNULongName | EntryType::GNULongLink => Some(MAX_NAME),
            EntryType::XHeader => Some(MAX_XATTRS),
            _ => None,
        };
        if let Some(most) = most {
            let size = header.size()?;
            if size > most {
                return Err(io::Error::other(
                    "a name or attribute in the layer is too long",
                ));
            }
            return Ok(State::Name(kind, size, padding(size)?));
        }
        let field = |long: Option<Vec<u8>>, short: Option<Vec<u8>>| {
            String::from_utf8_lossy(&long.or(short).unwrap_or_default()).into_owned()
        };
        let link = header.link_name_bytes().map(|name| name.into_owned());
        let entry = TarEntry {
            path: field(
                self.long_path.take(),
                Some(header.path_bytes().into_owned()),
            ),
            link: field(self.long_link.take(), link),
            xattrs: std::mem::take(&mut self.xattrs),
            size: match kind {
                EntryType::Regular => header.size()?,
                _ => 0,
            },
            header,
        };
        let padding = padding(entry.size)?;
        each(Piece::Entry(&entry))?;
        if entry.size == 0 {
            each(Piece::End(&entry))?;
            return Ok(State::Header);
        }
        let size = entry.size;
        Ok(State::Content(Box::new(entry), size, padding))
    }

    fn name(&mut self, kind: EntryType, padding: u64) -> io::Result<State> {
        let mut name = std::mem::take(&mut self.block);
        if kind == EntryType::XHeader {
            self.xattrs = xattrs(&name)?;
            return Ok(padded(padding));
        }
        // It ends with a NUL.
        name.pop();
        match kind.is_gnu_longname() {
            true => self.long_path = Some(name),
            false => self.long_link = Some(name),
        }
        Ok(padded(padding))
    }
}

fn xattrs(records: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for record in PaxExtensions::new(records) {
        let record = record?;
        let key = record.key().map_err(io::Error::other)?;
        let name = key.strip_prefix(XATTR);
        let name = name.ok_or_else(|| io::Error::other("a header of the layer is unknown"))?;
        found.push((name.to_owned(), record.value_bytes().to_vec()));
    }
    Ok(found)
}

fn shorter(left: u64, length: usize) -> usize {
    usize::try_from(left).map_or(length, |left| left.min(length))
}

fn padding(size: u64) -> io::Result<u64> {
    let end = size.checked_next_multiple_of(BLOCK as u64);
    let end = end.ok_or_else(|| io::Error::other("a file in the layer has no possible size"))?;
    Ok(end - size)
}

fn padded(padding: u64) -> State {
    match padding {
        0 => State::Header,
        padding => State::Padding(padding),
    }
}
