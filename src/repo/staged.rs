//! What the layers of one pull have staged between them: each object once, whoever meets it first.
//! Names of objects come in, the numbers of the layers whose directories have them go out. In memory
//! only, and never locked while anything is read or written.
//!
//! An object is in here from when it is being written until it has its final name. Its name is the hash
//! of its content, computed here, so that it is good whatever becomes of the layer that brought it.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::object::ObjectKind;
use crate::image::Digest;

/// Names an object.
pub(super) type ObjectName = (Digest, ObjectKind);
/// Numbers a layer: its directory has this name.
pub(super) type LayerNumber = u32;

/// Stands for the layer of an object that is being written.
const WRITING: LayerNumber = LayerNumber::MAX;
/// Room for so many objects stays when they are gone.
const KEPT_ROOM: usize = 16 << 10;

/// The objects that are staged.
#[derive(Debug, Default)]
pub(super) struct Staged {
    table: Mutex<Table>,
    written: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    layers: HashMap<ObjectName, LayerNumber>,
    waiting: usize,
    begun: LayerNumber,
}

impl Staged {
    /// A number for a new layer.
    pub fn begin_layer(&self) -> LayerNumber {
        let mut table = self.lock();
        table.begun += 1;
        table.begun
    }

    /// The layer whose directory has an object, whole.
    pub fn layer_of(&self, object: ObjectName) -> Option<LayerNumber> {
        let layer = self.lock().layers.get(&object).copied();
        layer.filter(|layer| *layer != WRITING)
    }

    /// Asks to write an object; `None` when some layer has it. Waits for whoever is writing it: objects
    /// are only written like this when their whole content is at hand.
    pub fn turn(&self, object: ObjectName) -> Option<Turn<'_>> {
        let mut table = self.lock();
        loop {
            match table.layers.get(&object) {
                None => break,
                Some(&WRITING) => {
                    table.waiting += 1;
                    let woken = self.written.wait(table);
                    table = woken.unwrap_or_else(PoisonError::into_inner);
                    table.waiting -= 1;
                }
                Some(_) => return None,
            }
        }
        table.layers.insert(object, WRITING);
        Some(Turn {
            staged: self,
            object,
        })
    }

    /// Forgets an object that has its final name.
    pub fn published(&self, object: ObjectName) {
        let mut table = self.lock();
        table.layers.remove(&object);
        let (count, room) = (table.layers.len(), table.layers.capacity());
        if room > KEPT_ROOM && count < room / 8 {
            table.layers.shrink_to(room / 4);
        }
    }

    fn settle(&self, object: ObjectName, layer: Option<LayerNumber>) {
        let mut table = self.lock();
        match layer {
            Some(layer) => drop(table.layers.insert(object, layer)),
            None => drop(table.layers.remove(&object)),
        }
        if table.waiting > 0 {
            self.written.notify_all();
        }
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
}

impl Turn<'_> {
    /// The object is in the directory of `layer`, whole.
    pub fn done(self, layer: LayerNumber) {
        self.staged.settle(self.object, Some(layer));
        std::mem::forget(self);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.staged.settle(self.object, None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn name(text: &str) -> ObjectName {
        (Digest::of(text.as_bytes()), ObjectKind::File)
    }

    #[test]
    fn the_first_writes_and_the_others_find_it() {
        let staged = Staged::default();
        let (one, two) = (staged.begin_layer(), staged.begin_layer());
        assert_ne!(one, two);
        let turn = staged.turn(name("x")).unwrap();
        // Half an object is none.
        assert_eq!(staged.layer_of(name("x")), None);
        turn.done(one);
        assert!(staged.turn(name("x")).is_none());
        assert_eq!(staged.layer_of(name("x")), Some(one));
        let other_kind = (name("x").0, ObjectKind::DirMeta);
        assert_eq!(staged.layer_of(other_kind), None);
        staged.published(name("x"));
        assert_eq!(staged.layer_of(name("x")), None);
        assert!(staged.turn(name("x")).is_some());
    }

    #[test]
    fn a_turn_that_is_given_up_is_the_next_ones() {
        let staged = Staged::default();
        drop(staged.turn(name("x")));
        staged.turn(name("x")).unwrap().done(2);
        assert_eq!(staged.layer_of(name("x")), Some(2));
    }

    #[test]
    fn of_many_at_the_same_time_one_writes() {
        let staged = Staged::default();
        let writes = AtomicUsize::new(0);
        let objects: Vec<_> = (0..2000).map(|n| name(&n.to_string())).collect();
        std::thread::scope(|scope| {
            for layer in 0..4 {
                let (staged, writes, objects) = (&staged, &writes, &objects);
                scope.spawn(move || {
                    for (number, object) in objects.iter().enumerate() {
                        let Some(turn) = staged.turn(*object) else {
                            assert!(staged.layer_of(*object).is_some());
                            continue;
                        };
                        // Some fail, and somebody else must take over.
                        if (number + layer) % 5 == 0 {
                            continue;
                        }
                        writes.fetch_add(1, Ordering::Relaxed);
                        turn.done(layer as LayerNumber);
                    }
                });
            }
        });
        assert_eq!(writes.load(Ordering::Relaxed), objects.len());
    }

    #[test]
    fn room_is_given_back() {
        let staged = Staged::default();
        let objects: Vec<_> = (0..60_000).map(|n| name(&n.to_string())).collect();
        for object in &objects {
            staged.turn(*object).unwrap().done(1);
        }
        for object in &objects {
            staged.published(*object);
        }
        assert!(staged.lock().layers.capacity() <= KEPT_ROOM * 2);
    }
}
