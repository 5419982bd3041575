//! What every command gets besides its own arguments: the global options as meant, the
//! environment, printing, and a way to run asynchronous work that ends cleanly on a signal.
//! The only place that reads environment variables.

use std::env;
use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use indicatif::MultiProgress;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::level_filters::LevelFilter;

use super::args::{Cli, FetchArgs};
use super::exit::{Interrupted, UsageError};
use super::render_bars::BarSink;
use super::render_json::JsonSink;
use super::render_lines::LineSink;
use super::{output, progress_fd};
use crate::config;
use crate::image::{Digest, host_arch, normalize_arch};
use crate::progress::{Event, ProgressSink};
use crate::transport::{HostPaths, RateLimit, SourceOptions};
use crate::trust::{PolicyPaths, Rules};

/// How long blocking work may take to end after a signal before the program leaves it.
const GRACE: Duration = Duration::from_secs(5);

/// Stack of the threads that work, bytes: as the first thread's, for trees of a thousand directories in each
/// other.
const STACK: usize = 8 << 20;

/// Environment variables that have a meaning for Bowline, as they were at the start. Proxies
/// (`HTTPS_PROXY` and others) are read by the HTTP client itself.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub xdg_config_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `CONTAINERS_POLICY_JSON`: the signature policy, instead of the usual places.
    pub policy: Option<PathBuf>,
    /// `CONTAINERS_REGISTRIES_CONF`: the registries' settings, instead of the usual places.
    pub registries_conf: Option<PathBuf>,
    /// `REGISTRY_AUTH_FILE`: registry credentials, instead of the usual places.
    pub authfile: Option<PathBuf>,
    /// `VISUAL`, else `EDITOR`: a command, perhaps with options.
    pub editor: Option<String>,
    /// `TMPDIR`.
    pub tmpdir: Option<PathBuf>,
    /// `SOURCE_DATE_EPOCH`: seconds since 1970 that what is built says instead of its own time.
    pub source_date_epoch: Option<String>,
    /// `COSIGN_PASSWORD`: the passphrase of a private key for sigstore; may be empty.
    pub key_passphrase: Option<Passphrase>,
    /// `NO_PROXY`, else `no_proxy`: hosts that are asked without a proxy.
    pub no_proxy: Option<String>,
    /// `PATH`: where credential helpers are looked for, among others.
    pub search_path: Vec<PathBuf>,
}

/// A passphrase, which is in no message.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Passphrase(pub String);

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

impl Environment {
    /// Reads the environment of this process. An empty variable counts as absent.
    pub fn of_process() -> Self {
        let path = |name| {
            env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let text = |name| env::var(name).ok().filter(|v| !v.trim().is_empty());
        Self {
            home: path("HOME"),
            xdg_config_home: path("XDG_CONFIG_HOME"),
            xdg_runtime_dir: path("XDG_RUNTIME_DIR"),
            policy: path("CONTAINERS_POLICY_JSON"),
            registries_conf: path("CONTAINERS_REGISTRIES_CONF"),
            authfile: path("REGISTRY_AUTH_FILE"),
            editor: text("VISUAL").or_else(|| text("EDITOR")),
            tmpdir: path("TMPDIR"),
            source_date_epoch: text("SOURCE_DATE_EPOCH"),
            key_passphrase: env::var("COSIGN_PASSWORD").ok().map(Passphrase),
            no_proxy: text("NO_PROXY").or_else(|| text("no_proxy")),
            search_path: env::var_os("PATH")
                .map(|path| env::split_paths(&path).collect())
                .unwrap_or_default(),
        }
    }

    /// The command that edits a text.
    pub fn editor(&self) -> String {
        self.editor.clone().unwrap_or_else(|| "vi".into())
    }

    /// Where files go that nobody needs for long.
    pub fn temporary(&self) -> PathBuf {
        self.tmpdir.clone().unwrap_or_else(|| "/tmp".into())
    }

    /// Where large files go that nobody needs for long.
    pub fn large_temporary(&self) -> PathBuf {
        self.tmpdir.clone().unwrap_or_else(|| "/var/tmp".into())
    }

    /// The part that leads to files about registries.
    fn host_paths(&self) -> HostPaths {
        HostPaths {
            uid: rustix::process::geteuid().as_raw(),
            home: self.home.clone(),
            runtime_dir: self.xdg_runtime_dir.clone(),
            config_dir: self.xdg_config_home.clone(),
            registry_auth_file: self.authfile.clone(),
            registries_conf: self.registries_conf.clone(),
            search_path: self.search_path.clone(),
            ..HostPaths::default()
        }
    }
}

/// The global options as meant, built once.
#[derive(Debug)]
pub struct Context {
    /// Root of the system to work on.
    pub sysroot: PathBuf,
    /// The stateroot that was asked for.
    pub stateroot: Option<String>,
    /// Whether only errors, and what was asked for, are printed.
    pub quiet: bool,
    /// The environment.
    pub environment: Environment,
    level: LevelFilter,
    /// Where bars are drawn; log lines go through it, so that neither spoils the other.
    screen: MultiProgress,
    /// The only image that may be used.
    require_digest: Option<Digest>,
    progress_file: Option<File>,
    /// The displays of the operation that runs.
    running: Mutex<Option<Arc<Fan>>>,
}

impl Context {
    /// Turns the options as typed into options as meant. Opens no file but the one that
    /// `--progress-fd` names, and starts no thread.
    pub fn new(cli: &Cli, environment: Environment) -> Result<Self, UsageError> {
        let args = &cli.global;
        let fetch = cli.command.fetch_args();
        let progress_fd = fetch.and_then(|args| args.progress_fd);
        let level = match (args.quiet, args.verbose) {
            (true, _) => LevelFilter::ERROR,
            (false, 0) => LevelFilter::WARN,
            (false, 1) => LevelFilter::INFO,
            (false, 2) => LevelFilter::DEBUG,
            (false, _) => LevelFilter::TRACE,
        };
        Ok(Self {
            sysroot: args.sysroot.clone(),
            stateroot: args.stateroot.clone(),
            quiet: args.quiet,
            environment,
            level,
            screen: MultiProgress::new(),
            require_digest: fetch.and_then(|args| args.require_digest),
            progress_file: progress_fd.map(progress_fd::claim).transpose()?,
            running: Mutex::default(),
        })
    }

    /// Sends our own log lines to stderr; those of libraries only from `-vvv` on.
    pub fn start_logging(&self) {
        use tracing_subscriber::prelude::*;
        let libraries = match self.level {
            LevelFilter::TRACE => LevelFilter::DEBUG,
            quiet => quiet.min(LevelFilter::WARN),
        };
        let filter = tracing_subscriber::filter::Targets::new()
            .with_default(libraries)
            .with_target("bowline", self.level);
        let screen = self.screen.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(move || AboveBars(screen.clone()))
            .with_ansi(false)
            .with_target(false)
            .without_time();
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .init();
    }

    /// Prints what the user asked for to stdout.
    pub fn print(&self, text: &str) -> Result<()> {
        output::print(text)
    }

    /// Prints bytes that the user asked for to stdout, as they are.
    pub fn print_bytes(&self, bytes: &[u8]) -> Result<()> {
        output::print_bytes(bytes)
    }

    /// Prints a remark to stdout, unless `-q` asks for silence.
    pub fn say(&self, text: &str) -> Result<()> {
        if self.quiet {
            Ok(())
        } else {
            output::print(text)
        }
    }

    /// What [`Self::say`] does, for work that shows bars meanwhile.
    pub fn speaker(&self) -> impl Fn(&str) -> Result<()> + Send + Sync + use<> {
        let (quiet, screen) = (self.quiet, self.screen.clone());
        move |text| match quiet {
            true => Ok(()),
            false => screen.suspend(|| output::print(text)),
        }
    }

    /// A taker of progress for one operation: bars or lines on stderr unless `-q`, and JSON lines
    /// where `--progress-fd` asks for them. `image` names the image in the JSON lines.
    pub fn progress(&self, image: &str) -> Result<Arc<dyn ProgressSink>> {
        let mut sinks: Vec<Box<dyn ProgressSink>> = Vec::new();
        match (self.quiet, io::stderr().is_terminal()) {
            (true, _) => {}
            (false, true) => sinks.push(Box::new(BarSink::new(self.screen.clone()))),
            (false, false) => sinks.push(Box::new(LineSink::default())),
        }
        if let Some(file) = &self.progress_file {
            let file = file.try_clone().context("Opening the progress stream")?;
            sinks.push(Box::new(JsonSink::new(file, image)));
        }
        let fan = Arc::new(Fan {
            sinks,
            finished: AtomicBool::new(false),
        });
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        *running = Some(fan.clone());
        Ok(fan)
    }

    /// Takes the displays of progress down and says that the end may take a moment.
    fn say_interrupted(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fan) = &*running {
            fan.event(Event::Finished);
        }
        if !self.quiet {
            let remark = "Ending what is being written; once more ends it at once";
            // Nothing to do about a closed stderr.
            let _ = writeln!(io::stderr(), "{remark}");
        }
    }

    /// How sources behave, for a command that fetches.
    pub fn source_options(
        &self,
        args: &FetchArgs,
        progress: Arc<dyn ProgressSink>,
    ) -> SourceOptions {
        SourceOptions {
            authfile: args.authfile.clone(),
            retries: args.retry,
            idle_timeout: Duration::from_secs(args.timeout.into()),
            limit: args.limit_rate.map(|rate| Arc::new(RateLimit::new(rate))),
            progress,
            no_proxy: self.environment.no_proxy.clone(),
            host: self.environment.host_paths(),
            ..SourceOptions::default()
        }
    }

    /// How sources behave for a short question, where nothing but silence may take its time.
    pub fn plain_source_options(&self) -> SourceOptions {
        SourceOptions {
            retries: 1,
            no_proxy: self.environment.no_proxy.clone(),
            host: self.environment.host_paths(),
            ..SourceOptions::default()
        }
    }

    /// The architecture to pull for.
    pub fn arch(&self, args: &FetchArgs) -> String {
        args.arch.as_deref().map_or_else(host_arch, normalize_arch)
    }

    /// By which rules images are judged here. Broken settings are an error: they may say something
    /// about it.
    pub fn trust_rules(&self) -> Result<Rules> {
        let config = self.environment.host_paths().config_home();
        let policy = PolicyPaths {
            explicit: self.environment.policy.clone(),
            user: config.map(|dir| dir.join("containers/policy.json")),
            ..PolicyPaths::default()
        };
        Ok(Rules {
            policy,
            unsigned_layers: config::load(&self.sysroot)?.trust.unsigned_layers,
            require_digest: self.require_digest,
        })
    }

    /// Runs `work` to its end, or drops it at SIGINT or SIGTERM and returns [`Interrupted`].
    ///
    /// Dropping ends transfers; blocking workers get a few seconds to stop at their next safe
    /// point. A second signal ends the process at once. No thread may be started before a mount
    /// namespace is set up, so this is also where threads start.
    pub fn block_on<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_stack_size(STACK)
            .enable_all()
            .build()
            .context("Starting worker threads")?;
        let result = runtime.block_on(async {
            let interrupted = watch_signals()?;
            tokio::select! {
                biased;
                result = work => result,
                Ok(signal) = interrupted => {
                    self.say_interrupted();
                    Err(signal.into())
                }
            }
        });
        runtime.shutdown_timeout(GRACE);
        result
    }
}

/// Several takers of the same events.
struct Fan {
    sinks: Vec<Box<dyn ProgressSink>>,
    /// Nothing is shown any more: workers may go on for a moment after an interruption.
    finished: AtomicBool,
}

impl ProgressSink for Fan {
    fn event(&self, event: Event) {
        let ends = event == Event::Finished;
        if self.finished.fetch_or(ends, Ordering::Relaxed) {
            return;
        }
        self.sinks.iter().for_each(|sink| sink.event(event.clone()));
    }
}

impl fmt::Debug for Fan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fan")
    }
}

/// Writes to stderr with the bars out of the way.
struct AboveBars(MultiProgress);

impl io::Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Listens for SIGINT and SIGTERM on a task of its own, so that the second one works even while
/// the first thread is busy.
fn watch_signals() -> Result<oneshot::Receiver<Interrupted>> {
    let mut int = signal(SignalKind::interrupt()).context("Listening for SIGINT")?;
    let mut term = signal(SignalKind::terminate()).context("Listening for SIGTERM")?;
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = int.recv() => Interrupted::Int,
                _ = term.recv() => Interrupted::Term,
            }
        };
        // The receiver is gone when the work ended at the same moment: nothing left to stop.
        let _ = sender.send(next().await);
        let second = next().await;
        std::process::exit(i32::from(second.code()));
    });
    Ok(receiver)
}
