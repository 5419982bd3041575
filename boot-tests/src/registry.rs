//! A registry on loopback for one scenario: images are released into it, requests are counted, and it
//! can go away, or speak TLS. Debian's docker-registry; its blobs are hard links into the cache, so
//! that a scenario starts with all images at no cost.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::images::REPOSITORY;
use crate::qemu::REGISTRY;
use crate::{place, tool};

/// For the registry to listen.
const START: Duration = Duration::from_secs(30);

/// For a guest to ask for a blob.
const BLOB: Duration = Duration::from_secs(60);

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    server: Option<Child>,
    port: u16,
    directory: TempDir,
    /// Whether it speaks TLS.
    secure: bool,
}

impl Registry {
    /// Starts a registry that has the images of all these storage directories.
    pub fn start(stock: &[PathBuf]) -> Result<Self> {
        let directory = TempDir::with_prefix_in("registry-", place::directory("registries")?)?;
        let storage = directory.path().join("storage");
        fs::create_dir(&storage)?;
        for stock in stock {
            link_storage(stock, &storage)?;
        }
        let mut registry = Self {
            server: None,
            port: 0,
            directory,
            secure: false,
        };
        registry.serve()?;
        Ok(registry)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the images are on disk.
    pub fn storage(&self) -> PathBuf {
        self.directory.path().join("storage")
    }

    /// The name of an image for programs of the host.
    pub fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// The same with its transport, for programs that want one.
    pub fn image(&self, name: &str) -> String {
        format!("docker://{}", self.reference(name))
    }

    /// Gives the image of a tag another tag as well, as somebody does who releases it.
    pub fn release(&self, from: &str, to: &str) -> Result<()> {
        let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        let names = [from, to].map(|tag| self.image(&format!("{REPOSITORY}:{tag}")));
        let mut arguments = vec!["copy", "--quiet", "--preserve-digests"];
        arguments.extend(plain);
        arguments.extend(names.iter().map(String::as_str));
        tool::run("skopeo", &arguments)?;
        Ok(())
    }

    /// The manifest digest of a tag of the repository of all images.
    pub fn digest(&self, tag: &str) -> Result<String> {
        let image = self.image(&format!("{REPOSITORY}:{tag}"));
        let arguments = [
            "inspect",
            "--tls-verify=false",
            "--no-tags",
            "--format",
            "{{.Digest}}",
        ];
        let said = tool::run("skopeo", &[&arguments[..], &[&image]].concat())?;
        Ok(said.trim().to_owned())
    }

    /// Ends, and leaves its storage under another path.
    pub fn keep(mut self, path: &Path) -> Result<()> {
        self.stop();
        fs::rename(self.storage(), path).context("Keeping a registry's storage")
    }

    /// Waits until somebody has asked for a blob since the registry started.
    pub fn wait_for_blob(&self) -> Result<()> {
        let (log, deadline) = (self.log(), Instant::now() + BLOB);
        while !fs::read_to_string(&log)?.contains("/blobs/sha256:") {
            ensure!(
                Instant::now() < deadline,
                "Nobody asks the registry for a blob"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Goes away: connections end, and new ones are refused.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // Both fail only for a process that has ended already.
            let _killed = server.kill();
            let _waited = server.wait();
        }
    }

    /// Speaks TLS from now on, with a new certificate for the name that guests have for it. Returns that
    /// of the CA, as PEM.
    pub fn secure(&mut self) -> Result<String> {
        let of_ca = ["-addext", "basicConstraints=critical,CA:TRUE"];
        self.certificate("ca", &of_ca)?;
        let (ca, ca_key) = (self.file("ca.crt"), self.file("ca.key"));
        let (address, _) = REGISTRY.split_once(':').context("No port")?;
        let name = format!("subjectAltName=IP:{address}");
        let of_server = ["-CA", &ca, "-CAkey", &ca_key, "-addext", &name];
        self.certificate("server", &of_server)?;
        self.secure = true;
        self.serve()?;
        Ok(fs::read_to_string(ca)?)
    }

    /// Makes `NAME.key` and `NAME.crt`, good for two days.
    fn certificate(&self, name: &str, more: &[&str]) -> Result<()> {
        let (config, subject) = (self.file("openssl.cnf"), format!("/CN={name}"));
        fs::write(&config, "[req]\ndistinguished_name = name\n[name]\n")?;
        let (key, cert) = (
            self.file(&format!("{name}.key")),
            self.file(&format!("{name}.crt")),
        );
        let new = "req -x509 -days 2 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        let files = [
            "-config", &config, "-keyout", &key, "-out", &cert, "-subj", &subject,
        ];
        let arguments: Vec<_> = new
            .split(' ')
            .chain(files)
            .chain(more.iter().copied())
            .collect();
        tool::run("openssl", &arguments)?;
        Ok(())
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Comes back under the same port.
    pub fn serve(&mut self) -> Result<()> {
        self.stop();
        let (config, log) = (self.directory.path().join("config.yml"), self.log());
        let (storage, port) = (self.storage(), self.port);
        let tls = match self.secure {
            true => format!(
                ", tls: {{certificate: {}, key: {}}}",
                self.file("server.crt"),
                self.file("server.key")
            ),
            false => String::new(),
        };
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"{tls}}}\n",
            storage.display()
        );
        fs::write(&config, text)?;
        let mut command = tool::tied("docker-registry");
        command
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command.stderr(fs::File::create(&log)?);
        self.server = Some(command.spawn().context("Starting docker-registry")?);
        self.port = listening_port(&log)?;
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits until the log names the port.
fn listening_port(log: &Path) -> Result<u16> {
    let deadline = Instant::now() + START;
    while Instant::now() < deadline {
        let text = fs::read_to_string(log)?;
        let after = text
            .split_once("listening on 127.0.0.1:")
            .map(|(_, rest)| rest);
        let digits = after.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        if let Some(port) = digits.and_then(|d| d.parse().ok()) {
            return Ok(port);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!(
        "docker-registry did not start: {}",
        fs::read_to_string(log)?
    )
}

/// Copies what is not there yet of a storage directory; blobs, which never change, as hard links.
fn link_storage(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&copy)?;
            link_storage(&path, &copy)?;
        } else if copy.exists() {
            continue;
        } else if entry.metadata()?.size() > 4096 {
            fs::hard_link(&path, &copy)?;
        } else {
            fs::copy(&path, &copy)?;
        }
    }
    Ok(())
}
