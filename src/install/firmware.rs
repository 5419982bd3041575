//! A word to the firmware of this machine: which boot loader to start first. A disk, a partition
//! and a path on it come in; efibootmgr changes the firmware's variables.

use std::path::{Path, PathBuf};

use anyhow::Result;
use fn_error_context::context;

use crate::sys::tool::Tool;

/// There where this machine was started by UEFI, and its variables can be written.
const VARIABLES: &str = "/sys/firmware/efi/efivars";
/// How the entry is called in the firmware's menu.
const LABEL: &str = "Bowline";

/// Whether this machine was started by UEFI.
fn is_uefi() -> bool {
    let dir = Path::new(VARIABLES).read_dir();
    dir.is_ok_and(|mut entries| entries.next().is_some())
}

/// Makes the firmware start `file` first, where it can be told; gives what the user should know.
pub fn remark(partition: Option<&(PathBuf, u32)>, file: &str) -> Option<String> {
    let (disk, number) = partition.filter(|_| is_uefi())?;
    match start_first(disk, *number, file) {
        Ok(()) => Some(format!(
            "The firmware starts {LABEL} first; `efibootmgr` changes that"
        )),
        Err(error) => {
            let advice = "choose the disk in the firmware's boot menu";
            Some(format!(
                "The firmware was not told to start the new system, {advice}: {error:#}"
            ))
        }
    }
}

/// Makes the firmware start `file` of a partition first; an older entry of ours goes.
#[context("Telling the firmware to start {file} of {}", disk.display())]
fn start_first(disk: &Path, partition: u32, file: &str) -> Result<()> {
    let present = Tool::new("efibootmgr").output()?;
    for number in ours(&String::from_utf8_lossy(&present)) {
        let old = Tool::new("efibootmgr").args(["--quiet", "--delete-bootnum", "--bootnum"]);
        old.arg(number).run()?;
    }
    let new = Tool::new("efibootmgr")
        .args(["--quiet", "--create", "--disk"])
        .arg(disk);
    let new = new.args([
        "--part",
        &partition.to_string(),
        "--label",
        LABEL,
        "--loader",
    ]);
    new.arg(file.replace('/', "\\")).run()
}

/// Numbers of our entries in what efibootmgr prints: `Boot0003* Bowline`, and perhaps a path.
fn ours(text: &str) -> Vec<String> {
    let entry = |line: &str| {
        let (number, label) = line.strip_prefix("Boot")?.split_once(['*', ' '])?;
        let label = label.split('\t').next().unwrap_or_default().trim();
        let is_number = number.len() == 4 && number.chars().all(|c| c.is_ascii_hexdigit());
        (is_number && label == LABEL).then(|| number.to_owned())
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_entries_are_found() {
        let text = "BootCurrent: 0001\nTimeout: 0 seconds\nBootOrder: 0003,0001\n\
                    Boot0001* debian\tHD(1,GPT)\n\
                    Boot0003* Bowline\tHD(2,GPT)/File(\\EFI\\bowline\\BOOTX64.EFI)\n\
                    Boot000A  Bowline\n\
                    Boot000B* Bowline two\n";
        assert_eq!(ours(text), ["0003", "000A"]);
        assert_eq!(ours(""), [""; 0]);
    }
}
