//! Durations and sizes as people write them (`90s`, `1h 30min`, `512 MiB`). Text comes in, exact
//! numbers go out and print back. Never guesses a unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use thiserror::Error;

/// Units of time with their milliseconds, the words of systemd.time(7).
const TIMES: [(&str, u64); 21] = [
    ("ms", 1),
    ("msec", 1),
    ("s", 1000),
    ("sec", 1000),
    ("second", 1000),
    ("seconds", 1000),
    ("m", 60_000),
    ("min", 60_000),
    ("minute", 60_000),
    ("minutes", 60_000),
    ("h", 3_600_000),
    ("hr", 3_600_000),
    ("hour", 3_600_000),
    ("hours", 3_600_000),
    ("d", 86_400_000),
    ("day", 86_400_000),
    ("days", 86_400_000),
    ("w", 604_800_000),
    ("week", 604_800_000),
    ("weeks", 604_800_000),
    ("", 0),
];
/// Units of size with their bytes: K, M, G and T are binary as in systemd and sfdisk, kB, MB, GB
/// and TB decimal as on the labels of disks.
const SIZES: [(&str, u64); 14] = [
    ("B", 1),
    ("K", 1 << 10),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("M", 1 << 20),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("G", 1 << 30),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("T", 1 << 40),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("", 0),
];

/// Why a text is no duration or size; says what is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HumanError {
    /// No duration.
    #[error(
        "{0:?} is no duration: write numbers with the units ms, s, min, h, d or w, such as 90s, \
         5min or 1h 30min"
    )]
    Duration(String),
    /// A duration of nothing, where something is waited for.
    #[error("{0:?} leaves no time at all: write a duration above zero, such as 90s or 5min")]
    NoTime(String),
    /// No size.
    #[error(
        "{0:?} is no size: write a number with a unit (B, K, M, G, T in steps of 1024; kB, MB, \
         GB, TB in steps of 1000), such as 512M or 10 GiB"
    )]
    Size(String),
}

/// A span of time, exact to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A span of time that is not zero: how long something may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limit(pub Duration);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Span {
    type Err = HumanError;

    /// The sum of numbers with units, with or without space between.
    fn from_str(text: &str) -> Result<Self, HumanError> {
        let sum = || {
            let mut rest = text.trim();
            let mut total = 0_u64;
            while !rest.is_empty() {
                let (value, next) = leading(rest, &TIMES)?;
                total = total.checked_add(value)?;
                rest = next;
            }
            (!text.trim().is_empty()).then(|| Self(Duration::from_millis(total)))
        };
        sum().ok_or_else(|| HumanError::Duration(excerpt(text)))
    }
}

impl FromStr for Limit {
    type Err = HumanError;

    fn from_str(text: &str) -> Result<Self, HumanError> {
        match text.parse()? {
            Span(Duration::ZERO) => Err(HumanError::NoTime(excerpt(text))),
            Span(time) => Ok(Self(time)),
        }
    }
}

impl FromStr for Size {
    type Err = HumanError;

    fn from_str(text: &str) -> Result<Self, HumanError> {
        match leading(text.trim(), &SIZES) {
            Some((bytes, "")) => Ok(Self(bytes)),
            _ => Err(HumanError::Size(excerpt(text))),
        }
    }
}

/// The number at the start of `text` times its unit, and what follows.
fn leading<'a>(text: &'a str, units: &[(&str, u64)]) -> Option<(u64, &'a str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(digits);
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_alphabetic());
    let (word, rest) = rest.split_at(end.unwrap_or(rest.len()));
    let (_, unit) = units
        .iter()
        .find(|(name, _)| *name == word && !word.is_empty())?;
    Some((scaled(number, *unit)?, rest.trim_start()))
}

/// A decimal number times `unit`, without rounding: what is left over must be nothing.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let steps = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let whole: u128 = whole.parse().ok()?;
    let fraction: u128 = fraction.parse().ok()?;
    let tenths = whole.checked_mul(steps)?.checked_add(fraction)?;
    let scaled = tenths.checked_mul(unit.into())?;
    u64::try_from(scaled / steps).ok()
}

fn excerpt(text: &str) -> String {
    text.chars().take(40).collect()
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000)];
        let units = units
            .into_iter()
            .chain([("min", 60_000), ("s", 1000), ("ms", 1)]);
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        let mut space = "";
        for (name, unit) in units.filter(|(_, unit)| *unit > 0) {
            if rest >= unit {
                write!(f, "{space}{}{name}", rest / unit)?;
                (rest, space) = (rest % unit, " ");
            }
        }
        Ok(())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            ("T", 1_u64 << 40),
            ("G", 1 << 30),
            ("M", 1 << 20),
            ("K", 1 << 10),
        ];
        let whole = |(_, unit): &(&str, u64)| self.0 >= *unit && self.0 % unit == 0;
        match units.into_iter().find(whole) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Human(
            "a duration such as 90s, 5min or 1h 30min",
            Self::from_str,
        ))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Human("a size such as 512M or 10 GiB", Self::from_str))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a text with a parser; the word says what is expected instead of anything else.
struct Human<T>(&'static str, fn(&str) -> Result<T, HumanError>);

impl<T> Visitor<'_> for Human<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, millis) in [
            ("90s", 90_000),
            ("5min", 300_000),
            ("5 min", 300_000),
            ("1h 30min", 5_400_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("0s", 0),
            (" 2 weeks 1day ", 1_296_000_000),
            ("250ms", 250),
        ] {
            assert_eq!(
                text.parse(),
                Ok(Span(Duration::from_millis(millis))),
                "{text}"
            );
        }
        for text in [
            "",
            " ",
            "90",
            "s",
            "-5s",
            "5 parsecs",
            "5s 3",
            "1.s.2s",
            "99999999999999w",
            "5S",
        ] {
            assert_eq!(
                text.parse::<Span>(),
                Err(HumanError::Duration(text.into())),
                "{text}"
            );
        }
    }

    #[test]
    fn a_limit_leaves_some_time() {
        assert_eq!("1ms".parse(), Ok(Limit(Duration::from_millis(1))));
        for zero in ["0s", "0ms", "0h 0min", "0.0004s"] {
            let no_time = HumanError::NoTime(zero.into());
            assert_eq!(zero.parse::<Limit>(), Err(no_time));
        }
        let soon = HumanError::Duration("soon".into());
        assert_eq!("soon".parse::<Limit>(), Err(soon));
    }

    #[test]
    fn sizes_have_one_unit() {
        for (text, bytes) in [
            ("512M", 512 << 20),
            ("10 GiB", 10 << 30),
            ("1.5G", 3 << 29),
            ("2GB", 2_000_000_000),
            ("100kB", 100_000),
            ("7B", 7),
            ("0B", 0),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in [
            "",
            "10",
            "G",
            "-1G",
            "10g",
            "1G 2M",
            "10 Gi",
            "99999999T",
            "1..5G",
            ".G",
        ] {
            assert_eq!(
                text.parse::<Size>(),
                Err(HumanError::Size(text.into())),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(number in any::<u64>(), shift in 0..64_u32) {
            let number = number >> shift;
            let span = Span(Duration::from_millis(number));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
            prop_assert_eq!(Size(number).to_string().parse(), Ok(Size(number)));
        }

        #[test]
        fn no_text_panics(text in "[0-9. smhGMKiB\\PC]{0,40}") {
            let _ = text.parse::<Span>();
            let _ = text.parse::<Size>();
        }
    }
}
