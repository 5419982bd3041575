//! Archives of the ordinary, the hostile and the damaged kind.

use proptest::prelude::*;

use super::*;
use crate::transport::files::read_bounded;

/// A tar of (name, kind, link, content).
fn archive(members: &[(&str, EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, link, content) in members {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        match kind.is_symlink() || kind.is_hard_link() {
            true => builder.append_link(&mut header, name, link).unwrap(),
            false => {
                // `append_data` would refuse the names of an attacker.
                let start = &mut header.as_old_mut().name;
                start[..name.len()].copy_from_slice(name.as_bytes());
                header.set_cksum();
                builder.append(&header, *content).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn index(bytes: &[u8]) -> Result<TarIndex, Error> {
    let temp = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(temp.path(), bytes).unwrap();
    TarIndex::open(temp.path().to_str().unwrap())
}

const FILE: EntryType = EntryType::Regular;
const LINK: EntryType = EntryType::Symlink;

#[test]
fn finds_members_and_follows_links_inside() {
    let long = "n".repeat(150);
    let mut builder = tar::Builder::new(archive(&[
        ("./a/b", FILE, "", b"first"),
        ("dir", EntryType::Directory, "", b""),
        ("c/link", LINK, "../a/b", b""),
        ("hard", EntryType::Link, "a/b", b""),
    ]));
    builder.get_mut().truncate(6 * 512 - 512);
    let mut header = Header::new_gnu();
    header.set_size(6);
    builder
        .append_data(&mut header, &long, &b"second"[..])
        .unwrap();
    let index = index(&builder.into_inner().unwrap()).unwrap();
    for (name, content) in [
        ("a/b", "first"),
        ("./a//b", "first"),
        ("c/link", "first"),
        ("hard", "first"),
        (&long, "second"),
    ] {
        let file = index.open(name).unwrap();
        assert_eq!(file.size, content.len() as u64);
        assert_eq!(read_bounded(file.reader, name).unwrap(), content.as_bytes());
    }
    assert!(matches!(index.open("none"), Err(Error::NotFound { .. })));
}

#[test]
fn nothing_leads_out_of_the_archive() {
    let index = index(&archive(&[
        ("../up", FILE, "", b"x"),
        ("absolute", LINK, "/etc/passwd", b""),
        ("relative", LINK, "../../etc/passwd", b""),
        ("one", LINK, "two", b""),
        ("two", LINK, "one", b""),
        ("pipe", EntryType::Fifo, "", b""),
    ]))
    .unwrap();
    for name in [
        "../up",
        "up",
        "absolute",
        "relative",
        "one",
        "pipe",
        "/etc/passwd",
        "",
    ] {
        assert!(index.open(name).is_err(), "{name}");
    }
}

#[test]
fn damaged_archives_are_refused() {
    let good = archive(&[("a", FILE, "", &[1; 2000])]);
    let words = |bytes: &[u8]| index(bytes).unwrap_err().to_string();
    assert!(index(&good).is_ok());
    assert!(index(&good[..512 + 2048]).is_ok(), "without end marks");
    assert!(words(&good[..1000]).contains("cut off in the middle of a member"));
    assert!(words(&good[..300]).contains("cut off in the middle of a header"));
    assert!(words(b"hello".repeat(200).as_slice()).contains("not a tar file"));
    let twice = archive(&[("a", FILE, "", b"1"), ("./a", FILE, "", b"2")]);
    assert!(words(&twice).contains("member \"a\" stands in it twice"));
    let mut damaged = archive(&[("a", FILE, "", b"1"), ("b", FILE, "", b"2")]);
    damaged[1024] = b'z';
    assert!(words(&damaged).contains("the tar header at byte 1024 is damaged"));
}

#[test]
fn what_has_no_content_has_none_whatever_its_header_says() {
    let mut header = Header::new_gnu();
    header.set_path("dir").unwrap();
    header.set_entry_type(EntryType::Directory);
    header.set_size(4096);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(archive(&[("a", FILE, "", b"1")]));
    assert_eq!(index(&bytes).unwrap().open("a").unwrap().size, 1);
}

#[test]
fn an_extended_header_speaks_for_the_next_member() {
    let long = "p".repeat(300);
    let mut builder = tar::Builder::new(Vec::new());
    let records = [("path", long.as_bytes()), ("size", b"5")];
    builder.append_pax_extensions(records).unwrap();
    let mut header = Header::new_ustar();
    header.set_path("short").unwrap();
    header.set_size(5);
    header.set_cksum();
    builder.append(&header, &b"hello"[..]).unwrap();
    builder
        .append_data(&mut header, "next", &b"world"[..])
        .unwrap();
    let index = index(&builder.into_inner().unwrap()).unwrap();
    for (name, content) in [(&*long, b"hello"), ("next", b"world")] {
        let file = index.open(name).unwrap();
        assert_eq!(read_bounded(file.reader, name).unwrap(), content);
    }
    assert!(index.open("short").is_err());
}

#[test]
fn sizes_beyond_the_file_are_refused() {
    let mut header = Header::new_gnu();
    header.set_size(u64::MAX / 2);
    header.set_cksum();
    assert!(index(header.as_bytes()).is_err());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 20);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(2 << 20, b'n');
    let error = index(&bytes).unwrap_err().to_string();
    assert!(error.contains("absurdly long"), "{error}");
}

proptest! {
    #[test]
    fn a_changed_byte_is_an_error_or_another_archive(at in 0..5 * 512usize, to: u8) {
        let mut bytes = archive(&[("a", FILE, "", b"1"), ("b", LINK, "a", b"")]);
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(index) = index(&bytes) {
            let _ = index.open("b").map(|file| read_bounded(file.reader, "b"));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = index(&bytes);
    }
}
