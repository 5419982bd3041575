//! The state machine of trials. What a boot finds (facts) and what its checks said come in; what
//! that means and the steps that follow go out. Pure: reads nothing, does nothing, and is the same
//! for every bootloader.
//!
//! ```text
//! finalise ─► on trial ─ green ─► good
//!                │  ▲
//!               red │ reboot, while tries are left
//!                ├──┘
//!                └─ last try ─► given up ─► the deployment before it runs ─► it becomes the default
//! ```
//!
//! What keeps it from rebooting for ever: a reboot is asked for only by a deployment on trial, each
//! boot of it raises the number of its try in the record before anything else is done, and the last
//! number is never retried. Where the bootloader counts, too, the higher count is believed.

use chrono::{DateTime, Utc};

pub use self::situation::{Situation, assess};
use crate::boot::Tries;
use crate::health::{BadImage, Event, EventKind, Failure, Record, Trial, TrialImage};

/// A deployment, as far as a trial is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `STATEROOT/COMMIT.SERIAL`.
    pub id: String,
    /// What it was made from.
    pub image: TrialImage,
}

/// What a boot finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The deployment that runs.
    pub booted: String,
    /// Finished deployments in libostree's order: the first one is the default.
    pub order: Vec<Entry>,
    /// Whether the bootloader can count boots.
    pub counting: bool,
    /// Whether it counts each boot, whichever deployment is chosen in its menu, as GRUB does.
    pub counts_all: bool,
    /// What the bootloader counted for the default, where it does.
    pub counter: Option<Tries>,
    /// What is remembered.
    pub record: Record,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// Tries of a deployment that nothing else is known of.
    pub tries: u32,
    /// The time.
    pub now: DateTime<Utc>,
}

/// What is to be done about a boot, once its checks have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// All required checks are green.
    Good,
    /// Try again.
    RetryByReboot,
    /// Give up; the bootloader boots the previous deployment.
    FallBackByReboot,
    /// Give up; the previous deployment becomes the default first, as the bootloader has not
    /// counted this one out.
    SwitchAndReboot,
    /// Stay up and say so.
    StayDegraded(Why),
}

/// Why a red boot stays up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is nothing else to boot.
    NoFallback,
    /// This is the older deployment that took the place of a failed one.
    OlderIsRedToo,
    /// It was given up, but the bootloader boots nothing else.
    Stuck,
    /// Nothing is on trial, so nothing gets better by booting something else.
    NothingOnTrial,
}

/// One deed. Steps are carried out in order; each is durable before the next one begins, and none
/// is begun after one that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Replace the record.
    Remember(Box<Record>),
    /// Where the bootloader counts whatever is the default (GRUB), let it count from this number.
    Arm(u32),
    /// Have the bootloader boot the default, with this many tries.
    Recount(u32),
    /// Write the boot order.
    Order(Vec<String>),
    /// Have the bootloader boot what is the default, counted as it is.
    Mirror,
    /// Have the bootloader count nothing, and boot what is the default.
    Settle,
    /// Tell the bootloader that what runs is good.
    Bless,
    /// Reboot.
    Reboot,
}

impl Facts {
    fn is_default(&self, id: &str) -> bool {
        self.order.first().is_some_and(|first| first.id == id)
    }

    fn default_image(&self) -> TrialImage {
        let first = self.order.first();
        first.map(|first| first.image.clone()).unwrap_or_default()
    }

    fn exhausted(&self) -> bool {
        self.counter.is_some_and(|tries| tries.left == 0)
    }

    /// What boots if the default does not: what the bootloader takes, too.
    fn fallback(&self) -> Option<&Entry> {
        self.order.iter().find(|entry| !self.is_default(&entry.id))
    }

    /// The trial on record; that of a default that never was good; or the one that a counter without
    /// a record tells of.
    fn trial(&self) -> Option<Trial> {
        let counted = || {
            let first = self.order.first().filter(|_| self.counter.is_some())?;
            Some(Trial {
                image: first.image.clone(),
                deployment: first.id.clone(),
                tries: self.tries,
                started: self.now,
                ..Trial::default()
            })
        };
        let recorded = self
            .record
            .trial
            .as_ref()
            .or_else(|| self.unproven_default());
        recorded.cloned().or_else(counted)
    }

    /// What never was good, where somebody made it boot by default again.
    fn unproven_default(&self) -> Option<&Trial> {
        let unproven = self.record.unproven.as_ref();
        unproven.filter(|unproven| self.is_default(&unproven.deployment))
    }

    /// Whether the bootloader should have taken a try away since counting began, and has not.
    fn uncounted(&self, trial: &Trial) -> bool {
        let untouched = |counter: Tries| counter.done == 0 && counter.left > 0;
        let untouched = self.counter.is_some_and(untouched);
        let earlier = trial.boot_id != self.boot_id || trial.reached > 0;
        self.counts_all && untouched && earlier && !trial.boot_id.is_empty()
    }

    /// Whether a deployment is of another system than the one that runs. That one has a record of its
    /// own, and judges itself.
    fn is_foreign(&self, id: &str) -> bool {
        stateroot(id) != stateroot(&self.booted)
    }

    /// Number of the try that this boot is: what the bootloader or the record counted.
    fn number(&self, trial: &Trial) -> u32 {
        let again = trial.boot_id == self.boot_id && trial.reached > 0;
        let recorded = trial.reached.saturating_add(u32::from(!again));
        let counted = self.counter.map_or(0, |counter| counter.done);
        recorded.max(counted)
    }

    /// Whether what never was good is still here, and this system is the one to judge it.
    fn may_yet_boot(&self, unproven: &Trial) -> bool {
        let present = self
            .order
            .iter()
            .any(|entry| entry.id == unproven.deployment);
        present && !self.is_foreign(&unproven.deployment)
    }

    /// The record with this boot as a try of the trial.
    fn reached(&self, mut trial: Trial, number: u32) -> Record {
        let mut record = self.record.clone();
        trial.reached = number;
        trial.boot_id.clone_from(&self.boot_id);
        record.begin(trial);
        record
    }

    fn event(&self, kind: EventKind, image: TrialImage, why: (String, String)) -> Event {
        Event {
            kind,
            when: self.now,
            image,
            check: why.0,
            reason: why.1,
        }
    }
}

/// The steps that a situation asks for before any check runs.
pub fn begin(facts: &Facts, situation: &Situation) -> Vec<Step> {
    let mut record = facts.record.clone();
    let Some(mut trial) = facts.trial() else {
        // A change of the order that was cut short before the bootloader heard of it; or somebody
        // chose in the menu, and nothing changes.
        let odd = facts.counting && !facts.is_default(&facts.booted);
        return if odd { vec![Step::Mirror] } else { Vec::new() };
    };
    match situation {
        Situation::Settled | Situation::Waiting { uncounted: false } => Vec::new(),
        Situation::Waiting { uncounted: true } => {
            let tries = trial.tries.max(1);
            trial.boot_id.clone_from(&facts.boot_id);
            record.begin(trial);
            vec![remember(record), Step::Recount(tries)]
        }
        Situation::Over(kind) => {
            let why = match kind {
                EventKind::NotApplied => "the shutdown that should have finished it was cut short",
                _ if facts.is_default(&trial.deployment) => {
                    "it is another system, which judges itself"
                }
                _ => "another deployment was chosen to boot",
            };
            match kind {
                EventKind::NotApplied => drop(record.trial.take()),
                _ => drop(record.withdraw()),
            }
            record.unproven = record
                .unproven
                .filter(|unproven| facts.may_yet_boot(unproven));
            let why = (String::new(), why.into());
            record.last = Some(facts.event(*kind, trial.image, why));
            vec![Step::Settle, remember(record)]
        }
        Situation::PassedOver { number, .. } => {
            trial.passed_over(*number);
            vec![remember(facts.reached(trial, *number))]
        }
        Situation::OnTrial { number, .. } => {
            trial.uncounted |= facts.uncounted(&trial);
            vec![remember(facts.reached(trial, *number))]
        }
        Situation::FellBack => {
            if !trial.failed && facts.uncounted(&trial) {
                trial.passed_over(facts.number(&trial));
            }
            take_over(facts, &trial)
        }
        Situation::GivenUp { stuck: true, .. } => Vec::new(),
        Situation::GivenUp { number, .. } => {
            trial.reached = *number;
            trial.boot_id.clone_from(&facts.boot_id);
            go_back(facts, &trial)
        }
    }
}

/// What checks came to: the first required one that failed, or none.
pub type Outcome = Option<Failure>;

/// Decides, once the checks have run. `facts` are those after the steps of [`begin`].
pub fn decide(facts: &Facts, situation: &Situation, outcome: &Outcome) -> Decision {
    if outcome.is_none() {
        return Decision::Good;
    }
    match situation {
        Situation::OnTrial { last: false, .. } => Decision::RetryByReboot,
        Situation::OnTrial { .. } if facts.fallback().is_none() => {
            Decision::StayDegraded(Why::NoFallback)
        }
        Situation::OnTrial { .. } if facts.exhausted() => Decision::FallBackByReboot,
        Situation::OnTrial { .. } => Decision::SwitchAndReboot,
        Situation::FellBack => Decision::StayDegraded(Why::OlderIsRedToo),
        Situation::GivenUp { .. } => Decision::StayDegraded(Why::Stuck),
        Situation::Settled
        | Situation::Over(_)
        | Situation::Waiting { .. }
        | Situation::PassedOver { .. } => Decision::StayDegraded(Why::NothingOnTrial),
    }
}

/// The steps that a decision asks for.
pub fn conclude(facts: &Facts, decision: Decision, outcome: &Outcome) -> Vec<Step> {
    let (Some(mut trial), Some(failure)) = (facts.trial(), outcome.clone()) else {
        return Vec::new();
    };
    let failure = Failure {
        number: trial.reached,
        ..failure
    };
    trial.failed_try(failure);
    let mut record = facts.record.clone();
    match decision {
        Decision::Good => Vec::new(),
        Decision::StayDegraded(Why::OlderIsRedToo | Why::Stuck | Why::NothingOnTrial) => Vec::new(),
        Decision::RetryByReboot => {
            let (check, _) = trial.verdict();
            let said = trial.failures.last().map(Failure::words);
            let why = (check, said.unwrap_or_default());
            record.last = Some(facts.event(EventKind::Retry, trial.image.clone(), why));
            record.trial = Some(trial);
            vec![remember(record), Step::Reboot]
        }
        Decision::StayDegraded(Why::NoFallback) => {
            give_up(facts, &mut record, &mut trial);
            let why = trial.verdict();
            record.last = Some(facts.event(EventKind::Degraded, trial.image, why));
            record.trial = None;
            vec![Step::Settle, remember(record)]
        }
        Decision::FallBackByReboot => {
            give_up(facts, &mut record, &mut trial);
            record.trial = Some(trial);
            vec![remember(record), Step::Reboot]
        }
        Decision::SwitchAndReboot => go_back(facts, &trial),
    }
}

/// What follows where a boot could not be judged: its record cannot be written, say, because `/var`
/// is not there. What the bootloader counted, and will count again, may be left to it: a boot on
/// trial ends, and its tries too, as there is something else to boot then.
pub fn unjudged(facts: &Facts, situation: &Situation) -> Vec<Step> {
    let counted = facts.counter.is_some_and(|tries| tries.done > 0);
    match situation {
        Situation::OnTrial { .. } if counted && facts.fallback().is_some() => vec![Step::Reboot],
        _ => Vec::new(),
    }
}

/// The steps of `boot ok`: what runs is good.
pub fn good(facts: &Facts) -> Vec<Step> {
    let mut record = facts.record.clone();
    let runs = |trial: &Trial| trial.deployment == facts.booted;
    record.unproven = record.unproven.filter(|unproven| !runs(unproven));
    let Some(trial) = facts.trial().filter(runs) else {
        let proven = record != facts.record;
        return proven.then(|| remember(record)).into_iter().collect();
    };
    record.forgive(&trial.image.digest);
    let none = (String::new(), String::new());
    record.last = Some(facts.event(EventKind::Good, trial.image, none));
    record.trial = None;
    // In this order: a good deployment whose counter is used up must not be left to the bootloader.
    // What somebody made the default meanwhile is not what proved itself.
    let bless = facts.is_default(&facts.booted).then_some(Step::Bless);
    bless.into_iter().chain([remember(record)]).collect()
}

/// An older deployment runs because the new one failed: it becomes the default.
///
/// While the order changes, the counter must be able to count: GRUB counts whatever is the default,
/// and at 0 boots the second entry, which is the failed one as soon as the order has changed.
fn take_over(facts: &Facts, trial: &Trial) -> Vec<Step> {
    let mut record = facts.record.clone();
    let mut trial = trial.clone();
    let mut steps = Vec::new();
    if !trial.failed {
        give_up(facts, &mut record, &mut trial);
        record.trial = Some(trial.clone());
        steps.push(remember(record.clone()));
    }
    if !facts.is_default(&facts.booted) {
        steps.extend([Step::Arm(trial.tries.max(1)), order(facts, &facts.booted)]);
    }
    steps.push(Step::Settle);
    let why = trial.verdict();
    // What takes over may itself never have been good.
    let other = |unproven: &Trial| unproven.deployment != facts.booted;
    if record.unproven.as_ref().is_none_or(other) {
        record.unproven = Some(trial.anew());
    }
    record.last = Some(facts.event(EventKind::FellBack, trial.image, why));
    record.trial = None;
    steps.push(remember(record));
    steps
}

/// From the failed deployment itself back to the one before it. That one ends the trial.
fn go_back(facts: &Facts, trial: &Trial) -> Vec<Step> {
    let mut record = facts.record.clone();
    let mut trial = trial.clone();
    give_up(facts, &mut record, &mut trial);
    let tries = trial.tries.max(1);
    record.trial = Some(trial);
    let mut steps = vec![remember(record)];
    if facts.is_default(&facts.booted) {
        let back = facts.fallback().map(|back| order(facts, &back.id));
        steps.extend(std::iter::once(Step::Arm(tries)).chain(back));
    }
    steps.extend([Step::Settle, Step::Reboot]);
    steps
}

/// From here on the image is bad, and its trial only has to be wound up. Where another deployment
/// is of the same image, such as before a change of kernel arguments, that image is not to blame.
fn give_up(facts: &Facts, record: &mut Record, trial: &mut Trial) {
    trial.failed = true;
    let (check, reason) = trial.verdict();
    let image = match trial.image.digest.is_empty() && facts.is_default(&trial.deployment) {
        true => facts.default_image(),
        false => trial.image.clone(),
    };
    let others = facts.order.iter().filter(|e| e.id != trial.deployment);
    if others.into_iter().any(|e| e.image.digest == image.digest) {
        return;
    }
    record.remember_bad(BadImage {
        image,
        when: facts.now,
        tries: trial.tries,
        check,
        reason,
    });
}

/// `first` in front, the others behind it as they were.
fn order(facts: &Facts, first: &str) -> Step {
    let ids = facts.order.iter().map(|entry| entry.id.clone());
    let rest = ids.filter(|id| id != first);
    Step::Order(std::iter::once(first.to_owned()).chain(rest).collect())
}

fn remember(record: Record) -> Step {
    Step::Remember(Box::new(record))
}

/// The stateroot in `STATEROOT/COMMIT.SERIAL`.
fn stateroot(id: &str) -> &str {
    id.split_once('/').map_or("", |(stateroot, _)| stateroot)
}

mod situation;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
