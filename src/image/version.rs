//! The order of version labels, as the UAPI group's version format specification has it (systemd
//! compares so, and RPM and Debian agree in all common cases). Two texts come in, which one is older
//! goes out. Pure.

use std::cmp::Ordering;

/// Compares two versions; `None` where one of them has no digit and so is a name, not a version.
pub fn compare_versions(one: &str, other: &str) -> Option<Ordering> {
    let is_version = |text: &str| text.bytes().any(|b| b.is_ascii_digit());
    (is_version(one) && is_version(other)).then(|| compare(one.as_bytes(), other.as_bytes()))
}

/// Separators that make a version older where the other one has none, the strongest first; the end
/// of the text comes between the first one and the others.
const SEPARATORS: [u8; 3] = [b'-', b'^', b'.'];

fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        a = without_noise(a);
        b = without_noise(b);
        if let Some(order) = skip(&mut a, &mut b, b'~') {
            return order;
        }
        match (a.is_empty(), b.is_empty()) {
            (true, true) => return Ordering::Equal,
            (false, false) => {}
            (one, other) => return other.cmp(&one),
        }
        for separator in SEPARATORS {
            if let Some(order) = skip(&mut a, &mut b, separator) {
                return order;
            }
        }
        let digits = starts(a, u8::is_ascii_digit) || starts(b, u8::is_ascii_digit);
        let order = match digits {
            true => numbers(&mut a, &mut b),
            false => {
                take(&mut a, u8::is_ascii_alphabetic).cmp(take(&mut b, u8::is_ascii_alphabetic))
            }
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Characters that no version has mean nothing.
fn without_noise(text: &[u8]) -> &[u8] {
    let means = |b: &u8| b.is_ascii_alphanumeric() || b"~-^.".contains(b);
    let start = text.iter().position(means).unwrap_or(text.len());
    &text[start..]
}

fn starts(text: &[u8], what: fn(&u8) -> bool) -> bool {
    text.first().is_some_and(what)
}

/// Whoever has the mark and the other not is older; where both have it, both go on behind it.
fn skip(a: &mut &[u8], b: &mut &[u8], mark: u8) -> Option<Ordering> {
    let rests = (a.strip_prefix(&[mark]), b.strip_prefix(&[mark]));
    match rests {
        (Some(one), Some(other)) => {
            (*a, *b) = (one, other);
            None
        }
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (None, None) => None,
    }
}

fn take<'a>(text: &mut &'a [u8], what: fn(&u8) -> bool) -> &'a [u8] {
    let end = text.iter().position(|b| !what(b)).unwrap_or(text.len());
    let (taken, rest) = text.split_at(end);
    *text = rest;
    taken
}

/// A number is newer than a word; of two numbers the larger one.
fn numbers(a: &mut &[u8], b: &mut &[u8]) -> Ordering {
    let (one, other) = (take(a, u8::is_ascii_digit), take(b, u8::is_ascii_digit));
    let are = (!one.is_empty()).cmp(&!other.is_empty());
    let significant = |digits: &[u8]| {
        let zeros = digits.iter().take_while(|d| **d == b'0').count();
        digits[zeros..].to_vec()
    };
    let (one, other) = (significant(one), significant(other));
    are.then(one.len().cmp(&other.len())).then(one.cmp(&other))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_in_the_order_of_the_specification() {
        let ascending = [
            "122.1",
            "123~rc1-1",
            "123",
            "123-a",
            "123-a.1",
            "123-1",
            "123-1.1",
            "123^post1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124-1",
        ];
        for (i, one) in ascending.iter().enumerate() {
            for (j, other) in ascending.iter().enumerate() {
                assert_eq!(
                    compare_versions(one, other),
                    Some(i.cmp(&j)),
                    "{one} {other}"
                );
            }
        }
    }

    #[test]
    fn versions_of_images_are_compared() {
        let table = [
            ("1.9", "1.10", Some(Ordering::Less)),
            ("41.20250101.0", "41.20241231.3", Some(Ordering::Greater)),
            ("1.01", "1.1", Some(Ordering::Equal)),
            ("v2", "v10", Some(Ordering::Less)),
            ("20260101", "20260101", Some(Ordering::Equal)),
            ("1+2", "1.2", Some(Ordering::Greater)),
            ("stable", "1", None),
            ("1", "", None),
        ];
        for (one, other, expected) in table {
            assert_eq!(compare_versions(one, other), expected, "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_one(a in "[0-9a-c.~^+-]{0,8}", b in "[0-9a-c.~^+-]{0,8}") {
            let (there, back) = (compare(a.as_bytes(), b.as_bytes()), compare(b.as_bytes(), a.as_bytes()));
            prop_assert_eq!(there, back.reverse());
            prop_assert_eq!(compare(a.as_bytes(), a.as_bytes()), Ordering::Equal);
        }
    }
}
