//! What can be set, with its defaults. Files as written (every key optional, unknown ones an
//! error) come in one after the other; checked settings go out.
//!
//! Whoever needs a setting adds it three times: to the struct with its default, to the file form,
//! and to `apply`.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Unexpected, Visitor};

use super::human::{Size, Span};

/// All settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Unattended updates.
    pub update: Update,
    /// Health of a new deployment.
    pub health: Health,
}

/// How unattended updates behave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Reboot into the update as soon as it is staged.
    pub apply: bool,
    /// On a network that costs by the byte.
    pub metered: Willing,
    /// While the machine runs on battery.
    pub battery: Willing,
}

/// Whether something is done in a condition that speaks against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Willing {
    /// Not now; the next time it may be.
    Skip,
    /// All the same.
    Allow,
}

/// When a new deployment counts as good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// How often a new deployment may try to boot, 1 to 10.
    pub tries: u32,
    /// How long the system may take from its start until it counts as failed.
    pub timeout: Duration,
    /// How long one check may take.
    pub check_timeout: Duration,
    /// Units that must not have failed.
    pub units: Vec<String>,
    /// Whether the registry of the followed image must answer.
    pub registry: bool,
    /// Whether the machine must be online.
    pub network: bool,
    /// Bytes that must be free for the next update.
    pub free_space: u64,
}

impl Default for Update {
    fn default() -> Self {
        Self {
            apply: false,
            metered: Willing::Skip,
            battery: Willing::Skip,
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            tries: 3,
            timeout: Duration::from_secs(600),
            check_timeout: Duration::from_secs(120),
            units: Vec::new(),
            registry: false,
            network: false,
            free_space: 0,
        }
    }
}

/// A file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping of sections")]
pub(super) struct SettingsFile {
    update: Option<UpdateFile>,
    health: Option<HealthFile>,
}

#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a mapping of settings"
)]
struct UpdateFile {
    apply: Option<bool>,
    metered: Option<Willing>,
    battery: Option<Willing>,
}

#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a mapping of settings"
)]
struct HealthFile {
    tries: Option<Bounded<1, 9>>,
    timeout: Option<Span>,
    check_timeout: Option<Span>,
    units: Option<Vec<String>>,
    registry: Option<bool>,
    network: Option<bool>,
    free_space: Option<Size>,
}

impl Settings {
    /// Lets the keys of a file win.
    pub(super) fn apply(&mut self, file: SettingsFile) {
        if let Some(update) = file.update {
            self.update.apply(update);
        }
        if let Some(health) = file.health {
            self.health.apply(health);
        }
    }
}

impl Update {
    fn apply(&mut self, file: UpdateFile) {
        set(&mut self.apply, file.apply);
        set(&mut self.metered, file.metered);
        set(&mut self.battery, file.battery);
    }
}

impl Health {
    fn apply(&mut self, file: HealthFile) {
        set(&mut self.tries, file.tries.map(|tries| tries.0));
        set(&mut self.timeout, file.timeout.map(|span| span.0));
        set(
            &mut self.check_timeout,
            file.check_timeout.map(|span| span.0),
        );
        set(&mut self.units, file.units);
        set(&mut self.registry, file.registry);
        set(&mut self.network, file.network);
        set(&mut self.free_space, file.free_space.map(|size| size.0));
    }
}

fn set<T>(value: &mut T, file: Option<T>) {
    if let Some(file) = file {
        *value = file;
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Debug)]
struct Bounded<const MIN: u32, const MAX: u32>(u32);

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_u64(BoundedVisitor::<MIN, MAX>)
            .map(Self)
    }
}

/// Refuses while it looks at the number, so that the error has the number's line.
struct BoundedVisitor<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> Visitor<'_> for BoundedVisitor<MIN, MAX> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u32, E> {
        let fits = u32::try_from(number)
            .ok()
            .filter(|n| (MIN..=MAX).contains(n));
        fits.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }
}
