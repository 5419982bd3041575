//! Maps of sparse files, in the three ways a tar stores them. A header and the stream come in;
//! where the data belongs goes out. Holds the map, never the data.
//!
//! Formats: GNU tar manual, "Storing Sparse Files".

use std::io::{self, BufRead, Read as _};

use tar::{EntryType, Header};

use super::tar_extensions::{Extensions, MAX_SPARSE, MAX_SPARSE_SIZE, Piece};
use super::tar_stream::{BLOCK, TarError, TarStream};

impl<R: BufRead> TarStream<R> {
    /// Replaces the single piece by a sparse file's map, whichever way it is stored.
    pub(super) fn sparse(
        &mut self,
        header: &Header,
        extensions: &Extensions,
    ) -> Result<(), TarError> {
        let (pieces, size) = if header.entry_type() == EntryType::GNUSparse {
            self.old_gnu_map(header)?
        } else if extensions.sparse_in_data {
            let real = extensions
                .sparse_size
                .ok_or_else(|| self.unusable("sparse"))?;
            (self.map_in_data()?, real)
        } else if let (Some(map), Some(size)) = (&extensions.sparse_map, extensions.sparse_size) {
            (map.clone(), size)
        } else {
            return Ok(());
        };
        if size > MAX_SPARSE_SIZE {
            return Err(self.unusable("sparse"));
        }
        let mut end = 0;
        for (offset, length) in &pieces {
            let next = offset
                .checked_add(*length)
                .filter(|next| *offset >= end && *next <= size);
            end = next.ok_or_else(|| self.unusable("sparse"))?;
        }
        if pieces.iter().map(|p| p.1).sum::<u64>() != self.stored {
            return Err(self.unusable("sparse"));
        }
        self.pieces = pieces;
        self.pieces.reverse();
        (self.size, self.position) = (size, 0);
        Ok(())
    }

    /// GNU's own format: four pieces in the header, more in blocks that follow it.
    fn old_gnu_map(&mut self, header: &Header) -> Result<(Vec<Piece>, u64), TarError> {
        let bad = || TarError::Extension {
            what: "sparse",
            path: self.last.clone(),
        };
        let gnu = header.as_gnu().ok_or_else(bad)?;
        let size = gnu.real_size().map_err(|_| bad())?;
        let mut map = Vec::new();
        let mut push = |headers: &[tar::GnuSparseHeader]| -> io::Result<()> {
            for piece in headers.iter().filter(|piece| !piece.is_empty()) {
                map.push((piece.offset()?, piece.length()?));
            }
            Ok(())
        };
        push(&gnu.sparse).map_err(|_| bad())?;
        let mut extended = gnu.is_extended();
        let mut blocks = 0;
        while extended {
            let mut block = tar::GnuExtSparseHeader::new();
            let read = self.input.read_exact(block.as_mut_bytes());
            read.map_err(|_| TarError::Truncated(self.last.clone()))?;
            let bad = || TarError::Extension {
                what: "sparse",
                path: self.last.clone(),
            };
            push(&block.sparse).map_err(|_| bad())?;
            extended = block.is_extended();
            blocks += 1;
            if blocks > MAX_SPARSE / 21 {
                return Err(bad());
            }
        }
        Ok((map, size))
    }

    /// PAX format 1.0: the map stands in front of the data, decimal lines padded to a block.
    fn map_in_data(&mut self) -> Result<Vec<Piece>, TarError> {
        let mut used = 0;
        let count = self.map_number(&mut used)?;
        if count > MAX_SPARSE as u64 {
            return Err(self.unusable("sparse"));
        }
        let mut map = Vec::new();
        for _ in 0..count {
            map.push((self.map_number(&mut used)?, self.map_number(&mut used)?));
        }
        while used % BLOCK != 0 {
            self.map_byte(&mut used)?;
        }
        Ok(map)
    }

    fn map_number(&mut self, used: &mut u64) -> Result<u64, TarError> {
        let mut number = 0u64;
        loop {
            let byte = self.map_byte(used)?;
            if byte == b'\n' {
                return Ok(number);
            }
            let digit = char::from(byte).to_digit(10).map(u64::from);
            let next = digit.and_then(|d| number.checked_mul(10)?.checked_add(d));
            number = next.ok_or_else(|| self.unusable("sparse"))?;
        }
    }

    fn map_byte(&mut self, used: &mut u64) -> Result<u8, TarError> {
        let mut byte = [0];
        self.stored = self
            .stored
            .checked_sub(1)
            .ok_or_else(|| self.unusable("sparse"))?;
        let read = self.input.read_exact(&mut byte);
        read.map_err(|_| TarError::Truncated(self.last.clone()))?;
        *used += 1;
        Ok(byte[0])
    }
}
