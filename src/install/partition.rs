//! Where everything lies on the disk. A size and what is wanted come in; a plan with every
//! partition, its type and its place goes out, and the plan as sfdisk reads it. Pure.
//!
//! ```text
//! 1 MiB   BIOS boot partition (1 MiB), with BIOS firmware: GRUB's core image
//!         EFI system partition, with UEFI firmware or systemd-boot
//!         root: everything else, or --root-size
//! ```
//! Types are those of the Discoverable Partitions Specification
//! (<https://uapi-group.org/specifications/specs/discoverable_partitions_specification/>).

use std::fmt::Write as _;

use super::InstallError;
use super::embed::{BiosPlace, SECTOR};

/// Bytes in a mebibyte; every partition starts and ends at a multiple of it.
pub const MIB: u64 = 1 << 20;
/// The end of the disk that the backup partition table needs, rounded up, in bytes.
const TAIL: u64 = MIB;
/// Size of the BIOS boot partition in bytes; GRUB's core image is far smaller.
const BIOS_BOOT: u64 = MIB;
/// A root file system below this size (bytes) cannot hold any system.
pub const MIN_ROOT: u64 = 64 * MIB;

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// GRUB's core image, read by its BIOS boot code.
    BiosBoot,
    /// EFI system partition.
    Esp,
    /// The root file system.
    Root,
}

/// What the disk must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// A place for GRUB's core image.
    pub bios: bool,
    /// Bytes of the EFI system partition, if there is to be one.
    pub esp: Option<u64>,
    /// Bytes of the root partition; otherwise it gets all that is left.
    pub root: Option<u64>,
    /// Architecture of the system, a GOARCH word: the type of its root partition depends on it.
    pub arch: String,
}

/// One partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub role: Role,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Type GUID, in capitals.
    pub kind: &'static str,
}

/// All partitions of a disk, in the order of their places and numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionPlan {
    /// The partitions.
    pub partitions: Vec<Partition>,
}

impl PartitionPlan {
    /// Plans the partitions of a disk of `size` bytes.
    pub fn new(layout: &Layout, size: u64) -> Result<Self, InstallError> {
        let root_type = root_type(&layout.arch)?;
        let fixed = [
            layout.bios.then_some((Role::BiosBoot, BIOS_BOOT)),
            layout.esp.map(|size| (Role::Esp, round_up(size))),
        ];
        let mut partitions = Vec::new();
        let mut start = MIB;
        for (role, size) in fixed.into_iter().flatten() {
            let kind = kind(role, root_type);
            partitions.push(Partition {
                role,
                start,
                size,
                kind,
            });
            start += size;
        }
        let least = layout
            .root
            .map_or(MIN_ROOT, |size| round_up(size).max(MIN_ROOT));
        let room = (size / MIB * MIB).saturating_sub(start + TAIL);
        if room < least {
            return Err(InstallError::TooSmall {
                what: "the partition table".into(),
                needed: least.saturating_add(start + TAIL),
                available: size,
            });
        }
        partitions.push(Partition {
            role: Role::Root,
            start,
            size: layout.root.map_or(room, |_| least),
            kind: root_type,
        });
        Ok(Self { partitions })
    }

    /// The partition of a role, if there is one.
    pub fn find(&self, role: Role) -> Option<&Partition> {
        self.partitions.iter().find(|p| p.role == role)
    }

    /// The number of the partition of a role, if there is one.
    pub fn number(&self, role: Role) -> Option<u32> {
        let at = self.partitions.iter().position(|p| p.role == role)?;
        u32::try_from(at + 1).ok()
    }

    /// The root partition; every plan has one.
    pub fn root(&self) -> &Partition {
        &self.partitions[self.partitions.len() - 1]
    }

    /// Where the code for BIOS goes, if there is to be any.
    pub fn bios_place(&self) -> Option<BiosPlace> {
        let place = self.find(Role::BiosBoot)?;
        Some(BiosPlace {
            sector: place.start / SECTOR as u64,
            room: place.size,
        })
    }

    /// The plan as input of sfdisk, for a disk whose sectors have `sector` bytes. `ids` has one
    /// partition UUID for each partition.
    pub fn script(&self, sector: u64, disk_id: &str, ids: &[String]) -> String {
        let mut text = format!("label: gpt\nlabel-id: {disk_id}\n");
        for (partition, id) in self.partitions.iter().zip(ids) {
            let (start, size) = (partition.start / sector, partition.size / sector);
            let (kind, name) = (partition.kind, name(partition.role));
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "start={start}, size={size}, type={kind}, uuid={id}, name=\"{name}\""
            );
        }
        text
    }
}

fn round_up(size: u64) -> u64 {
    size.div_ceil(MIB).saturating_mul(MIB)
}

fn kind(role: Role, root_type: &'static str) -> &'static str {
    match role {
        Role::BiosBoot => "21686148-6449-6E6F-744E-656564454649",
        Role::Esp => "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
        Role::Root => root_type,
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::BiosBoot => "bios-boot",
        Role::Esp => "esp",
        Role::Root => "root",
    }
}

/// Types of root partitions by architecture, after the specification.
const ROOT_TYPES: [(&str, &str); 8] = [
    ("amd64", "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"),
    ("386", "44479540-F297-41B2-9AF7-D131D5F0458A"),
    ("arm64", "B921B045-1DF0-41C3-AF44-4C6F280D3FAE"),
    ("arm", "69DAD710-2CE4-4E3C-B16C-21A1D49ABED3"),
    ("riscv64", "72EC70A6-CF74-40E6-BD49-4BDA08E8F224"),
    ("loong64", "77055800-792C-4F94-B39A-98C91B762BB6"),
    ("ppc64le", "C31C45E6-3F39-412E-80FB-4809C4980599"),
    ("s390x", "5EEAD9A9-FE09-4A1E-A1D7-520D00531306"),
];

fn root_type(arch: &str) -> Result<&'static str, InstallError> {
    let found = ROOT_TYPES.iter().find(|(name, _)| *name == arch);
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        InstallError::unsupported(
            format!("no type of root partition is known for architecture {arch}"),
            "partition the disk by hand and use `bowline install to-filesystem`",
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(bios: bool, esp: Option<u64>, root: Option<u64>) -> Layout {
        let arch = "amd64".into();
        Layout {
            bios,
            esp,
            root,
            arch,
        }
    }

    #[test]
    fn the_root_takes_what_is_left() {
        let plan = PartitionPlan::new(&layout(true, Some(128 * MIB), None), 1024 * MIB + 700);
        let places: Vec<_> = plan
            .unwrap()
            .partitions
            .iter()
            .map(|p| (p.role, p.start / MIB, p.size / MIB))
            .collect();
        assert_eq!(
            places,
            [
                (Role::BiosBoot, 1, 1),
                (Role::Esp, 2, 128),
                (Role::Root, 130, 893)
            ]
        );
    }

    #[test]
    fn a_root_size_is_kept_and_rounded_to_whole_mebibytes() {
        let plan = PartitionPlan::new(&layout(false, None, Some(100 * MIB + 1)), 1024 * MIB);
        let plan = plan.unwrap();
        assert_eq!((plan.root().start, plan.root().size), (MIB, 101 * MIB));
        assert_eq!(plan.partitions.len(), 1);
    }

    #[test]
    fn what_does_not_fit_is_told_in_numbers() {
        for (size, root, needed) in [
            (0, None, 131 * MIB + MIN_ROOT),
            (195 * MIB - 1, None, 195 * MIB),
            (1024 * MIB, Some(1024 * MIB), 1155 * MIB),
        ] {
            let plan = PartitionPlan::new(&layout(true, Some(128 * MIB), root), size);
            let what = "the partition table".into();
            let available = size;
            let error = InstallError::TooSmall {
                what,
                needed,
                available,
            };
            assert_eq!(plan, Err(error));
        }
    }

    #[test]
    fn the_script_counts_sectors() {
        let plan = PartitionPlan::new(&layout(false, Some(64 * MIB), None), 512 * MIB).unwrap();
        let script = plan.script(4096, "D", &["A".into(), "B".into()]);
        assert_eq!(
            script,
            "label: gpt\nlabel-id: D\n\
             start=256, size=16384, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=A, name=\"esp\"\n\
             start=16640, size=114176, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid=B, name=\"root\"\n"
        );
    }

    #[test]
    fn an_unknown_architecture_is_refused() {
        let mut wanted = layout(true, None, None);
        wanted.arch = "mips".into();
        let plan = PartitionPlan::new(&wanted, 1 << 30);
        assert!(matches!(plan, Err(InstallError::Unsupported { .. })));
    }

    proptest! {
        #[test]
        fn partitions_neither_overlap_nor_leave_the_disk(
            bios: bool,
            esp in proptest::option::of(1..2048 * MIB),
            root in proptest::option::of(0..u64::MAX),
            size in 0..8192 * MIB,
        ) {
            let wanted = layout(bios, esp, root);
            match PartitionPlan::new(&wanted, size) {
                Ok(plan) => {
                    let mut end = MIB;
                    for p in &plan.partitions {
                        prop_assert_eq!(p.start, end);
                        prop_assert!(p.size >= MIB && p.size % MIB == 0);
                        end += p.size;
                    }
                    // 33 sectors of 4096 bytes are the largest backup table.
                    prop_assert!(end + 33 * 4096 <= size);
                    prop_assert!(root.is_none_or(|least| plan.root().size >= least));
                    prop_assert_eq!(plan.find(Role::BiosBoot).is_some(), bios);
                    prop_assert_eq!(plan.find(Role::Esp).is_some(), esp.is_some());
                }
                Err(InstallError::TooSmall { needed, available, .. }) => {
                    prop_assert!(needed > available);
                    prop_assert_eq!(available, size);
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
