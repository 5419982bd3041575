//! This room's parsers of outside bytes, for tests that feed them anything. Bytes come in; only a
//! panic would be wrong.

/// The table of contents of a zstd:chunked layer, inflated.
pub fn table_of_contents(data: &[u8]) {
    super::chunked::probe_toc(data);
}

/// Inflated tar-split data.
pub fn tar_split(data: &[u8]) {
    super::chunked::probe_tar_split(data);
}
