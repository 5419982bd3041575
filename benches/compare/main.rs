//! Walks through the life of an image with Bowline and with its peers in turns, each time in a new
//! place, and prints what each step costs. `hack/bench` runs it and says what the images are.

#![allow(clippy::print_stdout, reason = "its result is what it prints")]

mod limit;
mod link;
mod measure;
mod place;
mod program;
mod relay;
mod report;
mod walk;
mod wire;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use link::SlowLink;
use measure::{Cost, Watch, measure};
use place::Places;
use program::{Kind, Program};
use report::Row;
use walk::{FOLLOWED, Step, WALKS, Walk};
use wire::RegistryLog;

/// Compares programs that pull images.
#[derive(Debug, Parser)]
struct Args {
    /// The images, without a tag: HOST:PORT/NAME.
    #[arg(long)]
    name: String,
    /// Walks to take.
    #[arg(long = "walk", required = true)]
    walks: Vec<String>,
    /// Programs: NAME=KIND:COMMAND.
    #[arg(long = "program", required = true)]
    programs: Vec<Program>,
    /// Timed runs of each program; one more is watched for its memory.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Directory for repositories.
    #[arg(long)]
    work: PathBuf,
    /// The registry's log.
    #[arg(long)]
    log: PathBuf,
    /// Gigabytes of the disk that stay free.
    #[arg(long, default_value_t = 15)]
    keep_free: u64,
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("limit") {
        let words: Vec<String> = args.collect();
        let [image, dir] = &words[..] else {
            anyhow::bail!("usage: limit IMAGE DIR");
        };
        return limit::run(image, Path::new(dir));
    }
    let args = Args::parse();
    let mut bench = Bench {
        places: Places::new(&args.work, args.keep_free)?,
        log: RegistryLog(args.log.clone()),
        args,
    };
    println!("\n{}", report::HEAD);
    for name in bench.args.walks.clone() {
        let walk = WALKS.iter().find(|walk| walk.name == name);
        bench.take(walk.with_context(|| format!("There is no walk {name}"))?)?;
    }
    bench.places.clear()
}

struct Bench {
    args: Args,
    places: Places,
    log: RegistryLog,
}

impl Bench {
    /// One walk with all programs; its lines are printed when it is over.
    fn take(&mut self, walk: &Walk) -> Result<()> {
        let link = walk.is_slow().then(|| SlowLink::new(&self.args.name));
        let link = link.transpose()?;
        let named = walk.cases.iter().filter_map(|case| case.name);
        let programs = self.args.programs.clone();
        let mut rows: Vec<Row> = Vec::new();
        let mut unable: Vec<String> = Vec::new();
        for case in named {
            rows.extend(programs.iter().map(|program| Row {
                case,
                program: program.name.clone(),
                ours: program.kind == Kind::Bowline,
                costs: Vec::new(),
            }));
        }
        for run in 0..=self.args.runs {
            // Whoever watches the memory of a process slows it down: that is a run of its own.
            let watch = match run {
                0 => Watch::Memory,
                _ => Watch::Off,
            };
            let mut turn: Vec<&Program> = programs.iter().collect();
            turn.retain(|program| run < 2 || !program.is_for_scale());
            turn.retain(|program| !unable.contains(&program.name));
            // Turns alternate, so that no program always comes last.
            if run % 2 == 1 {
                turn.reverse();
            }
            for program in turn {
                let costs = match self.walk(program, walk, watch, link.as_ref()) {
                    // Not every program can read every image.
                    Err(error) if program.kind != Kind::Bowline => {
                        let error = error.to_string();
                        let error = error.lines().next().unwrap_or_default();
                        println!("{} is left out of {}: {error}", program.name, walk.name);
                        unable.push(program.name.clone());
                        continue;
                    }
                    costs => costs?,
                };
                for (case, cost) in costs {
                    let row = |row: &&mut Row| row.case == case && row.program == program.name;
                    let row = rows.iter_mut().find(row);
                    row.context("a case has no row")?.costs.push(cost);
                }
            }
        }
        rows.retain(|row| !row.costs.is_empty());
        for case in rows.chunk_by(|a, b| a.case == b.case) {
            report::lines(case).iter().for_each(|l| println!("{l}"));
        }
        Ok(())
    }

    /// One walk of one program, in a new place.
    fn walk(
        &mut self,
        program: &Program,
        walk: &Walk,
        watch: Watch,
        link: Option<&SlowLink>,
    ) -> Result<Vec<(&'static str, Cost)>> {
        let dir = self.places.fresh(walk.store)?;
        let name = link.map_or(&self.args.name, SlowLink::name).clone();
        let mut costs = Vec::new();
        for case in walk.cases {
            let tag = match case.step {
                Step::Pull(tag) => tag,
                Step::Deploy | Step::Upgrade(_) => FOLLOWED,
            };
            match case.step {
                Step::Pull(FOLLOWED) => self.retag("1")?,
                Step::Upgrade(to) => self.retag(to)?,
                _ => {}
            }
            let image = format!("{name}:{tag}");
            let Some(mut command) = program.command(&case.step, walk.store, &dir, &image)? else {
                continue;
            };
            let slow = link.filter(|_| case.slow).map(SlowLink::slow_down);
            let slow = slow.transpose()?;
            let said = dir.join("said");
            let cost = measure(&mut command, watch, &self.log, &said)?;
            drop(slow);
            costs.extend(case.name.map(|name| (name, cost)));
        }
        Ok(costs)
    }

    /// The tag that hosts follow points to another version.
    fn retag(&self, version: &str) -> Result<()> {
        let image = |tag: &str| format!("docker://{}:{tag}", self.args.name);
        let mut copy = std::process::Command::new("skopeo");
        copy.args(["copy", "--quiet", &image(version), &image(FOLLOWED)]);
        ensure!(copy.status()?.success(), "{copy:?} failed");
        Ok(())
    }
}
