//! That a staged update was not applied, and why, for people. Facts come in, lines go out. Never
//! prints.

use super::{render_report, text};
use crate::host::{Cause, NotApplied};
use crate::image::OstreeImageReference;

/// What happened, and what to do.
pub fn lines(missed: &NotApplied) -> String {
    let version = missed.version.as_ref();
    let version = version.map(|version| format!("version {version} of "));
    let image = missed.image.as_deref().map(image);
    let what = match missed.cause {
        Cause::FinalizeFailed => "libostree could not finish it at shutdown",
        Cause::Interrupted => "it was never finished",
    };
    let next = match &image {
        Some(_) => "`bowline upgrade` stages it again, if that is the image to follow",
        None => "repeat what staged it",
    };
    let line = format!(
        "{}{}, staged {}, was not applied: {what}",
        version.unwrap_or_default(),
        image.unwrap_or_else(|| text::shorten(&missed.checksum)),
        missed.staged_at
    );
    let (line, reason) = (text::clean(&line), text::clean(&missed.reason));
    format!("! The update to {line}\n    Reason      {reason}\n    Next        {next}\n")
}

/// The image as people write it; what is no reference stays as it is.
fn image(origin: &str) -> String {
    let reference = origin.parse::<OstreeImageReference>();
    reference.map_or_else(
        |_| origin.to_owned(),
        |image| render_report::image_name(&image),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_what_why_and_what_next() {
        let mut missed = NotApplied {
            image: Some("ostree-unverified-registry:quay.io/os:1".into()),
            version: Some("2".into()),
            image_digest: None,
            checksum: "abc".into(),
            staged_at: "2026-01-01T00:00:00Z".into(),
            cause: Cause::FinalizeFailed,
            reason: "During /etc merge:\nx".into(),
        };
        assert_eq!(
            lines(&missed),
            "! The update to version 2 of quay.io/os:1 (unverified), staged 2026-01-01T00:00:00Z, was \
             not applied: libostree could not finish it at shutdown\n\
             \x20   Reason      During /etc merge: x\n\
             \x20   Next        `bowline upgrade` stages it again, if that is the image to follow\n"
        );
        missed.image = None;
        missed.version = None;
        missed.cause = Cause::Interrupted;
        let said = lines(&missed);
        assert!(
            said.starts_with("! The update to abc, staged 2026"),
            "{said}"
        );
        assert!(said.ends_with("repeat what staged it\n"), "{said}");
    }
}
