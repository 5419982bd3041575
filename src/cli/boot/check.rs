//! `boot check`: runs once in each boot. Looks at what the boot is, runs its checks, and carries out
//! what `crate::agent` decides. The exit code says whether the boot is good.

use std::path::Path;

use anyhow::Result;

use super::settings;
use crate::agent::machine::{self, Decision, Facts, Outcome as Found, Situation, Step, Why};
use crate::agent::{self, carry_out};
use crate::boot::BootSetup;
use crate::cli::{Context, Outcome};
use crate::config::Health;
use crate::deploy;
use crate::health::news::{self, News};
use crate::health::{
    CheckResult, Class, Event, EventKind, Record, Store, builtin, first_red, registry, scripts,
};
use crate::host;
use crate::sysroot::Sysroot;

/// The running system, whose checks and hooks these are.
const ROOT: &str = "/";

/// Judges this boot. One on trial that cannot be judged ends all the same, where its end is counted.
pub fn run(context: &Context) -> Result<Outcome> {
    note_missed(context);
    let settings = settings(context).health;
    let (facts, store) = super::patiently(super::PATIENCE, || look(context, &settings))?;
    let situation = machine::assess(&facts);
    tracing::info!("{situation:?}");
    let judged = judge(context, &settings, &facts, &store, &situation);
    if let Err(error) = &judged {
        let steps = machine::unjudged(&facts, &situation);
        if !steps.is_empty() {
            tracing::error!("{error:#}; this boot on trial ends unjudged: rebooting");
        }
        carry_out(&steps, &store, || super::locked(context))?;
    }
    judged
}

fn judge(
    context: &Context,
    settings: &Health,
    facts: &Facts,
    store: &Store,
    situation: &Situation,
) -> Result<Outcome> {
    let steps = machine::begin(facts, situation);
    let leaves = steps.contains(&Step::Reboot);
    let after = do_all(&steps, store, context, settings, None)?;
    say_begun(situation, &facts.record, &after, settings, context)?;
    if leaves {
        return Ok(Outcome::Found);
    }
    let results = checks(context, settings);
    news::checks(&results);
    say_results(&results, context)?;
    let found = first_red(&results);
    let (facts, store) = look(context, settings)?;
    let decision = machine::decide(&facts, situation, &found);
    conclude(&facts, decision, &found, &store, context, settings)
}

/// Forgets what was staged once it is here, or keeps why it is not: libostree's own note of that
/// goes early in this boot. Nobody waits for it.
fn note_missed(context: &Context) {
    let sysroot = Sysroot::open_locked(&context.sysroot);
    if let Err(error) = sysroot.and_then(|sysroot| sysroot.settle_staged_record()) {
        tracing::info!("{error:#}");
    }
}

fn look(context: &Context, settings: &Health) -> Result<(Facts, Store)> {
    let sysroot = Sysroot::open(&context.sysroot)?;
    let setup = BootSetup::read(sysroot.path())?;
    let store = host::store(&sysroot);
    let facts = agent::facts(&sysroot, &setup, &store, settings.tries)?;
    Ok((facts, store))
}

/// Carries steps out; before a reboot, others are told. Gives the record as it is then.
fn do_all(
    steps: &[Step],
    store: &Store,
    context: &Context,
    settings: &Health,
    tell: Option<(News, &Event, &str)>,
) -> Result<Record> {
    let locked = || super::locked(context);
    let (last, others) = match steps.split_last() {
        Some((Step::Reboot, others)) => (&steps[others.len()..], others),
        _ => (&[][..], steps),
    };
    carry_out(others, store, locked)?;
    if let Some((news, event, message)) = tell {
        news::tell(
            Path::new(ROOT),
            news,
            event,
            message,
            settings.check_timeout,
        );
    }
    let record = store.read()?;
    carry_out(last, store, locked)?;
    Ok(record)
}

/// What the boot turned out to be, before any check.
fn say_begun(
    situation: &Situation,
    before: &Record,
    after: &Record,
    settings: &Health,
    context: &Context,
) -> Result<()> {
    match situation {
        Situation::OnTrial { number, tries, .. } => {
            context.say(&format!("This boot is try {number} of {tries}\n"))?;
        }
        // Of the shutdown that finished it, the rest was cut short.
        Situation::Waiting { uncounted: true } => {
            context.say(
                "An update was finished, but the bootloader had not heard of it: it boots next\n",
            )?;
        }
        Situation::Waiting { uncounted: false } => {
            context.say("An update is on trial, but another deployment was chosen to boot\n")?;
        }
        Situation::PassedOver { number, tries } => {
            context.say(&format!(
                "An update is on trial, but the bootloader cannot count its boots and booted this \
                 deployment instead: try {number} of {tries} is spent\n"
            ))?;
        }
        Situation::GivenUp { stuck: true, .. } => {
            context.say("This deployment was given up, but nothing else boots\n")?;
        }
        Situation::GivenUp { .. } => {
            context.say("This deployment was given up; rebooting into the one before it\n")?;
        }
        Situation::Settled | Situation::Over(_) | Situation::FellBack => {}
    }
    let event = after.last.as_ref().filter(|_| after.last != before.last);
    if let Some(event) = event {
        let sentence = event.sentence();
        let news = News::of(event.kind);
        news::tell(
            Path::new(ROOT),
            news,
            event,
            &sentence,
            settings.check_timeout,
        );
        context.say(&format!("{sentence}\n"))?;
    }
    Ok(())
}

/// All checks: built-in ones, those that are required, those that are wanted.
fn checks(context: &Context, settings: &Health) -> Vec<CheckResult> {
    let root = Path::new(ROOT);
    let mut results = builtin::run(root, settings);
    if let Some(class) = builtin::class(settings.registry) {
        let red = ask_registry(context, settings).unwrap_or_else(|e| Some(format!("{e:#}")));
        results.push(CheckResult::new("registry", class, red));
    }
    for class in [Class::Required, Class::Wanted] {
        results.extend(scripts::run_checks(root, class, settings.check_timeout));
    }
    results
}

/// Why the registry is red; a system that follows no image needs none.
fn ask_registry(context: &Context, settings: &Health) -> Result<Option<String>> {
    let deployments = Sysroot::open(&context.sysroot)?.deployments()?;
    let Ok((_, image)) = deploy::followed(&deployments, None) else {
        return Ok(None);
    };
    let (options, time) = (context.plain_source_options(), settings.check_timeout);
    context.block_on(async { Ok(registry::check(&image.imgref, &options, time).await) })
}

fn say_results(results: &[CheckResult], context: &Context) -> Result<()> {
    for result in results {
        let (name, class) = (&result.name, result.class.name());
        context.say(&match &result.red {
            None => format!("green  {name} ({class})\n"),
            Some(red) => format!("red    {name} ({class}): {red}\n"),
        })?;
    }
    Ok(())
}

/// Carries the decision out and says it.
fn conclude(
    facts: &Facts,
    decision: Decision,
    found: &Found,
    store: &Store,
    context: &Context,
    settings: &Health,
) -> Result<Outcome> {
    let Some(failure) = found else {
        context.say("All required checks are green\n")?;
        return Ok(Outcome::Done);
    };
    let (news, follows) = words(decision);
    let sentence = format!("This boot is red: {}; {follows}", failure.words());
    let runs = facts.order.iter().find(|entry| entry.id == facts.booted);
    let event = Event {
        kind: EventKind::Retry,
        when: facts.now,
        image: runs.map(|entry| entry.image.clone()).unwrap_or_default(),
        check: failure.check.clone(),
        reason: failure.words(),
    };
    context.say(&format!("{sentence}\n"))?;
    let steps = machine::conclude(facts, decision, found);
    let tell = Some((news, &event, &*sentence));
    do_all(&steps, store, context, settings, tell)?;
    Ok(Outcome::Found)
}

const fn words(decision: Decision) -> (News, &'static str) {
    match decision {
        Decision::Good => (News::Good, "it is good"),
        Decision::RetryByReboot => (News::Retry, "rebooting to try again"),
        Decision::FallBackByReboot | Decision::SwitchAndReboot => (
            News::GivenUp,
            "its tries are used up: rebooting into the deployment before it",
        ),
        Decision::StayDegraded(Why::NoFallback) => (
            News::Degraded,
            "its tries are used up, but there is no other deployment: it stays up",
        ),
        Decision::StayDegraded(Why::OlderIsRedToo) => (
            News::Degraded,
            "the update before it failed as well: it stays up, and needs somebody to look at it",
        ),
        Decision::StayDegraded(Why::Stuck) => (
            News::Degraded,
            "it was given up, but the bootloader boots nothing else: it stays up",
        ),
        Decision::StayDegraded(Why::NothingOnTrial) => (
            News::Degraded,
            "no update is on trial, so booting something else is left to you",
        ),
    }
}
