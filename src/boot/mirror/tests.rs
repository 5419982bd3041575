//! Tests of the mirror: the order of its steps, and a model of FAT that loses power after any
//! step and, with it, any of the steps since the last sync.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::boot::Tries;
use crate::boot::esp::names::ENTRIES;

const CLUSTER: u64 = 10;

fn source(kernel: u8, what: &str, size: u64) -> Source {
    Source {
        from: format!("/boot/ostree/os-{kernel}/{what}").into(),
        to: format!("bowline/os-{kernel}/{what}"),
        size,
    }
}

/// An entry for a deployment with this kernel.
fn entry(deployment: u8, kernel: u8) -> WantedEntry {
    WantedEntry {
        text: format!("title {deployment}\nlinux /bowline/os-{kernel}/vmlinuz\n"),
        files: vec![
            source(kernel, "vmlinuz", 40 + u64::from(kernel)),
            source(kernel, "initramfs", 95),
        ],
    }
}

fn wanted(deployments: &[(u8, u8)], counting: Counting) -> Wanted {
    Wanted {
        entries: deployments.iter().map(|(d, k)| entry(*d, *k)).collect(),
        counting,
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    /// A kernel or initramfs, by where it came from.
    Whole(PathBuf, u64),
    Text(String),
    /// Power was lost while it was written.
    Torn,
}

/// An ESP: what is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Fat {
    files: BTreeMap<String, Content>,
    capacity: u64,
}

/// What becomes of a step that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Lost,
    Torn,
}

impl Fat {
    fn new(capacity: u64) -> Self {
        Self {
            files: BTreeMap::new(),
            capacity,
        }
    }

    fn size(content: &Content) -> u64 {
        match content {
            Content::Whole(_, size) => *size,
            Content::Text(text) => text.len() as u64,
            Content::Torn => 1,
        }
    }

    fn used(&self) -> u64 {
        let sizes = self.files.values().map(Self::size);
        sizes.map(|size| size.next_multiple_of(CLUSTER)).sum()
    }

    fn apply(&mut self, step: &Step, fate: Fate) {
        if fate == Fate::Lost {
            return;
        }
        let content = |whole: Content| match fate {
            Fate::Torn => Content::Torn,
            _ => whole,
        };
        match step {
            Step::Copy(file) => {
                let whole = Content::Whole(file.from.clone(), file.size);
                self.files.insert(file.to.clone(), content(whole));
            }
            Step::Write(path, text) => {
                self.files
                    .insert(path.clone(), content(Content::Text(text.clone())));
            }
            Step::Rename(from, to) => {
                if let Some(found) = self.files.remove(from) {
                    self.files.insert(to.clone(), found);
                }
            }
            Step::Remove(path) => {
                self.files.remove(path);
            }
            Step::MakeDir(_) | Step::Sync => {}
        }
    }

    fn look(&self) -> Present {
        let mut present = Present {
            free: self.capacity - self.used(),
            cluster: CLUSTER,
            ..Present::default()
        };
        for (path, content) in &self.files {
            let name = path.strip_prefix(&format!("{ENTRIES}/"));
            match (name, content) {
                _ if path.ends_with(NEW) => {
                    present.leftovers.insert(path.clone(), Self::size(content));
                }
                (Some(name), Content::Text(text)) => present.entries.push(PresentEntry {
                    file: name.into(),
                    name: MirrorName::parse(name).unwrap(),
                    text: text.clone(),
                    uses: uses(text),
                }),
                (Some(_), _) => panic!("a torn entry under its own name: {path}"),
                (None, _) => {
                    present.files.insert(path.clone(), Self::size(content));
                }
            }
        }
        present
    }

    /// The text of what systemd-boot would boot; its files are whole, and so are the others'.
    fn boots(&self) -> Option<String> {
        let mut entries = self.look().entries;
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.name.rank()));
        for path in entries.iter().flat_map(|entry| &entry.uses) {
            match self.files.get(path) {
                Some(Content::Whole(from, _)) => {
                    let place = from.strip_prefix("/boot/ostree").unwrap();
                    assert_eq!(*path, format!("bowline/{}", place.display()));
                }
                other => panic!("{path} is {other:?}"),
            }
        }
        entries.first().map(|entry| entry.text.clone())
    }

    fn tries(&self) -> Vec<(String, Option<Tries>)> {
        let mut entries = self.look().entries;
        entries.sort_by_key(|e| std::cmp::Reverse((e.name.generation, e.name.index)));
        entries
            .into_iter()
            .map(|e| (e.text, e.name.tries))
            .collect()
    }

    fn run(&mut self, steps: &[Step]) {
        steps.iter().for_each(|step| self.apply(step, Fate::Done));
    }
}

fn uses(text: &str) -> Vec<String> {
    let kernel = text.split("os-").nth(1).unwrap().split('/').next().unwrap();
    ["vmlinuz", "initramfs"]
        .map(|what| format!("bowline/os-{kernel}/{what}"))
        .into()
}

fn lines(steps: &[Step]) -> Vec<String> {
    let line = |step: &Step| match step {
        Step::MakeDir(path) => format!("dir {path}"),
        Step::Copy(file) => format!("copy {}", file.to),
        Step::Write(path, _) => format!("write {path}"),
        Step::Rename(from, to) => format!("rename {from} {to}"),
        Step::Remove(path) => format!("remove {path}"),
        Step::Sync => "sync".into(),
    };
    steps.iter().map(line).collect()
}

#[test]
fn an_upgrade_step_by_step() {
    let mut esp = Fat::new(10_000);
    esp.run(&plan(&esp.look(), &wanted(&[(1, 1)], Counting::Off)).unwrap());
    // libostree's paths change with each writing, so the old entry has a new text.
    let both = wanted(&[(2, 2), (3, 1)], Counting::Fresh(3));
    let steps = plan(&esp.look(), &both).unwrap();
    let expected = "\
dir bowline/os-2
copy bowline/os-2/vmlinuz.new
copy bowline/os-2/initramfs.new
sync
rename bowline/os-2/vmlinuz.new bowline/os-2/vmlinuz
rename bowline/os-2/initramfs.new bowline/os-2/initramfs
sync
dir loader/entries
write loader/entries/bowline-2-2+3.conf.new
write loader/entries/bowline-2-1.conf.new
sync
rename loader/entries/bowline-2-2+3.conf.new loader/entries/bowline-2-2+3.conf
sync
rename loader/entries/bowline-2-1.conf.new loader/entries/bowline-2-1.conf
sync
remove loader/entries/bowline-1-1.conf
sync";
    assert_eq!(lines(&steps), expected.lines().collect::<Vec<_>>());
    esp.run(&steps);
    let again = plan(&esp.look(), &both).unwrap();
    assert_eq!(again, []);
    let steps = plan(&esp.look(), &wanted(&[(2, 2)], Counting::Off)).unwrap();
    let tail = [
        "remove bowline/os-1/initramfs",
        "remove bowline/os-1/vmlinuz",
        "sync",
    ];
    assert_eq!(lines(&steps)[lines(&steps).len() - 3..], tail);
}

#[test]
fn counters_of_what_is_there_already() {
    let two = [(2, 1), (1, 1)];
    let tries = |left, done| Some(Tries { left, done });
    for (before, counting, after) in [
        (None, Counting::Off, None),
        (None, Counting::Fresh(3), tries(3, 0)),
        (None, Counting::Keep(3), tries(3, 0)),
        (tries(1, 2), Counting::Keep(3), tries(1, 2)),
        (tries(0, 3), Counting::Keep(3), tries(0, 3)),
        (tries(0, 3), Counting::Fresh(2), tries(2, 0)),
        (tries(1, 2), Counting::Off, None),
        (tries(1, 2), Counting::AsIs, tries(1, 2)),
        (tries(0, 3), Counting::AsIs, tries(0, 3)),
        (None, Counting::AsIs, None),
    ] {
        let mut esp = Fat::new(10_000);
        esp.run(&plan(&esp.look(), &wanted(&two, Counting::Fresh(3))).unwrap());
        let name = |tries| {
            let name = MirrorName {
                generation: 1,
                index: 2,
                tries,
            };
            format!("{ENTRIES}/{name}")
        };
        let from = name(tries(3, 0));
        esp.apply(&Step::Rename(from, name(before)), Fate::Done);
        esp.run(&plan(&esp.look(), &wanted(&two, counting)).unwrap());
        let found: Vec<_> = esp.tries().into_iter().map(|(_, tries)| tries).collect();
        assert_eq!(found, [after, None], "{before:?} {counting:?}");
    }
}

#[test]
fn a_counter_goes_on_over_a_new_generation_as_it_is() {
    for (before, after) in [(Counting::Fresh(2), Some(2)), (Counting::Off, None)] {
        let mut esp = Fat::new(10_000);
        esp.run(&plan(&esp.look(), &wanted(&[(1, 1)], before)).unwrap());
        esp.run(&plan(&esp.look(), &wanted(&[(2, 2), (3, 1)], Counting::AsIs)).unwrap());
        let found: Vec<_> = esp.tries().into_iter().map(|(_, tries)| tries).collect();
        assert_eq!(found, [after.map(|left| Tries { left, done: 0 }), None]);
    }
}

#[test]
fn room_is_counted_before_anything_is_written() {
    // A kernel takes 50 and an initramfs 100; an entry 40.
    let mut esp = Fat::new(600);
    esp.run(&plan(&esp.look(), &wanted(&[(2, 2), (1, 1)], Counting::Off)).unwrap());
    let three = wanted(&[(3, 3), (2, 2)], Counting::Fresh(3));
    let roomy = plan(
        &Fat {
            capacity: 900,
            ..esp.clone()
        }
        .look(),
        &three,
    )
    .unwrap();
    assert!(!lines(&roomy)[0].starts_with("remove"), "{roomy:?}");
    // The other way back is given up only where it is in the way.
    let used = esp.used();
    let tight = Fat {
        capacity: used + 120,
        ..esp.clone()
    };
    let steps = lines(&plan(&tight.look(), &three).unwrap());
    assert_eq!(steps[0], "remove loader/entries/bowline-1-1.conf");
    assert_eq!(steps[2], "remove bowline/os-1/initramfs");
    // Without room for the new beside what boots, nothing is done.
    let full = Fat {
        capacity: used,
        ..esp
    };
    let needed = 150 + 2 * 40 + 4 * CLUSTER;
    let error = MirrorError::NoSpace {
        needed,
        available: 150,
    };
    assert_eq!(plan(&full.look(), &three), Err(error.clone()));
    assert_eq!(room(&full.look(), &three), Err(error.clone()));
    assert_eq!(
        error.to_string(),
        "the EFI system partition has room for 150 B of kernels, but 270 B are needed beside \
         those that must stay bootable"
    );
    assert_eq!(
        plan(&full.look(), &Wanted::default()),
        Err(MirrorError::NothingToBoot)
    );
}

#[test]
fn what_is_half_written_or_has_another_size_is_written_again() {
    let mut esp = Fat::new(10_000);
    let one = wanted(&[(1, 1)], Counting::Off);
    esp.run(&plan(&esp.look(), &one).unwrap());
    let whole = esp.clone();
    let stray = |path: &str| (path.to_owned(), Content::Torn);
    esp.files.extend([
        stray("bowline/os-9/vmlinuz.new"),
        stray("bowline/os-8/vmlinuz"),
        stray("bowline/os-1/vmlinuz"),
        stray("loader/entries/bowline-7-1.conf.new"),
    ]);
    esp.run(&plan(&esp.look(), &one).unwrap());
    assert_eq!(esp, whole);
}

fn deployments() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec((1u8..6, 1u8..4), 1..4)
}

fn counting() -> impl Strategy<Value = Counting> {
    prop_oneof![
        Just(Counting::Off),
        Just(Counting::Keep(3)),
        Just(Counting::Fresh(3)),
        Just(Counting::AsIs)
    ]
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    prop::collection::vec(
        prop_oneof![Just(Fate::Done), Just(Fate::Lost), Just(Fate::Torn)],
        40,
    )
}

/// Steps up to `cut`; of those since the last sync, each has its fate.
fn power_cut(esp: &Fat, steps: &[Step], cut: usize, fates: &[Fate]) -> Fat {
    let done = &steps[..cut];
    let synced = done
        .iter()
        .rposition(|step| *step == Step::Sync)
        .map_or(0, |at| at + 1);
    let mut after = esp.clone();
    after.run(&done[..synced]);
    for (step, fate) in done[synced..].iter().zip(fates.iter().cycle()) {
        after.apply(step, *fate);
    }
    after
}

proptest! {
    /// Whatever is mirrored, and wherever it is cut off: the old or the new boots, from whole
    /// files, never more is written than fits, and the next run ends in what is wanted.
    #[test]
    fn old_or_new_boots_after_any_power_cut(
        capacity in 300u64..1500,
        walk in prop::collection::vec((deployments(), counting(), any::<prop::sample::Index>(), fates()), 1..6),
    ) {
        let mut esp = Fat::new(capacity);
        for (deployments, counting, cut, fates) in walk {
            let wanted = wanted(&deployments, counting);
            let old = esp.boots();
            let Ok(steps) = plan(&esp.look(), &wanted) else { continue };
            let new = Some(wanted.entries[0].text.clone());
            for cut in 0..=steps.len() {
                let mut running = esp.clone();
                running.run(&steps[..cut]);
                prop_assert!(running.used() <= capacity, "too much after {:?}", lines(&steps[..cut]));
                let after = power_cut(&esp, &steps, cut, &fates);
                let boots = after.boots();
                prop_assert!(boots == old || boots == new, "{:?} after {:?}", boots, lines(&steps[..cut]));
            }
            let mut after = power_cut(&esp, &steps, cut.index(steps.len() + 1), &fates);
            // What fits at first fits after an interruption.
            let rest = plan(&after.look(), &wanted);
            prop_assert!(rest.is_ok(), "{:?}", rest);
            after.run(&rest.unwrap());
            prop_assert_eq!(after.boots(), new);
            let texts: Vec<_> = after.tries().into_iter().map(|(text, _)| text).collect();
            let expected: Vec<_> = wanted.entries.iter().map(|e| e.text.clone()).collect();
            prop_assert_eq!(texts, expected);
            let files: std::collections::BTreeSet<_> =
                wanted.entries.iter().flat_map(|e| &e.files).map(|f| f.to.clone()).collect();
            let found: std::collections::BTreeSet<_> = after.look().files.into_keys().collect();
            prop_assert_eq!(found, files);
            let again = plan(&after.look(), &Wanted { counting: match wanted.counting {
                Counting::Off | Counting::AsIs => Counting::AsIs,
                Counting::Keep(n) | Counting::Fresh(n) => Counting::Keep(n),
            }, ..wanted });
            prop_assert_eq!(again, Ok(Vec::new()));
            esp = after;
        }
    }
}
