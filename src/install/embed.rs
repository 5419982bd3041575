//! GRUB's BIOS boot code made ready for its place on a disk. The two images that GRUB provides
//! come in, the bytes of the first sector and of the BIOS boot partition go out. Pure; what
//! grub-bios-setup does, without a mounted file system.
//!
//! Offsets are those of GRUB's `include/grub/i386/pc/boot.h`.

use super::InstallError;

/// Bytes of boot code in the first sector; behind it are disk id and partition table.
pub const BOOT_CODE: usize = 440;
/// Bytes of the sectors that GRUB's BIOS code counts in.
pub const SECTOR: usize = 512;
/// Where boot.img keeps the number of the sector that it loads (8 bytes, little endian).
const KERNEL_SECTOR: usize = 0x5c;
/// Two bytes of boot.img that skip a workaround, which hard disks want.
const DRIVE_CHECK: usize = 0x66;
/// A no-op of the processor.
const NOP: u8 = 0x90;
/// Where the first sector of a core image keeps the number of its second one (8 bytes).
const BLOCK_LIST: usize = SECTOR - 12;

/// Where a core image goes: a BIOS boot partition, or the gap behind a partition table of DOS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BiosPlace {
    /// Its first sector, of 512 bytes.
    pub sector: u64,
    /// Its bytes.
    pub room: u64,
}

/// What goes to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedding {
    /// For the first bytes of the disk.
    pub boot_code: [u8; BOOT_CODE],
    /// For the BIOS boot partition.
    pub core: Vec<u8>,
}

/// Prepares boot.img (`boot`) and a core image for a place on a disk.
pub fn embed(boot: &[u8], core: &[u8], place: BiosPlace) -> Result<Embedding, InstallError> {
    let BiosPlace { sector, room } = place;
    if boot.len() != SECTOR || !boot.ends_with(&[0x55, 0xaa]) {
        return Err(broken("boot.img is not a boot sector"));
    }
    // One sector that loads the others, and at least one other.
    if core.len() <= SECTOR {
        return Err(broken("its core image is too short"));
    }
    if core.len() as u64 > room {
        return Err(InstallError::TooSmall {
            what: "GRUB's core image behind the partition table".into(),
            needed: core.len() as u64,
            available: room,
        });
    }
    let mut boot_code = [0; BOOT_CODE];
    boot_code.copy_from_slice(&boot[..BOOT_CODE]);
    boot_code[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&sector.to_le_bytes());
    boot_code[DRIVE_CHECK..DRIVE_CHECK + 2].fill(NOP);
    let mut core = core.to_vec();
    core[BLOCK_LIST..BLOCK_LIST + 8].copy_from_slice(&(sector + 1).to_le_bytes());
    Ok(Embedding { boot_code, core })
}

fn broken(what: &str) -> InstallError {
    InstallError::unsupported(
        format!("GRUB cannot be installed: {what}"),
        "install GRUB's BIOS files (grub-pc-bin) anew, or use --firmware uefi",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn boot() -> Vec<u8> {
        let mut boot: Vec<u8> = (0..SECTOR).map(|i| (i % 251) as u8).collect();
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        boot
    }

    fn place(sector: u64, room: u64) -> BiosPlace {
        BiosPlace { sector, room }
    }

    #[test]
    fn both_images_learn_their_place_and_nothing_else_changes() {
        let core: Vec<u8> = (0..1500u32).map(|i| (i % 253) as u8).collect();
        let made = embed(&boot(), &core, place(0x0102_0304, 4096)).unwrap();
        assert_eq!(made.boot_code[0x5c..0x64], [4, 3, 2, 1, 0, 0, 0, 0]);
        assert_eq!(made.boot_code[0x66..0x68], [0x90, 0x90]);
        assert_eq!(made.boot_code[..0x5c], boot()[..0x5c]);
        assert_eq!(made.boot_code[0x64..0x66], boot()[0x64..0x66]);
        assert_eq!(made.boot_code[0x68..], boot()[0x68..440]);
        assert_eq!(made.core[0x1f4..0x1fc], [5, 3, 2, 1, 0, 0, 0, 0]);
        assert_eq!(made.core[..0x1f4], core[..0x1f4]);
        assert_eq!(made.core[0x1fc..], core[0x1fc..]);
    }

    #[test]
    fn what_is_no_boot_code_is_refused() {
        let core = vec![1; 1024];
        let mut unsigned = boot();
        unsigned[511] = 0;
        for (boot, core) in [
            (&unsigned[..], &core[..]),
            (&boot()[..511], &core[..]),
            (&boot()[..], &core[..512]),
        ] {
            let refused = embed(boot, core, place(2048, 1 << 20));
            assert!(matches!(refused, Err(InstallError::Unsupported { .. })));
        }
        let large = embed(&boot(), &core, place(2048, 1023)).unwrap_err();
        let numbers = InstallError::TooSmall {
            what: "GRUB's core image behind the partition table".into(),
            needed: 1024,
            available: 1023,
        };
        assert_eq!(large, numbers);
    }

    proptest! {
        #[test]
        fn no_image_panics(
            boot in proptest::collection::vec(any::<u8>(), 0..600),
            core in proptest::collection::vec(any::<u8>(), 0..2000),
            sector in 0..u64::MAX,
        ) {
            if let Ok(made) = embed(&boot, &core, place(sector, 1024)) {
                prop_assert_eq!(made.core.len(), core.len());
            }
        }
    }
}
