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
