//! Where this machine's power comes from: what the kernel shows below `/sys/class/power_supply`
//! comes in, one answer goes out. Never decides what should be done about it.

use std::fs;
use std::io;
use std::path::Path;

/// One power supply as the kernel shows it: words of its files, empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supply {
    /// `type`: `Mains`, `USB`, `Battery`, `UPS`, …
    pub kind: String,
    /// `scope`: `Device` where it feeds a mouse or the like, and not the machine.
    pub scope: String,
    /// `online`: `1` where a plug has power.
    pub online: String,
    /// `status`: `Charging`, `Discharging`, `Full`, … of a battery.
    pub status: String,
}

/// Whether the machine lives on a battery now, by `/sys/class/power_supply`.
pub fn on_battery() -> io::Result<bool> {
    Ok(is_on_battery(&supplies(Path::new(
        "/sys/class/power_supply",
    ))?))
}

/// Whether a machine with these supplies lives on a battery: one gives power, and no plug does.
pub fn is_on_battery(supplies: &[Supply]) -> bool {
    let mut own = supplies.iter().filter(|supply| supply.scope != "Device");
    let plugged = |supply: &Supply| {
        matches!(supply.kind.as_str(), "Mains" | "USB" | "Wireless") && supply.online == "1"
    };
    let gives = |supply: &Supply| {
        matches!(supply.kind.as_str(), "Battery" | "UPS") && supply.status == "Discharging"
    };
    !own.clone().any(plugged) && own.any(gives)
}

/// Reads the supplies of a directory such as `/sys/class/power_supply`; none where there is none.
pub fn supplies(dir: &Path) -> io::Result<Vec<Supply>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        // A file that cannot be read is one that this kind of supply does not have.
        let word = |name| {
            let text = fs::read_to_string(path.join(name)).unwrap_or_default();
            text.trim().to_owned()
        };
        found.push(Supply {
            kind: word("type"),
            scope: word("scope"),
            online: word("online"),
            status: word("status"),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(line: &str) -> Supply {
        let mut words = line.split(' ').map(|word| word.trim_matches('-').into());
        let mut next = || words.next().unwrap_or_default();
        Supply {
            kind: next(),
            scope: next(),
            online: next(),
            status: next(),
        }
    }

    #[test]
    fn a_machine_lives_on_a_battery_that_gives_power_while_no_plug_does() {
        for (lines, expected) in [
            (&[][..], false),
            (&["Mains - 1 -"], false),
            (&["Mains - 0 -"], false),
            (&["Battery - - Discharging"], true),
            (&["Battery - - Charging"], false),
            (&["Battery - - Full"], false),
            (&["Mains - 0 -", "Battery - - Discharging"], true),
            // A weak plug: the battery helps.
            (&["Mains - 1 -", "Battery - - Discharging"], false),
            (&["USB - 1 -", "Battery - - Not"], false),
            (&["USB - 0 -", "Battery System - Discharging"], true),
            (&["UPS - - Discharging"], true),
            // The battery of a mouse, and its plug.
            (&["Battery Device - Discharging"], false),
            (
                &["USB Device 1 -", "Battery - - Discharging", "Mains - 0 -"],
                true,
            ),
        ] {
            let supplies: Vec<_> = lines.iter().map(|line| supply(line)).collect();
            assert_eq!(is_on_battery(&supplies), expected, "{lines:?}");
        }
    }

    #[test]
    fn supplies_are_read_as_the_kernel_shows_them() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(supplies(&dir.path().join("none")).unwrap(), []);
        let bat = dir.path().join("BAT0");
        fs::create_dir(&bat).unwrap();
        fs::write(bat.join("type"), "Battery\n").unwrap();
        fs::write(bat.join("status"), "Discharging\n").unwrap();
        assert_eq!(
            supplies(dir.path()).unwrap(),
            [supply("Battery - - Discharging")]
        );
    }
}
