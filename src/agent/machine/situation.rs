//! What a boot is, from what it finds: the first half of the machine. Facts come in, one situation
//! goes out. Pure, and says nothing about what should follow.

use super::Facts;
use crate::health::{EventKind, Trial};

/// What a boot is, before its checks have run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Situation {
    /// Nothing has to prove itself.
    Settled,
    /// What was on trial is so no more: it was not applied, or somebody chose another default.
    Over(EventKind),
    /// The new deployment is on trial, but another one runs.
    Waiting {
        /// The bootloader does not count it, and must.
        uncounted: bool,
    },
    /// The new deployment is on trial, but the bootloader boots another one, as it cannot write down
    /// that it counts. So this boot is one of its tries.
    PassedOver {
        /// Number of the try, from 1.
        number: u32,
        /// Tries in all.
        tries: u32,
    },
    /// What runs must prove itself.
    OnTrial {
        /// Number of the try, from 1.
        number: u32,
        /// Tries in all.
        tries: u32,
        /// Whether it is the last one.
        last: bool,
    },
    /// The new deployment failed, and an older one runs in its place.
    FellBack,
    /// What runs was given up already, but still booted.
    GivenUp {
        /// Number of the boot, counted on from its tries.
        number: u32,
        /// Whether going back has been tried so often that it does not work here.
        stuck: bool,
    },
}

/// Says what this boot is.
pub fn assess(facts: &Facts) -> Situation {
    let Some(trial) = facts.trial() else {
        return Situation::Settled;
    };
    let (runs, is_default) = (
        facts.booted == trial.deployment,
        facts.is_default(&trial.deployment),
    );
    let present = facts.order.iter().any(|e| e.id == trial.deployment);
    match (runs, is_default) {
        _ if !present && trial.reached == 0 => Situation::Over(EventKind::NotApplied),
        _ if !present => Situation::Over(EventKind::Withdrawn),
        (true, _) if trial.failed && facts.order.len() > 1 => given_up(facts, &trial),
        (true, true) => on_trial(facts, &trial),
        (false, true) if trial.failed || facts.exhausted() => match takes_over(facts) {
            true => Situation::FellBack,
            false => Situation::Waiting { uncounted: false },
        },
        (false, true) if facts.is_foreign(&trial.deployment) && facts.counter.is_none() => {
            Situation::Over(EventKind::Withdrawn)
        }
        (false, true) if facts.uncounted(&trial) => passed_over(facts, &trial),
        (false, true) => Situation::Waiting {
            uncounted: facts.counting && facts.counter.is_none(),
        },
        // An interrupted fallback: all but the end of it is done.
        (false, false) if trial.failed && facts.is_default(&facts.booted) => Situation::FellBack,
        (_, false) => Situation::Over(EventKind::Withdrawn),
    }
}

/// Whether what runs is there in place of the failed default: any deployment of the same system, or
/// what the bootloader boots next. Another system that somebody chose in the menu has no part in it.
fn takes_over(facts: &Facts) -> bool {
    let first = facts.order.first().map_or("", |first| &first.id);
    let second = facts.fallback().is_some_and(|next| next.id == facts.booted);
    second || !facts.is_foreign(first)
}

fn passed_over(facts: &Facts, trial: &Trial) -> Situation {
    let (number, tries) = (facts.number(trial), trial.tries.max(1));
    match number >= tries && takes_over(facts) {
        true => Situation::FellBack,
        false => Situation::PassedOver { number, tries },
    }
}

fn on_trial(facts: &Facts, trial: &Trial) -> Situation {
    let number = facts.number(trial);
    Situation::OnTrial {
        number,
        tries: trial.tries.max(1),
        last: number >= trial.tries || facts.exhausted() || nobody_counted(facts),
    }
}

/// Neither the record nor the bootloader has counted this boot: both may forget the next one, too.
fn nobody_counted(facts: &Facts) -> bool {
    let done = facts.counter.map_or(0, |counter| counter.done);
    let known = facts.record.trial.is_some() || facts.unproven_default().is_some();
    !known && done == 0
}

fn given_up(facts: &Facts, trial: &Trial) -> Situation {
    let number = facts.number(trial);
    // Where another one is the default, going back was carried out and does not help. Where this one
    // still is, only power cuts in a row may have come between; but these have an end, too.
    let times = match facts.is_default(&facts.booted) {
        true => 5,
        false => 2,
    };
    Situation::GivenUp {
        number,
        stuck: number > trial.tries.saturating_mul(times),
    }
}
