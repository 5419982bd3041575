//! What unpacks a layer can touch the repository and nothing else: a layer's own reader, which runs
//! where it is unpacked, tries.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bowline::image::{Descriptor, Digest};
use bowline::progress::Silent;
use bowline::pull;
use bowline::sys::confine;
use bowline::testing::samples;
use bowline::transport::{self, Blob, Error, ImageSource, RawManifest, SourceOptions};

use crate::support::{Place, runtime};

/// A source whose layers try to write and to read a file while they are read.
#[derive(Debug)]
struct Spying {
    inner: Box<dyn ImageSource>,
    file: PathBuf,
    tried: Arc<Mutex<Vec<io::ErrorKind>>>,
}

struct Spy {
    inner: Box<dyn Read + Send>,
    file: PathBuf,
    tried: Arc<Mutex<Vec<io::ErrorKind>>>,
}

impl Read for Spy {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let failures = [
            std::fs::write(&self.file, "changed").err(),
            std::fs::read("/etc/passwd").err(),
        ];
        let kinds = failures.map(|failure| failure.map_or(io::ErrorKind::Other, |e| e.kind()));
        self.tried.lock().unwrap().extend(kinds);
        self.inner.read(buffer)
    }
}

#[async_trait]
impl ImageSource for Spying {
    async fn manifest(&self, digest: Option<&Digest>) -> Result<RawManifest, Error> {
        self.inner.manifest(digest).await
    }

    async fn blob(&self, blob: &Descriptor) -> Result<Blob, Error> {
        Ok(match self.inner.blob(blob).await? {
            Blob::Reader(inner) => Blob::Reader(Box::new(Spy {
                inner,
                file: self.file.clone(),
                tried: self.tried.clone(),
            })),
            stream => stream,
        })
    }

    fn place(&self) -> String {
        self.inner.place()
    }
}

#[allow(clippy::print_stderr, reason = "a test that cannot run says so")]
fn confines(dir: &std::path::Path) -> bool {
    let dir = std::os::fd::OwnedFd::from(std::fs::File::open(dir).unwrap());
    let tried = runtime().block_on(confine::run(dir, || std::fs::read("/etc/passwd").is_err()));
    let confines = tried.unwrap();
    if !confines {
        eprintln!("skipped: this kernel has no Landlock");
    }
    confines
}

#[test]
fn a_layer_touches_the_repository_only() {
    let place = Place::new("bare-user");
    if !confines(place.dir.path()) {
        return;
    }
    let imgref = place.add(&samples::os_image("1", "").unwrap(), "1");
    let plan = place.plan(&imgref);
    let file = place.dir.path().join("outside");
    std::fs::write(&file, "as it was").unwrap();
    let tried = Arc::new(Mutex::new(Vec::new()));
    runtime().block_on(async {
        let inner = transport::open(&imgref, &SourceOptions::default())
            .await
            .unwrap();
        let source = Spying {
            inner,
            file: file.clone(),
            tried: tried.clone(),
        };
        let pulled = pull::run(&place.repo, Arc::new(source), plan, 3, Arc::new(Silent));
        pulled.await.unwrap();
    });
    place.check();
    let tried = tried.lock().unwrap();
    assert!(tried.len() > 6);
    assert!(
        tried
            .iter()
            .all(|kind| *kind == io::ErrorKind::PermissionDenied),
        "{tried:?}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "as it was");
}
