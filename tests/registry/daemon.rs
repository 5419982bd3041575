//! The real `docker-registry` on a free loopback port, and the programs around it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bowline::testing::{Image, ImageBuilder, Layer};

/// A running docker-registry; dropping it stops it.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// `127.0.0.1:PORT`
    pub host: String,
}

impl Daemon {
    /// Starts a registry that stores in `dir`. `http` and `rest` are JSON of its configuration,
    /// which is YAML and therefore takes it.
    pub fn start(dir: &Path, mut http: serde_json::Value, rest: serde_json::Value) -> Self {
        http["addr"] = "127.0.0.1:0".into();
        let mut config = serde_json::json!({
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": dir.join("storage")}},
            "http": http,
        });
        let rest = rest.as_object().cloned().unwrap_or_default();
        config.as_object_mut().unwrap().extend(rest);
        let file = dir.join("registry.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let host = listening_on(&mut log);
        // Nobody reads on; the pipe must not fill up.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self { child, host }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already if this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listening_on(log: &mut impl BufRead) -> String {
    let mut seen = String::new();
    for line in log.lines() {
        let line = line.unwrap();
        if let Some((_, rest)) = line.split_once("listening on ") {
            let end = rest.find([',', '"']).unwrap_or(rest.len());
            return rest[..end].to_owned();
        }
        seen.push_str(&line);
        seen.push('\n');
    }
    panic!("docker-registry did not start:\n{seen}");
}

/// Runs a program to its end; panics with its words if it fails.
pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {words}");
}

/// Says which of `programs` is missing, if one is: the test cannot run then.
#[allow(clippy::print_stderr, reason = "a test that cannot run says so")]
pub fn missing(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| std::env::split_paths(&path).any(|dir| dir.join(program).exists());
    let missing = programs.iter().find(|program| !there(program));
    if let Some(program) = missing {
        eprintln!("skipped: {program} is not installed");
    }
    missing.is_some()
}

/// A small image with two layers, as a layout in `dir`, tagged `1`.
pub fn image(dir: &Path) -> Image {
    let layer = |fill: u8| {
        let tar = vec![0; 1024 * usize::from(fill)];
        Layer::new(&tar, bowline::image::Compression::Gzip).unwrap()
    };
    let image = ImageBuilder::default().layer(layer(1)).layer(layer(2));
    let image = image.build();
    image.write_layout(dir, "1").unwrap();
    image
}

/// Pushes the layout in `dir` as `ns/os:1`.
pub fn push(dir: &Path, daemon: &Daemon, options: &[&str]) {
    let from = format!("oci:{}:1", dir.display());
    let to = format!("docker://{}/ns/os:1", daemon.host);
    let mut arguments = vec!["--insecure-policy", "copy", "--preserve-digests"];
    arguments.extend(options);
    arguments.extend([from.as_str(), to.as_str()]);
    run("skopeo", &arguments);
}
