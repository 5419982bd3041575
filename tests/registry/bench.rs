//! What the tests of this binary share: a registry with one image, a scratch root for
//! configuration files, options with short pauses, and what progress was told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::image::{Descriptor, Digest};
use bowline::progress::{Event, ProgressSink};
use bowline::testing::registry::TestRegistry;
use bowline::transport::{Blob, Error, RegistrySource, SourceOptions};
use futures_util::StreamExt;

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The longest pause between retries in tests.
pub const LONGEST_PAUSE: Duration = Duration::from_millis(3);

/// Bytes of the manifest that [`Bench`] serves.
pub const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;

#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<Event>>);

impl ProgressSink for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Recorder {
    /// Everything so far.
    pub fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    /// The pauses of all retries so far.
    pub fn pauses(&self) -> Vec<Duration> {
        let events = self.0.lock().unwrap();
        let pause = |event: &Event| match event {
            Event::Retry { wait, .. } => Some(*wait),
            _ => None,
        };
        events.iter().filter_map(pause).collect()
    }
}

/// A registry that serves [`MANIFEST`] as `ns/os:1`, and how to reach it.
#[derive(Debug)]
pub struct Bench {
    pub registry: TestRegistry,
    pub root: tempfile::TempDir,
    pub options: SourceOptions,
    pub events: Arc<Recorder>,
}

impl Bench {
    pub fn new() -> Self {
        let registry = TestRegistry::start();
        registry.add_manifest("ns/os", "1", MANIFEST, OCI_MANIFEST);
        let root = tempfile::tempdir().unwrap();
        let events = Arc::new(Recorder::default());
        let mut options = SourceOptions {
            retries: 2,
            first_pause: Duration::from_millis(1),
            longest_pause: LONGEST_PAUSE,
            progress: events.clone(),
            ..SourceOptions::default()
        };
        options.host.root = root.path().into();
        Self {
            registry,
            root,
            options,
            events,
        }
    }

    /// Gives up on a silent connection soon.
    pub fn impatient() -> Self {
        let mut bench = Self::new();
        bench.options.idle_timeout = Duration::from_millis(250);
        bench
    }

    /// Writes a file below the scratch root.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The source of `ns/os` with this tag or digest behind it (`:1`, `@sha256:…`).
    pub fn source(&self, suffix: &str) -> RegistrySource {
        self.try_source(suffix).unwrap()
    }

    pub fn try_source(&self, suffix: &str) -> Result<RegistrySource, Error> {
        let name = format!("{}/ns/os{suffix}", self.registry.host());
        RegistrySource::new(&name.parse().unwrap(), &self.options)
    }

    /// An error's text with the registry's address replaced by `HOST` and the root by `ROOT`.
    pub fn text(&self, error: &Error) -> String {
        let text = error.to_string().replace(&self.registry.host(), "HOST");
        text.replace(self.root.path().to_str().unwrap(), "ROOT")
    }

    /// Serves a blob of `size` bytes that differ from each other.
    pub fn blob(&self, size: usize) -> (Vec<u8>, Descriptor) {
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let digest = self.registry.add_blob(bytes.clone());
        let descriptor = descriptor(digest, Some(size as u64));
        (bytes, descriptor)
    }

    /// Methods and paths of the requests so far, and their statuses.
    pub fn requests(&self) -> Vec<(String, u16)> {
        let seen = self.registry.requests().into_iter();
        seen.map(|r| (format!("{} {}", r.method, r.path), r.status))
            .collect()
    }
}

pub fn descriptor(digest: Digest, size: Option<u64>) -> Descriptor {
    Descriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar".into(),
        digest,
        size,
        annotations: Default::default(),
    }
}

/// Reads a blob to its end; what came before an error comes with it.
pub async fn read(blob: Blob) -> (Vec<u8>, Option<Error>) {
    let Blob::Stream(mut stream) = blob else {
        panic!("a registry gives streams");
    };
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}
