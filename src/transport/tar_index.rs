//! The members of a tar file, found once by offset: a plain tar comes in, readers of single members
//! go out. Nothing is unpacked, and a member's name never touches the file system. A compressed tar
//! is refused: it has no offsets, and unpacking it would need the image's size in space twice.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tar::{EntryType, Header, PaxExtensions};

use super::Error;
use super::files::{Files, OpenFile, io_error};

const BLOCK: u64 = 512;

/// Members that are listed: far more than an image has, and little memory.
const MAX_MEMBERS: usize = 16_384;

/// The longest name and the largest extended header that is read, in bytes.
const MAX_EXTRA: u64 = 64 << 10;

/// Links that are followed from one member: `docker save` needs one.
const MAX_LINKS: usize = 8;

#[derive(Debug, PartialEq, Eq)]
enum Member {
    File { offset: u64, size: u64 },
    Link(String),
    Other,
}

/// A tar file and where its members are.
#[derive(Debug)]
pub(super) struct TarIndex {
    file: Arc<File>,
    place: String,
    members: HashMap<String, Member>,
}

impl TarIndex {
    /// Opens the tar at `path`, which comes from the user, and reads all its headers.
    pub(super) fn open(path: &str) -> Result<Self, Error> {
        let open = || {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            match metadata.is_file() {
                true => Ok((file, metadata.len())),
                false => Err(io::ErrorKind::InvalidInput.into()),
            }
        };
        let (file, length) = open().map_err(|source| io_error(path, source))?;
        Self::of(file, length, path)
    }

    /// Reads all headers of a file of `length` bytes; `path` names it in messages.
    pub(super) fn of(file: File, length: u64, path: &str) -> Result<Self, Error> {
        let refused = |detail: String| Error::Refused {
            place: path.into(),
            detail,
        };
        let mut start = [0; 8];
        let count = file.read_at(&mut start, 0);
        let count = count.map_err(|source| io_error(path, source))?;
        if let Some((kind, command)) = compression(&start[..count]) {
            // What has come from the web has no path.
            let file = if path.contains("://") { "FILE" } else { path };
            let hint = format!("decompress it first: {command} {file}");
            return Err(refused(format!("it is compressed with {kind}; {hint}")));
        }
        let members = Scan::new(&file, length).run().map_err(refused)?;
        Ok(Self {
            file: Arc::new(file),
            place: path.into(),
            members,
        })
    }

    /// Follows links inside the archive.
    fn find(&self, name: &str) -> Result<(u64, u64), Error> {
        let mut wanted = clean(name).unwrap_or_default();
        for _ in 0..=MAX_LINKS {
            match self.members.get(&wanted) {
                Some(Member::File { offset, size }) => return Ok((*offset, *size)),
                Some(Member::Link(target)) => wanted.clone_from(target),
                Some(Member::Other) => return Err(self.refused(name, "it is not a regular file")),
                None => {
                    return Err(Error::NotFound {
                        place: format!("{}/{name}", self.place),
                    });
                }
            }
        }
        Err(self.refused(name, "its links lead in a circle"))
    }

    fn refused(&self, name: &str, detail: &str) -> Error {
        Error::Refused {
            place: format!("{}/{name}", self.place),
            detail: detail.into(),
        }
    }
}

impl Files for TarIndex {
    fn open(&self, name: &str) -> Result<OpenFile, Error> {
        let (offset, size) = self.find(name)?;
        Ok(OpenFile {
            reader: Box::new(Slice {
                file: self.file.clone(),
                offset,
                left: size,
            }),
            size,
        })
    }

    fn place(&self) -> &str {
        &self.place
    }
}

/// A stretch of a file, read without moving the file's own position.
struct Slice {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// One pass over the headers. Errors are in words.
struct Scan<'a> {
    file: &'a File,
    length: u64,
    offset: u64,
    /// What an extended header in front says about the next member.
    name: Option<String>,
    link: Option<String>,
    size: Option<u64>,
    members: HashMap<String, Member>,
}

impl<'a> Scan<'a> {
    fn new(file: &'a File, length: u64) -> Self {
        Self {
            file,
            length,
            offset: 0,
            name: None,
            link: None,
            size: None,
            members: HashMap::new(),
        }
    }

    fn run(mut self) -> Result<HashMap<String, Member>, String> {
        while let Some(header) = self.header()? {
            let kind = header.entry_type();
            let own = header.entry_size().map_err(|error| error.to_string())?;
            let size = match kind {
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                    self.size.take().unwrap_or(own)
                }
                EntryType::GNULongName | EntryType::GNULongLink => own,
                EntryType::XHeader | EntryType::XGlobalHeader => own,
                // All others have no content, whatever their header says.
                _ => 0,
            };
            let padded = size.div_ceil(BLOCK).checked_mul(BLOCK);
            let end = padded.and_then(|padded| self.offset.checked_add(padded));
            // The padding of the last member may be missing.
            if self
                .offset
                .checked_add(size)
                .is_none_or(|e| e > self.length)
            {
                return Err("it is cut off in the middle of a member".into());
            }
            self.take(&header, kind, size)?;
            self.offset = end.unwrap_or(self.length);
        }
        Ok(self.members)
    }

    /// The next header, with `offset` behind it; none at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, String> {
        if self.offset >= self.length {
            return Ok(None);
        }
        let block = self.bytes(BLOCK)?;
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block);
        let stored = header.cksum().ok();
        let summed = block.iter().enumerate();
        let summed =
            summed.map(|(i, b)| u32::from(if (148..156).contains(&i) { b' ' } else { *b }));
        if stored != Some(summed.sum()) {
            return Err(match self.offset {
                0 => "it is not a tar file".into(),
                at => format!("the tar header at byte {at} is damaged"),
            });
        }
        self.offset += BLOCK;
        Ok(Some(header.clone()))
    }

    fn bytes(&self, count: u64) -> Result<Vec<u8>, String> {
        if count > MAX_EXTRA {
            return Err("a member's name is absurdly long".into());
        }
        let mut bytes = vec![0; count as usize];
        match self.file.read_exact_at(&mut bytes, self.offset) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err("it is cut off in the middle of a header".into())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn take(&mut self, header: &Header, kind: EntryType, size: u64) -> Result<(), String> {
        match kind {
            EntryType::GNULongName => self.name = Some(trimmed(self.bytes(size)?)),
            EntryType::GNULongLink => self.link = Some(trimmed(self.bytes(size)?)),
            EntryType::XHeader => self.extended(&self.bytes(size)?)?,
            EntryType::XGlobalHeader => {}
            EntryType::GNUSparse => return Err("it has a sparse member".into()),
            _ => self.member(header, kind, size)?,
        }
        Ok(())
    }

    fn extended(&mut self, bytes: &[u8]) -> Result<(), String> {
        for extension in PaxExtensions::new(bytes) {
            let extension = extension.map_err(|error| error.to_string())?;
            let value = String::from_utf8_lossy(extension.value_bytes()).into_owned();
            match extension.key() {
                Ok("path") => self.name = Some(value),
                Ok("linkpath") => self.link = Some(value),
                Ok("size") => {
                    let size = value.parse().map_err(|_| "a member's size is no number")?;
                    self.size = Some(size);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn member(&mut self, header: &Header, kind: EntryType, size: u64) -> Result<(), String> {
        let name = self
            .name
            .take()
            .unwrap_or_else(|| trimmed(header.path_bytes().into()));
        let link = self.link.take();
        let link = link.or_else(|| Some(trimmed(header.link_name_bytes()?.into())));
        self.size = None;
        // What would lie outside is nothing that an image needs.
        let Some(name) = clean(&name) else {
            return Ok(());
        };
        let offset = self.offset;
        let member = match (kind, link) {
            (EntryType::Regular | EntryType::Continuous, _) => Member::File { offset, size },
            (EntryType::Symlink, Some(link)) => match clean(&format!("{name}/../{link}")) {
                Some(target) if !link.starts_with('/') => Member::Link(target),
                _ => Member::Other,
            },
            (EntryType::Link, Some(link)) => clean(&link).map_or(Member::Other, Member::Link),
            (EntryType::Directory, _) => return Ok(()),
            _ => Member::Other,
        };
        if self.members.len() >= MAX_MEMBERS {
            return Err(format!("it has more than {MAX_MEMBERS} members"));
        }
        match self.members.insert(name.clone(), member) {
            Some(_) => Err(format!("member {name:?} stands in it twice")),
            None => Ok(()),
        }
    }
}

fn trimmed(bytes: Vec<u8>) -> String {
    let text = String::from_utf8_lossy(&bytes);
    text.trim_end_matches('\0').to_owned()
}

/// The name without `.` and `..`; `None` where it leads out of the archive.
fn clean(name: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// What a file is compressed with, by its first bytes, and what undoes it.
fn compression(start: &[u8]) -> Option<(&'static str, &'static str)> {
    let known: [(&[u8], _); 4] = [
        (b"\x1f\x8b", ("gzip", "gunzip")),
        (b"\x28\xb5\x2f\xfd", ("zstd", "zstd -d")),
        (b"\xfd7zXZ\0", ("xz", "unxz")),
        (b"BZh", ("bzip2", "bunzip2")),
    ];
    let found = known.iter().find(|(magic, _)| start.starts_with(magic));
    found.map(|(_, words)| *words)
}

#[cfg(test)]
mod tests;
