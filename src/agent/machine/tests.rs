//! Single situations, as a table: what a boot is, and what follows from it.

use super::*;

fn image(name: &str) -> TrialImage {
    TrialImage {
        digest: format!("sha256:{name}"),
        ..TrialImage::default()
    }
}

fn trial() -> Trial {
    Trial {
        image: image("new"),
        deployment: "new".into(),
        tries: 3,
        ..Trial::default()
    }
}

fn facts(booted: &str, order: &[&str], counter: Option<(u32, u32)>, trial: Option<Trial>) -> Facts {
    let entry = |id: &&str| Entry {
        id: (*id).into(),
        image: image(id),
    };
    Facts {
        booted: booted.into(),
        order: order.iter().map(entry).collect(),
        counting: true,
        counts_all: true,
        counter: counter.map(|(left, done)| Tries { left, done }),
        record: Record {
            trial,
            ..Record::default()
        },
        boot_id: "b".into(),
        tries: 3,
        now: DateTime::default(),
    }
}

fn on_trial(number: u32, last: bool) -> Situation {
    Situation::OnTrial {
        number,
        tries: 3,
        last,
    }
}

#[test]
fn situations() {
    let (both, new) = (["new", "old"], "new");
    let failed = Trial {
        failed: true,
        reached: 3,
        ..trial()
    };
    let tried = |reached, boot_id: &str| Trial {
        reached,
        boot_id: boot_id.into(),
        ..trial()
    };
    let gone = |reached| {
        let failed = failed.clone();
        Some(Trial { reached, ..failed })
    };
    let given_up = |number, stuck| Situation::GivenUp { number, stuck };
    let waiting = |uncounted| Situation::Waiting { uncounted };
    for (booted, order, counter, trial, expected) in [
        ("old", &["old"][..], None, None, Situation::Settled),
        ("old", &both, None, None, Situation::Settled),
        (new, &both, Some((2, 1)), Some(trial()), on_trial(1, false)),
        (new, &both, Some((1, 2)), Some(trial()), on_trial(2, false)),
        (new, &both, Some((0, 3)), Some(trial()), on_trial(3, true)),
        // The bootloader does not count, but we do.
        (
            new,
            &both,
            Some((3, 0)),
            Some(tried(1, "a")),
            on_trial(2, false),
        ),
        (new, &both, None, Some(tried(2, "a")), on_trial(3, true)),
        // The same boot again.
        (
            new,
            &both,
            Some((1, 2)),
            Some(tried(2, "b")),
            on_trial(2, false),
        ),
        // A counter without a record.
        (new, &both, Some((2, 1)), None, on_trial(1, false)),
        (new, &both, Some((3, 0)), None, on_trial(1, true)),
        (
            "old",
            &both,
            Some((0, 3)),
            Some(trial()),
            Situation::FellBack,
        ),
        ("old", &both, Some((0, 3)), None, Situation::FellBack),
        (
            "old",
            &both,
            Some((1, 2)),
            Some(failed.clone()),
            Situation::FellBack,
        ),
        (
            "old",
            &["old", "new"],
            Some((2, 1)),
            Some(failed.clone()),
            Situation::FellBack,
        ),
        // Chosen by hand in the menu.
        ("old", &both, Some((1, 2)), Some(trial()), waiting(false)),
        ("old", &both, None, Some(trial()), waiting(true)),
        (
            "old",
            &["old"],
            Some((2, 1)),
            Some(trial()),
            Situation::Over(EventKind::NotApplied),
        ),
        (
            "old",
            &["old"],
            None,
            Some(tried(1, "a")),
            Situation::Over(EventKind::Withdrawn),
        ),
        (
            "old",
            &["old", "new"],
            Some((2, 1)),
            Some(trial()),
            Situation::Over(EventKind::Withdrawn),
        ),
        (
            new,
            &["old", "new"],
            Some((2, 1)),
            Some(trial()),
            Situation::Over(EventKind::Withdrawn),
        ),
        (
            new,
            &both,
            Some((2, 1)),
            Some(failed.clone()),
            given_up(4, false),
        ),
        (
            new,
            &["old", "new"],
            Some((0, 3)),
            Some(failed.clone()),
            given_up(4, false),
        ),
        // Going back was carried out again and again, or was cut short.
        (new, &["old", "new"], None, gone(5), given_up(6, false)),
        (new, &["old", "new"], None, gone(6), given_up(7, true)),
        (new, &both, None, gone(6), given_up(7, false)),
        (new, &both, None, gone(14), given_up(15, false)),
        (new, &both, None, gone(15), given_up(16, true)),
    ] {
        let facts = facts(booted, order, counter, trial);
        assert_eq!(assess(&facts), expected, "{facts:?}");
    }
}

/// Two systems on one disk: each has a record of its own, and the bootloader one counter for both.
#[test]
fn of_two_systems_each_judges_itself() {
    let new = |id: &str| Trial {
        deployment: id.into(),
        ..trial()
    };
    let failed = Trial {
        failed: true,
        reached: 3,
        ..new("a/new")
    };
    let waiting = Situation::Waiting { uncounted: false };
    let over = Situation::Over(EventKind::Withdrawn);
    for (booted, order, counter, trial, expected) in [
        // The record of b knows nothing of the trial of a, whichever count that has.
        (
            "b/x",
            &["a/new", "a/old", "b/x"][..],
            Some((2, 1)),
            None,
            waiting.clone(),
        ),
        (
            "b/x",
            &["a/new", "a/old", "b/x"],
            Some((0, 3)),
            None,
            waiting.clone(),
        ),
        // Unless it is what a failed one goes back to.
        (
            "b/x",
            &["a/new", "b/x", "a/old"],
            Some((0, 3)),
            None,
            Situation::FellBack,
        ),
        (
            "a/old",
            &["a/new", "b/x", "a/old"],
            Some((0, 3)),
            Some(new("a/new")),
            Situation::FellBack,
        ),
        // b was put on trial by a, and proved itself since; or it did not yet.
        (
            "a/old",
            &["b/new", "a/old"],
            None,
            Some(new("b/new")),
            over.clone(),
        ),
        (
            "a/old",
            &["b/new", "a/old"],
            Some((2, 1)),
            Some(new("b/new")),
            waiting,
        ),
        (
            "a/old",
            &["b/new", "a/old"],
            Some((0, 3)),
            Some(new("b/new")),
            Situation::FellBack,
        ),
        // b became the default while a was on trial, or after it had failed.
        (
            "a/new",
            &["b/x", "a/new", "a/old"],
            Some((2, 1)),
            Some(new("a/new")),
            over.clone(),
        ),
        (
            "a/old",
            &["b/x", "a/new", "a/old"],
            None,
            Some(failed),
            over,
        ),
    ] {
        let facts = facts(booted, order, counter, trial);
        assert_eq!(assess(&facts), expected, "{facts:?}");
    }
}

#[test]
fn only_what_proved_itself_is_marked_good() {
    let mut facts = facts("a/new", &["b/x", "a/new"], Some((2, 1)), None);
    facts.record.trial = Some(Trial {
        deployment: "a/new".into(),
        ..trial()
    });
    let steps = good(&facts);
    assert!(matches!(&steps[..], [Step::Remember(_)]), "{steps:?}");
    facts.order.reverse();
    let steps = good(&facts);
    assert!(
        matches!(&steps[..], [Step::Bless, Step::Remember(_)]),
        "{steps:?}"
    );
}

#[test]
fn an_untouched_counter_tells_of_a_bootloader_that_cannot_count() {
    let armed = |boot_id: &str, reached| Trial {
        boot_id: boot_id.into(),
        reached,
        ..trial()
    };
    let waiting = Situation::Waiting { uncounted: false };
    let passed = |number| Situation::PassedOver { number, tries: 3 };
    let both = &["new", "old"][..];
    for (counts_all, counter, trial, expected) in [
        (true, (3, 0), armed("a", 0), passed(1)),
        (true, (3, 0), armed("a", 1), passed(2)),
        (true, (3, 0), armed("b", 2), passed(2)),
        (true, (3, 0), armed("a", 2), Situation::FellBack),
        // Counting began in this boot, or nobody knows when.
        (true, (3, 0), armed("b", 0), waiting.clone()),
        (true, (3, 0), armed("", 0), waiting.clone()),
        // It counts; somebody chose in the menu.
        (true, (2, 1), armed("a", 0), waiting.clone()),
        (false, (3, 0), armed("a", 0), waiting),
    ] {
        let mut facts = facts("old", both, Some(counter), Some(trial));
        facts.counts_all = counts_all;
        assert_eq!(assess(&facts), expected, "{facts:?}");
    }
}

#[test]
fn the_order_changes_only_under_a_counter_that_counts() {
    let facts = facts("old", &["new", "old"], Some((0, 3)), Some(trial()));
    let steps = begin(&facts, &Situation::FellBack);
    let kinds: Vec<String> = steps
        .iter()
        .map(|step| match step {
            Step::Remember(record) => format!("remember, on trial: {}", record.trial.is_some()),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "remember, on trial: true",
            "Arm(3)",
            r#"Order(["old", "new"])"#,
            "Settle",
            "remember, on trial: false",
        ]
    );
    let Some(Step::Remember(record)) = steps.last() else {
        panic!("{steps:?}")
    };
    let bad = record.bad("sha256:new").unwrap();
    assert_eq!(
        bad.reason,
        "never reported back: it hung, panicked or lost power"
    );
    let last = record.last.as_ref().unwrap();
    assert_eq!(
        (last.kind, &*last.image.digest),
        (EventKind::FellBack, "sha256:new")
    );
}

#[test]
fn what_is_forced_and_proves_itself_is_forgiven() {
    let mut facts = facts("new", &["new", "old"], Some((2, 1)), Some(trial()));
    facts.record.remember_bad(BadImage {
        image: image("new"),
        ..BadImage::default()
    });
    let steps = good(&facts);
    let [Step::Bless, Step::Remember(record)] = &steps[..] else {
        panic!("{steps:?}")
    };
    assert!(record.bad.is_empty() && record.trial.is_none());
    facts.booted = "old".into();
    assert_eq!(good(&facts), [], "another one runs");
}

#[test]
fn the_last_check_that_failed_is_kept_once_per_try() {
    let mut facts = facts("new", &["new", "old"], Some((2, 1)), Some(trial()));
    facts.record.trial.as_mut().unwrap().reached = 1;
    let outcome = Some(Failure {
        check: "10-db".into(),
        said: "no database".into(),
        ..Failure::default()
    });
    for _ in 0..2 {
        let steps = conclude(&facts, Decision::RetryByReboot, &outcome);
        let [Step::Remember(record), Step::Reboot] = &steps[..] else {
            panic!("{steps:?}")
        };
        facts.record = *record.clone();
    }
    let trial = facts.record.trial.as_ref().unwrap();
    assert_eq!(trial.failures.len(), 1);
    assert_eq!(
        (trial.failures[0].number, &*trial.failures[0].check),
        (1, "10-db")
    );
    assert_eq!(
        facts.record.last.as_ref().unwrap().reason,
        "check 10-db failed: no database"
    );
}

#[test]
fn a_boot_that_cannot_be_judged_ends_where_its_end_is_counted() {
    let both = &["new", "old"][..];
    let failed = Trial {
        failed: true,
        reached: 3,
        ..trial()
    };
    for (booted, order, counter, trial, ends) in [
        ("new", both, Some((2, 1)), Some(trial()), true),
        ("new", both, Some((0, 3)), Some(trial()), true),
        ("new", both, Some((2, 1)), None, true),
        // It could go on for ever.
        ("new", both, Some((3, 0)), Some(trial()), false),
        ("new", both, None, Some(trial()), false),
        ("new", &["new"], Some((2, 1)), Some(trial()), false),
        ("new", both, Some((2, 1)), Some(failed), false),
        // Not what is on trial.
        ("old", both, Some((2, 1)), Some(trial()), false),
        ("old", both, Some((0, 3)), Some(trial()), false),
        ("old", &["old"], None, None, false),
    ] {
        let facts = facts(booted, order, counter, trial);
        let steps = unjudged(&facts, &assess(&facts));
        assert_eq!(steps == [Step::Reboot], ends, "{facts:?}");
        assert!(ends || steps.is_empty(), "{steps:?}");
    }
}

#[test]
fn an_image_that_runs_with_other_arguments_is_not_bad() {
    let mut facts = facts("old", &["new", "old"], Some((0, 3)), Some(trial()));
    facts.order[1].image = image("new");
    let steps = begin(&facts, &Situation::FellBack);
    let Some(Step::Remember(record)) = steps.last() else {
        panic!("{steps:?}")
    };
    assert_eq!(record.bad, []);
    assert_eq!(
        record.last.as_ref().map(|event| event.kind),
        Some(EventKind::FellBack)
    );
}
