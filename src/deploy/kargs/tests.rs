//! Tests of ownership: what an upgrade, a person and another tool do to kernel arguments.

use proptest::prelude::*;

use super::*;
use crate::image::OstreeImageReference;
use crate::sysroot::Slot;
use crate::testing::samples;

fn args(line: &str) -> KernelArgs {
    KernelArgs::parse(line)
}

fn karg(text: &str) -> Karg {
    Karg::new(text).unwrap()
}

fn deployment(line: &str, origin: Origin) -> Deployment {
    Deployment {
        origin,
        kargs: args(line).to_words(),
        ..samples::deployment("c", Slot::Booted)
    }
}

fn origin() -> Origin {
    let image: OstreeImageReference = "ostree-unverified-registry:quay.io/os:1".parse().unwrap();
    Origin::of_image(&image)
}

/// The arguments of a deployment that another tool made.
fn foreign(line: &str, asked: &str) -> Kargs {
    Kargs::of(&deployment(line, origin()), args(asked), &[])
}

/// What comes of arguments once they were written to a deployment and read again.
fn reread(kargs: &Kargs) -> Kargs {
    let mut origin = origin();
    kargs.record_in(&mut origin);
    let origin = origin.to_string().parse().unwrap();
    let deployment = deployment(&kargs.args.to_string(), origin);
    // Whatever the tree says now, the record counts.
    Kargs::of(&deployment, args("other"), &[])
}

fn shown(kargs: &Kargs) -> String {
    let show = |arg: &Karg| match kargs.owner(arg) {
        Owner::Image => format!("{arg}(i)"),
        Owner::Local => format!("{arg}(l)"),
        Owner::Both => format!("{arg}(b)"),
    };
    kargs.args.iter().map(show).collect::<Vec<_>>().join(" ")
}

fn upgraded(line: &str, old: &str, new: &str) -> String {
    let next = foreign(line, old).upgraded(args(new));
    let (next, again) = (shown(&next), shown(&reread(&next)));
    assert_eq!(next, again, "the record does not survive");
    next
}

#[test]
fn what_the_image_asks_for_comes_and_goes_with_it() {
    for (line, old, new, next) in [
        // The first deployment.
        ("", "", "console=ttyS0 quiet", "console=ttyS0(i) quiet(i)"),
        // Added, changed, removed.
        ("root=1 a", "a", "a b", "root=1(l) a(i) b(i)"),
        ("root=1 a=1 x", "a=1", "a=2", "a=2(i) root=1(l) x(l)"),
        ("root=1 a b", "a b", "b", "root=1(l) b(i)"),
        // The new image has no kargs.d at all.
        ("root=1 a b", "a b", "", "root=1(l)"),
        // Removed by a person: it stays away as long as the image asks for it.
        ("root=1 a", "a b", "a b c", "root=1(l) a(i) c(i)"),
        // Already there when the image begins to ask for it: it is the machine's, too.
        ("root=1 quiet", "", "quiet", "root=1(l) quiet(b)"),
        ("a quiet", "a", "quiet", "quiet(b)"),
        // Another way to write the same.
        ("a_b=\"1\" c", "a-b=1", "", "c(l)"),
        // Twice is twice.
        ("x x a", "a", "", "x(l) x(l)"),
        // Another tool made the deployment and applied nothing of kargs.d.
        ("root=1", "a b", "a b", "a(i) b(i) root=1(l)"),
        // In the image's order, and the last word is the machine's.
        (
            "a c x=1",
            "a c",
            "z a b c x=2",
            "z(i) a(i) b(i) c(i) x=2(i) x=1(l)",
        ),
        ("x=1 a", "a", "x=2 a", "x=2(i) x=1(l) a(i)"),
    ] {
        assert_eq!(
            upgraded(line, old, new),
            next,
            "{line:?} {old:?} -> {new:?}"
        );
    }
}

#[test]
fn what_a_machine_wants_survives_the_image() {
    let wants = foreign("quiet", "").upgraded(args("quiet nosmt"));
    assert_eq!(shown(&wants), "nosmt(i) quiet(b)");
    let kept = reread(&wants).upgraded(args("nosmt"));
    assert_eq!(shown(&kept), "nosmt(i) quiet(l)");
    let gone = reread(&kept).upgraded(args(""));
    assert_eq!(shown(&gone), "quiet(l)");
    // Asked for again, it is both again.
    assert_eq!(shown(&gone.upgraded(args("quiet"))), "quiet(b)");
}

#[test]
fn changes_of_a_person_belong_to_the_machine() {
    let before = foreign("root=1 a b", "a b");
    let edited = |edits: &[Edit]| shown(&reread(&before.edited(edits).unwrap()));
    let append = |text: &str| Edit::Append(karg(text));
    let missing = |text: &str| Edit::AppendIfMissing(karg(text));
    assert_eq!(edited(&[append("c")]), "root=1(l) a(i) b(i) c(l)");
    assert_eq!(edited(&[missing("a")]), "root=1(l) a(b) b(i)");
    assert_eq!(
        edited(&[missing("a"), Edit::Delete("a".into())]),
        "root=1(l) b(i)"
    );
    assert_eq!(
        edited(&[Edit::Replace("a=5".into())]),
        "root=1(l) a=5(l) b(i)"
    );
    let list = Edit::Set(args("b c root=1"));
    assert_eq!(edited(&[list]), "b(i) c(l) root=1(l)");
    // Removed, it stays away; put back by hand, it is the machine's, too.
    let without = before.edited(&[Edit::Delete("a".into())]).unwrap();
    let next = reread(&without).upgraded(args("a b"));
    assert_eq!(shown(&next), "root=1(l) b(i)");
    let back = next.edited(&[append("a")]).unwrap();
    assert_eq!(shown(&back.upgraded(args(""))), "root=1(l) a(l)");
    assert!(
        before
            .edited(&[append("c"), Edit::Delete("d".into())])
            .is_err()
    );
}

#[test]
fn another_tool_between_loses_nothing_that_it_keeps() {
    let ours = foreign("root=1 quiet", "").upgraded(args("quiet a"));
    let mut recorded = origin();
    ours.record_in(&mut recorded);
    // rpm-ostree keeps the origin, deploys an image that asks for something else, knows no
    // kargs.d, and its user added an argument.
    let theirs = deployment("root=1 quiet a local", recorded.clone());
    let back = Kargs::of(&theirs, args("new"), &[]);
    assert_eq!(shown(&back), "root=1(l) quiet(b) a(i) local(l)");
    assert_eq!(
        shown(&back.upgraded(args("new"))),
        "new(i) root=1(l) quiet(l) local(l)"
    );
    // bootc writes a new origin and applies kargs.d as we do; our deployment is its rollback.
    let previous = deployment("root=1 quiet a", recorded);
    let theirs = deployment("root=1 quiet b", origin());
    let all = [theirs.clone(), previous];
    let back = Kargs::of(&theirs, args("quiet b"), &all);
    assert_eq!(shown(&back), "root=1(l) quiet(b) b(i)");
}

#[test]
fn without_wishes_of_an_image_the_origin_stays_as_it_is() {
    let mut written = origin();
    foreign("root=1", "")
        .upgraded(args("a"))
        .record_in(&mut written);
    let record = "[bowline]\nimage-kargs=a\n";
    assert_eq!(written.to_string(), format!("{}{record}", origin()));
    foreign("root=1 a", "a")
        .upgraded(args(""))
        .record_in(&mut written);
    assert_eq!(written, origin());
}

#[test]
fn only_new_arguments_can_stand_in_the_way() {
    let before = args("x=$y a");
    let kargs = |line: &str| foreign(line, "");
    assert_eq!(kargs("x=$y a b").obstacle(&before), None);
    let found = kargs("b x=$z").obstacle(&before);
    assert_eq!(found, Some((karg("x=$z"), '$')));
}

fn lists() -> impl Strategy<Value = KernelArgs> {
    let word = prop::sample::select(vec!["a", "a=1", "b", "b=\"x y\"", "c-d", "c_d"]);
    prop::collection::vec(word, 0..5).prop_map(|words| args(&words.join(" ")))
}

/// A list as an image gives it: each argument once.
fn asked() -> impl Strategy<Value = KernelArgs> {
    lists().prop_map(|list| {
        let mut once = KernelArgs::default();
        for arg in list.iter() {
            once.append_if_missing(arg);
        }
        once
    })
}

proptest! {
    #[test]
    fn an_upgrade_and_back_keeps_what_is_local(line in lists(), images in prop::collection::vec(asked(), 1..5)) {
        let mut kargs = foreign(&line.to_string(), "");
        for image in images {
            let next = reread(&kargs.upgraded(image.clone()));
            for arg in kargs.args.iter().filter(|a| kargs.owner(a) != Owner::Image) {
                prop_assert!(next.args.contains(arg), "{} is lost", arg);
            }
            for arg in next.args.iter() {
                let known = image.contains(arg) || next.owner(arg) == Owner::Local;
                prop_assert!(known, "{} is nobody's", arg);
            }
            // Nobody removed anything, so all that the image asks for is there.
            prop_assert!(image.iter().all(|arg| next.args.contains(arg)));
            prop_assert_eq!(&next.upgraded(image), &next);
            kargs = next;
        }
        let last = kargs.upgraded(KernelArgs::default());
        prop_assert_eq!(last.args, line);
    }
}
