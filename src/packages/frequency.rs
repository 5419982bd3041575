//! How often packages change, guessed from what their database tells: past releases, the time of the
//! build, and with Debian the number of stable updates in the version. Pure.

use super::{Package, Release};

const DAY: i64 = 24 * 60 * 60;
const YEAR: i64 = 365 * DAY;

/// More releases in a year than this are not told apart.
const MOST: u32 = 52;

/// The most that is guessed from one time or from a version alone.
const MOST_GUESSED: u32 = 12;

/// Releases in a year for each package, in their order. The newest time of all is taken for today.
///
/// Where the newest release of all was not made for a distribution in development, those that were do not
/// count: what its maintainers did before the distribution was released does not tell what is updated in it.
pub(super) fn of(packages: &[Package]) -> Vec<u32> {
    let released = packages.iter().flat_map(|package| &package.releases);
    let newest = released.max();
    let built = packages.iter().filter_map(|package| package.built).max();
    let today = newest.map(|release| release.at).max(built).unwrap_or(0);
    let rolling = newest.is_some_and(|release| release.development);
    let counts = |release: &Release| {
        (rolling || !release.development) && today.saturating_sub(release.at) < YEAR
    };
    packages
        .iter()
        .map(|package| one(package, today, counts))
        .collect()
}

fn one(package: &Package, today: i64, counts: impl Fn(&Release) -> bool) -> u32 {
    let released = match (package.releases.is_empty(), package.built) {
        (false, _) => {
            let count = package.releases.iter().filter(|r| counts(r)).count();
            u32::try_from(count).unwrap_or(MOST).min(MOST)
        }
        (true, Some(built)) => since(today.saturating_sub(built).max(0) / DAY),
        (true, None) => 0,
    };
    released.max(stable_updates(&package.version))
}

/// What was built lately is likely to be built soon again.
fn since(days: i64) -> u32 {
    let guess = u32::try_from(365 / (days + 30)).unwrap_or(0);
    guess.min(MOST_GUESSED)
}

/// A version such as `3.5.1-1+deb13u2` was updated twice in its stable release: more than others
/// will be.
fn stable_updates(version: &str) -> u32 {
    let Some((_, rest)) = version.rsplit_once("deb") else {
        return 0;
    };
    let digits = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit());
        text[..end.unwrap_or(text.len())].parse::<u32>().ok()
    };
    let number = rest.split_once('u').and_then(|(release, update)| {
        let release = release.parse::<u32>().ok();
        release.and_then(|_| digits(update))
    });
    number.map_or(0, |number| number.saturating_mul(2).min(MOST_GUESSED))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(at: i64, development: bool) -> Release {
        Release { at, development }
    }

    #[test]
    fn releases_count_from_the_newest_of_all() {
        let at = |days: &[i64]| Package {
            releases: days.iter().map(|day| release(day * DAY, false)).collect(),
            ..Package::default()
        };
        let built = |day| Package {
            built: Some(day * DAY),
            ..Package::default()
        };
        let many: Vec<i64> = (900..1000).collect();
        let packages = [
            at(&[1000, 900, 700, 600]),
            at(&[500]),
            at(&many),
            built(1000),
            built(910),
            built(10),
            Package::default(),
        ];
        assert_eq!(of(&packages), [3, 0, 52, 12, 3, 0, 0]);
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn of_a_stable_distribution_only_its_own_releases_count() {
        let package = |releases: &[(i64, bool)]| Package {
            releases: releases
                .iter()
                .map(|&(day, development)| release(day * DAY, development))
                .collect(),
            ..Package::default()
        };
        let stable = package(&[(1000, false), (950, false), (800, true), (790, true)]);
        let calm = package(&[(810, true), (805, true), (802, true)]);
        assert_eq!(of(&[stable.clone(), calm.clone()]), [2, 0]);
        let new = package(&[(1001, true)]);
        assert_eq!(of(&[stable, calm, new]), [4, 3, 1]);
    }

    #[test]
    fn stable_updates_of_debian_count() {
        for (version, wanted) in [
            ("3.5.1-1+deb13u2", 4),
            ("6.12.48-1", 0),
            ("1:9.18~deb12u1+b1", 2),
            ("2.0-1deb13u99", 12),
            ("1debu", 0),
            ("1deb13u", 0),
            ("deb", 0),
        ] {
            assert_eq!(stable_updates(version), wanted, "{version}");
        }
    }
}
