//! The title of a boot entry, as libostree makes it of `os-release`, and whether GRUB can read it.
//! Text in, text out; pure. Format: <https://www.freedesktop.org/software/systemd/man/os-release.html>.

/// Characters that end, open or join something in GRUB's script, so that the rest of an entry would
/// be lost with its title.
const GRUB_SPECIAL: [char; 10] = [';', '&', '|', '<', '>', '{', '}', '\'', '"', '\\'];

/// The name that libostree takes for a title: `PRETTY_NAME`, else `ID`.
pub fn of_os_release(text: &str) -> Option<String> {
    let value = |key: &str| {
        let line = |line: &str| Some(line.trim().strip_prefix(key)?.strip_prefix('=')?.to_owned());
        // The last one counts, as for a shell.
        text.lines().filter_map(line).next_back()
    };
    let value = value("PRETTY_NAME").or_else(|| value("ID"))?;
    Some(unquoted(&value)).filter(|title| !title.is_empty())
}

fn unquoted(value: &str) -> String {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(literal) = inner('\'') {
        return literal.into();
    }
    let mut plain = String::new();
    let mut chars = inner('"').unwrap_or(value).chars();
    while let Some(c) = chars.next() {
        plain.extend(match c {
            '\\' => chars.next(),
            other => Some(other),
        });
    }
    plain
}

/// The character because of which GRUB could not read an entry with this title.
pub fn grub_obstacle(title: &str) -> Option<char> {
    title.chars().find(|c| GRUB_SPECIAL.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_of_os_release() {
        for (text, title) in [
            (
                "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nID=debian\n",
                "Debian GNU/Linux 13 (trixie)",
            ),
            ("ID=arch", "arch"),
            ("PRETTY_NAME='A \\ B'\n", "A \\ B"),
            (
                "PRETTY_NAME=\"say \\\"hi\\\" for \\$5\"",
                "say \"hi\" for $5",
            ),
            ("PRETTY_NAME=a\nPRETTY_NAME=b\n", "b"),
            ("PRETTY_NAME_X=a\n# PRETTY_NAME=c\n ID=\"d\"", "d"),
        ] {
            assert_eq!(of_os_release(text).as_deref(), Some(title), "{text}");
        }
        assert_eq!(of_os_release("NAME=x\nID=\n"), None);
    }

    #[test]
    fn what_grub_cannot_read() {
        assert_eq!(grub_obstacle("Debian GNU/Linux 13 (trixie) #1 $x"), None);
        assert_eq!(grub_obstacle("Bob's"), Some('\''));
        assert_eq!(grub_obstacle("R&D;"), Some('&'));
    }
}
