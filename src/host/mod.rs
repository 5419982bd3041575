//! What a host runs, will run and could run, as one serialisable value. A sysroot comes in, the
//! status goes out. Writes nothing and needs only to read.

mod boots;
mod config_diff;
mod not_applied;
mod read;
mod status;

pub use boots::{Bad, Health, LastEvent, OnTrial, store};
pub use config_diff::{
    ChangeKind, ConfigChange, ConfigDiff, Contents, NotShown, Side, config_diff, subject,
};
pub use not_applied::{Cause, NotApplied, not_applied};
pub use read::{read, utc};
pub use status::{
    API_VERSION, BootEntry, BootOrder, Host, ImageSpec, ImageStatus, KIND, Metadata, OstreeEntry,
    Signature, Spec, Status, Store, SystemType, Transfer,
};
