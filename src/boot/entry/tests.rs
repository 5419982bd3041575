//! Tests of entries and their names: libostree's own, strange ones, and laws.

use proptest::prelude::*;

use super::*;

const LIBOSTREE: &str = "title Debian GNU/Linux 13 (trixie) 2 (ostree:0)
version 2
options root=LABEL=root rw ostree=/ostree/boot.1/debian/a2c1/0
linux /boot/ostree/debian-a2c1/vmlinuz-6.12
initrd /boot/ostree/debian-a2c1/initramfs-6.12.img
x-options-source-tuned isolcpus=1
";

#[test]
fn an_entry_of_libostree() {
    let entry = BlsEntry::parse(LIBOSTREE.as_bytes()).unwrap();
    assert_eq!(entry.version(), Some(2));
    assert_eq!(entry.ostree(), Some("/ostree/boot.1/debian/a2c1/0"));
    assert_eq!(
        entry.get("linux"),
        Some("/boot/ostree/debian-a2c1/vmlinuz-6.12")
    );
    assert_eq!(entry.get("x-options-source-tuned"), Some("isolcpus=1"));
    assert_eq!(entry.get("devicetree"), None);
    assert_eq!(entry.options().collect::<Vec<_>>().len(), 3);
    assert_eq!(entry.to_string(), LIBOSTREE);
}

#[test]
fn spaces_comments_and_repeated_keys() {
    let text = "# comment\n\n  linux\t /a \noptions a b\nflag\noptions ostree=/o c\r\n";
    let mut entry = BlsEntry::parse(text.as_bytes()).unwrap();
    assert_eq!(entry.get("linux"), Some("/a"));
    assert_eq!(
        entry.options().collect::<Vec<_>>(),
        ["a", "b", "ostree=/o", "c"]
    );
    assert_eq!((entry.get("flag"), entry.version()), (Some(""), None));
    entry.set("options", "x");
    entry.set("initrd", "/i");
    let expected = "# comment\n\nlinux /a\noptions x\nflag\ninitrd /i\n";
    assert_eq!(entry.to_string(), expected);
}

#[test]
fn what_is_no_entry() {
    assert_eq!(BlsEntry::parse(b"\xff"), Err(EntryError::NotText));
    assert_eq!(BlsEntry::parse(b"title a\0"), Err(EntryError::NotText));
    let large = vec![b'a'; LIMIT + 1];
    assert_eq!(
        BlsEntry::parse(&large),
        Err(EntryError::TooLarge(LIMIT + 1))
    );
}

#[test]
fn names_with_and_without_counters() {
    let tries = |left, done| Some(Tries { left, done });
    for (name, stem, counter) in [
        ("ostree-2.conf", "ostree-2", None),
        ("ostree-2+3.conf", "ostree-2", tries(3, 0)),
        ("ostree-2+1-2.conf", "ostree-2", tries(1, 2)),
        ("ostree-2+0-3.conf", "ostree-2", tries(0, 3)),
        ("a+b.conf", "a+b", None),
        ("a+1+2.conf", "a+1", tries(2, 0)),
        ("a+1-.conf", "a+1-", None),
        ("a+-1.conf", "a+-1", None),
        ("a+.conf", "a+", None),
        ("a+99999999999.conf", "a+99999999999", None),
    ] {
        let parsed = EntryName::parse(name).unwrap();
        assert_eq!(
            (parsed.stem.as_str(), parsed.tries),
            (stem, counter),
            "{name}"
        );
        assert_eq!(parsed.to_string(), name);
        assert_eq!(parsed.uncounted().to_string(), format!("{stem}.conf"));
    }
    for name in ["", ".conf", "a", "a.conf.new", "a+3"] {
        assert_eq!(EntryName::parse(name), None, "{name}");
    }
}

proptest! {
    #[test]
    fn any_text_is_an_entry_and_printing_keeps_it(text in "(?s)[^\0]{0,200}") {
        let entry = BlsEntry::parse(text.as_bytes()).unwrap();
        let printed = entry.to_string();
        let again = BlsEntry::parse(printed.as_bytes()).unwrap();
        prop_assert_eq!(again.to_string(), printed);
    }

    #[test]
    fn names_come_back(stem in "[a-z0-9-]{1,12}", left in 0u32..200, done in 0u32..200) {
        let name = EntryName { stem, tries: Some(Tries { left, done }) };
        prop_assert_eq!(EntryName::parse(&name.to_string()), Some(name));
    }

    #[test]
    fn no_name_makes_it_panic(name in ".{0,30}") {
        if let Some(parsed) = EntryName::parse(&format!("{name}.conf")) {
            prop_assert!(!parsed.stem.is_empty() || parsed.tries.is_some());
        }
    }
}
