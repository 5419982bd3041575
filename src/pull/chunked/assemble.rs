//! A layer's tar stream, put together: what is no file content from tar-split data, content from
//! objects of the repository and from fetched zstd frames. Every file is checked against the digest
//! that the table of contents has of it; whoever reads checks the whole stream against its diff_id.

use std::io::{self, BufReader, Cursor, Read};

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::table::{Row, Rows};
use super::tar_split::{Piece, TarSplit};
use crate::image::Digest;
use crate::pull::stream::Cancel;
use crate::repo::Repo;

/// Bytes of a fetched stream that are held at once.
const FETCH_BUFFER: usize = 64 << 10;

/// An object does not have the content that the layer needs of it.
#[derive(Debug, Error)]
#[error("local object {object} does not have the content that was expected of it")]
pub struct WrongObject {
    /// Its name.
    pub object: Digest,
}

/// Inflated data that was fetched or kept.
type Inflate<R> = zstd::Decoder<'static, BufReader<R>>;

/// Reads the tar stream.
pub struct Assembled<S: Read, F: Read> {
    split: TarSplit<Inflate<S>>,
    rows: Rows,
    repo: Repo,
    fetched: Inflate<F>,
    cancel: Cancel,
    now: Now,
}

/// Where the next bytes come from.
enum Now {
    Segment(Cursor<Vec<u8>>),
    File(Box<Content>),
    End,
}

/// A file on its way.
struct Content {
    row: Row,
    /// Of a local object; what was fetched is in the common stream.
    local: Option<Box<dyn Read + Send>>,
    left: u64,
    hasher: Sha256,
}

impl<S: Read, F: Read> std::fmt::Debug for Assembled<S, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assembled")
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl<S: Read, F: Read> Assembled<S, F> {
    /// Reads compressed tar-split data, and from `fetched` the frames of all rows without an object.
    pub fn new(split: S, rows: Rows, repo: Repo, fetched: F, cancel: Cancel) -> Result<Self> {
        let split = zstd::Decoder::new(split).context("Starting zstd")?;
        let fetched = BufReader::with_capacity(FETCH_BUFFER, fetched);
        Ok(Self {
            split: TarSplit::new(split),
            rows,
            repo,
            fetched: zstd::Decoder::with_buffer(fetched).context("Starting zstd")?,
            cancel,
            now: Now::Segment(Cursor::default()),
        })
    }

    /// Goes on to the next piece.
    fn advance(&mut self) -> Result<()> {
        self.now = match self.split.next_piece()? {
            Some(Piece::Segment(bytes)) => Now::Segment(Cursor::new(bytes)),
            Some(Piece::File(size)) => Now::File(Box::new(self.open(size)?)),
            None if self.rows.next().is_some() => {
                anyhow::bail!("the tar-split data ends before the table of contents does")
            }
            None => Now::End,
        };
        Ok(())
    }

    fn open(&mut self, size: u64) -> Result<Content> {
        let row = self
            .rows
            .next()
            .context("the table of contents ends too early")??;
        anyhow::ensure!(
            row.size == size,
            "the tar-split data has a file of {size} bytes, the table of contents of {}",
            row.size
        );
        let local = row.object.map(|object| self.repo.file_reader(object));
        Ok(Content {
            local: local.transpose()?,
            left: row.size,
            hasher: Sha256::new(),
            row,
        })
    }
}

impl Content {
    /// Reads on; 0 is the good end.
    fn read(&mut self, fetched: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if self.left == 0 {
            return self.check().map(|()| 0);
        }
        let length = match &mut self.local {
            Some(local) => local.read(&mut buffer[..most])?,
            None => fetched.read(&mut buffer[..most])?,
        };
        self.hasher.update(&buffer[..length]);
        self.left -= length as u64;
        match length {
            0 => Err(self.wrong()),
            length => Ok(length),
        }
    }

    fn check(&mut self) -> Result<()> {
        let found = Digest::from_bytes(self.hasher.finalize_reset().into());
        match found == self.row.digest {
            true => Ok(()),
            false => Err(self.wrong()),
        }
    }

    fn wrong(&self) -> anyhow::Error {
        match self.row.object {
            Some(object) => WrongObject { object }.into(),
            None => anyhow::anyhow!(
                "bytes {:?} of the blob are not the file with digest {}",
                self.row.bytes,
                self.row.digest
            ),
        }
    }
}

impl<S: Read, F: Read> Read for Assembled<S, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_set() {
            return Err(io::Error::other("the pull has ended"));
        }
        loop {
            let read = match &mut self.now {
                _ if buffer.is_empty() => return Ok(0),
                Now::Segment(bytes) => bytes.read(buffer)?,
                Now::File(content) => content.read(&mut self.fetched, buffer).map_err(other)?,
                Now::End => return Ok(0),
            };
            match read {
                0 => self.advance().map_err(other)?,
                length => return Ok(length),
            }
        }
    }
}

/// What readers pass on. An object that is wrong can be told from everything else.
fn other(error: anyhow::Error) -> io::Error {
    match error.downcast::<WrongObject>() {
        Ok(wrong) => io::Error::other(wrong),
        Err(error) => io::Error::other(format!("{error:#}")),
    }
}
