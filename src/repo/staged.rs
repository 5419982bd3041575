//! What the layers of one pull have staged between them: each object once, whoever meets it first.
//! Names of objects come in, the numbers of the layers whose directories have them go out. The
//! directories are the memory: in here are only the objects that are being written, and a filter that
//! says of most others that nobody has them, so that nobody looks.
//!
//! The name of an object is the hash of its content, computed here, so that it is good whatever becomes
//! of the layer that brought it.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::object::ObjectKind;
use crate::image::Digest;
use crate::sys::fs as sysfs;

/// Names an object.
pub(super) type ObjectName = (Digest, ObjectKind);
/// Numbers a layer: its directory has this name.
pub(super) type LayerNumber = u32;

/// Bits of the filter: with a million objects it is wrong about one in twenty.
const FILTER_BITS: usize = 8 << 20;

/// The objects that are staged.
#[derive(Debug)]
pub(super) struct Staged {
    /// Has a directory for each layer.
    dir: OwnedFd,
    archive: bool,
    table: Mutex<Table>,
    written: Condvar,
}

#[derive(Debug)]
struct Table {
    filter: Vec<u64>,
    writing: HashSet<ObjectName>,
    /// Objects of which a layer's directory may have a part, since writing them failed.
    spoiled: HashSet<(ObjectName, LayerNumber)>,
    waiting: usize,
    begun: LayerNumber,
}

impl Table {
    fn bits((checksum, _): ObjectName) -> [usize; 2] {
        let bytes = checksum.as_bytes();
        let bit = |at: usize| {
            let number = u32::from_be_bytes([0, 1, 2, 3].map(|k| bytes[at + k]));
            number as usize % FILTER_BITS
        };
        [bit(0), bit(4)]
    }

    /// Whether an object has ever been staged; perhaps also if not.
    fn maybe(&self, object: ObjectName) -> bool {
        let set = |bit: usize| (self.filter[bit / 64] >> (bit % 64)) & 1 == 1;
        Self::bits(object).into_iter().all(set)
    }

    fn begin(&mut self, object: ObjectName) {
        for bit in Self::bits(object) {
            self.filter[bit / 64] |= 1 << (bit % 64);
        }
        self.writing.insert(object);
    }

    fn is_whole(&self, object: ObjectName, layer: LayerNumber) -> bool {
        !self.writing.contains(&object) && !self.spoiled.contains(&(object, layer))
    }
}

impl Staged {
    /// Of layers that have directories in `dir`; `archive` says how the repository keeps files.
    pub fn new(dir: OwnedFd, archive: bool) -> Self {
        let table = Table {
            filter: vec![0; FILTER_BITS / 64],
            writing: HashSet::new(),
            spoiled: HashSet::new(),
            waiting: 0,
            begun: 0,
        };
        Self {
            dir,
            archive,
            table: Mutex::new(table),
            written: Condvar::new(),
        }
    }

    /// A number for a new layer.
    pub fn begin_layer(&self) -> LayerNumber {
        let mut table = self.lock();
        table.begun += 1;
        table.begun
    }

    /// The layer whose directory has an object, whole.
    pub fn layer_of(&self, object: ObjectName) -> io::Result<Option<LayerNumber>> {
        let begun = match self.lock() {
            table if table.maybe(object) => table.begun,
            _ => return Ok(None),
        };
        for layer in self.candidates(object, begun) {
            // In this order: somebody may have begun to write it by now.
            let layer = layer?;
            if self.lock().is_whole(object, layer) {
                return Ok(Some(layer));
            }
        }
        Ok(None)
    }

    /// Layers whose directories have something under the name of an object, the latest first.
    fn candidates(
        &self,
        (checksum, kind): ObjectName,
        begun: LayerNumber,
    ) -> impl Iterator<Item = io::Result<LayerNumber>> + '_ {
        let name = format!("{}.{}", checksum.hex(), kind.extension(self.archive));
        (1..=begun).rev().filter_map(move |layer| {
            match sysfs::exists(&self.dir, &format!("{layer}/{name}")) {
                Ok(here) => here.then_some(Ok(layer)),
                Err(error) => Some(Err(error)),
            }
        })
    }

    /// Asks to write an object in the directory of `layer`; `None` when some layer has it. Waits for
    /// whoever is writing it: objects are only written like this when their whole content is at hand.
    pub fn turn(&self, object: ObjectName, layer: LayerNumber) -> io::Result<Option<Turn<'_>>> {
        let mut table = self.lock();
        while table.writing.contains(&object) {
            table.waiting += 1;
            let woken = self.written.wait(table);
            table = woken.unwrap_or_else(PoisonError::into_inner);
            table.waiting -= 1;
        }
        if table.maybe(object) {
            for layer in self.candidates(object, table.begun) {
                if table.is_whole(object, layer?) {
                    return Ok(None);
                }
            }
        }
        table.begin(object);
        Ok(Some(Turn {
            staged: self,
            object,
            layer,
            done: false,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to write an object. Whoever gives it up unused lets the next one write.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    staged: &'a Staged,
    object: ObjectName,
    layer: LayerNumber,
    done: bool,
}

impl Turn<'_> {
    /// The object is in the layer's directory, whole.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut table = self.staged.lock();
        if !self.done {
            table.spoiled.insert((self.object, self.layer));
        }
        table.writing.remove(&self.object);
        if table.waiting > 0 {
            self.staged.written.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn name(text: &str) -> ObjectName {
        (Digest::of(text.as_bytes()), ObjectKind::File)
    }

    /// What is staged in a directory with as many layers.
    fn scene(layers: LayerNumber) -> (tempfile::TempDir, Staged) {
        let dir = tempfile::tempdir().unwrap();
        let staged = Staged::new(sysfs::open_dir_path(dir.path()).unwrap(), false);
        for expected in 1..=layers {
            assert_eq!(staged.begin_layer(), expected);
            std::fs::create_dir(dir.path().join(expected.to_string())).unwrap();
        }
        (dir, staged)
    }

    fn write(dir: &tempfile::TempDir, layer: LayerNumber, object: ObjectName) {
        let name = format!("{layer}/{}.file", object.0.hex());
        std::fs::write(dir.path().join(name), "x").unwrap();
    }

    #[test]
    fn the_first_writes_and_the_others_find_it() {
        let (dir, staged) = scene(2);
        let turn = staged.turn(name("x"), 1).unwrap().unwrap();
        write(&dir, 1, name("x"));
        // Half an object is none.
        assert_eq!(staged.layer_of(name("x")).unwrap(), None);
        turn.done();
        assert!(staged.turn(name("x"), 2).unwrap().is_none());
        assert_eq!(staged.layer_of(name("x")).unwrap(), Some(1));
        let other_kind = (name("x").0, ObjectKind::DirMeta);
        assert_eq!(staged.layer_of(other_kind).unwrap(), None);
        // It has its final name.
        std::fs::remove_dir_all(dir.path().join("1")).unwrap();
        assert_eq!(staged.layer_of(name("x")).unwrap(), None);
        assert!(staged.turn(name("x"), 2).unwrap().is_some());
    }

    #[test]
    fn a_turn_that_is_given_up_is_the_next_ones() {
        let (dir, staged) = scene(2);
        let turn = staged.turn(name("x"), 2).unwrap();
        write(&dir, 2, name("x"));
        drop(turn);
        // What was left of it is not taken for whole, then or later.
        assert_eq!(staged.layer_of(name("x")).unwrap(), None);
        let turn = staged.turn(name("x"), 1).unwrap().unwrap();
        write(&dir, 1, name("x"));
        turn.done();
        assert_eq!(staged.layer_of(name("x")).unwrap(), Some(1));
    }

    #[test]
    fn of_many_at_the_same_time_one_writes() {
        let (dir, staged) = scene(4);
        let writes = AtomicUsize::new(0);
        let objects: Vec<_> = (0..500).map(|n| name(&n.to_string())).collect();
        std::thread::scope(|scope| {
            for layer in 1..=4 {
                let (dir, staged, writes, objects) = (&dir, &staged, &writes, &objects);
                scope.spawn(move || {
                    for (number, object) in objects.iter().enumerate() {
                        let Some(turn) = staged.turn(*object, layer).unwrap() else {
                            assert!(staged.layer_of(*object).unwrap().is_some());
                            continue;
                        };
                        // Some fail, and somebody else must take over.
                        if (number + layer as usize) % 5 == 0 {
                            continue;
                        }
                        write(dir, layer, *object);
                        writes.fetch_add(1, Ordering::Relaxed);
                        turn.done();
                    }
                });
            }
        });
        assert_eq!(writes.load(Ordering::Relaxed), objects.len());
    }
}
