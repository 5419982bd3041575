//! An EFI system partition as an image, made from a directory without mounting anything. A
//! directory comes in, a FAT image goes out.

use std::fs::{self, File};
use std::path::Path;

use anyhow::Result;
use fn_error_context::context;

use super::InstallError;
use crate::sys::bulk;
use crate::sys::tool::Tool;

/// Makes `image`, of `size` bytes in sectors of `sector` bytes, with everything below `dir`.
#[context("Making the EFI system partition")]
pub fn make(dir: &Path, image: &Path, size: u64, sector: u64) -> Result<()> {
    let needed = bulk::usage(dir)?.bytes;
    // FAT tables and boot sectors take less than a sixteenth.
    let available = size / 16 * 15;
    if needed > available {
        let what = "the EFI system partition".into();
        return Err(InstallError::TooSmall {
            what,
            needed,
            available,
        }
        .into());
    }
    bulk::remove(image)?;
    File::create_new(image)?.set_len(size)?;
    let format = Tool::new("mkfs.vfat").args(["-F", "32", "-n", "ESP", "-S"]);
    format.arg(sector.to_string()).arg(image).run()?;
    for entry in fs::read_dir(dir)? {
        let copy = Tool::new("mcopy").args(["-s", "-m", "-Q", "-i"]).arg(image);
        copy.arg(entry?.path()).arg("::/").run()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Bootloader;
    use crate::install::choice::esp_size;

    #[test]
    fn the_directory_is_in_the_image() {
        let work = tempfile::tempdir().unwrap();
        let (dir, image) = (work.path().join("esp"), work.path().join("esp.img"));
        fs::create_dir_all(dir.join("EFI/BOOT")).unwrap();
        fs::write(dir.join("EFI/BOOT/BOOTX64.EFI"), "efi").unwrap();
        let large = esp_size(Bootloader::Grub, 4096);
        for (size, sector) in [(large, 4096), (64 << 20, 512)] {
            make(&dir, &image, size, sector).unwrap();
            let read = Tool::new("mtype")
                .arg("-i")
                .arg(&image)
                .arg("::/EFI/BOOT/BOOTX64.EFI");
            assert_eq!(read.output().unwrap(), b"efi");
            let check = Tool::new("fsck.vfat").arg("-n").arg(&image).output();
            let said = String::from_utf8(check.unwrap()).unwrap();
            assert!(!said.contains("Warning"), "{said}");
        }
        fs::write(dir.join("large"), vec![1; 61 << 20]).unwrap();
        let error = make(&dir, &image, 64 << 20, 512).unwrap_err();
        assert!(matches!(
            error.downcast_ref(),
            Some(InstallError::TooSmall {
                available: 62914560,
                ..
            })
        ));
    }
}
