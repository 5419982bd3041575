//! How often packages change, guessed from what their database tells: past releases, the time of the
//! build, and with Debian the number of stable updates in the version. Pure.

use super::Package;

const DAY: i64 = 24 * 60 * 60;
const YEAR: i64 = 365 * DAY;

/// More releases in a year than this are not told apart.
const MOST: u32 = 52;

/// The most that is guessed from one time or from a version alone.
const MOST_GUESSED: u32 = 12;

/// Releases in a year for each package, in their order. The newest time of all is taken for today.
pub(super) fn of(packages: &[Package]) -> Vec<u32> {
    let times = packages
        .iter()
        .flat_map(|p| p.releases.iter().chain(&p.built));
    let today = times.copied().max().unwrap_or(0);
    packages.iter().map(|package| one(package, today)).collect()
}

fn one(package: &Package, today: i64) -> u32 {
    let released = match (package.releases.is_empty(), package.built) {
        (false, _) => past_year(&package.releases, today),
        (true, Some(built)) => since(today.saturating_sub(built).max(0) / DAY),
        (true, None) => 0,
    };
    released.max(stable_updates(&package.version))
}

fn past_year(releases: &[i64], today: i64) -> u32 {
    let recent = |time: &&i64| today.saturating_sub(**time) < YEAR;
    let count = releases.iter().filter(recent).count();
    u32::try_from(count).unwrap_or(MOST).min(MOST)
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

    #[test]
    fn releases_count_from_the_newest_of_all() {
        let at = |days: &[i64]| Package {
            releases: days.iter().map(|day| day * DAY).collect(),
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
