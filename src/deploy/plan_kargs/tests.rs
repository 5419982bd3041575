//! Tests of changed kernel arguments: which deployment is meant, and what becomes of the others.

use super::*;
use crate::boot::kargs::Karg;
use crate::deploy::Method;
use crate::deploy::plan;
use crate::deploy::plan::tests::{commits, tree};
use crate::testing::samples;

fn host(spec: &[(&str, Slot)]) -> Snapshot {
    let deployment = |(name, slot): &(&str, Slot)| {
        let mut made = samples::deployment(name, *slot);
        let commit = &made.id.commit;
        let image = format!("ostree-unverified-registry:quay.io/os:{commit}");
        made.kargs = vec!["root=1".into(), format!("from={commit}")];
        made.origin = Origin::of_image(&image.parse().unwrap());
        made
    };
    plan::tests::host(spec.iter().map(deployment).collect())
}

fn append(text: &str) -> KargsWish {
    KargsWish {
        edits: vec![Edit::AppendIfMissing(Karg::new(text).unwrap())],
        arch: "amd64".into(),
    }
}

fn decide(host: &Snapshot, wish: &KargsWish) -> Result<KargsDecision, DeployError> {
    let base = kargs_base(&host.deployments, None)?;
    plan_kargs(host, base, wish, &tree())
}

fn planned(host: &Snapshot, wish: &KargsWish) -> DeployPlan {
    match decide(host, wish).unwrap() {
        KargsDecision::Deploy(plan) => *plan,
        other => panic!("expected a plan, got {other:?}"),
    }
}

#[test]
fn what_boots_next_is_what_changes() {
    use Slot::{Booted, Other, Rollback, Staged};
    for (spec, commit, etc, keep, method) in [
        // Nothing booted: finished at once.
        (
            &[("b", Other), ("a", Rollback)][..],
            "b",
            "b",
            &["b"][..],
            Method::Finish,
        ),
        // A booted host.
        (
            &[("b", Booted), ("a", Rollback)],
            "b",
            "b",
            &["b"],
            Method::Stage,
        ),
        // On top of what is staged, with /etc of what runs.
        (
            &[("c", Staged), ("b", Booted), ("a", Rollback)],
            "c",
            "b",
            &["b"],
            Method::Stage,
        ),
        // A rollback that waits for its boot stays the next to boot.
        (
            &[("a", Rollback), ("b", Booted)],
            "a",
            "a",
            &["a", "b"],
            Method::Stage,
        ),
    ] {
        let plan = planned(&host(spec), &append("quiet"));
        assert_eq!(plan.commit, commit, "{spec:?}");
        assert_eq!(plan.merge_from.unwrap().commit, etc, "{spec:?}");
        assert_eq!(commits(&plan.keep), keep, "{spec:?}");
        assert_eq!(plan.method, method, "{spec:?}");
        assert_eq!(plan.kargs, ["root=1", &format!("from={commit}"), "quiet"]);
        let image = plan.origin.image().unwrap().unwrap().imgref.to_string();
        assert_eq!(image, format!("docker://quay.io/os:{commit}"));
    }
}

#[test]
fn a_staged_update_in_another_stateroot_is_not_lost() {
    let host = host(&[("new/c", Slot::Staged), ("b", Slot::Booted)]);
    let plan = planned(&host, &append("quiet"));
    assert_eq!((&*plan.stateroot, plan.merge_from), ("new", None));
    let named = kargs_base(&host.deployments, Some("os")).unwrap();
    assert_eq!(named.id.commit, "b");
    let missing = kargs_base(&host.deployments, Some("x"));
    assert_eq!(missing, Err(DeployError::NothingDeployed(Some("x".into()))));
}

#[test]
fn what_changes_nothing_makes_no_deployment() {
    let host = host(&[("b", Slot::Booted)]);
    let id = host.deployments[0].id.clone();
    let decision = decide(&host, &append("root=1"));
    assert_eq!(decision, Ok(KargsDecision::Nothing(id)));
}

#[test]
fn a_wish_for_what_the_image_gives_is_only_recorded() {
    let mut host = host(&[("b", Slot::Booted)]);
    let origin = &mut host.deployments[0].origin;
    origin.set_value("bowline", "image-kargs", Some("from=b"));
    match decide(&host, &append("from=b")).unwrap() {
        KargsDecision::Record(id, origin) => {
            assert_eq!(id, host.deployments[0].id);
            assert_eq!(
                origin.get("bowline", "local-kargs").as_deref(),
                Some("from=b")
            );
        }
        other => panic!("expected a record, got {other:?}"),
    }
}

#[test]
fn a_pin_and_other_states_of_the_one_deployment_are_not_inherited() {
    let mut host = host(&[("b", Slot::Booted)]);
    let text = "[origin]\nrefspec=a:b\nunlocked=hotfix\n[libostree-transient]\npinned=true\n";
    host.deployments[0].origin = text.parse().unwrap();
    let plan = planned(&host, &append("quiet"));
    assert_eq!(plan.origin.to_string(), "[origin]\nrefspec=a:b\n");
}

#[test]
fn what_grub_would_not_pass_on_is_refused() {
    let mut host = host(&[("b", Slot::Booted)]);
    let refused = DeployError::Obstacle {
        arg: "x=a;b".into(),
        character: ';',
    };
    for bootloader in [Bootloader::Grub, Bootloader::None] {
        host.bootloader = bootloader;
        let decision = decide(&host, &append("x=a;b"));
        assert_eq!(decision, Err(refused.clone()), "{bootloader:?}");
    }
    host.bootloader = Bootloader::SystemdBoot;
    assert!(decide(&host, &append("x=a;b")).is_ok());
    // What is there already does not keep anybody from changing something else.
    host.bootloader = Bootloader::Grub;
    host.deployments[0].kargs.push("old=$x".into());
    assert!(decide(&host, &append("quiet")).is_ok());
}

#[test]
fn room_is_needed_as_for_any_deployment() {
    let mut host = host(&[("b", Slot::Booted)]);
    host.room.free.root = 0;
    let decision = decide(&host, &append("quiet"));
    assert!(
        matches!(decision, Err(DeployError::NoSpace { .. })),
        "{decision:?}"
    );
}
