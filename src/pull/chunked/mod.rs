//! zstd:chunked layers, fetched in parts. A layer whose blob has a table of contents comes in; which
//! of its files are here already, and then its whole tar stream, put together of local content and
//! of fetched parts, go out. Nothing that a table says is believed: files are checked against their
//! digests, and the stream against the diff_id, by the same importer that reads whole layers.

mod assemble;
mod parts;
mod plan;
mod table;
mod tar_split;
mod toc;

pub use assemble::WrongObject;
pub use parts::Parts;
pub use plan::plan;
pub use table::At;

/// Reads a table of contents.
#[cfg(feature = "testing")]
pub(super) fn probe_toc(data: &[u8]) {
    // Whatever is said is an answer.
    drop(toc::read_toc(data, 1 << 40, &mut |_| Ok(())));
}

/// Reads tar-split data.
#[cfg(feature = "testing")]
pub(super) fn probe_tar_split(data: &[u8]) {
    let mut pieces = tar_split::TarSplit::new(data);
    while let Ok(Some(_)) = pieces.next_piece() {}
}
