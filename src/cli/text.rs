//! Times, counts and digests as people read them, and tables. Values come in, short text goes
//! out. Never prints.

use std::time::Duration;

use crate::image::Digest;
pub use crate::sys::amount::bytes;

/// A span of time: tenths of seconds below ten, then whole seconds, minutes and hours.
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", span.as_millis() as f64 / 1000.0),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A count with its noun (`1 layer`, `3 layers`).
pub fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// The first twelve hex digits of a digest: enough to tell layers apart.
pub fn short(digest: &Digest) -> String {
    shorten(&digest.hex())
}

/// The first twelve characters of a checksum.
pub fn shorten(checksum: &str) -> String {
    checksum.chars().take(12).collect()
}

/// Foreign text (a label, a server's message) on one line, without control characters: it must
/// not move the cursor or pretend to be a line of ours.
pub fn clean(text: &str) -> String {
    let spaced = text.replace(char::is_control, " ");
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What changed between two lists of words: `- old` and `+ new`, as often as it happened.
pub fn changes(before: &[String], after: &[String]) -> Vec<String> {
    let removed = without(before, after)
        .into_iter()
        .map(|word| format!("- {word}"));
    let added = without(after, before)
        .into_iter()
        .map(|word| format!("+ {word}"));
    removed.chain(added).collect()
}

/// What is in the first list more often than in the second.
fn without<'a>(list: &'a [String], other: &[String]) -> Vec<&'a String> {
    let mut other: Vec<_> = other.iter().collect();
    let is_new = |word: &&String| match other.iter().position(|o| o == word) {
        Some(at) => {
            other.remove(at);
            false
        }
        None => true,
    };
    list.iter().filter(is_new).collect()
}

/// Columns padded to their widest cell, two spaces between them, no spaces at the end of lines.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max()
    };
    let widths: Vec<usize> = (0..header.len()).filter_map(width).collect();
    let header: Vec<String> = header.iter().map(|cell| (*cell).into()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let padded = cells.map(|(cell, width)| format!("{cell:<width$}"));
        let line = padded.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    [&header].into_iter().chain(rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_lose_detail_as_they_grow() {
        for (millis, text) in [
            (0, "0.0 s"),
            (1_240, "1.2 s"),
            (10_900, "10 s"),
            (61_000, "1 min 1 s"),
            (7_260_000, "2 h 1 min"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn changes_count_every_word() {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let changes = |a: &str, b: &str| changes(&words(a), &words(b));
        assert_eq!(changes("a b c", "c d a"), ["- b", "+ d"]);
        assert_eq!(changes("a", "a a"), ["+ a"]);
        assert_eq!(changes("a b", "b a"), [""; 0]);
    }

    #[test]
    fn tables_line_up() {
        let rows = [
            vec!["docker://a".into(), "1".into()],
            vec!["b".into(), String::new()],
        ];
        assert_eq!(
            table(&["IMAGE", "VERSION"], &rows),
            "IMAGE       VERSION\ndocker://a  1\nb\n"
        );
    }
}
