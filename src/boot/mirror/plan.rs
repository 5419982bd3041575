//! Plans the mirror. What is on the ESP and what should be there come in, steps in their order go
//! out. Pure.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::{Counting, MirrorError, NEW, Present, PresentEntry, Source, Step, Wanted, WantedEntry};
use crate::boot::Tries;
use crate::boot::esp::names::{ENTRIES, MirrorName};

/// Plans the steps from what is there to what is wanted; none where all is well already.
///
/// # Errors
/// [`MirrorError`] where it cannot be done without losing what boots now.
pub fn plan(present: &Present, wanted: &Wanted) -> Result<Vec<Step>, MirrorError> {
    if wanted.entries.is_empty() {
        return Err(MirrorError::NothingToBoot);
    }
    let wanted = &Wanted {
        counting: decide(present, wanted.counting),
        entries: wanted.entries.clone(),
    };
    let mut planner = Planner::new(present);
    planner.tidy(wanted, |_| false);
    planner.make_room(wanted)?;
    planner.write_files(wanted);
    planner.write_entries(wanted);
    Ok(planner.steps)
}

/// Whether the files of `wanted` would fit; the error says what is missing.
pub fn room(present: &Present, wanted: &Wanted) -> Result<(), MirrorError> {
    let mut planner = Planner::new(present);
    planner.tidy(wanted, |_| false);
    planner.make_room(wanted)
}

/// Says what "as before" means.
fn decide(present: &Present, counting: Counting) -> Counting {
    let newest = present.entries.iter();
    let newest = newest.max_by_key(|entry| (entry.name.generation, entry.name.index));
    match (counting, newest.and_then(|entry| entry.name.tries)) {
        (Counting::AsIs, Some(tries)) => Counting::Keep(tries.left.max(1)),
        (Counting::AsIs, None) => Counting::Off,
        _ => counting,
    }
}

/// The ESP as it will be after the steps so far.
struct Planner {
    esp: Present,
    steps: Vec<Step>,
}

impl Planner {
    fn new(present: &Present) -> Self {
        let mut esp = present.clone();
        esp.entries.sort_by_key(|entry| Reverse(entry.name.rank()));
        Self {
            esp,
            steps: Vec::new(),
        }
    }

    /// Removes entries that go, then files that neither an entry nor `wanted` names.
    fn tidy(&mut self, wanted: &Wanted, goes: impl Fn(&PresentEntry) -> bool) {
        let (gone, kept) = self.esp.entries.drain(..).partition(goes);
        self.esp.entries = kept;
        for entry in gone {
            self.push(Step::Remove(entry_path(&entry.file)));
        }
        self.sync();
        let used = self.esp.entries.iter().flat_map(|entry| &entry.uses);
        let wanted = files(wanted).map(|file| &file.to);
        let needed: BTreeSet<String> = used.chain(wanted).cloned().collect();
        let useless: Vec<_> = self
            .esp
            .files
            .keys()
            .filter(|f| !needed.contains(*f))
            .cloned()
            .collect();
        for file in useless {
            let size = self.esp.files.remove(&file).unwrap_or_default();
            self.esp.free += self.rounded(size);
            self.push(Step::Remove(file));
        }
        for (leftover, size) in std::mem::take(&mut self.esp.leftovers) {
            self.esp.free += self.rounded(size);
            self.push(Step::Remove(leftover));
        }
        self.sync();
    }

    /// Gives up, where nothing else helps, entries that are not wanted any more and that do not
    /// boot next: they were only another way back.
    fn make_room(&mut self, wanted: &Wanted) -> Result<(), MirrorError> {
        let needed = self.needed(wanted);
        if needed > self.esp.free {
            let first = self.esp.entries.first().map(|entry| entry.file.clone());
            let stays = |entry: &PresentEntry| wanted.entries.iter().any(|w| w.text == entry.text);
            self.tidy(wanted, |entry| {
                Some(&entry.file) != first.as_ref() && !stays(entry)
            });
        }
        let available = self.esp.free;
        match needed > available {
            true => Err(MirrorError::NoSpace { needed, available }),
            false => Ok(()),
        }
    }

    /// Bytes that missing files and new entries take, and a directory for each of them.
    fn needed(&self, wanted: &Wanted) -> u64 {
        let missing = self.missing(wanted).into_iter().map(|file| file.size);
        let unwritten = self.unwritten(wanted).into_iter();
        let texts = unwritten.map(|entry| entry.text.len() as u64);
        let with_directory = |bytes| self.rounded(bytes) + self.rounded(1);
        missing.chain(texts).map(with_directory).sum()
    }

    fn missing(&self, wanted: &Wanted) -> Vec<Source> {
        let mut missing: Vec<Source> = Vec::new();
        for file in files(wanted) {
            let there = self.esp.files.get(&file.to) == Some(&file.size);
            if !there && missing.iter().all(|other| other.to != file.to) {
                missing.push(file.clone());
            }
        }
        missing
    }

    fn write_files(&mut self, wanted: &Wanted) {
        let missing = self.missing(wanted);
        for file in &missing {
            if let Some((dir, _)) = file.to.rsplit_once('/') {
                self.push_once(Step::MakeDir(dir.into()));
            }
            let to = format!("{}{NEW}", file.to);
            self.push(Step::Copy(Source { to, ..file.clone() }));
        }
        self.sync();
        for file in missing {
            self.push(Step::Rename(format!("{}{NEW}", file.to), file.to.clone()));
            self.esp.files.insert(file.to, file.size);
        }
        self.sync();
    }

    fn write_entries(&mut self, wanted: &Wanted) {
        let new = self.unwritten(wanted);
        if !new.is_empty() {
            self.push_once(Step::MakeDir(ENTRIES.into()));
        }
        for entry in &new {
            let path = entry_path(&entry.file) + NEW;
            self.push(Step::Write(path, entry.text.clone()));
        }
        self.sync();
        // What boots first comes first: it must not wait behind entries that boot something else.
        for entry in new {
            let path = entry_path(&entry.file);
            self.push(Step::Rename(format!("{path}{NEW}"), path));
            self.sync();
            self.esp.entries.push(entry);
        }
        self.count_first(wanted.counting);
        let newest = self.newest();
        self.tidy(wanted, |entry| Some(entry.name.generation) != newest);
    }

    fn newest(&self) -> Option<u64> {
        let generations = self.esp.entries.iter().map(|entry| entry.name.generation);
        generations.max()
    }

    /// The wanted entries that are not there: of the newest generation where that says nothing
    /// else, so that an interrupted writing goes on; else of the next one.
    fn unwritten(&self, wanted: &Wanted) -> Vec<PresentEntry> {
        let Some(newest) = self.newest() else {
            return entries(wanted, 1);
        };
        let mut missing = entries(wanted, newest);
        let written = |entry: &&PresentEntry| entry.name.generation == newest;
        for entry in self.esp.entries.iter().filter(written) {
            let same =
                |new: &PresentEntry| new.name.index == entry.name.index && new.text == entry.text;
            let Some(at) = missing.iter().position(same) else {
                return entries(wanted, newest.saturating_add(1));
            };
            missing.remove(at);
        }
        missing
    }

    /// Puts right the counters of a generation that stays.
    fn count_first(&mut self, counting: Counting) {
        let newest = self
            .esp
            .entries
            .iter()
            .map(|e| (e.name.generation, e.name.index))
            .max();
        let mut renames = Vec::new();
        for entry in &mut self.esp.entries {
            let is_first = Some((entry.name.generation, entry.name.index)) == newest;
            let tries = match (is_first, counting) {
                (true, Counting::Keep(tries)) => entry.name.tries.or(fresh(tries)),
                (true, Counting::Fresh(tries)) => fresh(tries),
                (true, Counting::AsIs) => entry.name.tries,
                (true, Counting::Off) | (false, _) => None,
            };
            if tries != entry.name.tries {
                entry.name.tries = tries;
                let file = entry.name.to_string();
                renames.push((entry_path(&entry.file), entry_path(&file)));
                entry.file = file;
            }
        }
        for (from, to) in renames {
            self.push(Step::Rename(from, to));
        }
        self.sync();
    }

    fn rounded(&self, bytes: u64) -> u64 {
        bytes.next_multiple_of(self.esp.cluster.max(1))
    }

    fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    fn push_once(&mut self, step: Step) {
        if !self.steps.contains(&step) {
            self.steps.push(step);
        }
    }

    /// Nothing is synced twice.
    fn sync(&mut self) {
        if self.steps.last().is_some_and(|last| *last != Step::Sync) {
            self.push(Step::Sync);
        }
    }
}

/// The entries of a new generation, what boots first at the front.
fn entries(wanted: &Wanted, generation: u64) -> Vec<PresentEntry> {
    let tries = match wanted.counting {
        Counting::Off | Counting::AsIs => None,
        Counting::Keep(tries) | Counting::Fresh(tries) => fresh(tries),
    };
    let count = wanted.entries.len();
    let entry = |(at, wanted): (usize, &WantedEntry)| {
        let name = MirrorName {
            generation,
            index: (count - at) as u64,
            tries: tries.filter(|_| at == 0),
        };
        PresentEntry {
            file: name.to_string(),
            name,
            text: wanted.text.clone(),
            uses: wanted.files.iter().map(|file| file.to.clone()).collect(),
        }
    };
    wanted.entries.iter().enumerate().map(entry).collect()
}

fn fresh(tries: u32) -> Option<Tries> {
    Some(Tries {
        left: tries,
        done: 0,
    })
}

fn files(wanted: &Wanted) -> impl Iterator<Item = &Source> {
    wanted.entries.iter().flat_map(|entry| &entry.files)
}

fn entry_path(file: &str) -> String {
    format!("{ENTRIES}/{file}")
}
