//! Entries of `no_proxy` in forms that Go's programs (podman, skopeo) know and our HTTP client does not:
//! with a port, and with a star in front. The list and a host come in, whether it is asked without a proxy
//! goes out. Never decides about any other entry.

use std::net::IpAddr;

/// The port of a host that names none.
const HTTPS: u16 = 443;

/// Whether an entry such as `registry.example:5000`, `*.example` or `192.0.2.1:5000` is about `host`, a
/// name or address with or without a port.
pub(super) fn is_exempt(list: &str, host: &str) -> bool {
    let (name, port) = split(host);
    let name = name.to_ascii_lowercase();
    let port = port.unwrap_or(HTTPS);
    list.split(',').any(|entry| {
        let entry = entry.trim().to_ascii_lowercase();
        let (pattern, only) = split(&entry);
        let is_ours = only.is_some() || pattern.starts_with("*.");
        is_ours && only.is_none_or(|only| only == port) && covers(pattern, &name)
    })
}

/// A domain is one of everything below it, and with a star or point in front of nothing else.
fn covers(pattern: &str, name: &str) -> bool {
    let domain = pattern.strip_prefix('*').unwrap_or(pattern);
    let is_below = |domain: &str| {
        let rest = name.strip_suffix(domain);
        rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    };
    let address = name.parse::<IpAddr>();
    match (domain.strip_prefix('.'), domain.parse::<IpAddr>()) {
        (_, Ok(domain)) => address == Ok(domain),
        _ if address.is_ok() => false,
        (Some(domain), _) => !domain.is_empty() && is_below(domain),
        (None, _) => !domain.is_empty() && (name == domain || is_below(domain)),
    }
}

/// A host and its port, if there is one. Brackets around an address are left out.
fn split(host: &str) -> (&str, Option<u16>) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            (name, port.parse().ok())
        }
        _ => (host, None),
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    (bare.unwrap_or(name), port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ports_and_stars_are_understood() {
        for (list, host, expected) in [
            ("reg.example:5000", "reg.example:5000", true),
            ("reg.example:5000", "reg.example:5001", false),
            ("reg.example:5000", "reg.example", false),
            ("reg.example:443", "reg.example", true),
            ("example:5000", "reg.example:5000", true),
            ("ample:5000", "reg.example:5000", false),
            (".example:5000", "reg.example:5000", true),
            (".reg.example:5000", "reg.example:5000", false),
            ("*.Example", "reg.example:5000", true),
            ("*.example", "a.reg.EXAMPLE", true),
            ("*.example", "example", false),
            ("*.example:443", "reg.example", true),
            ("x, *.example ,y", "reg.example", true),
            ("192.0.2.1:5000", "192.0.2.1:5000", true),
            ("192.0.2.1:5000", "192.0.2.1", false),
            ("0.2.1:5000", "192.0.2.1:5000", false),
            ("[2001:db8::1]:5000", "[2001:DB8:0::1]:5000", true),
            ("[2001:db8::1]:5000", "[2001:db8::2]:5000", false),
            // Those that the client knows.
            ("reg.example", "reg.example", false),
            ("*", "reg.example", false),
            ("2001:db8::1", "[2001:db8::1]", false),
            ("", "reg.example", false),
            ("*.", "reg.example", false),
            (":443", "reg.example", false),
        ] {
            assert_eq!(is_exempt(list, host), expected, "{list:?} {host:?}");
        }
    }

    proptest! {
        #[test]
        fn any_list_can_be_asked(list: String, host: String) {
            // Only a panic would be wrong.
            let _ = is_exempt(&list, &host);
        }
    }
}
