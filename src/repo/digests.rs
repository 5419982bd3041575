//! Many checksums, sorted in the end. They come in one by one and go out in order; what does not fit
//! into a small part of the memory waits in a file. Never knows what they name.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use crate::image::Digest;

/// Checksums that are kept in memory: 1 MiB.
const IN_MEMORY: usize = 32 << 10;
const SIZE: usize = 32;

/// Checksums on their way to being sorted.
#[derive(Debug, Default)]
pub struct Digests {
    recent: Vec<Digest>,
    /// What came before, in the order it came.
    file: Option<File>,
    in_file: u64,
}

impl Digests {
    /// Takes a checksum. `file` makes a file without a name, when one is needed.
    pub fn push(
        &mut self,
        digest: Digest,
        file: impl FnOnce() -> io::Result<File>,
    ) -> io::Result<()> {
        if self.recent.len() == IN_MEMORY {
            self.spill(file)?;
        }
        self.recent.push(digest);
        Ok(())
    }

    fn spill(&mut self, file: impl FnOnce() -> io::Result<File>) -> io::Result<()> {
        let mut out = match self.file.take() {
            Some(file) => file,
            None => file()?,
        };
        let mut bytes = Vec::with_capacity(self.recent.len() * SIZE);
        self.recent
            .iter()
            .for_each(|digest| bytes.extend(digest.as_bytes()));
        out.write_all(&bytes)?;
        self.file = Some(out);
        self.in_file += self.recent.len() as u64;
        self.recent.clear();
        Ok(())
    }

    /// How many have come.
    pub fn len(&self) -> u64 {
        self.in_file + self.recent.len() as u64
    }

    /// Calls `visit` with all of them, sorted; one that came twice twice. Goes through the file once
    /// for each part that fits into memory: checksums are spread evenly.
    pub fn sorted<E: From<io::Error>>(
        mut self,
        mut visit: impl FnMut(Digest) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(mut file) = self.file.take() else {
            self.recent.sort_unstable();
            return self.recent.into_iter().try_for_each(visit);
        };
        let parts = self.len() * 2 / IN_MEMORY as u64 + 1;
        let part_of = |digest: &Digest| {
            let head = digest
                .as_bytes()
                .first_chunk()
                .map_or(0, |b| u32::from_be_bytes(*b));
            (u64::from(head) * parts) >> 32
        };
        let mut found = Vec::new();
        for part in 0..parts {
            found.clear();
            found.extend(self.recent.iter().filter(|digest| part_of(digest) == part));
            file.seek(SeekFrom::Start(0))?;
            let mut input = BufReader::with_capacity(128 << 10, &mut file);
            for _ in 0..self.in_file {
                let mut bytes = [0; SIZE];
                input.read_exact(&mut bytes)?;
                let digest = Digest::from_bytes(bytes);
                if part_of(&digest) == part {
                    found.push(digest);
                }
            }
            found.sort_unstable();
            found.iter().try_for_each(|digest| visit(*digest))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_out_sorted_however_many_they_are() {
        for count in [0, 1, IN_MEMORY, IN_MEMORY + 1, IN_MEMORY * 5 / 2] {
            let all = (0..count).map(|n| Digest::of(&(n / 2).to_le_bytes()));
            let mut expected: Vec<Digest> = all.clone().collect();
            let mut digests = Digests::default();
            for digest in all {
                digests.push(digest, tempfile::tempfile).unwrap();
            }
            assert_eq!(digests.len(), count as u64);
            assert_eq!(digests.file.is_some(), count > IN_MEMORY);
            let mut found = Vec::new();
            let sorted = digests.sorted(|digest| {
                found.push(digest);
                io::Result::Ok(())
            });
            sorted.unwrap();
            expected.sort_unstable();
            assert_eq!(found, expected);
        }
    }
}
