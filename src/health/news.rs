//! Telling others: entries of the journal with documented message ids, and hooks. What happened
//! comes in; nothing goes out, because nobody who is told may change what is done.

use std::path::Path;
use std::time::Duration;

use super::scripts::{self, Occasion};
use super::{CheckResult, Class, Event, EventKind};
use crate::sys::journal::{self, Priority};

/// A check is red.
pub const CHECK_RED: &str = "774505ab2bc14152b5b20a8064b3f570";
/// A boot is good.
pub const BOOT_GOOD: &str = "5eb386c8c8bd4a1394edff5cef413ba2";
/// A boot is red.
pub const BOOT_RED: &str = "c4b5052e160b41bc85c806d61d5e4b97";
/// The host went back to the deployment before a failed one.
pub const FELL_BACK: &str = "75220c796fd742adac2c282fb1b839de";
/// A trial ended in another way.
pub const TRIAL_ENDED: &str = "5bf35fafc36c441ca0311f0c97d0adee";

/// What hooks and journal readers hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The boot is good.
    Good,
    /// The boot is red, and is tried again.
    Retry,
    /// The boot is red, and the host goes back.
    GivenUp,
    /// The boot is red, and stays up.
    Degraded,
    /// This boot took the place of a failed one.
    FellBack,
    /// A trial ended without a verdict.
    Ended,
}

impl News {
    /// The word that hooks get as `BOWLINE_EVENT`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Retry => "retry",
            Self::GivenUp => "given-up",
            Self::Degraded => "degraded",
            Self::FellBack => "fell-back",
            Self::Ended => "ended",
        }
    }

    const fn id(self) -> &'static str {
        match self {
            Self::Good => BOOT_GOOD,
            Self::Retry | Self::GivenUp | Self::Degraded => BOOT_RED,
            Self::FellBack => FELL_BACK,
            Self::Ended => TRIAL_ENDED,
        }
    }

    const fn occasion(self) -> Option<Occasion> {
        match self {
            Self::Good => Some(Occasion::Good),
            Self::Ended => None,
            _ => Some(Occasion::Bad),
        }
    }

    /// What an event of the record is to others.
    pub const fn of(kind: EventKind) -> Self {
        match kind {
            EventKind::Good => Self::Good,
            EventKind::Retry => Self::Retry,
            EventKind::FellBack => Self::FellBack,
            EventKind::Degraded => Self::Degraded,
            EventKind::NotApplied | EventKind::Withdrawn | EventKind::Unknown => Self::Ended,
        }
    }
}

/// Tells the journal about red checks.
pub fn checks(results: &[CheckResult]) {
    for result in results {
        let Some(red) = &result.red else { continue };
        let priority = match result.class {
            Class::Required => Priority::Error,
            Class::Wanted => Priority::Warning,
        };
        let class = result.class.name();
        let message = format!("The {class} check {} is red: {red}", result.name);
        let fields = [
            ("BOWLINE_CHECK", result.name.as_str()),
            ("BOWLINE_CLASS", class),
            ("BOWLINE_REASON", red),
            ("BOWLINE_OUTPUT", &result.output),
        ];
        journal::send(priority, CHECK_RED, &message, &fields);
    }
}

/// Tells the journal, then runs the hooks one after the other, `time` each at most. A hook that
/// fails is a warning.
pub fn tell(root: &Path, news: News, event: &Event, message: &str, time: Duration) {
    let fields = [
        ("BOWLINE_EVENT", news.word()),
        ("BOWLINE_IMAGE", &event.image.image),
        ("BOWLINE_DIGEST", &event.image.digest),
        ("BOWLINE_VERSION", &event.image.version),
        ("BOWLINE_CHECK", &event.check),
        ("BOWLINE_REASON", &event.reason),
    ];
    let priority = match news {
        News::Good => Priority::Info,
        News::Ended => Priority::Notice,
        _ => Priority::Error,
    };
    journal::send(priority, news.id(), message, &fields);
    let Some(occasion) = news.occasion() else {
        return;
    };
    let hooks = scripts::hooks(root, occasion).unwrap_or_else(|error| {
        tracing::warn!("{error:#}");
        Vec::new()
    });
    for hook in hooks {
        if let (Some(red), output) = hook.run(&fields, time) {
            let path = hook.path.display();
            tracing::warn!("hook {path}: {red}: {}", output.trim());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::health::TrialImage;

    #[test]
    fn hooks_hear_what_happened_and_cannot_stop_anything() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        for (place, name, body) in [
            ("usr/lib/bowline/on-good.d", "1-fails", "exit 1"),
            (
                "usr/lib/bowline/on-good.d",
                "2",
                "echo good $BOWLINE_EVENT $BOWLINE_DIGEST",
            ),
            (
                "etc/bowline/on-bad.d",
                "b",
                "echo bad $BOWLINE_EVENT $BOWLINE_CHECK: $BOWLINE_REASON",
            ),
            ("etc/greenboot/red.d", "c.sh", "echo red"),
        ] {
            let place = dir.path().join(place);
            fs::create_dir_all(&place).unwrap();
            let text = format!("#!/bin/sh\nexec >>{}\n{body}\n", log.display());
            fs::write(place.join(name), text).unwrap();
            fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let event = Event {
            image: TrialImage {
                digest: "sha256:2".into(),
                ..TrialImage::default()
            },
            check: "db".into(),
            reason: "check db failed".into(),
            ..Event::default()
        };
        for news in [News::Good, News::Ended, News::FellBack] {
            tell(dir.path(), news, &event, "told", Duration::from_secs(20));
        }
        assert_eq!(
            fs::read_to_string(&log).unwrap(),
            "good good sha256:2\nbad fell-back db: check db failed\nred\n"
        );
    }
}
