//! The files of a layer in the order of its tar, on disk: rows go in while a table of contents is
//! read, rows come out, as often as needed. A layer can have a million files; none is in memory.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::image::Digest;

const ROW: usize = 8 * 3 + 32 * 2 + 8;

/// A file of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Bytes of content.
    pub size: u64,
    /// Digest of the content.
    pub digest: Digest,
    /// Its zstd frames in the blob.
    pub bytes: Range<u64>,
    /// The object whose content is to be used instead.
    pub object: Option<Digest>,
}

impl Row {
    fn to_bytes(&self) -> [u8; ROW] {
        let mut row = [0; ROW];
        let numbers = [
            self.size,
            self.bytes.start,
            self.bytes.end,
            u64::from(self.object.is_some()),
        ];
        for (number, place) in numbers.iter().zip(row.chunks_exact_mut(8)) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        row[32..64].copy_from_slice(self.digest.as_bytes());
        if let Some(object) = &self.object {
            row[64..].copy_from_slice(object.as_bytes());
        }
        row
    }

    fn from_bytes(row: &[u8; ROW]) -> Self {
        let number = |at: usize| {
            let bytes = row[at..].first_chunk().copied().unwrap_or_default();
            u64::from_le_bytes(bytes)
        };
        let digest =
            |at: usize| Digest::from_bytes(row[at..].first_chunk().copied().unwrap_or_default());
        Self {
            size: number(0),
            bytes: number(8)..number(16),
            digest: digest(32),
            object: (number(24) != 0).then(|| digest(64)),
        }
    }
}

/// Takes rows.
#[derive(Debug)]
pub struct TableWriter {
    out: BufWriter<File>,
    rows: u64,
}

impl TableWriter {
    /// Writes into an empty file.
    pub fn new(file: File) -> Self {
        let out = BufWriter::new(file);
        Self { out, rows: 0 }
    }

    /// Adds a row.
    pub fn push(&mut self, row: &Row) -> io::Result<()> {
        self.rows += 1;
        self.out.write_all(&row.to_bytes())
    }

    /// The finished table.
    pub fn finish(self) -> io::Result<Table> {
        let file = self
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        let rows = self.rows;
        Ok(Table { file, rows })
    }
}

/// A table that is finished.
#[derive(Debug)]
pub struct Table {
    file: File,
    rows: u64,
}

impl Table {
    /// All rows, in order.
    pub fn rows(&self) -> io::Result<Rows> {
        Ok(Rows {
            input: BufReader::with_capacity(64 << 10, At::new(&self.file, 0)?),
            left: self.rows,
        })
    }
}

/// Rows on their way out of a table.
#[derive(Debug)]
pub struct Rows {
    input: BufReader<At>,
    left: u64,
}

impl Iterator for Rows {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut row = [0; ROW];
        Some(
            self.input
                .read_exact(&mut row)
                .map(|()| Row::from_bytes(&row)),
        )
    }
}

/// Reads a file from a position on, whatever others do with it.
#[derive(Debug)]
pub struct At {
    file: File,
    position: u64,
}

impl At {
    /// Starts at `position`.
    pub fn new(file: &File, position: u64) -> io::Result<Self> {
        let file = file.try_clone()?;
        Ok(Self { file, position })
    }
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.position)?;
        self.position += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_come_out_as_they_went_in(rows: Vec<(u64, u64, u64, [u8; 32], Option<[u8; 32]>)>) {
            let rows = rows.into_iter().map(|(size, start, end, digest, object)| Row {
                size,
                bytes: start..end,
                digest: Digest::from_bytes(digest),
                object: object.map(Digest::from_bytes),
            });
            let rows: Vec<Row> = rows.collect();
            let mut writer = TableWriter::new(tempfile::tempfile().unwrap());
            rows.iter().for_each(|row| writer.push(row).unwrap());
            let table = writer.finish().unwrap();
            for _ in 0..2 {
                let found: io::Result<Vec<Row>> = table.rows().unwrap().collect();
                prop_assert_eq!(&found.unwrap(), &rows);
            }
        }
    }
}
