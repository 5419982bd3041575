//! What `rebase`, `upgrade` and `rollback` say when they are done. Reports come in, lines for
//! people go out. Never prints.

use std::fmt::Write as _;

use super::{render_etc, text};
use crate::deploy::cleanup::CleanupReport;
use crate::deploy::{DeployPlan, Method, RollbackPlan};
use crate::health::BadImage;
use crate::image::{OstreeImageReference, SignatureSource};
use crate::sysroot::{Deployment, DeploymentId, Slot};
use crate::upgrade::{Cost, Ready, Report, Summary};

/// An image as people write it, with a word about signatures where none are asked for.
pub(super) fn image_name(reference: &OstreeImageReference) -> String {
    let name = reference.imgref.to_string();
    let name = name.strip_prefix("docker://").unwrap_or(&name);
    match &reference.sigverify {
        SignatureSource::ContainerPolicyAllowInsecure => format!("{name} (unverified)"),
        SignatureSource::ContainerPolicy => name.into(),
        SignatureSource::OstreeRemote(remote) => format!("{name} (ostree remote {remote})"),
    }
}

/// What came of a request.
pub fn report(report: &Report) -> String {
    match report {
        Report::Unchanged {
            summary,
            deployment,
            slot,
        } => unchanged(summary, deployment, *slot),
        Report::KnownBad { summary, bad } => known_bad(summary, bad),
        Report::Available {
            summary,
            cost,
            outlook,
            ..
        } => {
            let outlook = outlook.as_ref().map(render_etc::outlook);
            format!(
                "Update available: {}\n{}{}",
                image_name(&summary.image),
                facts(summary, cost, "Fetch"),
                outlook.unwrap_or_default()
            )
        }
        Report::Downloaded { summary, cost } => format!(
            "Downloaded {}\n{}It is not deployed; `bowline upgrade` or `rebase` does that.\n",
            image_name(&summary.image),
            facts(summary, cost, "Fetched")
        ),
        Report::Deployed {
            deployment,
            plan,
            cleanup,
            ..
        } => deployed(plan, deployment) + &removed(plan, cleanup),
    }
}

/// What is about to be deployed.
pub fn ready(ready: &Ready) -> String {
    let outlook = ready.outlook.as_ref().map(render_etc::outlook);
    format!(
        "Pulled {}\n{}{}",
        image_name(&ready.summary.image),
        facts(&ready.summary, &ready.cost, "Fetched"),
        outlook.unwrap_or_default()
    )
}

/// Why the newest image is left alone.
fn known_bad(summary: &Summary, bad: &BadImage) -> String {
    let version = version(summary)
        .map(|v| format!(", version {v},"))
        .unwrap_or_default();
    format!(
        "No change: {}{version} failed its trial on this host at {} and is not installed again \
         until the tag moves, or with --force: {}\n  Digest      {}\n",
        image_name(&summary.image),
        bad.when.format("%Y-%m-%d %H:%M:%S UTC"),
        text::clean(&bad.reason),
        summary.digest,
    )
}

fn unchanged(summary: &Summary, deployment: &DeploymentId, slot: Slot) -> String {
    let what = match slot {
        Slot::Booted => "runs already",
        Slot::Staged => "is staged already: it boots at the next restart",
        Slot::Rollback | Slot::Other => "is deployed already: it boots next",
    };
    let version = version(summary)
        .map(|v| format!(", version {v},"))
        .unwrap_or_default();
    format!(
        "No change: {}{version} {what}\n  Digest      {}\n  Deployment  {}\n",
        image_name(&summary.image),
        summary.digest,
        name(deployment),
    )
}

fn facts(summary: &Summary, cost: &Cost, verb: &str) -> String {
    let mut lines = format!("  Digest      {}\n", summary.digest);
    if let Some(version) = version(summary) {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "  Version     {version}");
    }
    let fetch = match cost.layers_to_fetch {
        0 => format!("nothing: {} are here", text::count(cost.layers, "layer")),
        some => format!(
            "{some} of {}, {} ({})",
            text::count(cost.layers, "layer"),
            text::bytes(cost.bytes_to_fetch),
            here(cost)
        ),
    };
    let _ = writeln!(lines, "  {verb:<10}  {fetch}");
    lines
}

/// What of an image does not have to come.
fn here(cost: &Cost) -> String {
    let layers = format!("{} here", text::bytes(cost.bytes_present));
    match cost.bytes_reused {
        0 => layers,
        reused => format!("{layers}, {} of the others reused", text::bytes(reused)),
    }
}

fn version(summary: &Summary) -> Option<String> {
    let version = match (&summary.version, &summary.created) {
        (Some(version), Some(created)) => format!("{version} ({created})"),
        (Some(one), None) | (None, Some(one)) => one.clone(),
        (None, None) => return None,
    };
    // Labels may hold anything.
    Some(text::clean(&version))
}

fn deployed(plan: &DeployPlan, deployment: &DeploymentId) -> String {
    let name = name(deployment);
    let end = match plan.method {
        Method::Stage => format!("Staged {name}; it boots at the next restart\n"),
        Method::Finish => format!("Deployed {name}; it boots next\n"),
    };
    match &text::changes(&plan.kargs_before, &plan.kargs)[..] {
        [] => end,
        changes => format!("Kernel arguments: {}\n{end}", changes.join(" ")),
    }
}

fn removed(plan: &DeployPlan, cleanup: &CleanupReport) -> String {
    let mut lines = String::new();
    for id in &plan.drop {
        let _ = match plan.method {
            Method::Finish => writeln!(lines, "Removed {}", name(id)),
            Method::Stage => writeln!(lines, "To be removed at the restart: {}", name(id)),
        };
    }
    for image in &cleanup.images {
        let _ = writeln!(lines, "Removed image {image}");
    }
    if cleanup.pruned.bytes > 0 {
        let layers = text::count(cleanup.pruned.layers, "layer");
        let _ = writeln!(
            lines,
            "Freed {} ({layers})",
            text::bytes(cleanup.pruned.bytes)
        );
    }
    lines
}

/// What a rollback did. `before` are the deployments as they were; `version` knows the version of
/// an image by its commit.
pub fn rollback(
    plan: &RollbackPlan,
    before: &[Deployment],
    version: impl Fn(&str) -> Option<String>,
) -> String {
    let words = |id: &DeploymentId| {
        let origin = before.iter().find(|d| d.id == *id).map(|d| &d.origin);
        let image = origin.and_then(|origin| origin.image().ok().flatten());
        let version = version(&id.commit).map(|v| format!("version {v} of "));
        let image = image.map(|i| format!(": {}{}", version.unwrap_or_default(), image_name(&i)));
        format!("{}{}", name(id), image.unwrap_or_default())
    };
    match plan {
        RollbackPlan::DiscardStaged { staged, next, .. } => format!(
            "Discarded the staged update {}\n{} boots at the next restart\n\
             Run `bowline rollback` again to boot the deployment before that one\n",
            words(staged),
            words(next),
        ),
        RollbackPlan::Swap {
            next, instead_of, ..
        } => format!(
            "Boots next  {}\nInstead of  {}\n`bowline rollback` again undoes this\n",
            words(next),
            words(instead_of),
        ),
    }
}

/// A deployment with a checksum that fits a line.
pub(super) fn name(id: &DeploymentId) -> String {
    format!(
        "{}/{}.{}",
        id.stateroot,
        text::shorten(&id.commit),
        id.serial
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysroot::Origin;
    use crate::testing::samples;

    fn deployment(commit: &str, slot: Slot) -> Deployment {
        let image = "ostree-unverified-registry:quay.io/os:stable";
        Deployment {
            origin: Origin::of_image(&image.parse().unwrap()),
            ..samples::deployment(commit, slot)
        }
    }

    #[test]
    fn a_rollback_says_what_boots_and_what_does_not() {
        let version = |commit: &str| (commit != "c1").then(|| format!("v{commit}"));
        let said = |all: &[Deployment]| {
            let plan = crate::deploy::plan_rollback(all, None).unwrap();
            rollback(&plan, all, version)
        };
        let mut all = vec![
            deployment("c2", Slot::Booted),
            deployment("c1", Slot::Rollback),
        ];
        assert_eq!(
            said(&all),
            "Boots next  os/c1.0: quay.io/os:stable (unverified)\n\
             Instead of  os/c2.0: version vc2 of quay.io/os:stable (unverified)\n\
             `bowline rollback` again undoes this\n"
        );
        all.insert(0, deployment("c3", Slot::Staged));
        assert_eq!(
            said(&all),
            "Discarded the staged update os/c3.0: version vc3 of quay.io/os:stable (unverified)\n\
             os/c2.0: version vc2 of quay.io/os:stable (unverified) boots at the next restart\n\
             Run `bowline rollback` again to boot the deployment before that one\n"
        );
    }

    #[test]
    fn references_say_which_signatures_they_ask_for() {
        for (reference, text) in [
            (
                "ostree-unverified-registry:quay.io/os",
                "quay.io/os (unverified)",
            ),
            ("ostree-image-signed:docker://quay.io/os", "quay.io/os"),
            ("ostree-remote-image:r:oci:/x", "oci:/x (ostree remote r)"),
        ] {
            assert_eq!(image_name(&reference.parse().unwrap()), text);
        }
    }
}
