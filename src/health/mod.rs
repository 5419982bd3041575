//! Is this boot good, and what is remembered about boots. Settings and directories with checks come
//! in; results and the record go out. Never decides what a result leads to: that is `agent/`.
//!
//! ```text
//! /usr/lib/bowline/check.d/{required.d,wanted.d}    checks of the image
//! /etc/bowline/check.d/{required.d,wanted.d}        checks of the administrator
//! /var/lib/bowline/boot-state.json                  what is remembered across boots
//! ```

pub mod builtin;
mod check;
pub mod news;
mod record;
pub mod registry;
pub mod scripts;
mod store;

pub use check::{CheckResult, Class, first_red};
pub use record::{BadImage, Event, EventKind, Failure, Record, RecordError, Trial, TrialImage};
pub use store::Store;
