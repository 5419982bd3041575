//! A registry in this process, for tests: manifests and blobs in memory or from an OCI layout
//! come in, HTTP on a free loopback port goes out, with faults where a test asks for them.
//! Never takes a push, never checks what it serves.

mod access;
mod fault;
mod http;
mod range;
mod serve;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use access::{Access, BearerRules};
pub use fault::Fault;

use crate::image::Digest;
use fault::Planned;

/// One request that the registry took, in order of arrival.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`, `POST`.
    pub method: String,
    /// Path with query, as it came.
    pub path: String,
    /// Header names in lower case, and values.
    pub headers: HashMap<String, String>,
    /// Body of the request.
    pub body: String,
    /// Status that was answered; 0 where none was.
    pub status: u16,
    /// Body bytes that were sent.
    pub bytes: u64,
}

impl Seen {
    /// The value of a header, its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

#[derive(Debug, Clone)]
enum Content {
    Memory(Bytes),
    File(PathBuf),
}

impl Content {
    fn read(&self) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::File(path) => std::fs::read(path).map(Bytes::from),
        }
    }
}

#[derive(Debug, Clone)]
struct StoredManifest {
    bytes: Bytes,
    media_type: String,
}

#[derive(Debug, Default)]
struct State {
    blobs: HashMap<Digest, Content>,
    manifests: HashMap<(String, String), StoredManifest>,
    faults: Vec<Planned>,
    access: Access,
    tokens: HashMap<String, u32>,
    tokens_given: u32,
    requests: Vec<Seen>,
}

/// A running registry; dropping it stops it.
#[derive(Debug)]
pub struct TestRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TestRegistry {
    /// Starts an empty registry on a free port of 127.0.0.1, on a thread of its own: tests may
    /// block. Panics where the machine has no loopback.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("non-blocking mode");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let (stop, stopped) = oneshot::channel();
        let shared = state.clone();
        let thread = std::thread::spawn(move || run(listener, shared, stopped));
        Self {
            address,
            state,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// `127.0.0.1:PORT`: the host of image names.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Serves a blob under its digest, in every repository.
    pub fn add_blob(&self, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.state().blobs.insert(digest, Content::Memory(bytes));
        digest
    }

    /// Serves a manifest or index as `name:reference` and by digest.
    pub fn add_manifest(
        &self,
        name: &str,
        reference: &str,
        bytes: impl Into<Bytes>,
        media_type: &str,
    ) -> Digest {
        let stored = StoredManifest {
            bytes: bytes.into(),
            media_type: media_type.into(),
        };
        let digest = Digest::of(&stored.bytes);
        let mut state = self.state();
        for reference in [reference.to_owned(), digest.to_string()] {
            state
                .manifests
                .insert((name.into(), reference), stored.clone());
        }
        digest
    }

    /// Serves an OCI layout directory as repository `name`: entries of its index under their
    /// `org.opencontainers.image.ref.name` (else `latest`), its blobs as they lie on disk.
    pub fn add_layout(&self, name: &str, layout: &Path) -> io::Result<()> {
        let blobs = layout.join("blobs/sha256");
        for entry in std::fs::read_dir(&blobs)? {
            let path = entry?.path();
            let hex = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
            if let Ok(digest) = Digest::from_hex(hex) {
                self.state().blobs.insert(digest, Content::File(path));
            }
        }
        let index = std::fs::read(layout.join("index.json"))?;
        let index: serde_json::Value = serde_json::from_slice(&index)?;
        for entry in index["manifests"].as_array().into_iter().flatten() {
            let tag = entry["annotations"]["org.opencontainers.image.ref.name"]
                .as_str()
                .unwrap_or("latest");
            let digest = entry["digest"]
                .as_str()
                .unwrap_or("")
                .replace("sha256:", "");
            let media_type = entry["mediaType"].as_str().unwrap_or("");
            self.add_manifest(name, tag, std::fs::read(blobs.join(digest))?, media_type);
        }
        Ok(())
    }

    /// From now on every request whose path holds `path_part` meets the fault.
    pub fn fault(&self, path_part: &str, fault: Fault) {
        self.plan(path_part, fault, u32::MAX);
    }

    /// The next `times` requests whose path holds `path_part` meet the fault.
    pub fn fault_times(&self, path_part: &str, fault: Fault, times: u32) {
        self.plan(path_part, fault, times);
    }

    /// Forgets every fault.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Asks for credentials from now on; tokens given so far are void.
    pub fn require(&self, access: Access) {
        let mut state = self.state();
        state.access = access;
        state.tokens.clear();
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.state().requests.clone()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.state().requests.clear();
    }

    fn plan(&self, path_part: &str, fault: Fault, left: u32) {
        self.state().faults.push(Planned {
            path_part: path_part.into(),
            fault,
            left,
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panicked while serving")
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the server has shown itself in the test already.
            let _ = thread.join();
        }
    }
}

fn run(listener: std::net::TcpListener, state: Arc<Mutex<State>>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).expect("a listener");
        let accept = async {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve::connection(stream, state.clone()));
            }
        };
        tokio::select! {
            () = accept => {}
            _ = stopped => {}
        }
    });
}
