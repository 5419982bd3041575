//! The few GVariant shapes of ostree's objects, as bytes. Values in, serialised bytes out and
//! back; pure. Everything else about GVariant is left to glib.
//!
//! Format: GVariant specification, "Serialisation Format"; shapes: libostree's ostree-core.h.

/// Extended attributes: name (without NUL) and value, sorted by name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Bytes that are not what their shape asks for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// Bytes of a framing offset in a container of `body` bytes and `count` offsets.
pub(super) fn offset_size(body: usize, count: usize) -> usize {
    [1, 2, 4]
        .into_iter()
        .find(|size| fits(body + count * size, *size))
        .unwrap_or(8)
}

const fn fits(total: usize, size: usize) -> bool {
    match size {
        1 => total <= 0xff,
        2 => total <= 0xffff,
        _ => total <= 0xffff_ffff,
    }
}

pub(super) fn push_offsets(out: &mut Vec<u8>, start: usize, ends: &[usize]) {
    let size = offset_size(out.len() - start, ends.len());
    for end in ends {
        out.extend_from_slice(&(*end as u64).to_le_bytes()[..size]);
    }
}

/// Appends `a(ayay)`: the attributes in the order given.
pub fn push_xattrs(out: &mut Vec<u8>, xattrs: &[(Vec<u8>, Vec<u8>)]) {
    let start = out.len();
    let mut ends = Vec::with_capacity(xattrs.len());
    for (name, value) in xattrs {
        let element = out.len();
        out.extend_from_slice(name);
        out.push(0);
        let name_end = out.len() - element;
        out.extend_from_slice(value);
        push_offsets(out, element, &[name_end]);
        ends.push(out.len() - start);
    }
    push_offsets(out, start, &ends);
}

/// Reads `a(ayay)`.
pub fn parse_xattrs(data: &[u8]) -> Result<Xattrs, Malformed> {
    let bad = Malformed("extended attributes");
    let mut xattrs = Vec::new();
    for element in parse_array(data).ok_or(bad)? {
        let bad = Malformed("extended attributes");
        let [name, value] = parse_tuple::<2>(element).ok_or(bad)?;
        let bad = Malformed("extended attributes");
        let (nul, name) = name.split_last().ok_or(bad)?;
        if *nul != 0 || name.is_empty() || name.contains(&0) {
            return Err(Malformed("extended attributes"));
        }
        xattrs.push((name.to_vec(), value.to_vec()));
    }
    Ok(xattrs)
}

/// `(uuuusa(ayay))`, the header a file object's checksum covers: owner, mode, link target, xattrs.
pub fn file_header(uid: u32, gid: u32, mode: u32, target: &[u8], xattrs: &Xattrs) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + target.len());
    for number in [uid, gid, mode, 0] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    push_target_and_xattrs(&mut out, target, xattrs);
    out
}

/// `(tuuuusa(ayay))`, the header of an archive-mode file object: [`file_header`] with a size.
pub fn archive_header(
    size: u64,
    ids: (u32, u32),
    mode: u32,
    target: &[u8],
    xattrs: &Xattrs,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + target.len());
    out.extend_from_slice(&size.to_be_bytes());
    for number in [ids.0, ids.1, mode, 0] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    push_target_and_xattrs(&mut out, target, xattrs);
    out
}

fn push_target_and_xattrs(out: &mut Vec<u8>, target: &[u8], xattrs: &Xattrs) {
    out.extend_from_slice(target);
    out.push(0);
    let target_end = out.len();
    push_xattrs(out, xattrs);
    push_offsets(out, 0, &[target_end]);
}

/// `(uuua(ayay))`: a dirmeta object, and the attribute `user.ostreemeta` of bare-user files.
pub fn metadata(uid: u32, gid: u32, mode: u32, xattrs: &Xattrs) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    for number in [uid, gid, mode] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    push_xattrs(&mut out, xattrs);
    out
}

/// Reads `(uuua(ayay))`: uid, gid, mode, xattrs.
pub fn parse_metadata(data: &[u8]) -> Result<(u32, u32, u32, Xattrs), Malformed> {
    let (numbers, xattrs) = data
        .split_at_checked(12)
        .ok_or(Malformed("file metadata"))?;
    let number = |i: usize| u32::from_be_bytes([0, 1, 2, 3].map(|k| numbers[i * 4 + k]));
    Ok((number(0), number(1), number(2), parse_xattrs(xattrs)?))
}

/// Reads `(tuuuusa(ayay))`: size, uid, gid, mode, link target, xattrs.
#[allow(clippy::type_complexity, reason = "the shape is the point")]
pub fn parse_archive_header(
    data: &[u8],
) -> Result<(u64, u32, u32, u32, Vec<u8>, Xattrs), Malformed> {
    let bad = || Malformed("archive header");
    let size = offset_size(data.len(), 0);
    let body_end = data.len().checked_sub(size).ok_or_else(bad)?;
    let target_end = read_offset(&data[body_end..]);
    let numbers = data.get(..24).ok_or_else(bad)?;
    let number = |i: usize| u32::from_be_bytes([0, 1, 2, 3].map(|k| numbers[8 + i * 4 + k]));
    let length = u64::from_be_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|k| numbers[k]));
    let target = data.get(24..target_end).ok_or_else(bad)?;
    let (nul, target) = target.split_last().ok_or_else(bad)?;
    let xattrs = data.get(target_end..body_end).ok_or_else(bad)?;
    if *nul != 0 {
        return Err(bad());
    }
    Ok((
        length,
        number(0),
        number(1),
        number(2),
        target.to_vec(),
        parse_xattrs(xattrs)?,
    ))
}

pub(super) fn read_offset(bytes: &[u8]) -> usize {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    usize::try_from(u64::from_le_bytes(wide)).unwrap_or(usize::MAX)
}

/// The elements of an array of variable-size elements (alignment 1).
fn parse_array(data: &[u8]) -> Option<Vec<&[u8]>> {
    if data.is_empty() {
        return Some(Vec::new());
    }
    let size = offset_size(data.len(), 0);
    let body_end = read_offset(data.get(data.len().checked_sub(size)?..)?);
    let table = data.get(body_end..)?;
    if table.len() % size != 0 {
        return None;
    }
    let mut start = 0;
    let ends = table.chunks_exact(size).map(read_offset);
    ends.map(|end| {
        let element = data.get(start..end).filter(|_| end <= body_end);
        start = end;
        element
    })
    .collect()
}

/// The `N` variable-size members of a tuple (alignment 1).
pub(super) fn parse_tuple<const N: usize>(data: &[u8]) -> Option<[&[u8]; N]> {
    let size = offset_size(data.len(), 0);
    let body_end = data.len().checked_sub(size * (N - 1))?;
    let mut members = [&data[..0]; N];
    let mut start = 0;
    for (i, member) in members.iter_mut().enumerate() {
        let end = match i + 1 {
            n if n == N => body_end,
            n => read_offset(data.get(data.len() - n * size..)?.get(..size)?),
        };
        *member = data.get(start..end).filter(|_| end <= body_end)?;
        start = end;
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostree::glib::prelude::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn xattrs_variant(xattrs: &Xattrs) -> Vec<(Vec<u8>, Vec<u8>)> {
        let nul = |name: &Vec<u8>| name.iter().copied().chain([0]).collect();
        xattrs
            .iter()
            .map(|(name, value)| (nul(name), value.clone()))
            .collect()
    }

    fn xattrs() -> impl Strategy<Value = Xattrs> {
        vec((vec(1..=255u8, 1..20), vec(any::<u8>(), 0..400)), 0..6)
    }

    proptest! {
        #[test]
        fn file_header_is_what_glib_writes(
            uid: u32, gid: u32, mode: u32, target in "[a-z/]{0,300}", xattrs in xattrs(),
        ) {
            let be = u32::to_be;
            let parts = (be(uid), be(gid), be(mode), 0u32, &target, xattrs_variant(&xattrs));
            let bytes = file_header(uid, gid, mode, target.as_bytes(), &xattrs);
            prop_assert_eq!(&parts.to_variant().data_as_bytes()[..], &bytes[..]);
            let parts = (7u64.to_be(), be(uid), be(gid), be(mode), 0u32, &target, xattrs_variant(&xattrs));
            let bytes = archive_header(7, (uid, gid), mode, target.as_bytes(), &xattrs);
            prop_assert_eq!(&parts.to_variant().data_as_bytes()[..], &bytes[..]);
            let back = parse_archive_header(&bytes).unwrap();
            prop_assert_eq!(back, (7, uid, gid, mode, target.into_bytes(), xattrs));
        }

        #[test]
        fn metadata_is_what_glib_writes(uid: u32, gid: u32, mode: u32, xattrs in xattrs()) {
            let be = u32::to_be;
            let parts = (be(uid), be(gid), be(mode), xattrs_variant(&xattrs));
            let bytes = metadata(uid, gid, mode, &xattrs);
            prop_assert_eq!(&parts.to_variant().data_as_bytes()[..], &bytes[..]);
            prop_assert_eq!(parse_metadata(&bytes).unwrap(), (uid, gid, mode, xattrs));
        }

        #[test]
        fn hostile_bytes_are_refused_or_read(data in vec(any::<u8>(), 0..200)) {
            let _ = parse_xattrs(&data);
            let _ = parse_metadata(&data);
            let _ = parse_archive_header(&data);
        }
    }
}
