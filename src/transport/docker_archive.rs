//! What `docker save` and `skopeo copy … docker-archive:PATH` write: a tar with `manifest.json`,
//! configs and uncompressed layers. The manifest that such an image never had is made up, as
//! containers/image does: each layer's digest is its diff_id. Never trusts that a layer is what
//! its diff_id says: whoever reads it verifies.

use std::collections::HashMap;
use std::io::Read;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;

use super::files::{Files, OpenFile};
use super::{Blob, Error, ImageSource, RawManifest};
use crate::image::{Descriptor, Digest, ImageConfig, RegistryName};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// One image of an archive, as `manifest.json` describes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// One image of a docker archive.
#[derive(Debug)]
pub(super) struct DockerArchive<F> {
    files: F,
    manifest: Vec<u8>,
    config: (Digest, String),
    /// Names of the members by digest.
    layers: HashMap<Digest, String>,
}

impl<F: Files> DockerArchive<F> {
    /// Finds the image: `NAME:TAG`, `@INDEX`, or the only one.
    pub(super) fn open(files: F, wanted: Option<&str>) -> Result<Self, Error> {
        let raw = files.read_small("manifest.json")?;
        let items: Vec<Item> = serde_json::from_slice(&raw).map_err(|error| {
            refused(&files, &format!("its manifest.json is not valid: {error}"))
        })?;
        let item = choose(items, wanted, files.place())?;
        let raw_config = files.read_small(&item.config)?;
        let digest = Digest::of(&raw_config);
        let size = raw_config.len();
        let config = ImageConfig::parse(raw_config).map_err(|source| Error::Manifest {
            place: format!("{}/{}", files.place(), item.config),
            digest,
            source,
        })?;
        let (diff_ids, layers) = (&config.diff_ids, &item.layers);
        if diff_ids.len() != layers.len() {
            let (d, l) = (diff_ids.len(), layers.len());
            let detail = format!("its manifest.json has {l} layers but the config has {d}");
            return Err(refused(&files, &detail));
        }
        let sizes = layers.iter().map(|name| plain_size(&files, name));
        let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
        let descriptors = diff_ids
            .iter()
            .zip(sizes)
            .map(|(id, size)| json!({"mediaType": LAYER, "size": size, "digest": id.to_string()}));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "size": size, "digest": digest.to_string()},
            "layers": descriptors.collect::<Vec<_>>(),
        });
        Ok(Self {
            manifest: manifest.to_string().into_bytes(),
            layers: diff_ids.iter().copied().zip(item.layers).collect(),
            config: (digest, item.config),
            files,
        })
    }
}

fn refused(files: &impl Files, detail: &str) -> Error {
    Error::Refused {
        place: files.place().to_owned(),
        detail: detail.into(),
    }
}

/// Picks the image by tag or number; tags are compared in full (`docker.io/library/a:latest`).
fn choose(mut items: Vec<Item>, wanted: Option<&str>, place: &str) -> Result<Item, Error> {
    let tags = || {
        let tags = items.iter().flat_map(|i| i.repo_tags.iter().flatten());
        match tags.map(String::as_str).collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "no tags".into(),
            some => some,
        }
    };
    let count = items.len();
    let index = match wanted {
        None if count == 1 => Some(0),
        None if count > 1 => {
            return Err(Error::Config(format!(
                "{place} holds {count} images; name one behind the path, by tag or as @0 to @{}: {}",
                count - 1,
                tags()
            )));
        }
        None => None,
        Some(text) => match text.strip_prefix('@') {
            Some(number) => number.parse().ok().filter(|n| *n < count),
            None => {
                let name = whole_name(text)
                    .ok_or_else(|| Error::Config(format!("{text:?} is no image name")))?;
                let tagged = |i: &Item| {
                    let mut tags = i.repo_tags.iter().flatten();
                    tags.any(|tag| whole_name(tag).as_ref() == Some(&name))
                };
                items.iter().position(tagged)
            }
        },
    };
    match index {
        Some(index) => Ok(items.swap_remove(index)),
        None => Err(Error::NotFound {
            place: format!(
                "image {:?} in {place} (which has {})",
                wanted.unwrap_or(""),
                tags()
            ),
        }),
    }
}

fn whole_name(text: &str) -> Option<RegistryName> {
    text.parse().ok()
}

/// Size of a layer's tar. One that is compressed in the archive is read for it: the manifest that other
/// programs make up for the archive says it, too, and whoever copies the layer has to.
fn plain_size(files: &impl Files, name: &str) -> Result<u64, Error> {
    let unreadable = |source| Error::Io {
        place: format!("{}/{name}", files.place()),
        source,
    };
    let file = files.open(name)?;
    let (mut reader, compressed) = plain(file.reader).map_err(unreadable)?;
    match compressed {
        true => std::io::copy(&mut reader, &mut std::io::sink()).map_err(unreadable),
        false => Ok(file.size),
    }
}

/// The content of a layer's file uncompressed, and whether it was compressed.
fn plain(mut reader: Box<dyn Read + Send>) -> std::io::Result<(Box<dyn Read + Send>, bool)> {
    let mut magic = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut magic)?;
    let (gzip, zstd) = (magic.starts_with(&GZIP_MAGIC), magic == ZSTD_MAGIC);
    let whole = std::io::Cursor::new(magic).chain(reader);
    Ok(match (gzip, zstd) {
        (true, _) => (Box::new(flate2::read::MultiGzDecoder::new(whole)), true),
        (_, true) => (Box::new(zstd::Decoder::new(whole)?), true),
        _ => (Box::new(whole), false),
    })
}

#[async_trait]
impl<F: Files> ImageSource for DockerArchive<F> {
    async fn manifest(&self, digest: Option<&Digest>) -> Result<RawManifest, Error> {
        match digest {
            Some(digest) if *digest != Digest::of(&self.manifest) => Err(Error::NotFound {
                place: format!("{digest} in {}", self.files.place()),
            }),
            _ => Ok(RawManifest {
                bytes: self.manifest.clone(),
                media_type: Some(MANIFEST.into()),
            }),
        }
    }

    async fn blob(&self, blob: &Descriptor) -> Result<Blob, Error> {
        if blob.digest == self.config.0 {
            return self.files.open_blob(&self.config.1, blob);
        }
        let name = self
            .layers
            .get(&blob.digest)
            .ok_or_else(|| Error::NotFound {
                place: format!("layer {} in {}", blob.digest, self.files.place()),
            })?;
        let OpenFile { reader, .. } = self.files.open(name)?;
        let (reader, _) = plain(reader).map_err(|source| Error::Io {
            place: format!("{}/{name}", self.files.place()),
            source,
        })?;
        Ok(Blob::Reader(reader))
    }

    fn place(&self) -> String {
        self.files.place().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::Directory;
    use super::*;
    use crate::image::VerifyingReader;

    const LAYER_TAR: &[u8] = b"not really a tar";

    fn config(diff_ids: &[Digest]) -> String {
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": diff_ids}})
            .to_string()
    }

    /// The files of an archive, in a directory.
    fn archive(manifest: &str, layer: &[u8]) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(temp.path().join(name), bytes).unwrap();
        write("manifest.json", manifest.as_bytes());
        write("config.json", config(&[Digest::of(LAYER_TAR)]).as_bytes());
        write("layer.tar", layer);
        temp
    }

    fn open(
        temp: &tempfile::TempDir,
        wanted: Option<&str>,
    ) -> Result<DockerArchive<Directory>, Error> {
        DockerArchive::open(Directory::open(temp.path().to_str().unwrap())?, wanted)
    }

    fn item(tags: &str, layers: &str) -> String {
        format!(r#"{{"Config":"config.json","RepoTags":{tags},"Layers":{layers}}}"#)
    }

    #[test]
    fn images_are_found_by_tag_and_by_number() {
        let items = [
            item(r#"["debian:12","quay.io/a:1"]"#, r#"["layer.tar"]"#),
            item("null", r#"["layer.tar"]"#),
        ];
        let temp = archive(&format!("[{}]", items.join(",")), LAYER_TAR);
        for wanted in [
            "debian:12",
            "docker.io/library/debian:12",
            "quay.io/a:1",
            "@0",
            "@1",
        ] {
            assert!(open(&temp, Some(wanted)).is_ok(), "{wanted}");
        }
        let words = |wanted| open(&temp, wanted).unwrap_err().to_string();
        for wanted in ["debian", "quay.io/a:2", "@2", "@-1", "@"] {
            assert!(
                words(Some(wanted)).contains("(which has debian:12, quay.io/a:1)"),
                "{wanted}"
            );
        }
        assert!(words(Some("A B")).contains("is no image name"));
        assert!(words(None).contains("@0 to @1: debian:12, quay.io/a:1"));
    }

    #[test]
    fn archives_that_make_no_sense_are_refused() {
        for (manifest, words) in [
            ("[".to_owned(), "manifest.json is not valid"),
            ("[]".into(), "which has no tags"),
            (
                format!("[{}]", item("null", "[]")),
                "0 layers but the config has 1",
            ),
            (
                format!("[{}]", item("null", r#"["../layer.tar"]"#)),
                "leads out of",
            ),
            (
                format!("[{}]", item("null", r#"["none"]"#)),
                "none does not exist",
            ),
            (
                format!("[{}]", item("null", "[]").replace("config", "manifest")),
                "image config",
            ),
        ] {
            let error = open(&archive(&manifest, LAYER_TAR), None).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn layers_that_are_compressed_in_the_archive_come_out_plain() {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(LAYER_TAR).unwrap();
        let manifest = format!("[{}]", item("null", r#"["layer.tar"]"#));
        let size = LAYER_TAR.len() as u64;
        for layer in [
            LAYER_TAR.to_vec(),
            gzip.finish().unwrap(),
            zstd::encode_all(LAYER_TAR, 3).unwrap(),
        ] {
            let temp = archive(&manifest, &layer);
            let source = open(&temp, None).unwrap();
            let raw = source.manifest(None).await.unwrap().bytes;
            let json: serde_json::Value = serde_json::from_slice(&raw).unwrap();
            assert_eq!(json["layers"][0]["size"], size);
            let blob = Descriptor {
                media_type: LAYER.into(),
                digest: Digest::of(LAYER_TAR),
                size: Some(size),
                annotations: Default::default(),
            };
            let Blob::Reader(reader) = source.blob(&blob).await.unwrap() else {
                panic!("archives are files");
            };
            VerifyingReader::new(reader, &blob).finish().unwrap();
        }
    }
}
