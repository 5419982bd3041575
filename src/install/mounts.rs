//! What is mounted where, and what is known about the devices under it. The kernel's table and the
//! words of blkid and sfdisk come in; plain facts go out. Changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fn_error_context::context;
use serde::Deserialize;

use super::embed::{BiosPlace, SECTOR};
use crate::sys::tool::Tool;

/// The mounts that this process sees (proc_pid_mountinfo(5)).
const TABLE: &str = "/proc/self/mountinfo";
/// Type of a BIOS boot partition.
const BIOS_BOOT: &str = "21686148-6449-6E6F-744E-656564454649";
/// Bytes at the start of a disk that belong to GRUB's core image where no partition is.
const MAX_GAP: u64 = 1 << 20;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub place: PathBuf,
    /// Which directory of the file system is seen there; `/` for all of it.
    pub root: String,
    /// Type of the file system.
    pub kind: String,
    /// Its device.
    pub source: PathBuf,
}

/// The present mounts; of several at one place the last one counts.
pub fn table() -> Result<Vec<Mount>> {
    let text = fs::read_to_string(TABLE).with_context(|| format!("Reading {TABLE}"))?;
    Ok(parse(&text))
}

/// The mount at exactly this place.
pub fn at<'a>(mounts: &'a [Mount], place: &Path) -> Option<&'a Mount> {
    mounts.iter().rev().find(|mount| mount.place == place)
}

/// Lines that are no mounts are left out.
fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ').skip(3);
    let (root, place) = (front.next()?, front.next()?);
    let mut back = back.split(' ');
    let (kind, source) = (back.next()?, back.next()?);
    Some(Mount {
        place: unescape(place).into(),
        root: unescape(root),
        kind: kind.into(),
        source: unescape(source).into(),
    })
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        let code = digits.and_then(|d| u8::from_str_radix(d, 8).ok());
        match (first, code) {
            (b'\\', Some(code)) => {
                bytes.push(code);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A block device with a file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// UUID of its file system.
    pub uuid: Option<String>,
    /// UUID of the partition, in lower case.
    pub part_uuid: Option<String>,
    /// The disk that it is a partition of, and its number.
    pub disk: Option<(PathBuf, u32)>,
}

/// Asks for the facts about a device.
#[context("Asking for the UUIDs of {}", device.display())]
pub fn device(device: &Path) -> Result<Device> {
    let said = Tool::new("blkid")
        .args(["--probe", "--output", "export"])
        .arg(device)
        .output()?;
    let said = String::from_utf8_lossy(&said);
    let value = |key: &str| {
        let lines = said.lines().filter_map(|line| line.split_once('='));
        let found = lines.into_iter().find(|(name, _)| *name == key);
        found.map(|(_, value)| value.to_owned())
    };
    let number = value("PART_ENTRY_NUMBER").and_then(|number| number.parse().ok());
    let disk = value("PART_ENTRY_DISK")
        .map(|numbers| node(&numbers))
        .transpose()?;
    Ok(Device {
        uuid: value("UUID"),
        part_uuid: value("PART_ENTRY_UUID").map(|id| id.to_ascii_lowercase()),
        disk: disk.zip(number),
    })
}

/// The node of a block device by its numbers, such as `8:0`.
fn node(numbers: &str) -> Result<PathBuf> {
    let facts = format!("/sys/dev/block/{numbers}/uevent");
    let facts = fs::read_to_string(&facts).with_context(|| format!("Reading {facts}"))?;
    let name = facts.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    let name = name.with_context(|| format!("block device {numbers} has no name"))?;
    Ok(Path::new("/dev").join(name))
}

/// Where a disk has room for GRUB's core image; `None` where nowhere.
#[context("Reading the partition table of {}", disk.display())]
pub fn bios_place(disk: &Path) -> Result<Option<BiosPlace>> {
    let said = Tool::new("sfdisk").arg("--json").arg(disk).output()?;
    let table: Table = serde_json::from_slice(&said).context("Reading what sfdisk says")?;
    Ok(table.partitiontable.bios_place())
}

/// What sfdisk prints as JSON.
#[derive(Debug, Deserialize)]
struct Table {
    partitiontable: Partitions,
}

#[derive(Debug, Deserialize)]
struct Partitions {
    label: String,
    #[serde(default = "usual_sector")]
    sectorsize: u64,
    #[serde(default)]
    partitions: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    start: u64,
    size: u64,
    #[serde(rename = "type")]
    kind: String,
}

const fn usual_sector() -> u64 {
    SECTOR as u64
}

impl Partitions {
    fn bios_place(&self) -> Option<BiosPlace> {
        if self.sectorsize != usual_sector() {
            return None;
        }
        if self.label == "gpt" {
            let place = self.partitions.iter();
            let mut place = place.filter(|p| p.kind.eq_ignore_ascii_case(BIOS_BOOT));
            return place.next().map(|p| BiosPlace {
                sector: p.start,
                room: p.size.saturating_mul(self.sectorsize),
            });
        }
        let first = self.partitions.iter().map(|p| p.start).min()?;
        let gap = first.saturating_sub(1).saturating_mul(self.sectorsize);
        // Below this no core image fits: partitions of the time of cylinders.
        (self.label == "dos" && gap > MAX_GAP / 2).then_some(BiosPlace {
            sector: 1,
            room: gap.min(MAX_GAP),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_mount_at_a_place_counts() {
        let text = "22 1 0:21 / /proc rw,nosuid shared:12 - proc proc rw\n\
                    23 1 8:3 / /mnt/new\\040root rw,relatime shared:1 master:2 - ext4 /dev/sda3 rw\n\
                    nonsense\n\
                    24 1 8:2 / /mnt/new\\040root/boot/efi rw - vfat /dev/sda2 rw,fmask=0022\n\
                    25 1 8:4 /@ /mnt/new\\040root rw - btrfs /dev/sda4 rw,subvol=/@\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 4);
        let root = at(&mounts, Path::new("/mnt/new root")).unwrap();
        assert_eq!((&*root.root, &*root.kind), ("/@", "btrfs"));
        assert_eq!(root.source, Path::new("/dev/sda4"));
        let esp = at(&mounts, Path::new("/mnt/new root/boot/efi")).unwrap();
        assert_eq!((&*esp.root, &*esp.kind), ("/", "vfat"));
        assert_eq!(at(&mounts, Path::new("/mnt")), None);
    }

    #[test]
    fn core_images_go_to_their_partition_or_into_the_gap() {
        let place = |text: &str| {
            let table: Table = serde_json::from_str(text).unwrap();
            table
                .partitiontable
                .bios_place()
                .map(|p| (p.sector, p.room))
        };
        let gpt = r#"{"partitiontable":{"label":"gpt","sectorsize":512,"partitions":[
            {"start":4096,"size":99,"type":"0FC63DAF-8483-4772-8E79-3D69D8477DE4"},
            {"start":2048,"size":2048,"type":"21686148-6449-6e6f-744e-656564454649"}]}}"#;
        assert_eq!(place(gpt), Some((2048, 1 << 20)));
        assert_eq!(place(&gpt.replace("21686148", "31686148")), None);
        assert_eq!(
            place(&gpt.replace("\"sectorsize\":512", "\"sectorsize\":4096")),
            None
        );
        let dos = r#"{"partitiontable":{"label":"dos","partitions":[
            {"start":2048,"size":99,"type":"83"}]}}"#;
        assert_eq!(place(dos), Some((1, 2047 * 512)));
        assert_eq!(place(&dos.replace("2048", "63")), None);
        assert_eq!(place(r#"{"partitiontable":{"label":"sun"}}"#), None);
    }

    proptest! {
        #[test]
        fn no_table_panics(text in "([ -~]|\\\\|\\\\04|é| - |\n| ){0,60}") {
            parse(&text);
        }
    }
}
