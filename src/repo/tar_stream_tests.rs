//! Tests of the tar reader: what the `tar` crate and the fixture writer make is read back, and
//! damaged streams end in an error, never in a panic or an endless loop.

use std::io::{BufReader, Cursor, Read};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

type Seen = (Entry, Vec<u8>);

fn read_all(data: impl Read) -> Result<Vec<Seen>, TarError> {
    let mut tar = TarStream::new(BufReader::with_capacity(700, data), None);
    let mut seen = Vec::new();
    while let Some(entry) = tar.next_entry()? {
        let mut content = Vec::new();
        while let Some(chunk) = tar.chunk()? {
            content.extend_from_slice(chunk);
        }
        seen.push((entry, content));
    }
    tar.drain()?;
    Ok(seen)
}

fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o4755);
        header.set_uid(70_000);
        header.set_gid(3_000_000);
        header.set_mtime(7);
        builder.append_data(&mut header, path, &data[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

proptest! {
    #[test]
    fn reads_what_the_tar_crate_writes(
        files in vec(("[a-z]{1,200}(/[a-z]{1,60}){0,3}", vec(any::<u8>(), 0..3000)), 0..6),
    ) {
        let seen = read_all(Cursor::new(tar_of(&files))).unwrap();
        prop_assert_eq!(seen.len(), files.len());
        for ((entry, content), (path, data)) in seen.iter().zip(&files) {
            prop_assert_eq!(&entry.path, path.as_bytes());
            prop_assert_eq!(content, data);
            prop_assert_eq!((entry.uid, entry.gid, entry.mode), (70_000, 3_000_000, 0o4755));
            prop_assert_eq!((entry.kind, entry.size), (Kind::Regular, data.len() as u64));
        }
    }

    #[test]
    fn a_cut_stream_is_short_or_an_error(
        files in vec(("[a-z]{1,150}", vec(any::<u8>(), 0..2000)), 1..4),
        cut in 0.0..1.0f64,
    ) {
        let data = tar_of(&files);
        let end = (data.len() as f64 * cut) as usize;
        if let Ok(seen) = read_all(Cursor::new(&data[..end])) {
            // Only whole entries come out of what is accepted.
            for ((_, content), (_, data)) in seen.iter().zip(&files) {
                prop_assert_eq!(content, data);
            }
        }
    }

    #[test]
    fn changed_bytes_never_panic(
        files in vec(("[a-z]{1,150}", vec(any::<u8>(), 0..600)), 1..4),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut data = tar_of(&files);
        for (index, byte) in changes {
            *index.get_mut(&mut data) = byte;
        }
        let _ = read_all(Cursor::new(data));
    }

    #[test]
    fn hostile_extension_records_never_panic(records in vec(any::<u8>(), 0..600)) {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_size(records.len() as u64);
        header.set_path("pax").unwrap();
        header.set_cksum();
        let mut data = header.as_bytes().to_vec();
        data.extend_from_slice(&records);
        data.resize(data.len().next_multiple_of(512), 0);
        data.extend(tar_of(&[("x".into(), b"y".to_vec())]));
        let _ = read_all(Cursor::new(data));
    }
}

fn extension(kind: tar::EntryType, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn extensions_have_limits() {
    for kind in [
        tar::EntryType::XHeader,
        tar::EntryType::XGlobalHeader,
        tar::EntryType::GNULongName,
        tar::EntryType::GNULongLink,
    ] {
        let endless = Cursor::new(extension(kind, 1 << 40)).chain(std::io::repeat(b'x'));
        let error = read_all(endless).unwrap_err();
        assert!(
            matches!(error, TarError::Extension { .. }),
            "{kind:?}: {error}"
        );
    }
}

#[test]
fn paths_have_limits() {
    let mut data = extension(tar::EntryType::GNULongName, 5000);
    data.extend(std::iter::repeat_n(b'p', 5000));
    data.resize(data.len().next_multiple_of(512), 0);
    data.extend(tar_of(&[("x".into(), Vec::new())]));
    assert!(matches!(
        read_all(Cursor::new(data)),
        Err(TarError::Header(_))
    ));
}

#[test]
fn unknown_types_are_named() {
    let mut header = tar::Header::new_gnu();
    header.set_path("odd").unwrap();
    header.set_entry_type(tar::EntryType::new(b'V'));
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    let error = read_all(Cursor::new(header.as_bytes().to_vec())).unwrap_err();
    assert!(error.to_string().contains("\"odd\" of type 'V'"), "{error}");
}

#[test]
fn the_padding_of_the_last_entry_may_be_missing_but_no_content() {
    let data = tar_of(&[("a".into(), b"content".to_vec())]);
    let content_end = 512 + 7;
    let seen = read_all(&data[..content_end]).unwrap();
    assert_eq!(seen[0].1, b"content");
    let cut = read_all(&data[..content_end - 1]).unwrap_err();
    assert!(matches!(cut, TarError::Truncated(path) if path == "a"));
}

fn pax(records: &[u8]) -> Vec<u8> {
    let mut data = extension(tar::EntryType::XHeader, records.len() as u64);
    data.extend_from_slice(records);
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

#[test]
fn extensions_of_one_entry_have_a_limit_in_all() {
    let endless = pax(b"22 SCHILY.xattr.u.x=1\n").repeat(5000);
    let error = read_all(Cursor::new(endless)).unwrap_err();
    assert!(matches!(error, TarError::Extension { .. }), "{error}");
}

/// A sparse file in PAX format 1.0 with this map and no data.
fn sparse(map: &str, size: u64) -> Vec<u8> {
    let size = format!("GNU.sparse.realsize={size}\n");
    let size = format!("{} {size}", size.len() + 3);
    let mut data = pax(format!("22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n{size}").as_bytes());
    let stored = map.len().next_multiple_of(512);
    let mut header = tar::Header::new_ustar();
    header.set_path("holes").unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(stored as u64);
    header.set_cksum();
    data.extend_from_slice(header.as_bytes());
    data.extend_from_slice(map.as_bytes());
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

#[test]
fn a_million_empty_pieces_need_no_stack() {
    let map = format!("1000000\n{}", "5\n0\n".repeat(1_000_000));
    let seen = read_all(Cursor::new(sparse(&map, 10))).unwrap();
    assert_eq!(seen[0].1, [0; 10]);
}

#[test]
fn holes_have_a_limit() {
    let error = read_all(Cursor::new(sparse("0\n", 1 << 40))).unwrap_err();
    assert!(matches!(error, TarError::Extension { what: "sparse", .. }));
}
