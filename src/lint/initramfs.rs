//! Whether an initramfs has a file. Its bytes come in, yes, no or "cannot tell" goes out. Reads cpio
//! archives of the kind "newc" one behind the other, plain, gzip or zstd, as the kernel does
//! (Documentation/driver-api/early-userspace/buffer-format.rst); of any other compression nothing is said.

use std::io::{self, BufRead, BufReader, Read};

/// Bytes of a cpio header.
const HEADER: usize = 110;
/// The longest name that is read.
const MAX_NAME: u64 = 4096;
/// Bytes, inflated, after which nobody can tell.
const MAX_BYTES: u64 = 4 << 30;

/// Whether the initramfs has a file whose path has `wanted` in it; `None` where that cannot be told.
pub(super) fn has(initramfs: impl Read, wanted: &str) -> Option<bool> {
    archives(BufReader::new(initramfs), wanted, 2)
        .ok()
        .flatten()
}

/// Goes through archives until one is of no known kind. Compressed ones may have more in them.
fn archives(mut input: impl BufRead, wanted: &str, levels: u32) -> io::Result<Option<bool>> {
    let mut any = false;
    loop {
        let start = match input.fill_buf()? {
            [] => return Ok(any.then_some(false)),
            [0, ..] => {
                input.consume(1);
                continue;
            }
            bytes => [bytes[0], bytes.get(1).copied().unwrap_or_default()],
        };
        match start {
            [b'0', b'7'] => {
                if archive(&mut input, wanted)? {
                    return Ok(Some(true));
                }
                any = true;
            }
            [0x1f, 0x8b] if levels > 0 => {
                let inner = flate2::bufread::MultiGzDecoder::new(input);
                return inside(inner, wanted, levels);
            }
            [0x28, 0xb5] if levels > 0 => {
                return inside(zstd::Decoder::with_buffer(input)?, wanted, levels);
            }
            _ => return Ok(None),
        }
    }
}

fn inside(inner: impl Read, wanted: &str, levels: u32) -> io::Result<Option<bool>> {
    let inner: Box<dyn BufRead + '_> = Box::new(BufReader::new(inner.take(MAX_BYTES)));
    archives(inner, wanted, levels - 1)
}

/// Goes through one archive.
fn archive(input: &mut impl BufRead, wanted: &str) -> io::Result<bool> {
    loop {
        let mut header = [0; HEADER];
        input.read_exact(&mut header)?;
        let (size, length) = (field(&header, 54)?, field(&header, 94)?);
        if !header.starts_with(b"07070") || length > MAX_NAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut name = vec![0; length as usize];
        input.read_exact(&mut name)?;
        let name = String::from_utf8_lossy(&name);
        let name = name.trim_end_matches('\0');
        if name == "TRAILER!!!" {
            return Ok(false);
        }
        if name.contains(wanted) {
            return Ok(true);
        }
        // Names and contents end at multiples of four.
        let name_padding = (HEADER as u64 + length).next_multiple_of(4) - HEADER as u64 - length;
        let skipped = name_padding + size.next_multiple_of(4);
        let passed = io::copy(&mut input.by_ref().take(skipped), &mut io::sink())?;
        if passed < skipped {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A number of eight hex digits.
fn field(header: &[u8; HEADER], at: usize) -> io::Result<u64> {
    let text = std::str::from_utf8(&header[at..at + 8]).ok();
    let number = text.and_then(|text| u64::from_str_radix(text, 16).ok());
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn cpio(names: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for name in names.iter().chain(&["TRAILER!!!"]) {
            let content = if *name == "TRAILER!!!" { "" } else { "12345" };
            let mut fields = [0u32; 13];
            (fields[6], fields[11]) = (content.len() as u32, name.len() as u32 + 1);
            out.extend(b"070701");
            fields
                .iter()
                .for_each(|f| out.extend(format!("{f:08x}").bytes()));
            for part in [format!("{name}\0"), content.to_owned()] {
                out.extend(part.bytes());
                out.resize(out.len().next_multiple_of(4), 0);
            }
        }
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn finds_names_in_all_archives() {
        let early = cpio(&["kernel/x86/microcode/GenuineIntel.bin"]);
        let main = cpio(&["bin/sh", "usr/lib/ostree/ostree-prepare-root"]);
        let other = cpio(&["bin/sh"]);
        let zstd = zstd::encode_all(&*main, 1).unwrap();
        for (bytes, expected) in [
            (main.clone(), Some(true)),
            (other.clone(), Some(false)),
            (gzip(&main), Some(true)),
            (zstd.clone(), Some(true)),
            ([early.clone(), gzip(&main)].concat(), Some(true)),
            ([early.clone(), zstd].concat(), Some(true)),
            ([early.clone(), gzip(&other)].concat(), Some(false)),
            ([early.clone(), b"\xfd7zXZ\0".to_vec()].concat(), None),
            (b"initramfs".to_vec(), None),
            (main[..main.len() / 4].to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(has(&*bytes, "ostree-prepare-root"), expected);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_fine(mut bytes in prop::collection::vec(any::<u8>(), 0..600), magic: bool) {
            if magic {
                bytes.splice(0..0, *b"070701");
            }
            // Only a panic would be wrong.
            let _ = has(&*bytes, "x");
        }
    }
}
