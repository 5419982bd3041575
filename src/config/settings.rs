//! What can be set, with its defaults. Files as written (every key optional, unknown ones an
//! error) come in one after the other; checked settings go out.
//!
//! Whoever needs a setting adds it three times: to the struct with its default, to the file form,
//! and to `apply`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Unexpected, Visitor};

use super::human::{Limit, Size};

/// Units without which a system is of no use; those that an image does not have cannot fail.
const UNITS: [&str; 5] = [
    "dbus.service",
    "dbus-broker.service",
    "systemd-journald.service",
    "systemd-logind.service",
    "systemd-udevd.service",
];
/// Bytes below which an update will soon be refused.
const FREE_SPACE: [(&str, u64); 3] = [("/", 64 << 20), ("/boot", 8 << 20), ("/var", 64 << 20)];

/// All settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Unattended updates.
    pub update: Update,
    /// Health of a new deployment.
    pub health: Health,
    /// What counts as signed.
    pub trust: Trust,
}

/// What counts as signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trust {
    /// Whether layers that nobody vouches for may lie on an ostree commit that a remote vouches for.
    pub unsigned_layers: bool,
}

/// Whether layers without a signature are run. No yes or no: whoever accepts them has to write out
/// what that means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum UnsignedLayers {
    Refuse,
    RunCodeThatNobodySigned,
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

/// How much a built-in check weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Demand {
    /// It does not run.
    Off,
    /// Red is told, and changes nothing.
    Wanted,
    /// Red makes the boot red.
    Required,
}

/// When a new deployment counts as good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// How often a new deployment may try to boot, 1 to 9.
    pub tries: u32,
    /// How long the system may take to reach its default target.
    pub timeout: Duration,
    /// How long one check or hook may take.
    pub check_timeout: Duration,
    /// Whether the default target must be reached.
    pub target: Demand,
    /// Units that must not have failed; shell patterns are fine.
    pub units: Vec<String>,
    /// Whether the registry of the followed image must answer.
    pub registry: Demand,
    /// Whether the machine must have a default route.
    pub network: Demand,
    /// Whether there must be free space.
    pub space: Demand,
    /// Bytes that should be free, by path.
    pub free_space: BTreeMap<String, u64>,
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
            target: Demand::Required,
            units: UNITS.map(str::to_owned).to_vec(),
            registry: Demand::Wanted,
            network: Demand::Wanted,
            space: Demand::Wanted,
            free_space: FREE_SPACE
                .map(|(path, bytes)| (path.to_owned(), bytes))
                .into(),
        }
    }
}

/// A file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping of sections")]
pub(super) struct SettingsFile {
    update: Option<UpdateFile>,
    health: Option<HealthFile>,
    trust: Option<TrustFile>,
}

#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a mapping of settings"
)]
struct TrustFile {
    unsigned_layers_on_signed_base: Option<UnsignedLayers>,
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
    timeout: Option<Limit>,
    check_timeout: Option<Limit>,
    target: Option<Demand>,
    units: Option<Vec<String>>,
    registry: Option<Demand>,
    network: Option<Demand>,
    space: Option<Demand>,
    free_space: Option<BTreeMap<String, Size>>,
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
        if let Some(layers) = file.trust.and_then(|t| t.unsigned_layers_on_signed_base) {
            self.trust.unsigned_layers = layers == UnsignedLayers::RunCodeThatNobodySigned;
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
        set(&mut self.target, file.target);
        set(&mut self.units, file.units);
        set(&mut self.space, file.space);
        set(&mut self.registry, file.registry);
        set(&mut self.network, file.network);
        let sizes = file.free_space.map(|sizes| {
            let bytes = sizes.into_iter().map(|(path, size)| (path, size.0));
            bytes.collect()
        });
        set(&mut self.free_space, sizes);
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
