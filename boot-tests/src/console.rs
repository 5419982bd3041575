//! Tells the serial console of a machine while it runs: the file that QEMU appends to in, lines of the
//! story out, without the codes that move a terminal's cursor. Ends with the value.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::story::Story;

/// Between two looks at the file.
const PAUSE: Duration = Duration::from_millis(50);

/// A console that is told.
#[derive(Debug)]
pub struct Console {
    ended: Arc<AtomicBool>,
}

impl Console {
    /// Tells what is added to the file from now on.
    pub fn follow(file: &Path, story: &Story) -> Result<Self> {
        let mut file = File::options()
            .create(true)
            .append(true)
            .read(true)
            .open(file)?;
        file.seek(SeekFrom::End(0))?;
        let ended = Arc::new(AtomicBool::new(false));
        let (over, story) = (ended.clone(), story.clone());
        thread::spawn(move || tell(BufReader::new(file), &over, &story));
        Ok(Self { ended })
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn tell(mut file: impl BufRead, ended: &AtomicBool, story: &Story) {
    let mut line = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        match file.read_until(b'\n', &mut line) {
            Ok(_) if line.ends_with(b"\n") => {
                let text = plain(&String::from_utf8_lossy(&line));
                if !text.trim().is_empty() {
                    story.console(text.trim_end());
                }
                line.clear();
            }
            Ok(_) => thread::sleep(PAUSE),
            // The console is only for looking at; the file itself stays.
            Err(_) => return,
        }
    }
}

/// The text without control sequences (ECMA-48): those that begin with `ESC [`, and lone ones.
fn plain(line: &str) -> String {
    let (mut text, mut rest) = (String::new(), line.chars());
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' => {
                if rest.next() == Some('[') {
                    rest.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            '\t' => text.push(' '),
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn control_sequences_are_left_out() {
        let table = [
            ("plain\r\n", "plain"),
            ("[\u{1b}[0;32m  OK  \u{1b}[0m] Reached", "[  OK  ] Reached"),
            ("\u{1b}[2J\u{1b}[01;01HGRUB\u{1b}c!", "GRUB!"),
            ("cut \u{1b}[", "cut "),
        ];
        for (line, want) in table {
            assert_eq!(plain(line), want);
        }
    }
}
