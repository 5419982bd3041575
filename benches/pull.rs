//! Pulls an image cold, its next version on top, and that again with nothing to do: Bowline and the
//! reference peer in turns, each time into a new repository. `hack/bench` runs it; medians and
//! ratios go to standard output.

#![allow(clippy::print_stdout, reason = "its result is what it prints")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Time between two looks at the memory of a process and its descendants.
const SAMPLE: Duration = Duration::from_millis(10);

/// Unit of the times in /proc: USER_HZ is 100 on every architecture of Debian.
const TICKS_PER_SECOND: f64 = 100.0;

const PHASES: [&str; 3] = ["cold pull", "incremental pull", "no-op"];

/// What one run cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Seconds on the wall.
    wall: f64,
    /// Seconds of user and system time, descendants included.
    cpu: f64,
    /// Most memory at once, descendants included, MB.
    memory: f64,
}

/// One of the costs.
type Value = fn(&Cost) -> f64;

/// A program under test: its name and how it pulls.
struct Program {
    name: &'static str,
    path: PathBuf,
}

impl Program {
    fn pull(&self, repo: &Path, image: &str) -> Command {
        let mut command = Command::new(&self.path);
        let repo = repo.as_os_str();
        match self.name {
            "bowline" => command
                .args(["image", "--repo"])
                .arg(repo)
                .args(["pull", image]),
            _ => {
                command.args(["container", "image", "pull", "--quiet"]);
                command.args(["--insecure-skip-tls-verification"]).arg(repo);
                command.arg(format!("ostree-unverified-registry:{image}"))
            }
        };
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .stdin(Stdio::null());
        command
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let [name, runs, bowline, peer, dir] = &args[..] else {
        anyhow::bail!("usage: pull NAME RUNS BOWLINE PEER DIR (hack/bench does it)");
    };
    let programs = [("bowline", bowline), ("peer", peer)];
    let programs = programs.map(|(name, path)| Program {
        name,
        path: path.into(),
    });
    let runs: usize = runs.parse().context("RUNS is not a number")?;
    let mut costs = [const { [const { Vec::new() }; 3] }; 2];
    let dir = Path::new(dir);
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    for run in 0..runs {
        // Turns alternate, so that neither program always comes second.
        for index in if run % 2 == 0 { [0, 1] } else { [1, 0] } {
            let program = &programs[index];
            // Whoever watches the memory of a process slows it down: that is a run of its own.
            let at = |what| dir.join(format!("{}-{run}-{what}", program.name));
            let timed = one_run(program, name, &at("timed"), Watch::Off)?;
            let watched = one_run(program, name, &at("watched"), Watch::Memory)?;
            for (phase, (timed, watched)) in timed.into_iter().zip(watched).enumerate() {
                let memory = watched.memory;
                costs[index][phase].push(Cost { memory, ..timed });
            }
        }
    }
    report(&costs, runs);
    // Not before: ext4 is slow for a while where many files have just been removed.
    Ok(fs::remove_dir_all(dir)?)
}

/// What is watched while a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    Off,
    Memory,
}

/// All phases, one after the other, in a new repository.
fn one_run(program: &Program, name: &str, dir: &Path, watch: Watch) -> Result<[Cost; 3]> {
    let repo = dir.join("repo");
    fs::create_dir_all(dir)?;
    let init = Command::new("ostree")
        .args(["init", "--mode=bare", "--repo"])
        .arg(&repo)
        .status()?;
    ensure!(init.success(), "ostree init failed");
    let measured = ["1", "2", "2"].map(|tag| {
        let mut command = program.pull(&repo, &format!("{name}:{tag}"));
        measure(&mut command, watch)
    });
    let [cold, incremental, nothing] = measured;
    Ok([cold?, incremental?, nothing?])
}

/// Runs a command; its memory is looked at where that is asked for.
fn measure(command: &mut Command, watch: Watch) -> Result<Cost> {
    // What the run before has written is not this one's to pay for.
    rustix::fs::sync();
    let before = cpu_of_children()?;
    let start = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("Starting {command:?}"))?;
    let memory = match watch {
        Watch::Off => 0.0,
        Watch::Memory => watch_memory(&mut child)?,
    };
    let status = child.wait()?;
    let wall = start.elapsed().as_secs_f64();
    ensure!(status.success(), "{command:?}: {status}");
    Ok(Cost {
        wall,
        cpu: cpu_of_children()? - before,
        memory,
    })
}

/// Waits for the end; the most memory seen at once goes out, in MB.
fn watch_memory(child: &mut Child) -> Result<f64> {
    let mut most = 0;
    while child.try_wait()?.is_none() {
        most = most.max(memory_of_tree(child.id()));
        std::thread::sleep(SAMPLE);
    }
    Ok(most as f64 / 1000.0)
}

/// Proportional share of a process and its descendants, kB. One that has just ended counts nothing.
fn memory_of_tree(pid: u32) -> u64 {
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    let rollup = read(format!("/proc/{pid}/smaps_rollup"));
    let own = rollup.lines().find_map(|l| l.strip_prefix("Pss:"));
    let own = own.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    // Each thread lists the processes that it started.
    let children = tasks.map(|task| read(format!("{}/children", task.path().display())));
    let children: String = children.collect();
    let pids = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    own.unwrap_or(0) + pids.map(memory_of_tree).sum::<u64>()
}

/// User and system time of all descendants that have ended and been waited for, seconds.
fn cpu_of_children() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may hold spaces; the fields behind it count from 3 (proc_pid_stat(5)).
    let fields = stat
        .rsplit_once(')')
        .context("/proc/self/stat has no name")?
        .1;
    let ticks = fields.split_whitespace().skip(13).take(2);
    let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}

fn report(costs: &[[Vec<Cost>; 3]; 2], runs: usize) {
    println!("\nMedians of {runs} runs each, in turns; ratio = peer / Bowline\n");
    println!("| | | Bowline | peer | ratio |\n|---|---|---|---|---|");
    for (phase, name) in PHASES.iter().enumerate() {
        let rows: [(&str, Value); 3] = [
            ("wall, s", |c| c.wall),
            ("user + sys, s", |c| c.cpu),
            ("peak memory, MB", |c| c.memory),
        ];
        for (unit, value) in rows {
            let [ours, theirs] = [0, 1].map(|index| median(&costs[index][phase], value));
            let ratio = theirs / ours.max(0.001);
            println!("| {name} | {unit} | {ours:.2} | {theirs:.2} | {ratio:.1} |");
        }
    }
}

fn median(costs: &[Cost], value: Value) -> f64 {
    let mut values: Vec<f64> = costs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
