//! Streams of deflate that end, made into such that go on. A whole stream comes in; the same blocks, none
//! the last one, up to a byte boundary go out, so that another stream can follow in the same gzip member.
//! Only looks for where blocks begin: nothing is inflated.
//!
//! Format: RFC 1951.

use std::io;

/// Longest code, bits.
const MAX_BITS: usize = 15;
/// Codes up to this length are looked up, longer ones are searched for.
const TABLE_BITS: usize = 11;
const TABLE_MASK: u64 = (1 << TABLE_BITS) - 1;
/// Of an entry of a table: the bits it stands for, and from where on it ends a block.
const LENGTH: u8 = 0x3f;
const ENDS: u8 = 0x80;
/// What ends a block.
const END: u16 = 256;
const LENGTH_EXTRA: [u8; 29] = [
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
];
/// The order in which the lengths of the codes of lengths stand.
const ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// Lets a stream that is whole go on.
pub fn continued(mut stream: Vec<u8>) -> io::Result<Vec<u8>> {
    let (last, end) = last_block(&stream)?;
    stream[last / 8] &= !(1 << (last % 8));
    // An empty stored block: three bits, then whole bytes.
    stream.truncate(end.div_ceil(8));
    stream.resize((end + 3).div_ceil(8), 0);
    stream.extend([0, 0, 0xff, 0xff]);
    Ok(stream)
}

/// Where the last block begins and where it ends, in bits.
fn last_block(stream: &[u8]) -> io::Result<(usize, usize)> {
    let mut bits = Bits { stream, at: 0 };
    loop {
        let start = bits.at;
        let last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => bits.skip_stored()?,
            1 => bits.skip_coded(&fixed_literals(), &Codes::distances(&[5; 30]))?,
            2 => {
                let (literals, distances) = bits.dynamic()?;
                bits.skip_coded(&literals, &distances)?;
            }
            _ => return Err(broken()),
        }
        if last {
            return Ok((start, bits.at));
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the compressor wrote no deflate",
    )
}

fn fixed_literals() -> Codes {
    let mut lengths = [8; 288];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    Codes::literals(&lengths)
}

/// What a code costs and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing: a literal.
    Plain,
    /// A distance.
    Distance,
    /// The next block.
    End,
}

/// A Huffman code.
struct Codes {
    /// By the next bits: bits of code and extra bits, and in the upper two what follows; 0 for
    /// longer codes.
    table: [u8; 1 << TABLE_BITS],
    /// How many codes there are of each length.
    counts: [u16; MAX_BITS + 1],
    /// Symbols in the order of their codes.
    symbols: Vec<u16>,
    describe: fn(u16) -> (u8, Step),
}

impl Codes {
    fn literals(lengths: &[u8]) -> Self {
        Self::new(lengths, |symbol| match symbol {
            0..END => (0, Step::Plain),
            END => (0, Step::End),
            _ => {
                let extra = LENGTH_EXTRA.get(usize::from(symbol) - 257);
                (extra.copied().unwrap_or(0), Step::Distance)
            }
        })
    }

    fn distances(lengths: &[u8]) -> Self {
        Self::new(lengths, |symbol| {
            let extra = u8::try_from(symbol / 2).unwrap_or(0).saturating_sub(1);
            (extra, Step::Plain)
        })
    }

    /// Codes of code lengths, of which only the symbols matter.
    fn lengths(lengths: &[u8]) -> Self {
        Self::new(lengths, |_| (0, Step::Plain))
    }

    fn new(lengths: &[u8], describe: fn(u16) -> (u8, Step)) -> Self {
        let mut counts = [0u16; MAX_BITS + 1];
        for length in lengths {
            counts[usize::from(*length)] += 1;
        }
        counts[0] = 0;
        let mut symbols: Vec<u16> = (0..lengths.len() as u16).collect();
        symbols.retain(|symbol| lengths[usize::from(*symbol)] > 0);
        symbols.sort_by_key(|symbol| lengths[usize::from(*symbol)]);
        let mut table = [0; 1 << TABLE_BITS];
        let mut code = 0u16;
        let mut next = symbols.iter();
        for (length, count) in counts.iter().enumerate().take(TABLE_BITS + 1).skip(1) {
            code <<= 1;
            for _ in 0..*count {
                let Some(symbol) = next.next() else { break };
                let (extra, step) = describe(*symbol);
                let entry = (length as u8 + extra) | ((step as u8) << 6);
                // Codes stand in the stream with their first bit first.
                let first = usize::from(code.reverse_bits() >> (16 - length));
                let places = table.iter_mut().skip(first).step_by(1 << length);
                places.for_each(|place| *place = entry);
                code = code.wrapping_add(1);
            }
        }
        Self {
            table,
            counts,
            symbols,
            describe,
        }
    }

    /// The symbol whose code the next bits begin with, and the length of the code.
    fn search(&self, bits: u64) -> Option<(u16, usize)> {
        let (mut code, mut first, mut index) = (0u32, 0u32, 0usize);
        for length in 1..=MAX_BITS {
            code |= ((bits >> (length - 1)) & 1) as u32;
            let count = u32::from(self.counts[length]);
            if code < first + count {
                let symbol = self.symbols.get(index + (code - first) as usize)?;
                return Some((*symbol, length));
            }
            index += count as usize;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

/// A position in a stream.
struct Bits<'a> {
    stream: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// At least 56 bits from here on; behind the end there are zeros.
    fn peek(&self) -> u64 {
        let rest = &self.stream[(self.at / 8).min(self.stream.len())..];
        let word = match rest.first_chunk::<8>() {
            Some(word) => u64::from_le_bytes(*word),
            None => {
                let mut word = [0; 8];
                word[..rest.len()].copy_from_slice(rest);
                u64::from_le_bytes(word)
            }
        };
        word >> (self.at % 8)
    }

    fn take(&mut self, count: usize) -> io::Result<usize> {
        let bits = self.peek() & ((1 << count) - 1);
        self.skip(count)?;
        Ok(bits as usize)
    }

    fn skip(&mut self, count: usize) -> io::Result<()> {
        self.at += count;
        match self.at <= self.stream.len() * 8 {
            true => Ok(()),
            false => Err(broken()),
        }
    }

    fn skip_stored(&mut self) -> io::Result<()> {
        self.at = self.at.next_multiple_of(8);
        let length = self.take(16)?;
        self.skip(16 + 8 * length)
    }

    /// The codes in front of a block that brings its own.
    fn dynamic(&mut self) -> io::Result<(Codes, Codes)> {
        let literals = self.take(5)? + 257;
        let distances = self.take(5)? + 1;
        let mut of_lengths = [0; 19];
        for place in &ORDER[..self.take(4)? + 4] {
            of_lengths[*place] = self.take(3)? as u8;
        }
        let of_lengths = Codes::lengths(&of_lengths);
        let mut lengths: Vec<u8> = Vec::with_capacity(320);
        while lengths.len() < literals + distances {
            let (symbol, bits) = of_lengths.search(self.peek()).ok_or_else(broken)?;
            self.skip(bits)?;
            let (length, times) = match symbol {
                16 => (*lengths.last().ok_or_else(broken)?, self.take(2)? + 3),
                17 => (0, self.take(3)? + 3),
                18 => (0, self.take(7)? + 11),
                length => (length as u8, 1),
            };
            lengths.resize(lengths.len() + times, length);
        }
        let (literals, rest) = lengths.split_at(literals);
        Ok((
            Codes::literals(literals),
            Codes::distances(&rest[..distances]),
        ))
    }

    /// Goes to the end of a block.
    fn skip_coded(&mut self, literals: &Codes, distances: &Codes) -> io::Result<()> {
        let codes = [literals, distances];
        let mut state = 0;
        loop {
            state = self.skip_known(codes, state);
            match self.step(codes[state])? {
                Step::Plain => state = 0,
                Step::Distance => state = 1,
                Step::End => return Ok(()),
            }
        }
    }

    /// Goes on for as long as the tables know what comes. Two symbols have at most 56 bits, and what follows
    /// which is looked up instead of decided: this is where all the time goes.
    fn skip_known(&mut self, codes: [&Codes; 2], mut state: usize) -> usize {
        let mut at = self.at;
        while let Some(word) = self
            .stream
            .get(at / 8..)
            .and_then(|rest| rest.first_chunk::<8>())
        {
            let mut bits = u64::from_le_bytes(*word) >> (at % 8);
            for _ in 0..2 {
                let entry = codes[state].table[(bits & TABLE_MASK) as usize];
                if matches!(entry, 0 | ENDS..) {
                    self.at = at;
                    return state;
                }
                bits >>= entry & LENGTH;
                at += usize::from(entry & LENGTH);
                state = usize::from(entry >> 6);
            }
        }
        self.at = at;
        state
    }

    fn step(&mut self, codes: &Codes) -> io::Result<Step> {
        let bits = self.peek();
        let entry = codes.table[(bits & TABLE_MASK) as usize];
        let (length, step) = match entry {
            0 => {
                let (symbol, length) = codes.search(bits).ok_or_else(broken)?;
                let (extra, step) = (codes.describe)(symbol);
                (length + usize::from(extra), step)
            }
            _ => {
                let step = [Step::Plain, Step::Distance, Step::End][usize::from(entry >> 6)];
                (usize::from(entry & LENGTH), step)
            }
        };
        self.skip(length)?;
        Ok(step)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::{Compression, read};
    use proptest::prelude::*;

    use super::*;

    fn deflate(data: &[u8], level: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let mut input = read::DeflateEncoder::new(data, Compression::new(level));
        input.read_to_end(&mut out).unwrap();
        out
    }

    fn inflate(stream: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut input = flate2::bufread::DeflateDecoder::new(stream);
        input.read_to_end(&mut out).unwrap();
        assert!(input.into_inner().is_empty());
        out
    }

    #[test]
    fn all_kinds_of_block_go_on() {
        let text = b"the quick brown fox jumps over the lazy dog ".repeat(9000);
        let noise: Vec<u8> = (0..200_000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        for data in [&text[..], &noise[..], b"", b"a", b"abcabcabcabcabc"] {
            for level in 0..=9 {
                let mut joined = continued(deflate(data, level)).unwrap();
                joined.extend(continued(deflate(b"between", level)).unwrap());
                joined.extend(deflate(data, level));
                let expected = [data, b"between", data].concat();
                assert!(inflate(&joined) == expected, "level {level}");
            }
        }
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        for stream in [&b""[..], b"\x07", b"\x06", b"\x00\x05\x00", b"\x05\xff\xff"] {
            assert!(continued(stream.to_vec()).is_err(), "{stream:?}");
        }
        let whole = deflate(&b"some text, some text, some text".repeat(40), 6);
        for length in 0..whole.len() - 1 {
            assert!(continued(whole[..length].to_vec()).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_streams_can_be_joined(
            parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..600), 1usize..50), 1..6),
            level in 1u32..10,
        ) {
            let parts: Vec<Vec<u8>> = parts.iter().map(|(data, times)| data.repeat(*times)).collect();
            let mut joined = Vec::new();
            for part in &parts {
                joined.extend(continued(deflate(part, level)).unwrap());
            }
            joined.extend(deflate(b"", level));
            prop_assert!(inflate(&joined) == parts.concat());
        }

        #[test]
        fn any_bytes_are_refused_or_go_on(data: Vec<u8>) {
            let _ = continued(data);
        }
    }
}
