//! Tests of what an installation will be.

use std::sync::Arc;

use super::*;
use crate::boot::kargs::KernelArgs;
use crate::config::install::Loader;
use crate::progress::{Event, ProgressSink};
use crate::transport::SourceOptions;
use crate::trust::Rules;

#[derive(Debug)]
struct Deaf;

impl ProgressSink for Deaf {
    fn event(&self, _: Event) {}
}

fn request(arch: &str) -> DiskRequest {
    let image: crate::image::OstreeImageReference =
        "ostree-unverified-registry:quay.io/a/b".parse().unwrap();
    let wanted = Wanted {
        target_image: image.clone(),
        image,
        stateroot: None,
        kargs: vec!["quiet".into()],
        root_keys: None,
        loader: None,
        firmware: None,
        generic: false,
        arch: arch.into(),
        jobs: 1,
        source: SourceOptions::default(),
        rules: Rules::default(),
        progress: Arc::new(Deaf),
    };
    DiskRequest {
        wanted,
        target: "/dev/null".into(),
        scratch: "/var/tmp".into(),
        root_fs: None,
        root_size: None,
        wipe: false,
    }
}

fn boots(loader: Bootloader, bios: bool, uefi: bool) -> Boots {
    Boots { loader, bios, uefi }
}

#[test]
fn the_user_goes_before_the_image_and_the_image_before_the_defaults() {
    let choose = |edit: &dyn Fn(&mut Wanted, &mut InstallConfig)| {
        let (mut request, mut config) = (request("amd64"), InstallConfig::default());
        edit(&mut request.wanted, &mut config);
        Boots::choose(&request.wanted, &config, &Possible::on_disk("amd64")).ok()
    };
    use Bootloader::{Grub, None as NoLoader, SystemdBoot};
    assert_eq!(choose(&|_, _| ()), Some(boots(Grub, true, true)));
    let image = choose(&|_, config| config.bootloader = Some(Loader::Systemd));
    assert_eq!(image, Some(boots(SystemdBoot, false, true)));
    let user = choose(&|wanted, config| {
        config.bootloader = Some(Loader::Systemd);
        wanted.loader = Some(NoLoader);
    });
    assert_eq!(user, Some(boots(NoLoader, true, true)));
    let firmware = choose(&|wanted, config| {
        config.firmware = Some(Firmware::Bios);
        wanted.firmware = Some(Firmware::Uefi);
    });
    assert_eq!(firmware, Some(boots(Grub, false, true)));
    // A generic image is for all firmware, whatever the image would like.
    let generic = choose(&|wanted, config| {
        config.firmware = Some(Firmware::Bios);
        wanted.generic = true;
    });
    assert_eq!(generic, Some(boots(Grub, true, true)));
    let refused = choose(&|wanted, _| {
        wanted.generic = true;
        wanted.firmware = Some(Firmware::Bios);
    });
    assert_eq!(refused, None);
    let refused = choose(&|wanted, _| {
        wanted.loader = Some(SystemdBoot);
        wanted.firmware = Some(Firmware::Both);
    });
    assert_eq!(refused, None);
}

#[test]
fn machines_without_bios_have_no_part_for_it() {
    let mut request = request("arm64");
    let config = InstallConfig::default();
    let choice = DiskChoice::choose(&request, &config, 512).unwrap();
    assert_eq!(choice.boots, boots(Bootloader::Grub, false, true));
    assert!(!choice.layout.bios);
    assert_eq!(choice.layout.esp, Some(ESP_SMALL));
    request.wanted.firmware = Some(Firmware::Both);
    assert!(DiskChoice::choose(&request, &config, 512).is_err());
}

#[test]
fn large_sectors_do_not_boot_with_bios() {
    let mut request = request("amd64");
    let config = InstallConfig::default();
    let refused = DiskChoice::choose(&request, &config, 4096);
    assert!(matches!(refused, Err(InstallError::Unsupported { .. })));
    request.wanted.firmware = Some(Firmware::Uefi);
    let choice = DiskChoice::choose(&request, &config, 4096).unwrap();
    // What is smaller is no FAT32 with such sectors.
    assert_eq!(choice.layout.esp, Some(260 * MIB));
}

#[test]
fn a_boot_loader_that_we_do_not_have_is_no_matter_where_the_user_names_another() {
    let (mut request, mut config) = (request("amd64"), InstallConfig::default());
    config.bootloader = Some(Loader::GrubCc);
    let refused = DiskChoice::choose(&request, &config, 512);
    assert!(matches!(refused, Err(InstallError::Unsupported { .. })));
    request.wanted.loader = Some(Bootloader::None);
    let choice = DiskChoice::choose(&request, &config, 512).unwrap();
    assert_eq!(choice.boots.loader, Bootloader::None);
}

#[test]
fn disks_of_systemd_boot_have_room_for_kernels() {
    let mut request = request("amd64");
    request.root_size = Some(MIN_ROOT);
    let mut config = InstallConfig::default();
    config.bootloader = Some(Loader::Systemd);
    config.root_fs_type = Some(RootFs::Btrfs);
    config.root_size = Some(MIN_ROOT + 9);
    let choice = DiskChoice::choose(&request, &config, 512).unwrap();
    assert_eq!(choice.root_fs, RootFs::Btrfs);
    assert_eq!(choice.layout.esp, Some(ESP_KERNELS));
    assert_eq!(choice.layout.root, Some(MIN_ROOT));
    request.root_size = Some(MIN_ROOT - 1);
    let error = DiskChoice::choose(&request, &config, 512).unwrap_err();
    assert!(matches!(error, InstallError::Options(_)), "{error}");
}

#[test]
fn the_root_is_found_as_the_image_says() {
    let kargs = |config: &InstallConfig, loader| root_kargs("UUID=1", config, loader).join(" ");
    let mut config = InstallConfig::default();
    assert_eq!(kargs(&config, Bootloader::Grub), "root=UUID=1 rw");
    config.discoverable_partitions = Some(true);
    assert_eq!(kargs(&config, Bootloader::SystemdBoot), "rw");
    assert_eq!(kargs(&config, Bootloader::Grub), "root=UUID=1 rw");
    config.root_mount_spec = Some("LABEL=root".into());
    assert_eq!(
        kargs(&config, Bootloader::SystemdBoot),
        "root=LABEL=root rw"
    );
    config.root_mount_spec = Some(String::new());
    assert_eq!(kargs(&config, Bootloader::Grub), "rw");
}

#[test]
fn arguments_are_those_of_image_root_and_machine() {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut config = InstallConfig::default();
    config.kargs = vec!["console=ttyS0 nosmt".into()];
    config.karg_deletes = words("quiet a=1 absent");
    let wanted = request("amd64").wanted;
    let mut args = KernelArgs::parse("a=1 a=2 quiet panic=10");
    for edit in edits(&words("root=UUID=1 rw"), &config, &wanted).unwrap() {
        edit.apply(&mut args).unwrap();
    }
    assert_eq!(
        args.to_words().join(" "),
        "a=2 panic=10 root=UUID=1 rw console=ttyS0 nosmt quiet"
    );
}

#[test]
fn what_several_ask_for_is_there_once_and_the_last_word_counts() {
    let mut wanted = request("amd64").wanted;
    wanted.kargs = vec!["console=tty0".into(), "nosmt".into()];
    let mut config = InstallConfig::default();
    config.kargs = vec!["nosmt rw".into()];
    let mut args = KernelArgs::parse("console=tty0 console=ttyS0 rw panic=10");
    for edit in edits(&["rw".into()], &config, &wanted).unwrap() {
        edit.apply(&mut args).unwrap();
    }
    let line = "console=ttyS0 panic=10 rw console=tty0 nosmt";
    assert_eq!(args.to_string(), line);
}

#[test]
fn what_is_not_there_is_not_chosen_and_not_given() {
    let mut wanted = request("amd64").wanted;
    let config = InstallConfig::default();
    let possible = |bios, uefi| Possible {
        bios: if bios { Ok(()) } else { Err("no place".into()) },
        uefi: if uefi {
            Ok(())
        } else {
            Err("no partition".into())
        },
    };
    let choose = |wanted: &Wanted, possible| Boots::choose(wanted, &config, &possible);
    let uefi = choose(&wanted, possible(false, true)).unwrap();
    assert_eq!(uefi, boots(Bootloader::Grub, false, true));
    let none = choose(&wanted, possible(false, false)).unwrap_err();
    assert_eq!(none, options("no partition"));
    wanted.firmware = Some(Firmware::Both);
    let bios = choose(&wanted, possible(false, true)).unwrap_err();
    assert_eq!(bios, options("no place"));
    wanted.firmware = None;
    wanted.loader = Some(Bootloader::None);
    let nothing = choose(&wanted, possible(false, false)).unwrap();
    assert_eq!(nothing, boots(Bootloader::None, false, false));
}
