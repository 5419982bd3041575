//! Tests of the install configuration: bootc's rules, ours on top, and the JSON.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::sys::tree::DirTree;
use crate::testing::samples;

fn load(files: &[(&str, &str)]) -> InstallConfig {
    let dir = samples::files(files).unwrap();
    InstallConfig::load(&DirTree::open(dir.path()).unwrap(), "amd64").unwrap()
}

fn refused(path: &str, text: &str) -> String {
    let dir = samples::files(&[(path, text)]).unwrap();
    let loaded = InstallConfig::load(&DirTree::open(dir.path()).unwrap(), "amd64");
    let error = loaded.unwrap_err().downcast::<ConfigError>().unwrap();
    error
        .to_string()
        .replace(&format!("{}/", dir.path().display()), "/")
}

const EVERYTHING: &str = r#"
[install]
root-fs-type = "xfs"
block = ["tpm2-luks", "direct"]
kargs = ["console=ttyS0", "foo=bar"]
karg-deletes = ["debug", "bar=baz"]
match-architectures = ["x86_64", "aarch64"]
stateroot = "os"
root-mount-spec = "LABEL=root"
boot-mount-spec = ""
bootloader = "systemd"
discoverable-partitions = true
enforce-container-sigpolicy = true
[install.filesystem.root]
type = "btrfs"
[install.ostree]
bls-append-except-default = 'grub_users=""'
[install.bootupd]
skip-boot-uuid = true
"#;

#[test]
fn every_key_of_bootc_is_understood() {
    let config = load(&[("usr/lib/bootc/install/00.toml", EVERYTHING)]);
    let text = |text: &str| Some(text.to_string());
    let expected = InstallConfig {
        root_fs_type: Some(RootFs::Btrfs),
        block: vec![Block::Tpm2Luks, Block::Direct],
        kargs: vec!["console=ttyS0".into(), "foo=bar".into()],
        karg_deletes: vec!["debug".into(), "bar=baz".into()],
        bls_append_except_default: text("grub_users=\"\""),
        stateroot: text("os"),
        root_mount_spec: text("LABEL=root"),
        boot_mount_spec: text(""),
        skip_boot_uuid: Some(true),
        bootloader: Some(Loader::Systemd),
        discoverable_partitions: Some(true),
        enforce_container_sigpolicy: Some(true),
        root_size: None,
        firmware: None,
        merged: config.merged.clone(),
    };
    assert_eq!(config, expected);
    assert_eq!(config.check(), Ok(()));
    let printed = json!({
        "block": ["tpm2-luks", "direct"],
        "boot-mount-spec": "",
        "bootloader": "systemd",
        "bootupd": {"skip-boot-uuid": true},
        "discoverable-partitions": true,
        "enforce-container-sigpolicy": true,
        "filesystem": {"root": {"type": "btrfs"}},
        "karg-deletes": ["debug", "bar=baz"],
        "kargs": ["console=ttyS0", "foo=bar"],
        "match-architectures": ["x86_64", "aarch64"],
        "ostree": {"bls-append-except-default": "grub_users=\"\""},
        "root-fs-type": "btrfs",
        "root-mount-spec": "LABEL=root",
        "stateroot": "os",
    });
    assert_eq!(config.to_json(true).unwrap(), printed);
    let short = config.to_json(false).unwrap();
    assert_eq!(
        (short.get("kargs"), short.get("karg-deletes")),
        (None, None)
    );
    assert_eq!(short["stateroot"], "os");
}

#[test]
fn without_any_file_bootc_prints_nulls() {
    let config = load(&[]);
    let printed = "{\"block\":null,\"boot-mount-spec\":null,\"bootloader\":null,\"bootupd\":null,\
                   \"discoverable-partitions\":null,\"enforce-container-sigpolicy\":null,\
                   \"filesystem\":null,\"match-architectures\":null,\"ostree\":null,\
                   \"root-fs-type\":null,\"root-mount-spec\":null,\"stateroot\":null}";
    assert_eq!(config.to_json(true).unwrap().to_string(), printed);
}

#[test]
fn files_merge_by_name_and_one_name_counts_once() {
    let install = |keys: &str| format!("[install]\n{keys}");
    let config = load(&[
        (
            "etc/bootc/install/10-b.toml",
            &install("root-fs-type = 'ext4'\nkargs = ['b']\nblock = ['direct']"),
        ),
        ("usr/lib/bootc/install/10-b.toml", "no toml"),
        (
            "usr/lib/bootc/install/20-c.toml",
            &install("kargs = ['c']\nstateroot = 'late'\nkarg-deletes = ['x']"),
        ),
        (
            "run/bootc/install/05-a.toml",
            &install("kargs = ['a']\nstateroot = 'early'"),
        ),
        (
            "usr/local/lib/bootc/install/30-d.toml",
            &install("kargs = ['d']\nmatch-architectures = ['s390x']"),
        ),
        ("usr/lib/bootc/install/note.txt", "no toml"),
        ("usr/lib/bootc/install/40-empty.toml", ""),
    ]);
    assert_eq!(config.kargs, ["a", "b", "c"]);
    assert_eq!(config.karg_deletes, ["x"]);
    assert_eq!(config.stateroot.as_deref(), Some("late"));
    assert_eq!(config.root_fs_type, Some(RootFs::Ext4));
    let json = config.to_json(true).unwrap();
    assert_eq!(json["filesystem"], json!({"root": {"type": "ext4"}}));
}

#[test]
fn the_nested_type_of_the_root_wins_wherever_it_stands() {
    let config = load(&[
        (
            "usr/lib/bootc/install/1.toml",
            "install.filesystem.root.type = 'xfs'",
        ),
        (
            "usr/lib/bootc/install/2.toml",
            "install.root-fs-type = 'ext4'",
        ),
    ]);
    assert_eq!(config.root_fs_type, Some(RootFs::Xfs));
}

#[test]
fn our_files_win_over_those_of_bootc() {
    let config = load(&[
        ("usr/lib/bootc/install/99.toml", EVERYTHING),
        (
            "usr/lib/bowline/install/10.yaml",
            "filesystem: {root: {type: ext4}}\nroot-size: 10 GiB\nkargs: [quiet]\n",
        ),
        (
            "etc/bowline/install/00.yaml",
            "firmware: both\nbootloader: systemd-boot\nroot-size: 20G\n",
        ),
        (
            "etc/bowline/install/01.yaml",
            "bootloader: none\nmatch-architectures: [sparc64]\n",
        ),
        ("run/bowline/install/00.yaml", "# nothing\n"),
    ]);
    assert_eq!(config.root_fs_type, Some(RootFs::Ext4));
    assert_eq!(config.kargs, ["console=ttyS0", "foo=bar", "quiet"]);
    assert_eq!(
        (config.root_size, config.firmware),
        (Some(20 << 30), Some(Firmware::Both))
    );
    assert_eq!(config.bootloader, Some(Loader::Systemd));
    let json = config.to_json(false).unwrap();
    assert_eq!(
        (&json["root-size"], &json["firmware"]),
        (&json!("20G"), &json!("both"))
    );
}

#[test]
fn mistakes_name_file_line_and_what_is_allowed() {
    let toml = "usr/lib/bootc/install/x.toml";
    let yaml = "etc/bowline/install/x.yaml";
    let ours = "`root-fs-type`, `block`, `filesystem`, `kargs`, `karg-deletes`, \
                `match-architectures`, `ostree`, `stateroot`, `root-mount-spec`, \
                `boot-mount-spec`, `bootupd`, `bootloader`, `discoverable-partitions`, \
                `enforce-container-sigpolicy`, `root-size`, `firmware`";
    let unknown = |line, key| format!(":{line}: unknown field `{key}`, expected one of {ours}");
    for (path, text, said) in [
        (toml, "[install]\n\nfoo = 1\n", unknown(3, "foo")),
        (
            toml,
            "[instal]\n",
            ":1: unknown field `instal`, expected `install`".into(),
        ),
        (
            toml,
            "[install]\nroot-fs-type = 'vfat'\n",
            ":2: unknown variant `vfat`, expected one of `xfs`, `ext4`, `btrfs`".into(),
        ),
        (
            toml,
            "[install]\nkargs = 'quiet'\n",
            ":2: invalid type: string \"quiet\", expected a sequence".into(),
        ),
        (
            toml,
            "[install]\nkargs = [\n",
            ":2: unclosed array, expected `]`".into(),
        ),
        (
            toml,
            "[install]\nfirmware = 'both'\n",
            ": root-size and firmware are no keys of bootc: put them into a file \
             /usr/lib/bowline/install/*.yaml"
                .into(),
        ),
        (
            toml,
            "[install.filesystem.root]\nfstype = 'xfs'\n",
            ":2: unknown field `fstype`, expected `type`".into(),
        ),
        (yaml, "install:\n  kargs: []\n", unknown(1, "install")),
    ] {
        assert_eq!(refused(path, text), format!("/{path}{said}"));
    }
    let size = refused(yaml, "kargs: []\nroot-size: 10\n");
    let start = "/etc/bowline/install/x.yaml:2: root-size: \"10\" is no size: write ";
    assert!(size.starts_with(start), "{size}");
}

#[test]
fn what_we_cannot_give_is_refused_with_the_reason() {
    let luks = load(&[(
        "usr/lib/bootc/install/x.toml",
        "install.block = ['tpm2-luks']",
    )]);
    assert!(luks.check().unwrap_err().to_string().contains("tpm2-luks"));
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_a_located_error(text in "(\\[install\\]\n|[a-z-]+ ?= ?|'[a-z]*'|[\\[\\],{}\n\"]|kargs = |\\PC){0,40}") {
        let bootc = file::of_bootc("f", &text).err();
        let ours = layers::yaml::<InstallFile>("f", &text).err();
        for error in bootc.into_iter().chain(ours) {
            if let ConfigError::Text { line, .. } = error {
                prop_assert!(line >= 1 && line <= text.lines().count() + 1);
            }
        }
    }
}
