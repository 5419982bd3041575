//! What `rebase` and `upgrade` say to programs. A report comes in, a value that can be serialised
//! goes out; its form is stable (docs/src/updating.md). Never prints.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::render_plan;
use crate::deploy::outlook::way_out;
use crate::deploy::{Method, Outlook};
use crate::etc_merge::{ConflictKind, Default, Outcome, Preview};
use crate::health::BadImage;
use crate::host::NotApplied;
use crate::sysroot::{DeploymentId, Slot};
use crate::upgrade::{Cost, Report, Summary};

/// The whole answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    result: &'static str,
    image: String,
    image_digest: String,
    version: Option<String>,
    timestamp: Option<String>,
    fetch: Option<Value>,
    layers: Option<Vec<Value>>,
    deployment: Option<Value>,
    etc: Option<Value>,
    var_left_behind: Vec<String>,
    not_applied: Option<NotApplied>,
    bad: Option<BadImage>,
}

/// Puts a report into its form for programs. `missed` is what an earlier run staged in vain; with
/// `plan`, it tells what would be done about each layer.
pub fn answer(report: &Report, missed: Option<NotApplied>, plan: bool) -> Answer {
    let (result, summary, cost, deployment, outlook) = match report {
        Report::Unchanged {
            summary,
            deployment,
            slot,
        } => (unchanged(*slot), summary, None, Some(deployment), None),
        Report::KnownBad { summary, bad } => {
            return Answer {
                bad: Some(bad.clone()),
                not_applied: missed,
                ..of("knownBad", summary)
            };
        }
        Report::Available {
            summary,
            cost,
            outlook,
            ..
        } => ("available", summary, Some(cost), None, outlook.as_ref()),
        Report::Downloaded { summary, cost } => ("downloaded", summary, Some(cost), None, None),
        Report::Deployed {
            summary,
            cost,
            deployment,
            plan,
            outlook,
            ..
        } => {
            let result = match plan.method {
                Method::Stage => "staged",
                Method::Finish => "deployed",
            };
            let outlook = outlook.as_ref();
            (result, summary, Some(cost), Some(deployment), outlook)
        }
    };
    Answer {
        fetch: cost.map(fetch),
        layers: layers(report).filter(|_| plan),
        deployment: deployment.map(id),
        etc: outlook.map(etc),
        var_left_behind: outlook
            .map(|o| paths("/var", &o.var_left_behind))
            .unwrap_or_default(),
        not_applied: missed,
        ..of(result, summary)
    }
}

fn of(result: &'static str, summary: &Summary) -> Answer {
    Answer {
        result,
        image: summary.image.to_string(),
        image_digest: summary.digest.to_string(),
        version: summary.version.clone(),
        timestamp: summary.created.clone(),
        fetch: None,
        layers: None,
        deployment: None,
        etc: None,
        var_left_behind: Vec::new(),
        not_applied: None,
        bad: None,
    }
}

const fn unchanged(slot: Slot) -> &'static str {
    match slot {
        Slot::Staged => "stagedAlready",
        Slot::Booted | Slot::Rollback | Slot::Other => "unchanged",
    }
}

fn layers(report: &Report) -> Option<Vec<Value>> {
    match report {
        Report::Available { layers, .. } => Some(render_plan::values(layers)),
        _ => None,
    }
}

fn fetch(cost: &Cost) -> Value {
    json!({
        "layers": cost.layers,
        "layersToFetch": cost.layers_to_fetch,
        "bytesToFetch": cost.bytes_to_fetch,
        "bytesPresent": cost.bytes_present,
        "bytesReused": cost.bytes_reused,
    })
}

fn id(deployment: &DeploymentId) -> Value {
    json!({
        "stateroot": deployment.stateroot,
        "checksum": deployment.commit,
        "deploySerial": deployment.serial,
    })
}

fn etc(outlook: &Outlook) -> Value {
    let preview = &outlook.etc;
    let list = |wanted: fn(Outcome) -> bool| paths("/etc", &preview.paths(wanted));
    let conflicts = preview.conflicts.iter().map(|conflict| {
        json!({
            "path": path("/etc", &conflict.path),
            "at": path("/etc", &conflict.at),
            "kind": kind(conflict.kind),
            "wayOut": way_out(conflict, &outlook.root),
        })
    });
    json!({
        "kept": list(|o| o == Outcome::Kept),
        "added": list(|o| o == Outcome::Added),
        "removed": list(|o| matches!(o, Outcome::Removed { .. })),
        "shadows": shadows(preview),
        "reverts": list(|o| o == Outcome::Reverts),
        "lost": list(|o| o == Outcome::Lost),
        "skipped": list(|o| o == Outcome::Skipped),
        "arrives": list(|o| matches!(o, Outcome::Arrives(_))),
        "conflicts": conflicts.collect::<Vec<_>>(),
    })
}

/// What stays as it is here although the image has something else now.
fn shadows(preview: &Preview) -> Vec<Value> {
    let told = preview.outcomes.iter().filter_map(|(file, outcome)| {
        let default = match outcome {
            Outcome::Shadows(default) => *default,
            Outcome::Removed { shadows: true } => Default::Changed,
            _ => return None,
        };
        Some(json!({"path": path("/etc", file), "default": default}))
    });
    told.collect()
}

const fn kind(kind: ConflictKind) -> &'static str {
    match kind {
        ConflictKind::NewDirectory => "newDirectory",
        ConflictKind::NoDirectory => "noDirectory",
        ConflictKind::LeavesEtc => "leavesEtc",
        ConflictKind::SpecialInside => "specialInside",
    }
}

fn paths(root: &str, list: &[impl AsRef<Path>]) -> Vec<String> {
    list.iter().map(|file| path(root, file.as_ref())).collect()
}

fn path(root: &str, file: &Path) -> String {
    Path::new(root).join(file).display().to_string()
}
