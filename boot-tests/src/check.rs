//! Looks at a disk from outside, while its machine is off: a qcow2 file in, an error for each file
//! system that is damaged. Never changes the disk.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::tool;

/// Bytes of a sector, as sfdisk counts.
const SECTOR: u64 = 512;

/// A partition, in bytes.
#[derive(Debug)]
pub struct Partition {
    /// Where it begins.
    pub start: u64,
    /// How long it is.
    pub length: u64,
    /// Whether it is the EFI system partition.
    pub esp: bool,
}

/// Checks all file systems, after the journal of the last cut was replayed as a boot does it.
pub fn file_systems(disk: &Path) -> Result<()> {
    let directory = TempDir::with_prefix_in("fsck-", disk.parent().context("A disk has a path")?)?;
    let raw = directory.path().join("disk.raw").display().to_string();
    let disk = disk.display().to_string();
    tool::run("qemu-img", &["convert", "-O", "raw", &disk, &raw])?;
    for partition in partitions(&raw)? {
        let image = directory.path().join("partition.img");
        cut_out(&raw, &partition, &image)?;
        match partition.esp {
            true => check_fat(&image)?,
            false => check_ext4(&image)?,
        }
    }
    Ok(())
}

/// Copies a partition to a file of its own, as sparse as it is.
fn cut_out(raw: &str, partition: &Partition, image: &Path) -> Result<()> {
    let Partition { start, length, .. } = partition;
    let from =
        format!("driver=raw,offset={start},size={length},file.driver=file,file.filename={raw}");
    let image = image.display().to_string();
    tool::run(
        "qemu-img",
        &["convert", "--image-opts", "-O", "raw", &from, &image],
    )?;
    Ok(())
}

/// The ESP and the root; others hold no file system.
pub fn partitions(raw: &str) -> Result<Vec<Partition>> {
    const ESP: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
    const BIOS: &str = "21686148-6449-6E6F-744E-656564454649";
    let table: Value = serde_json::from_str(&tool::run("sfdisk", &["--json", raw])?)?;
    let all = table["partitiontable"]["partitions"].as_array();
    let all = all.context("The disk has no partitions")?.iter();
    let bytes = |value: &Value| value.as_u64().map(|sectors| sectors * SECTOR);
    all.filter(|part| part["type"] != BIOS)
        .map(|part| {
            let (start, length) = (bytes(&part["start"]), bytes(&part["size"]));
            let (start, length) = start.zip(length).context("A partition without a place")?;
            Ok(Partition {
                start,
                length,
                esp: part["type"] == ESP,
            })
        })
        .collect()
}

fn check_ext4(image: &Path) -> Result<()> {
    let image = image.display().to_string();
    tool::run("e2fsck", &["-E", "journal_only", "-y", &image])?;
    tool::run("e2fsck", &["-f", "-n", &image])?;
    Ok(())
}

/// Words of fsck.vfat about files and directories that are damaged. FAT has no journal: after a cut the
/// flag that says so, copies of the table that differ, and clusters that nothing uses are no damage.
const DAMAGE: &[&str] = &[
    "shares clusters",
    "Bad short file name",
    "Contains a free cluster",
    "Start does point",
    "Start cluster beyond limit",
    "is not a directory",
];

fn check_fat(image: &Path) -> Result<()> {
    let said = Command::new("fsck.vfat").arg("-n").arg(image).output();
    let said = said.context("Starting fsck.vfat")?;
    let text = String::from_utf8_lossy(&said.stdout);
    let damaged = text
        .lines()
        .any(|line| DAMAGE.iter().any(|words| line.contains(words)));
    ensure!(!damaged, "The ESP is damaged:\n{text}");
    Ok(())
}
