//! What a host runs, will run and could run, as one serialisable value. A sysroot comes in, the
//! status goes out. Writes nothing and needs only to read.

mod read;
mod status;

pub use read::{read, utc};
pub use status::{
    API_VERSION, BootEntry, BootOrder, Host, ImageSpec, ImageStatus, KIND, Metadata, OstreeEntry,
    Signature, Spec, Status, Store, SystemType,
};
