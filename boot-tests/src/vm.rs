//! A running machine: commands in, what the guest did out; also reboots, power cuts and snapshots.
//! QEMU ends with the guest's reboot and is started again on the same disk, which is quicker than a
//! warm reset under emulation, and is what a cold start is. Dies with the thread that started it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::agent::{Channel, Output, Said};
use crate::console::Console;
use crate::qemu::{self, Machine, Sockets};
use crate::slots::Slot;
use crate::story::{self, Story};
use crate::{qmp, tool};

/// For a boot, from power to the agent, on a busy host without KVM.
pub const BOOT: Duration = Duration::from_secs(600);
/// For a command, unless it says otherwise.
const COMMAND: Duration = Duration::from_secs(400);
/// For a shutdown, with all that finishes an update.
const SHUTDOWN: Duration = Duration::from_secs(300);
/// For QEMU to open its sockets.
const START: Duration = Duration::from_secs(30);
/// For what outlives a power cut.
const RELEASE: Duration = Duration::from_secs(30);

/// For each question to a machine whose scenario failed.
const FAREWELL: Duration = Duration::from_secs(30);
/// The files kept of a machine whose scenario failed, and what writes them.
const EVIDENCE: &[(&str, &str)] = &[
    (
        "journal.log",
        "journalctl --no-pager -o short-monotonic | tail -n 6000",
    ),
    (
        "state.log",
        "bowline status; systemctl --failed --no-pager; ls -lR /boot; lsblk -f; df",
    ),
];

/// A machine and the scenario that it is part of.
#[derive(Debug)]
pub struct Vm {
    machine: Machine,
    story: Story,
    running: Option<Running>,
    succeeded: bool,
    _slot: Slot,
}

#[derive(Debug)]
struct Running {
    qemu: Child,
    channel: Channel,
    sockets: Sockets,
    started: Instant,
    _console: Option<Console>,
    _directory: TempDir,
}

/// A boot that reached the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's identity of this boot.
    pub id: String,
    /// The deployment that runs, as COMMIT.SERIAL.
    pub deployment: String,
}

/// How a boot went on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It reached the agent.
    Up(Boot),
    /// The machine reset or switched itself off.
    Ended,
    /// Neither, in the time given.
    Stuck,
}

impl Vm {
    /// Boots a machine as soon as one of the two places for machines is free.
    pub fn boot(machine: Machine, story: &Story) -> Result<Self> {
        let mut vm = Self::new(machine, story)?;
        vm.start()?;
        vm.wait_up()?;
        Ok(vm)
    }

    /// Takes a machine up where a snapshot in its disk left it, with the clock set right.
    pub fn resume(machine: Machine, story: &Story, snapshot: &str) -> Result<Self> {
        let mut vm = Self::new(machine, story)?;
        vm.power_on(Some(snapshot))?;
        vm.set_clock()?;
        Ok(vm)
    }

    /// Sets the guest's clock right.
    pub fn set_clock(&mut self) -> Result<()> {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
        self.ok(&format!("date -s @{now} >/dev/null"))?;
        Ok(())
    }

    fn new(machine: Machine, story: &Story) -> Result<Self> {
        let (running, succeeded) = (None, false);
        let (story, _slot) = (story.clone(), Slot::take()?);
        Ok(Self {
            machine,
            story,
            running,
            succeeded,
            _slot,
        })
    }

    /// Switches a machine on that is off, and does not wait for it.
    pub fn start(&mut self) -> Result<()> {
        self.power_on(None)
    }

    fn power_on(&mut self, snapshot: Option<&str>) -> Result<()> {
        ensure!(self.running.is_none(), "The machine is on already");
        // Paths of sockets are short, those of checkouts are not.
        let directory = TempDir::with_prefix("boot-test-")?;
        let sockets = Sockets {
            agent: directory.path().join("agent"),
            control: directory.path().join("control"),
            console: self.console_path(),
        };
        let console = story::shows_console();
        let console = console
            .then(|| Console::follow(&sockets.console, &self.story))
            .transpose()?;
        let mut command = tool::tied(qemu::QEMU);
        command.args(qemu::arguments(&self.machine, &sockets, snapshot)?);
        let errors = fs::File::create(self.story.directory().join("qemu.log"))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors);
        let mut qemu = command.spawn().context("Starting QEMU")?;
        let stream = self.connect(&mut qemu, &sockets)?;
        let (channel, started) = (Channel::new(stream), Instant::now());
        self.running = Some(Running {
            qemu,
            channel,
            sockets,
            started,
            _console: console,
            _directory: directory,
        });
        Ok(())
    }

    fn connect(&self, qemu: &mut Child, sockets: &Sockets) -> Result<UnixStream> {
        let deadline = Instant::now() + START;
        loop {
            if let Ok(stream) = UnixStream::connect(&sockets.agent) {
                return Ok(stream);
            }
            if qemu.try_wait()?.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(self.story.directory().join("qemu.log"));
                bail!("QEMU did not start: {}", said.unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn console_path(&self) -> PathBuf {
        self.story.directory().join("console.log")
    }

    fn running(&mut self) -> Result<&mut Running> {
        self.running.as_mut().context("The machine is off")
    }

    /// Waits until a boot has reached the agent, and for nothing else.
    pub fn wait_up(&mut self) -> Result<Boot> {
        match self.outcome(BOOT)? {
            Outcome::Up(boot) => Ok(boot),
            other => bail!("The system did not come up: {other:?}"),
        }
    }

    /// Waits for what comes of a boot.
    pub fn outcome(&mut self, patience: Duration) -> Result<Outcome> {
        let running = self.running()?;
        let deadline = running.started + patience;
        loop {
            match running.channel.listen(deadline)? {
                Said::Ready(id, deployment) => {
                    let seconds = running.started.elapsed().as_secs_f64();
                    let line = format!("up after {seconds:.1} s, {deployment}");
                    self.story.command("(boot)", &line);
                    return Ok(Outcome::Up(Boot { id, deployment }));
                }
                Said::Done(_) => {}
                Said::Gone => return self.ended().map(|()| Outcome::Ended),
                Said::Nothing => return Ok(Outcome::Stuck),
            }
        }
    }

    /// Runs a script of bash in the guest.
    pub fn run(&mut self, script: &str) -> Result<Output> {
        self.run_within(COMMAND, script)
    }

    fn run_within(&mut self, patience: Duration, script: &str) -> Result<Output> {
        let running = self.running()?;
        running.channel.send(script)?;
        let deadline = Instant::now() + patience;
        loop {
            match running.channel.listen(deadline)? {
                Said::Done(output) => {
                    let Output {
                        code,
                        stdout,
                        stderr,
                    } = &output;
                    self.story
                        .command(script, &format!("{stdout}{stderr}(exit code {code})"));
                    return Ok(output);
                }
                Said::Ready(..) => {}
                Said::Gone => bail!("The machine ended during: {script}"),
                Said::Nothing => bail!("No answer in {} s to: {script}", patience.as_secs()),
            }
        }
    }

    /// Runs a script that must succeed; returns its standard output without the last line feed.
    pub fn ok(&mut self, script: &str) -> Result<String> {
        let Output {
            code,
            stdout,
            stderr,
        } = self.run(script)?;
        ensure!(code == 0, "Exit code {code} of: {script}\n{stdout}{stderr}");
        Ok(stdout.trim_end_matches('\n').to_owned())
    }

    /// Runs a script that must end with an exit code; returns all that it printed.
    pub fn fails(&mut self, code: i32, script: &str) -> Result<String> {
        let output = self.run(script)?;
        let all = output.stdout + &output.stderr;
        ensure!(
            output.code == code,
            "Exit code {}, not {code}, of: {script}\n{all}",
            output.code
        );
        Ok(all)
    }

    /// Runs a script and cuts the power after the time given, wherever it is by then. Returns how long
    /// it took, if it ended before.
    pub fn cut_during(&mut self, script: &str, after: Duration) -> Result<Option<Duration>> {
        let start = Instant::now();
        self.begin(script)?;
        let said = self.running()?.channel.listen(start + after)?;
        let ended = match said {
            Said::Nothing | Said::Ready(..) => None,
            Said::Done(_) | Said::Gone => Some(start.elapsed()),
        };
        self.power_cut()?;
        Ok(ended)
    }

    /// Sends a script and does not wait for its end.
    pub fn begin(&mut self, script: &str) -> Result<()> {
        self.story.command(script, "(in the background)");
        self.running()?.channel.send(script)
    }

    /// Waits for the end of a script that was sent without waiting for it.
    pub fn wait_done(&mut self) -> Result<Output> {
        let deadline = Instant::now() + COMMAND;
        match self.running()?.channel.listen(deadline)? {
            Said::Done(output) => Ok(output),
            other => bail!("The command did not end: {other:?}"),
        }
    }

    /// Reboots as an administrator does, and waits for the next boot.
    pub fn reboot(&mut self) -> Result<Boot> {
        self.begin("systemctl reboot")?;
        self.wait_end()?;
        self.start()?;
        self.wait_up()
    }

    /// Waits until the guest has ended by itself.
    pub fn wait_end(&mut self) -> Result<()> {
        self.wait_end_within(SHUTDOWN)
    }

    /// The same, with more or less patience.
    pub fn wait_end_within(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            match self.running()?.channel.listen(deadline)? {
                Said::Gone => return self.ended(),
                Said::Nothing => bail!("The system did not go down in {} s", patience.as_secs()),
                Said::Ready(..) | Said::Done(_) => {}
            }
        }
    }

    /// Cuts the power: what the disk has not got by now, it will never get.
    pub fn power_cut(&mut self) -> Result<()> {
        self.running()?;
        self.power_cut_if_on();
        self.disk_released()
    }

    /// Waits until nobody holds the disk. QEMU starts a program for each connection to the registry, and
    /// one that was just being started outlives it for a moment, with the lock.
    fn disk_released(&self) -> Result<()> {
        let disk = self.machine.disk.display().to_string();
        let deadline = Instant::now() + RELEASE;
        loop {
            match tool::run("qemu-img", &["info", &disk]) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn power_cut_if_on(&mut self) {
        if let Some(mut running) = self.running.take() {
            // Both fail only for a process that has ended already.
            let _killed = running.qemu.kill();
            let _waited = running.qemu.wait();
        }
    }

    /// The guest ended: takes leave of QEMU.
    fn ended(&mut self) -> Result<()> {
        let mut running = self.running.take().context("The machine is off")?;
        let status = running.qemu.wait()?;
        let said = fs::read_to_string(self.story.directory().join("qemu.log"))?;
        ensure!(status.success(), "QEMU ended with {status}: {said}");
        Ok(())
    }

    /// Keeps the whole machine, memory and disks, under a name inside its disk.
    pub fn snapshot(&mut self, name: &str) -> Result<()> {
        qmp::monitor(&self.running()?.sockets.control, &format!("savevm {name}"))
    }

    /// Pulls the network cable, or plugs it in.
    pub fn cable(&mut self, plugged: bool) -> Result<()> {
        let control = self.running()?.sockets.control.clone();
        qmp::execute(&control, "set_link", json!({"name": "card", "up": plugged}))?;
        Ok(())
    }

    /// The machine, to change it while it is off.
    pub fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Ends a scenario that went well: the machine's disk is not needed any more.
    pub fn finish(mut self) -> Result<()> {
        self.power_cut_if_on();
        self.succeeded = true;
        for file in [&self.machine.disk, &self.machine.variables] {
            if file.exists() {
                fs::remove_file(file)?;
            }
        }
        Ok(())
    }

    /// Writes what the guest knows to the scenario's logs.
    fn keep_evidence(&mut self) -> Result<()> {
        for (file, script) in EVIDENCE {
            let said = self.run_within(FAREWELL, script)?;
            fs::write(
                self.story.directory().join(file),
                said.stdout + &said.stderr,
            )?;
        }
        Ok(())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if self.succeeded {
            return;
        }
        let kept = match self.running {
            Some(_) => self.keep_evidence(),
            None => Ok(()),
        };
        if let Err(error) = kept {
            self.story
                .tell(&format!("the guest gives no journal: {error:#}"));
        }
        self.power_cut_if_on();
        let (disk, logs) = (
            self.machine.disk.display(),
            self.story.directory().display(),
        );
        self.story
            .tell(&format!("failed; see {logs} and the disk {disk}"));
    }
}
