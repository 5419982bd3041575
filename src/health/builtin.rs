//! Checks that need no file: the default target, failed units, the network, free space. Settings
//! come in, results go out. What systemd says is read by pure functions; waiting is bounded.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{CheckResult, Class};
use crate::config::{Demand, Health};
use crate::sys::amount::bytes;
use crate::sys::watched;

/// How long `systemctl` may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Between two looks at something that is waited for.
const PAUSE: Duration = Duration::from_millis(500);
/// Looks in a row that find nothing under way before waiting ends early.
const IDLE: u32 = 10;

/// The class that a demand gives a check; `None` switches it off.
pub fn class(demand: Demand) -> Option<Class> {
    match demand {
        Demand::Off => None,
        Demand::Wanted => Some(Class::Wanted),
        Demand::Required => Some(Class::Required),
    }
}

/// The built-in checks, in order. `root` is `/`, where `proc` is looked at.
pub fn run(root: &Path, settings: &Health) -> Vec<CheckResult> {
    let mut results = Vec::new();
    if let Some(class) = class(settings.target) {
        let red = target(settings.timeout);
        results.push(CheckResult::new("default-target", class, red));
    }
    results.extend(units(&settings.units));
    if let Some(class) = class(settings.network) {
        let red = network(root, settings.check_timeout);
        results.push(CheckResult::new("network", class, red));
    }
    if let Some(class) = class(settings.space) {
        results.push(CheckResult::new("free-space", class, space(root, settings)));
    }
    results
}

/// What systemd says about a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Reached,
    /// It is being started.
    UnderWay,
    /// Nothing is going to reach it.
    Idle,
}

/// Reads the properties `ActiveState` and `Job` as `systemctl show` prints them.
fn read_target(text: &str) -> Target {
    let has = |line: &str| text.lines().any(|l| l == line);
    let job = text.lines().find_map(|line| line.strip_prefix("Job="));
    match job {
        _ if has("ActiveState=active") => Target::Reached,
        Some(job) if !job.is_empty() && job != "0" => Target::UnderWay,
        _ => Target::Idle,
    }
}

fn target(time: Duration) -> Option<String> {
    let args = ["show", "--property=ActiveState,Job", "default.target"];
    let begun = Instant::now();
    let mut idle = 0;
    loop {
        let answer = watched::run(Path::new("systemctl"), &args, &[], ANSWER);
        match read_target(&answer.output) {
            Target::Reached => return None,
            _ if begun.elapsed() >= time => {
                return Some(format!("it was not reached within {} s", time.as_secs()));
            }
            Target::UnderWay => idle = 0,
            Target::Idle if idle < IDLE => idle += 1,
            Target::Idle if answer.success() => {
                return Some("nothing is starting it any more".into());
            }
            Target::Idle => return Some(format!("systemctl says: {}", answer.output.trim())),
        }
        thread::sleep(PAUSE);
    }
}

/// Names of units, the first word of each line.
fn read_units(text: &str) -> Vec<String> {
    let words = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        words.find(|word| *word != "●" && *word != "*")
    });
    words.map(str::to_owned).collect()
}

fn failed(patterns: &[String]) -> Result<Vec<String>, String> {
    let mut args = vec!["list-units", "--state=failed", "--plain", "--no-legend"];
    args.extend(["--no-pager", "--full", "--all", "--"]);
    args.extend(patterns.iter().map(String::as_str));
    let answer = watched::run(Path::new("systemctl"), &args, &[], ANSWER);
    match answer.success() {
        true => Ok(read_units(&answer.output)),
        false => Err(format!("systemctl says: {}", answer.output.trim())),
    }
}

/// Units of the list must not have failed; of others it is told.
fn units(patterns: &[String]) -> Vec<CheckResult> {
    let (class, name) = (Class::Required, "failed-units");
    let listed = match patterns.is_empty() {
        true => Ok(Vec::new()),
        false => failed(patterns),
    };
    let all = listed.and_then(|listed| Ok((listed, failed(&[])?)));
    let (listed, mut others) = match all {
        Ok(all) => all,
        // Where nothing is demanded, nothing can be missing.
        Err(_) if patterns.is_empty() => return Vec::new(),
        Err(why) => return vec![CheckResult::new(name, class, Some(why))],
    };
    others.retain(|unit| !listed.contains(unit));
    let red = |units: &[String]| {
        let failed = |units: &[String]| format!("failed: {}", units.join(", "));
        (!units.is_empty()).then(|| failed(units))
    };
    vec![
        CheckResult::new(name, class, red(&listed)),
        CheckResult::new("other-units", Class::Wanted, red(&others)),
    ]
}

/// Whether the kernel's routing tables, IPv4 and IPv6, have a default route that is not the one
/// to nowhere.
fn has_default_route(ipv4: &str, ipv6: &str) -> bool {
    let words = |line: &str| {
        line.split_ascii_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let v4 = ipv4.lines().skip(1).map(words);
    let mut v4 = v4.filter(|w| w.len() > 7 && w[1] == "00000000" && w[7] == "00000000");
    let v6 = ipv6.lines().map(words);
    let zero = |word: &str| word.bytes().all(|b| b == b'0');
    let mut v6 = v6.filter(|w| w.len() > 9 && zero(&w[0]) && zero(&w[1]) && w[9] != "lo");
    v4.next().is_some() || v6.next().is_some()
}

fn network(root: &Path, time: Duration) -> Option<String> {
    let begun = Instant::now();
    let read = |name| fs::read_to_string(root.join("proc/net").join(name)).unwrap_or_default();
    loop {
        if has_default_route(&read("route"), &read("ipv6_route")) {
            return None;
        }
        if begun.elapsed() >= time {
            return Some("there is no default route".into());
        }
        thread::sleep(PAUSE);
    }
}

fn space(root: &Path, settings: &Health) -> Option<String> {
    let mut low = Vec::new();
    for (path, wanted) in &settings.free_space {
        let place = root.join(path.trim_start_matches('/'));
        match rustix::fs::statvfs(&place) {
            Ok(stat) => {
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                if free < *wanted {
                    low.push(format!(
                        "{path} has {} free, {} are wanted",
                        bytes(free),
                        bytes(*wanted)
                    ));
                }
            }
            // No such directory, so nothing is short of space there.
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => low.push(format!("{path}: {error}")),
        }
    }
    (!low.is_empty()).then(|| low.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_reached_under_way_or_given_up() {
        for (text, state) in [
            ("ActiveState=active\nJob=\n", Target::Reached),
            ("ActiveState=active\n", Target::Reached),
            ("Job=123\nActiveState=inactive\n", Target::UnderWay),
            ("Job=0\nActiveState=inactive\n", Target::Idle),
            ("ActiveState=failed\n", Target::Idle),
            ("System has not been booted with systemd", Target::Idle),
        ] {
            assert_eq!(read_target(text), state, "{text}");
        }
    }

    #[test]
    fn units_are_first_words() {
        let text = "a.service loaded failed failed A\n● b@x.service loaded failed failed B\n\n";
        assert_eq!(read_units(text), ["a.service", "b@x.service"]);
        assert_eq!(read_units(""), [""; 0]);
    }

    #[test]
    fn default_routes_are_found_in_both_tables() {
        let head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";
        let v4 = "eth0 00000000 0202000A 0003 0 0 100 00000000 0 0 0\n";
        let local = "eth0 0002000A 00000000 0001 0 0 100 00FFFFFF 0 0 0\n";
        let zero = "0".repeat(32);
        let v6 = |dev| format!("{zero} 00 {zero} 00 fe80 00000400 1 0 00000003 {dev}\n");
        let found = |v4: &str, v6: &str| has_default_route(&format!("{head}{v4}"), v6);
        assert!(found(v4, ""));
        assert!(found(local, &v6("eth0")));
        assert!(!found(local, &v6("lo")), "the kernel's route to nowhere");
        assert!(!found("", ""));
        assert!(!has_default_route("", ""));
    }

    #[test]
    fn space_that_is_short_is_told_in_numbers() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("var")).unwrap();
        let mut settings = Health {
            free_space: [("/var".into(), 0), ("/none".into(), u64::MAX)].into(),
            ..Health::default()
        };
        assert_eq!(space(dir.path(), &settings), None);
        settings.free_space.insert("/var".into(), u64::MAX);
        let said = space(dir.path(), &settings).unwrap();
        let wanted = format!(" free, {} are wanted", bytes(u64::MAX));
        assert!(
            said.starts_with("/var has ") && said.ends_with(&wanted),
            "{said}"
        );
    }
}
