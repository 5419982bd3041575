//! Errors of libostree that are errors of the system underneath. An error comes in, its kind goes
//! out, so that others can tell a full disk from a broken repository without knowing libostree.

use std::error::Error;
use std::io::ErrorKind;

use ostree::{gio, glib};

/// The kind of system error that libostree reports in `error`, if it is one of libostree's.
pub fn system_error_kind(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    use gio::IOErrorEnum as G;
    let error = error.downcast_ref::<glib::Error>()?;
    Some(match error.kind::<G>()? {
        G::NoSpace => ErrorKind::StorageFull,
        G::PermissionDenied => ErrorKind::PermissionDenied,
        G::ReadOnly => ErrorKind::ReadOnlyFilesystem,
        // Somebody held the repository's lock for longer than libostree waits.
        G::WouldBlock => ErrorKind::WouldBlock,
        G::NotFound => ErrorKind::NotFound,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_of_the_system_have_a_kind() {
        let full = glib::Error::new(gio::IOErrorEnum::NoSpace, "x");
        assert_eq!(system_error_kind(&full), Some(ErrorKind::StorageFull));
        let locked = glib::Error::new(gio::IOErrorEnum::WouldBlock, "x");
        assert_eq!(system_error_kind(&locked), Some(ErrorKind::WouldBlock));
        let other = glib::Error::new(gio::IOErrorEnum::Failed, "x");
        assert_eq!(system_error_kind(&other), None);
        let io = std::io::Error::from(ErrorKind::StorageFull);
        assert_eq!(system_error_kind(&io), None);
    }
}
