//! What running a command costs. A command comes in; wall, user and system time, peak memory of
//! the whole tree of processes, and bytes and requests of the registry go out.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::wire::{RegistryLog, Traffic};

/// Time between two looks at the memory of a process and its descendants, and how long they are
/// more frequent: there are programs that end before the first of the others.
const SAMPLE: Duration = Duration::from_millis(10);
const EARLY_SAMPLE: Duration = Duration::from_millis(1);
const EARLY: Duration = Duration::from_millis(200);

/// Unit of the times in /proc: USER_HZ is 100 on every architecture of Debian.
const TICKS_PER_SECOND: f64 = 100.0;

/// What one run cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Seconds on the wall.
    pub wall: f64,
    /// Seconds of user time, descendants included.
    pub user: f64,
    /// Seconds of system time, descendants included.
    pub sys: f64,
    /// Most memory at once, descendants included, MB; only of watched runs.
    pub memory: Option<f64>,
    /// What the registry answered.
    pub traffic: Traffic,
}

/// What is watched while a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Nothing: the times count.
    Off,
    /// The memory. That slows a program down: the times do not count.
    Memory,
}

/// Runs a command. What it prints goes to the file `said`, which an error quotes.
pub fn measure(
    command: &mut Command,
    watch: Watch,
    log: &RegistryLog,
    said: &std::path::Path,
) -> Result<Cost> {
    let output = fs::File::create(said)?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    // What the run before has written is not this one's to pay for.
    rustix::fs::sync();
    let asked_before = log.settled()?;
    let (user, sys) = times_of_children()?;
    let start = Instant::now();
    let child = command.spawn();
    let mut child = child.with_context(|| format!("Starting {command:?}"))?;
    let memory = match watch {
        Watch::Off => None,
        Watch::Memory => Some(watch_memory(&mut child)?),
    };
    let status = child.wait()?;
    let wall = start.elapsed().as_secs_f64();
    if !status.success() {
        let words = fs::read_to_string(said).unwrap_or_default();
        bail!("{command:?}: {status}\n{words}");
    }
    let after = times_of_children()?;
    Ok(Cost {
        wall,
        user: after.0 - user,
        sys: after.1 - sys,
        memory,
        traffic: log.since(asked_before)?,
    })
}

/// Waits for the end; the most memory seen at once goes out, in MB.
fn watch_memory(child: &mut Child) -> Result<f64> {
    let mut most = 0;
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        most = most.max(memory_of_tree(child.id()));
        let early = start.elapsed() < EARLY;
        std::thread::sleep(if early { EARLY_SAMPLE } else { SAMPLE });
    }
    Ok(most as f64 / 1000.0)
}

/// Proportional share of a process and its descendants, kB. One that has just ended counts nothing.
fn memory_of_tree(pid: u32) -> u64 {
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    let rollup = read(format!("/proc/{pid}/smaps_rollup"));
    let own = rollup.lines().find_map(|l| l.strip_prefix("Pss:"));
    let own = own.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    // Each thread lists the processes that it started.
    let tasks = tasks.into_iter().flatten().flatten();
    let children = tasks.map(|task| read(format!("{}/children", task.path().display())));
    let children: String = children.collect();
    let pids = children.split_whitespace();
    let pids = pids.filter_map(|pid| pid.parse().ok());
    own.unwrap_or(0) + pids.map(memory_of_tree).sum::<u64>()
}

/// User and system time of all descendants that have ended and been waited for, seconds.
fn times_of_children() -> Result<(f64, f64)> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may hold spaces; the fields behind it count from 3 (proc_pid_stat(5)).
    let fields = stat.rsplit_once(')');
    let fields = fields.context("/proc/self/stat has no name")?.1;
    let ticks = fields.split_whitespace().skip(13).take(2);
    let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    match ticks[..] {
        [user, sys] => Ok((user / TICKS_PER_SECOND, sys / TICKS_PER_SECOND)),
        _ => bail!("/proc/self/stat is too short"),
    }
}
