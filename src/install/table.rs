//! The partition table and the code in front of it: what makes firmware start from a disk. A plan
//! comes in; it is written by sfdisk. Written last, as from then on the disk boots.

use anyhow::Result;
use fn_error_context::context;
use uuid::Uuid;

use super::Target;
use super::embed::{BOOT_CODE, Embedding};
use super::partition::{PartitionPlan, Role};
use crate::sys::tool::Tool;

/// UUIDs of a disk and its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    disk: String,
    partitions: Vec<(Role, String)>,
}

impl Ids {
    /// New ones for every partition of a plan.
    pub fn new(plan: &PartitionPlan) -> Self {
        let new = || Uuid::new_v4().to_string();
        Self {
            disk: new(),
            partitions: plan.partitions.iter().map(|p| (p.role, new())).collect(),
        }
    }

    /// The UUID of a partition (PARTUUID), if there is one of this role.
    pub fn of(&self, role: Role) -> Option<&str> {
        let found = self.partitions.iter().find(|(of, _)| *of == role);
        found.map(|(_, id)| id.as_str())
    }
}

/// Writes the partition table, then the boot code in front of it, durably.
#[context("Writing the partition table")]
pub fn write(
    target: &Target,
    plan: &PartitionPlan,
    ids: &Ids,
    embedding: Option<&Embedding>,
) -> Result<()> {
    let uuids: Vec<String> = ids.partitions.iter().map(|(_, id)| id.clone()).collect();
    let script = plan.script(target.sector(), &ids.disk, &uuids);
    let place = plan.find(Role::BiosBoot).zip(embedding);
    if let Some((place, embedding)) = place {
        target.write(place.start, &embedding.core)?;
        target.sync()?;
    }
    let tool =
        Tool::new("sfdisk").args(["--quiet", "--wipe", "never", "--wipe-partitions", "never"]);
    tool.arg(target.path()).input(script).run()?;
    // The mark of the unfinished installation is here until now.
    let code = embedding.map_or([0; BOOT_CODE], |embedding| embedding.boot_code);
    target.write(0, &code)?;
    target.sync()
}
