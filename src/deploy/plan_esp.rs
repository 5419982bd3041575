//! Whether the ESP will have room for one more kernel, asked before anything is deployed: what the
//! mirror could not take at shutdown would never boot. Facts come in, a refusal or none goes out.
//! Pure.

use super::DeployError;
use super::plan::Snapshot;
use crate::boot::Counting;
use crate::boot::mirror::{self, MirrorError, Present, Source, Wanted, WantedEntry};
use crate::sysroot::{DeploymentId, Kernel, Slot};

/// The ESP of a host that boots with systemd-boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EspRoom {
    /// What is there.
    pub present: Present,
    /// What the finished deployments want there, in boot order.
    pub entries: Vec<WantedEntry>,
}

/// Refuses a deployment with this kernel where the ESP cannot take it beside the kernels of those
/// that stay.
pub(super) fn check(
    host: &Snapshot,
    kernel: &Kernel,
    stays: impl Fn(&DeploymentId) -> bool,
) -> Result<(), DeployError> {
    let Some(esp) = &host.room.esp else {
        return Ok(());
    };
    let finished = host.deployments.iter().filter(|d| d.slot != Slot::Staged);
    let kept = finished.zip(&esp.entries).filter(|(d, _)| stays(&d.id));
    let new = new_entry(host, kernel);
    let wanted = Wanted {
        entries: std::iter::once(new)
            .chain(kept.map(|(_, entry)| entry.clone()))
            .collect(),
        counting: Counting::AsIs,
    };
    match mirror::room(&esp.present, &wanted) {
        Err(MirrorError::NoSpace { needed, available }) => Err(DeployError::NoSpace {
            place: "the EFI system partition",
            needed,
            available,
        }),
        Ok(()) | Err(MirrorError::NothingToBoot) => Ok(()),
    }
}

/// Stands for the entry that libostree will write. A kernel that is in `boot` is on the ESP too.
fn new_entry(host: &Snapshot, kernel: &Kernel) -> WantedEntry {
    let shared = |there: &Kernel| there.checksums == kernel.checksums;
    let file = Source {
        to: "the new kernel".into(),
        size: kernel.bytes,
        ..Source::default()
    };
    WantedEntry {
        text: "the new entry".into(),
        files: match host.room.kernels.iter().any(shared) {
            true => Vec::new(),
            false => vec![file],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Bootloader;
    use crate::boot::esp::names::MirrorName;
    use crate::boot::mirror::PresentEntry;
    use crate::deploy::Room;
    use crate::sysroot::FreeSpace;
    use crate::testing::samples::deployment;

    const MIB: u64 = 1 << 20;

    fn kernel(name: &str) -> Kernel {
        Kernel {
            release: "6".into(),
            checksums: vec![name.into()],
            bytes: 50 * MIB,
        }
    }

    fn entry(name: &str) -> WantedEntry {
        WantedEntry {
            text: format!("title {name}\n"),
            files: vec![Source {
                to: format!("bowline/os-{name}/vmlinuz"),
                size: 50 * MIB,
                ..Source::default()
            }],
        }
    }

    /// A host that runs b, with a as the other way back, and this much room on the ESP.
    fn host(free: u64) -> Snapshot {
        let deployments = vec![
            deployment("staged", Slot::Staged),
            deployment("b", Slot::Booted),
            deployment("a", Slot::Rollback),
        ];
        let entries = vec![entry("b"), entry("a")];
        let present = |(at, entry): (u64, &WantedEntry)| {
            let name = MirrorName {
                generation: 4,
                index: 2 - at,
                tries: None,
            };
            PresentEntry {
                file: name.to_string(),
                name,
                text: entry.text.clone(),
                uses: vec![entry.files[0].to.clone()],
            }
        };
        let present = Present {
            entries: (0..).zip(&entries).map(present).collect(),
            files: entries
                .iter()
                .map(|e| (e.files[0].to.clone(), 50 * MIB))
                .collect(),
            leftovers: Default::default(),
            free,
            cluster: 4096,
        };
        Snapshot {
            image_kargs: Vec::new(),
            deployments,
            bootloader: Bootloader::SystemdBoot,
            room: Room {
                free: FreeSpace {
                    boot: 1 << 40,
                    root: 1 << 40,
                    shared: true,
                },
                kernels: vec![kernel("b"), kernel("a")],
                esp: Some(EspRoom { present, entries }),
            },
        }
    }

    #[test]
    fn what_goes_makes_room_and_what_stays_does_not() {
        let b_alone = |id: &DeploymentId| id.commit == "b";
        let all = |_: &DeploymentId| true;
        assert_eq!(check(&host(60 * MIB), &kernel("c"), all), Ok(()));
        assert_eq!(check(&host(5 * MIB), &kernel("c"), b_alone), Ok(()));
        assert_eq!(check(&host(5 * MIB), &kernel("a"), all), Ok(()));
        let error = check(&host(5 * MIB), &kernel("c"), all).unwrap_err();
        let expected = DeployError::NoSpace {
            place: "the EFI system partition",
            needed: 50 * MIB + 3 * 4096,
            available: 5 * MIB,
        };
        assert_eq!(error, expected);
        let mut none = host(0);
        none.room.esp = None;
        assert_eq!(check(&none, &kernel("c"), all), Ok(()));
    }
}
