//! A whole machine as a model: bootloaders that count as GRUB and systemd-boot do, deployments that
//! boot, hang, panic or are red, and power cuts between any two steps. Decides nothing itself: each
//! boot asks the parent room.

use super::*;

const TRIES: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loader {
    Grub,
    SystemdBoot,
    None,
}

/// What a deployment does in one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Green,
    Red,
    /// Hangs, panics or loses power before anything is recorded.
    Silent,
    /// Loses power after so many steps; red until then.
    Cut(usize),
}

/// How a boot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Up,
    Reset,
}

/// Whether GRUB can write, and what it boots where it cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saving {
    Works,
    /// As our grub.cfg does.
    BootsSecond,
    /// As others do.
    BootsFirst,
}

#[derive(Debug, Clone)]
struct Machine {
    loader: Loader,
    /// libostree's order.
    order: Vec<String>,
    record: Record,
    /// GRUB: `boot_counter` and what it started with.
    counter: Option<(u32, u32)>,
    /// systemd-boot: entries on the ESP with tries left and done.
    esp: Vec<(String, Option<(u32, u32)>)>,
    /// Whether GRUB can write its counter on this file system.
    saving: Saving,
    /// Always boots this one, as firmware or a pinned entry does.
    pinned: Option<String>,
    boots: u32,
    asked: u32,
}

impl Machine {
    /// Runs `old`; an update to `new` was staged.
    fn new(loader: Loader) -> Self {
        Self {
            loader,
            order: vec!["old".into()],
            record: Record::default(),
            counter: None,
            esp: vec![("old".into(), None)],
            saving: Saving::Works,
            pinned: None,
            boots: 0,
            asked: 0,
        }
    }

    /// Shutdown with a staged update, cut after so many of its writes.
    fn finalise(&mut self, cut: usize) {
        let trial = Trial {
            image: image("new"),
            deployment: "new".into(),
            tries: TRIES,
            boot_id: self.boots.to_string(),
            ..Trial::default()
        };
        if cut > 0 {
            self.record.begin(trial);
        }
        if cut > 1 && self.loader == Loader::Grub {
            self.counter = Some((TRIES, TRIES));
        }
        if cut > 2 {
            self.order = vec!["new".into(), "old".into()];
        }
        if cut > 3 && self.loader == Loader::SystemdBoot {
            self.esp = vec![("new".into(), Some((TRIES, 0))), ("old".into(), None)];
        }
    }

    /// Another tool changes the order.
    fn swap(&mut self) {
        self.order.reverse();
    }

    /// What the bootloader takes, counting.
    fn select(&mut self) -> String {
        let second = self.order.get(1).unwrap_or(&self.order[0]).clone();
        let chosen = match (self.loader, &mut self.counter) {
            (Loader::Grub, Some((0, _))) => second,
            (Loader::Grub, Some(_)) if self.saving == Saving::BootsSecond => second,
            (Loader::Grub, Some((left, _))) => {
                *left -= u32::from(self.saving == Saving::Works);
                self.order[0].clone()
            }
            (Loader::SystemdBoot, _) => {
                let usable = |(_, tries): &&mut (String, Option<(u32, u32)>)| {
                    tries.is_none_or(|(left, _)| left > 0)
                };
                let at = self.esp.iter_mut().find(usable);
                match at {
                    Some((name, Some((left, done)))) => {
                        (*left, *done) = (*left - 1, *done + 1);
                        name.clone()
                    }
                    Some((name, None)) => name.clone(),
                    None => self.esp[0].0.clone(),
                }
            }
            _ => self.order[0].clone(),
        };
        self.pinned.clone().unwrap_or(chosen)
    }

    fn facts(&self, booted: &str) -> Facts {
        let default = &self.order[0];
        let esp = self.esp.iter().find(|(name, _)| name == default);
        let counter = match self.loader {
            Loader::Grub => self.counter.map(|(left, start)| (left, start - left)),
            Loader::SystemdBoot => esp.and_then(|(_, tries)| *tries),
            Loader::None => None,
        };
        let entry = |id: &String| Entry {
            id: id.clone(),
            image: image(id),
        };
        Facts {
            booted: booted.into(),
            order: self.order.iter().map(entry).collect(),
            counting: self.loader != Loader::None,
            counts_all: self.loader == Loader::Grub,
            counter: counter.map(|(left, done)| Tries { left, done }),
            record: self.record.clone(),
            boot_id: self.boots.to_string(),
            tries: TRIES,
            now: DateTime::default(),
        }
    }

    /// Carries steps out until the power goes; true when all were.
    fn carry_out(&mut self, steps: Vec<Step>, power: &mut usize) -> Option<End> {
        for step in steps {
            if *power == 0 {
                return Some(End::Reset);
            }
            *power -= 1;
            match step {
                Step::Remember(record) => self.record = *record,
                Step::Arm(tries) if self.loader == Loader::Grub => {
                    self.counter = Some((tries, tries));
                }
                Step::Arm(_) => {}
                Step::Mirror => self.mirror(self.esp[0].1),
                Step::Recount(tries) => match self.loader {
                    Loader::Grub => self.counter = Some((tries, tries)),
                    Loader::SystemdBoot => self.mirror(Some((tries, 0))),
                    Loader::None => {}
                },
                Step::Order(order) => self.order = order,
                Step::Settle => {
                    self.counter = None;
                    self.mirror(None);
                }
                Step::Bless => {
                    self.counter = None;
                    self.esp.iter_mut().for_each(|(_, tries)| *tries = None);
                }
                Step::Reboot => {
                    self.asked += 1;
                    return Some(End::Reset);
                }
            }
        }
        None
    }

    fn mirror(&mut self, tries: Option<(u32, u32)>) {
        let counted = |at| if at == 0 { tries } else { None };
        let names = self.order.iter().cloned().enumerate();
        self.esp = names.map(|(at, name)| (name, counted(at))).collect();
    }

    /// One boot: what ran, and how it ended.
    fn boot(&mut self, run: impl Fn(&str) -> Run) -> (String, End) {
        self.boots += 1;
        let booted = self.select();
        let end = self.check(&booted, run(&booted));
        (booted, end)
    }

    /// `boot check`, and `boot ok` where it is green.
    fn check(&mut self, booted: &str, run: Run) -> End {
        let (mut power, failed) = match run {
            Run::Silent => return End::Reset,
            Run::Cut(steps) => (steps, true),
            Run::Red => (usize::MAX, true),
            Run::Green => (usize::MAX, false),
        };
        let facts = self.facts(booted);
        let situation = assess(&facts);
        if let Some(end) = self.carry_out(begin(&facts, &situation), &mut power) {
            return end;
        }
        let outcome = failed.then(|| Failure {
            check: "10-db".into(),
            ..Failure::default()
        });
        let facts = self.facts(booted);
        let decision = decide(&facts, &situation, &outcome);
        let steps = match decision {
            Decision::Good => good(&facts),
            other => conclude(&facts, other, &outcome),
        };
        let ended = self.carry_out(steps, &mut power);
        ended.unwrap_or(match run {
            Run::Cut(_) => End::Reset,
            _ => End::Up,
        })
    }

    /// Boots until something stays up.
    fn until_up(&mut self, run: impl Fn(&str) -> Run) -> String {
        for _ in 0..50 {
            if let (booted, End::Up) = self.boot(&run) {
                return booted;
            }
        }
        panic!("an endless reboot loop: {self:?}");
    }
}

fn image(name: &str) -> TrialImage {
    TrialImage {
        digest: format!("sha256:{name}"),
        ..TrialImage::default()
    }
}

mod promises;
