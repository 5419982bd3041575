//! The promises that the documentation makes, kept through random histories of the model: bad runs,
//! power cuts, lost records, and hands that edit.

use proptest::prelude::*;

use super::*;

fn loader() -> impl Strategy<Value = Loader> {
    prop_oneof![
        Just(Loader::Grub),
        Just(Loader::SystemdBoot),
        Just(Loader::None)
    ]
}

fn counting() -> impl Strategy<Value = Loader> {
    prop_oneof![Just(Loader::Grub), Just(Loader::SystemdBoot)]
}

fn saving() -> impl Strategy<Value = Saving> {
    prop_oneof![
        Just(Saving::Works),
        Just(Saving::BootsSecond),
        Just(Saving::BootsFirst)
    ]
}

fn bad_run() -> impl Strategy<Value = Run> {
    prop_oneof![
        Just(Run::Red),
        Just(Run::Silent),
        (0..9_usize).prop_map(Run::Cut)
    ]
}

/// Something that nobody planned.
#[derive(Debug, Clone, Copy)]
enum Chaos {
    Boot(Run),
    LoseRecord,
    LoseCounter,
    Swap,
    DropNew,
    Finalise(usize),
    Save(Saving),
    Pin(Option<bool>),
}

fn chaos() -> impl Strategy<Value = Chaos> {
    prop_oneof![
        4 => prop_oneof![bad_run(), Just(Run::Green)].prop_map(Chaos::Boot),
        1 => Just(Chaos::LoseRecord),
        1 => Just(Chaos::LoseCounter),
        1 => Just(Chaos::Swap),
        1 => Just(Chaos::DropNew),
        1 => (0..5_usize).prop_map(Chaos::Finalise),
        1 => saving().prop_map(Chaos::Save),
        1 => any::<Option<bool>>().prop_map(Chaos::Pin),
    ]
}

impl Machine {
    fn suffer(&mut self, chaos: Chaos) {
        match chaos {
            Chaos::Boot(run) => {
                self.boot(|_| run);
            }
            Chaos::LoseRecord => self.record = Record::default(),
            Chaos::LoseCounter => self.counter = None,
            Chaos::Swap => self.swap(),
            Chaos::DropNew => {
                self.order = vec!["old".into()];
                self.mirror(None);
            }
            Chaos::Finalise(cut) => self.finalise(cut),
            Chaos::Save(saving) => self.saving = saving,
            Chaos::Pin(which) => {
                let name = |new| if new { "new" } else { "old" };
                let present = |name: &String| self.order.contains(name);
                self.pinned = which.map(name).map(str::to_owned).filter(present);
            }
        }
    }
}

#[test]
fn power_cuts_in_a_row_do_not_keep_a_machine_from_going_back() {
    let mut machine = Machine::new(Loader::Grub);
    machine.finalise(9);
    let red = |name: &str| if name == "new" { Run::Red } else { Run::Cut(1) };
    for booted in ["new", "new", "new", "old"] {
        assert_eq!(machine.boot(red), (booted.into(), End::Reset));
    }
    for cut in [1, 1, 2] {
        let ended = machine.boot(|_| Run::Cut(cut));
        assert_eq!(ended, ("new".into(), End::Reset));
    }
    let red = |name: &str| if name == "new" { Run::Red } else { Run::Green };
    assert_eq!(machine.until_up(red), "old");
    assert_eq!(machine.order, ["old", "new"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_green_trial_ends_good(
        loader in loader(), fails in proptest::collection::vec(bad_run(), 0..3),
    ) {
        // What leaves no trace is counted by a bootloader only.
        prop_assume!(fails.len() < usize::try_from(TRIES).unwrap());
        let mut machine = Machine::new(loader);
        machine.finalise(9);
        for run in fails {
            let (booted, end) = machine.boot(|_| run);
            prop_assert_eq!((&*booted, end), ("new", End::Reset));
        }
        prop_assert_eq!(machine.until_up(|_| Run::Green), "new");
        let last = machine.record.last.as_ref().unwrap();
        prop_assert_eq!(last.kind, EventKind::Good);
        prop_assert_eq!((&machine.record.trial, machine.counter), (&None, None));
        prop_assert!(machine.record.bad.is_empty());
        // It stays good through whatever comes, and is never counted again.
        for run in [Run::Red, Run::Silent, Run::Green] {
            let before = machine.asked;
            prop_assert_eq!(&machine.boot(|_| run).0, "new");
            prop_assert_eq!(machine.asked, before);
        }
    }

    #[test]
    fn an_exhausted_trial_ends_on_the_previous_deployment(
        loader in counting(),
        new in proptest::collection::vec(bad_run(), 12),
        cuts in proptest::collection::vec(0..9_usize, 0..3),
        older_is_red: bool,
    ) {
        let mut machine = Machine::new(loader);
        machine.finalise(9);
        let mut cuts = cuts.into_iter().map(Run::Cut).collect::<Vec<_>>();
        let mut new = new.into_iter();
        let up = loop {
            prop_assert!(machine.boots < 20, "no end: {:?}", machine);
            let of_new = new.next().unwrap_or(Run::Silent);
            let of_old = *cuts.last().unwrap_or(if older_is_red { &Run::Red } else { &Run::Green });
            let (booted, end) = machine.boot(|name| if name == "new" { of_new } else { of_old });
            if booted == "old" {
                cuts.pop();
            }
            if end == End::Up {
                break booted;
            }
        };
        prop_assert_eq!(up, "old");
        prop_assert_eq!(&*machine.order, ["old", "new"]);
        prop_assert!(machine.record.bad("sha256:new").is_some());
        prop_assert!(machine.record.bad("sha256:old").is_none());
        prop_assert_eq!(machine.record.last.as_ref().unwrap().kind, EventKind::FellBack);
        prop_assert_eq!((&machine.record.trial, machine.counter), (&None, None));
        prop_assert!(machine.asked <= 2 * TRIES);
        // From now on it stays there, also where it is red.
        for run in [Run::Silent, Run::Red, Run::Red, Run::Green] {
            let asked = machine.asked;
            prop_assert_eq!(&machine.boot(|_| run).0, "old");
            prop_assert_eq!(machine.asked, asked);
        }
    }

    #[test]
    fn without_counting_a_red_one_goes_back_all_the_same(tries in 0..3_usize) {
        let mut machine = Machine::new(Loader::None);
        machine.finalise(9);
        for _ in 0..tries {
            machine.boot(|_| Run::Silent);
        }
        let red = |name: &str| if name == "new" { Run::Red } else { Run::Green };
        prop_assert_eq!(machine.until_up(red), "old");
        prop_assert_eq!(&*machine.order, ["old", "new"]);
        prop_assert!(machine.record.bad("sha256:new").is_some());
        prop_assert_eq!(machine.asked, TRIES);
    }

    #[test]
    fn a_grub_that_cannot_write_keeps_nobody_waiting(green: bool, by_hand in 0..3_usize) {
        let mut machine = Machine::new(Loader::Grub);
        machine.finalise(9);
        machine.saving = Saving::BootsSecond;
        let run = if green { Run::Green } else { Run::Red };
        for number in 1..=TRIES {
            prop_assert!(machine.record.trial.is_some());
            prop_assert_eq!(machine.boot(|_| run), ("old".into(), End::Up));
            // Whoever runs the check again changes nothing.
            for _ in 0..by_hand {
                machine.check("old", run);
            }
            let reached = machine.record.trial.as_ref().map(|trial| (trial.reached, trial.uncounted));
            prop_assert_eq!(reached, (number < TRIES).then_some((number, true)));
        }
        prop_assert_eq!(&*machine.order, ["old", "new"]);
        prop_assert_eq!((machine.counter, machine.asked), (None, 0));
        let last = machine.record.last.clone().unwrap();
        prop_assert_eq!(last.kind, EventKind::FellBack);
        prop_assert!(last.reason.starts_with("the bootloader could not write"), "{}", last.reason);
        prop_assert!(machine.record.bad("sha256:new").is_some());
        prop_assert_eq!(machine.boot(|_| run), ("old".into(), End::Up));
        prop_assert_eq!(machine.record.last, Some(last));
    }

    #[test]
    fn a_grub_that_boots_on_without_counting_is_counted_here(run in bad_run()) {
        let mut machine = Machine::new(Loader::Grub);
        machine.finalise(9);
        machine.saving = Saving::BootsFirst;
        machine.boot(|_| Run::Red);
        prop_assert!(machine.record.trial.as_ref().unwrap().uncounted);
        let red = |name: &str| if name == "new" { Run::Red } else { Run::Green };
        machine.boot(|_| run);
        prop_assert_eq!(machine.until_up(red), "old");
        prop_assert_eq!(&*machine.order, ["old", "new"]);
        prop_assert!(machine.asked <= TRIES + 1);
    }

    #[test]
    fn what_never_was_good_is_on_trial_whenever_it_is_the_default_again(
        loader in loader(), run in bad_run(), fall_back: bool,
    ) {
        let mut machine = Machine::new(loader);
        machine.finalise(9);
        let red = |name: &str| if name == "new" { Run::Red } else { Run::Green };
        match fall_back {
            true => drop(machine.until_up(red)),
            false => {
                machine.boot(|_| run);
                machine.swap();
        machine.mirror(None);
                machine.boot(|_| Run::Green);
            }
        }
        prop_assert_eq!((&*machine.order, &machine.record.trial), (&["old".into(), "new".into()][..], &None));
        prop_assert!(machine.record.is_unproven("new"));
        let asked = machine.asked;
        machine.swap();
        machine.mirror(None);
        prop_assert_eq!(machine.until_up(red), "old");
        prop_assert_eq!(&*machine.order, ["old", "new"]);
        prop_assert_eq!(machine.asked, asked + TRIES);
        machine.swap();
        machine.mirror(None);
        prop_assert_eq!(machine.until_up(|_| Run::Green), "new");
        prop_assert!(!machine.record.is_unproven("new") && machine.record.bad.is_empty());
    }

    #[test]
    fn a_shutdown_that_was_cut_boots_old_or_new(loader in loader(), cut in 0..5_usize) {
        let mut machine = Machine::new(loader);
        machine.finalise(cut);
        let up = machine.until_up(|_| Run::Green);
        let stays = machine.until_up(|_| Run::Green);
        if machine.order[0] == "new" {
            prop_assert_eq!(&stays, "new");
            prop_assert_eq!(machine.record.last.as_ref().unwrap().kind, EventKind::Good);
        } else {
            prop_assert_eq!((&*up, &*stays), ("old", "old"));
            let applied = machine.record.last.as_ref().map(|event| event.kind);
            prop_assert_eq!(applied, (cut > 0).then_some(EventKind::NotApplied));
        }
        prop_assert_eq!((machine.asked, machine.counter), (0, None));
        prop_assert!(machine.record.trial.is_none() && machine.record.bad.is_empty());
    }

    #[test]
    fn a_red_host_stays_up_where_nothing_is_on_trial(loader in loader()) {
        let mut machine = Machine::new(loader);
        for _ in 0..5 {
            prop_assert_eq!(machine.boot(|_| Run::Red), ("old".into(), End::Up));
        }
        prop_assert_eq!(machine.asked, 0);
    }

    #[test]
    fn reboots_are_bounded_whatever_happens(
        loader in loader(), history in proptest::collection::vec(chaos(), 0..40),
        new_is_silent: bool,
    ) {
        let mut machine = Machine::new(loader);
        machine.finalise(9);
        for chaos in history {
            let before = machine.asked;
            machine.suffer(chaos);
            prop_assert!(machine.asked <= before + 1);
        }
        // Once nobody meddles any more, red deployments ask for a few reboots and then stay up.
        let before = machine.asked;
        let counted = machine.facts("old").counter.is_some();
        // GRUB counts what is the default. At 0 it boots the second, whatever somebody made of that.
        let counted = counted && machine.order[0] == "new";
        let works = machine.pinned.is_none() && machine.saving == Saving::Works;
        let silent = new_is_silent && counted && works;
        for _ in 0..3 * TRIES + 2 {
            machine.boot(|name| if silent && name == "new" { Run::Silent } else { Run::Red });
        }
        prop_assert!(machine.asked <= before + 2 * TRIES + 1, "{:?}", machine);
        let quiet = machine.asked;
        for _ in 0..20 {
            machine.boot(|_| Run::Red);
        }
        prop_assert_eq!(machine.asked, quiet, "still rebooting: {:?}", machine);
    }

    #[test]
    fn forgetful_machines_do_not_loop_either(loader in loader(), saving in saving()) {
        let mut machine = Machine::new(loader);
        machine.finalise(9);
        machine.saving = saving;
        for _ in 0..30 {
            machine.boot(|_| Run::Red);
            // A /var that is empty after each boot.
            machine.record = Record::default();
        }
        prop_assert!(machine.asked <= TRIES, "{:?}", machine);
    }
}
