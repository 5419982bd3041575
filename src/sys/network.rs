//! What this machine's network costs: asks NetworkManager, where it runs. Nothing comes in, one
//! answer goes out. Never starts a service, and never guesses.

use anyhow::{Context as _, Result};

use super::tool::Tool;

const SERVICE: &str = "org.freedesktop.NetworkManager";

/// Whether data costs by the byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metered {
    /// NetworkManager was told so, or takes it to be so.
    Yes,
    /// NetworkManager was told that it does not, or takes that to be so.
    No,
    /// Nobody here knows: NetworkManager does not run, or has no connection.
    Unknown,
}

/// What NetworkManager says about the connection that leads out.
pub fn metered() -> Metered {
    match ask() {
        Ok(metered) => metered,
        Err(error) => {
            tracing::info!("not known whether the network is metered: {error:#}");
            Metered::Unknown
        }
    }
}

fn ask() -> Result<Metered> {
    let busctl = Tool::new("busctl").args(["--system", "--auto-start=no", "--timeout=10"]);
    let busctl = busctl.args(["get-property", SERVICE, "/org/freedesktop/NetworkManager"]);
    let answer = busctl.args([SERVICE, "Metered"]).output()?;
    let answer = String::from_utf8_lossy(&answer);
    parse(&answer).with_context(|| format!("busctl says {answer:?}"))
}

/// Reads the property `Metered` as busctl prints it: `u` and a value of NetworkManager's
/// `NMMetered` (<https://networkmanager.dev/docs/api/latest/nm-dbus-types.html#NMMetered>).
fn parse(answer: &str) -> Option<Metered> {
    match answer.trim().strip_prefix("u ")? {
        "0" => Some(Metered::Unknown),
        "1" | "3" => Some(Metered::Yes),
        "2" | "4" => Some(Metered::No),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networkmanagers_guesses_count() {
        for (answer, expected) in [
            ("u 0\n", Some(Metered::Unknown)),
            ("u 1\n", Some(Metered::Yes)),
            ("u 2\n", Some(Metered::No)),
            ("u 3\n", Some(Metered::Yes)),
            ("u 4\n", Some(Metered::No)),
            ("u 5\n", None),
            ("b true\n", None),
            ("", None),
        ] {
            assert_eq!(parse(answer), expected, "{answer:?}");
        }
    }
}
