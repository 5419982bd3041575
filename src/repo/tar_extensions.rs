//! What PAX and GNU extension headers say about the entry behind them. Records come in, fields go
//! out; pure.

use std::collections::BTreeMap;

use base64::Engine as _;

use super::pax;

/// Most pieces of data in a sparse file.
pub const MAX_SPARSE: usize = 1 << 20;

/// Largest sparse file, bytes: no file of an OS comes near, and holes cost the sender nothing.
pub const MAX_SPARSE_SIZE: u64 = 64 << 30;

/// A piece of data in a sparse file: where it belongs and how long it is.
pub type Piece = (u64, u64);

/// What extension headers said about the entry that follows them.
#[derive(Debug, Default)]
pub struct Extensions {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub sparse_map: Option<Vec<Piece>>,
    pub sparse_size: Option<u64>,
    pub sparse_in_data: bool,
}

impl Extensions {
    /// Takes one extended header; `Err` when it does not parse.
    pub fn pax(&mut self, data: &[u8]) -> Result<(), ()> {
        let mut offsets = Vec::new();
        let mut name = None;
        for record in pax::Records::new(data) {
            let (key, value) = record.map_err(|_| ())?;
            match key {
                b"path" => self.path = Some(value.into()),
                b"linkpath" => self.link = Some(value.into()),
                b"size" => self.size = Some(number(value)?),
                b"uid" => self.uid = Some(number(value)?.try_into().map_err(|_| ())?),
                b"gid" => self.gid = Some(number(value)?.try_into().map_err(|_| ())?),
                b"GNU.sparse.name" => name = Some(value.to_vec()),
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                    self.sparse_size = Some(number(value)?);
                }
                b"GNU.sparse.major" => self.sparse_in_data = value == b"1",
                b"GNU.sparse.map" => offsets = numbers(value)?,
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => offsets.push(number(value)?),
                _ => self.xattr(key, value),
            }
        }
        self.path = name.or(self.path.take());
        if offsets.len() % 2 != 0 || offsets.len() / 2 > MAX_SPARSE {
            return Err(());
        }
        if !offsets.is_empty() {
            self.sparse_map = Some(offsets.chunks_exact(2).map(|p| (p[0], p[1])).collect());
        }
        Ok(())
    }

    /// `SCHILY.xattr.NAME` is raw; `LIBARCHIVE.xattr.NAME` is percent-encoded and base64.
    fn xattr(&mut self, key: &[u8], value: &[u8]) {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.insert(name.into(), value.into());
        } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let name = percent_decode(name);
            let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
            let value = value
                .strip_suffix(b"==")
                .or(value.strip_suffix(b"="))
                .unwrap_or(value);
            if let Ok(value) = engine.decode(value) {
                self.xattrs.entry(name).or_insert(value);
            }
        }
    }

    /// The attributes that came, sorted by name.
    pub fn into_xattrs(mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.xattrs
            .retain(|name, _| !name.is_empty() && !name.contains(&0));
        self.xattrs.into_iter().collect()
    }
}

fn number(text: &[u8]) -> Result<u64, ()> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse().ok())
        .ok_or(())
}

fn numbers(text: &[u8]) -> Result<Vec<u64>, ()> {
    text.split(|b| *b == b',')
        .filter(|n| !n.is_empty())
        .map(number)
        .collect()
}

fn percent_decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| byte == b'%');
        let decoded = hex.and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
        out.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() {
            &after[2..]
        } else {
            after
        };
    }
    out
}
