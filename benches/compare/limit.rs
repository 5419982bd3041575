//! What a pull must cost at least on this machine: each byte fetched, inflated and hashed once (as
//! blob, as layer, as file), each file written, and one sync at the end. An image comes in, plain
//! files in a directory go out. It keeps no repository, checks no signature, merges nothing, and
//! could recover from nothing.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, ensure};
use bowline::image::Digest;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const BUFFER: usize = 128 << 10;

/// Below what malloc asks the kernel for each time.
const FILE_BUFFER: usize = 64 << 10;

const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// A reader that hashes what passes.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    fn new(inner: R) -> Self {
        let hash = Sha256::new();
        Self { inner, hash }
    }

    fn hex(self) -> String {
        hex(self.hash)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

fn hex(hash: Sha256) -> String {
    let bytes = hash.finalize();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// An image in a registry without TLS, as `HOST:PORT/NAME:TAG`.
struct Place<'a> {
    host: &'a str,
    name: &'a str,
    tag: &'a str,
}

impl<'a> Place<'a> {
    fn parse(image: &'a str) -> Result<Self> {
        let (host, rest) = image.split_once('/').context("the image has no host")?;
        let (name, tag) = rest.rsplit_once(':').context("the image has no tag")?;
        Ok(Self { host, name, tag })
    }

    fn connect(&self) -> Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(self.host)?;
        stream.set_nodelay(true)?;
        Ok(BufReader::with_capacity(BUFFER, stream))
    }

    /// Asks for something on a connection that is kept; a reader of just its body goes out.
    fn get<'c>(
        &self,
        connection: &'c mut BufReader<TcpStream>,
        what: &str,
    ) -> Result<impl BufRead + use<'c>> {
        let (host, name) = (self.host, self.name);
        let request = format!(
            "GET /v2/{name}/{what} HTTP/1.1\r\nHost: {host}\r\nAccept: {MANIFESTS}\r\n\r\n"
        );
        connection.get_mut().write_all(request.as_bytes())?;
        let mut status = String::new();
        connection.read_line(&mut status)?;
        ensure!(status.starts_with("HTTP/1.1 200"), "{what}: {status}");
        let mut length = None;
        loop {
            let mut line = String::new();
            connection.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some((key, value)) if key.eq_ignore_ascii_case("content-length") => {
                    length = Some(value.parse()?);
                }
                Some(_) => {}
                None => break,
            }
        }
        Ok(connection.take(length.context("the answer has no length")?))
    }
}

/// A layer as the manifest and the config promise it.
#[derive(Debug)]
struct Layer {
    digest: String,
    zstd: bool,
    size: u64,
    diff_id: String,
}

/// Pulls the image into the directory `dir`, layers in parallel on all processors. Layers that a
/// run before has pulled there are not pulled again.
pub fn run(image: &str, dir: &Path) -> Result<()> {
    let place = Place::parse(image)?;
    let mut layers = layers(&place)?;
    fs::create_dir_all(dir)?;
    let list = dir.join("layers");
    let have = fs::read_to_string(&list).unwrap_or_default();
    layers.retain(|layer| !have.contains(&layer.digest));
    let now = layers.iter().map(|layer| format!("{}\n", layer.digest));
    let now: String = now.collect();
    // The largest last: they are taken from the end.
    layers.sort_by_key(|layer| layer.size);
    if !layers.is_empty() {
        pull(&place, layers, &dir.join(Digest::of(now.as_bytes()).hex()))?;
    }
    Ok(fs::write(list, have + &now)?)
}

fn pull(place: &Place<'_>, layers: Vec<Layer>, dir: &Path) -> Result<()> {
    for index in 0..=u8::MAX {
        fs::create_dir_all(dir.join(format!("{index:02x}")))?;
    }
    let queue = Mutex::new(layers);
    let threads = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let workers = (0..threads).map(|worker| {
            let queue = &queue;
            scope.spawn(move || work(place, queue, dir, worker))
        });
        let workers: Vec<_> = workers.collect();
        let results = workers.into_iter().map(|w| w.join());
        results.into_iter().try_for_each(|result| match result {
            Ok(result) => result,
            Err(_) => anyhow::bail!("a thread panicked"),
        })
    })?;
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}

fn layers(place: &Place<'_>) -> Result<Vec<Layer>> {
    let mut connection = place.connect()?;
    let mut json = |what: &str| -> Result<Value> {
        Ok(serde_json::from_reader(place.get(&mut connection, what)?)?)
    };
    let manifest = json(&format!("manifests/{}", place.tag))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let config = json(&format!("blobs/{}", text(&manifest["config"]["digest"])))?;
    let diff_ids = config["rootfs"]["diff_ids"].as_array();
    let layers = manifest["layers"].as_array().context("no layers")?;
    let pairs = layers.iter().zip(diff_ids.context("no diff_ids")?);
    let layers = pairs.map(|(layer, diff_id)| Layer {
        digest: text(&layer["digest"]),
        zstd: text(&layer["mediaType"]).ends_with("zstd"),
        size: layer["size"].as_u64().unwrap_or(0),
        diff_id: text(diff_id),
    });
    Ok(layers.collect())
}

fn work(place: &Place<'_>, queue: &Mutex<Vec<Layer>>, dir: &Path, worker: usize) -> Result<()> {
    let mut connection = place.connect()?;
    let mut files = 0;
    loop {
        let next = queue.lock().ok().and_then(|mut queue| queue.pop());
        let Some(layer) = next else { return Ok(()) };
        let body = place.get(&mut connection, &format!("blobs/{}", layer.digest))?;
        let mut blob = Hashing::new(body);
        let diff_id = {
            let blob = BufReader::with_capacity(BUFFER, &mut blob);
            let tar: Box<dyn Read + '_> = match layer.zstd {
                true => Box::new(zstd::Decoder::with_buffer(blob)?),
                false => Box::new(flate2::bufread::MultiGzDecoder::new(blob)),
            };
            let tar = Hashing::new(BufReader::with_capacity(BUFFER, tar));
            let mut archive = tar::Archive::new(tar);
            for entry in archive.entries()? {
                let entry = entry?;
                if entry.header().entry_type().is_file() {
                    files += 1;
                    let name = format!("{:02x}/{worker}-{files}", files % 256);
                    write(entry, &dir.join(name))?;
                }
            }
            let mut tar = archive.into_inner();
            io::copy(&mut tar, &mut io::sink())?;
            tar.hex()
        };
        io::copy(&mut blob, &mut io::sink())?;
        ensure!(layer.digest == format!("sha256:{}", blob.hex()), "a blob");
        ensure!(layer.diff_id == format!("sha256:{diff_id}"), "a layer");
    }
}

/// Writes a file and hashes it.
fn write(entry: impl Read, path: &Path) -> Result<String> {
    let mut entry = Hashing::new(entry);
    let mut file = BufWriter::with_capacity(FILE_BUFFER, File::create_new(path)?);
    io::copy(&mut entry, &mut file)?;
    file.flush()?;
    Ok(entry.hex())
}
