//! Whether an unattended update may run now, and how far it goes. Settings and what is known about
//! the machine come in, a plan goes out. Never looks at the machine itself.

use std::fmt;

use crate::config::{Update, Willing};
use crate::sys::network::Metered;

/// What is known about the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether the network costs by the byte.
    pub metered: Metered,
    /// Whether the machine lives on a battery.
    pub battery: bool,
}

/// What an unattended update does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Stages the newest image; reboots into it if `apply`.
    Update {
        /// Whether to reboot.
        apply: bool,
    },
    /// Nothing, this time.
    Skip(Reason),
}

/// Why nothing is done this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The network costs by the byte.
    Metered,
    /// The machine lives on a battery.
    Battery,
    /// Another operation holds the lock.
    Busy,
    /// What runs has not proven itself yet.
    OnTrial,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Metered => {
                "the network is metered (`update: {metered: allow}` in /etc/bowline/*.yaml updates \
                 all the same)"
            }
            Self::Battery => {
                "the machine runs on battery (`update: {battery: allow}` in /etc/bowline/*.yaml \
                 updates all the same)"
            }
            Self::Busy => "another operation is at work on this system",
            Self::OnTrial => "what runs is still on trial, and its boot not yet marked good",
        })
    }
}

/// Plans an unattended update. A network about which nobody knows counts as not metered.
pub fn plan(settings: &Update, facts: Facts) -> Plan {
    if facts.battery && settings.battery == Willing::Skip {
        Plan::Skip(Reason::Battery)
    } else if facts.metered == Metered::Yes && settings.metered == Willing::Skip {
        Plan::Skip(Reason::Metered)
    } else {
        Plan::Update {
            apply: settings.apply,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_skips_unless_it_is_allowed() {
        use Metered::{No, Unknown, Yes};
        use Willing::{Allow, Skip};
        let go = Plan::Update { apply: false };
        for (metered, battery, (for_metered, for_battery), expected) in [
            (No, false, (Skip, Skip), go),
            (Unknown, false, (Skip, Skip), go),
            (Yes, false, (Skip, Skip), Plan::Skip(Reason::Metered)),
            (Yes, false, (Allow, Skip), go),
            (No, true, (Skip, Skip), Plan::Skip(Reason::Battery)),
            (No, true, (Skip, Allow), go),
            (Yes, true, (Skip, Skip), Plan::Skip(Reason::Battery)),
            (Yes, true, (Skip, Allow), Plan::Skip(Reason::Metered)),
            (Yes, true, (Allow, Skip), Plan::Skip(Reason::Battery)),
            (Yes, true, (Allow, Allow), go),
        ] {
            let settings = Update {
                metered: for_metered,
                battery: for_battery,
                ..Update::default()
            };
            let facts = Facts { metered, battery };
            assert_eq!(plan(&settings, facts), expected, "{settings:?} {facts:?}");
        }
    }

    #[test]
    fn a_reboot_takes_a_setting() {
        let settings = Update {
            apply: true,
            ..Update::default()
        };
        let facts = Facts {
            metered: Metered::Unknown,
            battery: false,
        };
        assert_eq!(plan(&settings, facts), Plan::Update { apply: true });
    }
}
