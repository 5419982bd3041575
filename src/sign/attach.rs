//! Sigstore attachments (cosign's SIGNATURE_SPEC): a payload and a key come in, a signature in the image's
//! own repository, or as a file, goes out, beside those that are there. Two who sign one image at once may
//! lose one signature: registries cannot change a tag only if it still means the same.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::SignError;
use super::key::{KeyError, PrivateKey};
use crate::image::{Digest, ImageReference, RegistryName, Transport};
use crate::transport::push::{Destination, PushOptions, PushedManifest};
use crate::transport::{
    Error, ImageSource as _, MAX_SIGNATURES, RegistrySource, SIGSTORE_LAYER, SourceOptions,
    signature_tag,
};
use crate::trust::sigstore::SIGNATURE;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A signature by a key.
#[derive(Debug)]
pub(super) struct Attachment {
    payload: Vec<u8>,
    /// Base64.
    signature: String,
}

impl Attachment {
    /// Signs.
    pub(super) fn new(key: &PrivateKey, payload: Vec<u8>) -> Result<Self, KeyError> {
        let signature = STANDARD.encode(key.sign(&payload)?);
        Ok(Self { payload, signature })
    }

    /// The file that `dir:` has of it (containers/image, docs/signature-protocols.md).
    pub(super) fn to_file(&self) -> Vec<u8> {
        let json = json!({
            "mimeType": SIGSTORE_LAYER,
            "payload": STANDARD.encode(&self.payload),
            "annotations": {SIGNATURE: self.signature},
        });
        [b"\0sigstore-json\n", json.to_string().as_bytes()].concat()
    }

    fn layer(&self) -> Value {
        json!({
            "mediaType": SIGSTORE_LAYER,
            "digest": Digest::of(&self.payload).to_string(),
            "size": self.payload.len(),
            "annotations": {SIGNATURE: self.signature},
        })
    }

    /// Puts it beside the image in `name`'s repository that has this digest, and gives its place.
    pub(super) async fn push(
        &self,
        name: &RegistryName,
        digest: &Digest,
        options: &SourceOptions,
    ) -> Result<String> {
        let beside = RegistryName {
            tag: Some(signature_tag(digest)),
            digest: None,
            ..name.clone()
        };
        let mut layers = layers(&beside, options).await?;
        if layers.len() >= MAX_SIGNATURES {
            return Err(SignError::Full(beside.to_string()).into());
        }
        layers.push(self.layer());
        let imgref = ImageReference {
            transport: Transport::Registry,
            name: beside.to_string(),
        };
        write(&imgref, &self.payload, &layers, options).await?;
        Ok(imgref.to_string())
    }
}

async fn write(
    imgref: &ImageReference,
    payload: &[u8],
    layers: &[Value],
    options: &SourceOptions,
) -> Result<(), Error> {
    let push = PushOptions {
        source: options.clone(),
        mount_from: Vec::new(),
    };
    let destination = Destination::open(imgref, &push).await?;
    let config = config(layers);
    for blob in [payload, &config] {
        let (digest, size) = (Digest::of(blob), blob.len() as u64);
        let blob = Bytes::copy_from_slice(blob);
        destination.put_blob(&digest, size, &blob).await?;
    }
    let manifest = manifest(&config, layers);
    let pushed = PushedManifest {
        bytes: &manifest,
        digest: &Digest::of(&manifest),
        media_type: MANIFEST,
    };
    destination.put_manifest(&pushed).await
}

/// The signatures that are there, as they stand in their manifest.
async fn layers(beside: &RegistryName, options: &SourceOptions) -> Result<Vec<Value>> {
    #[derive(Deserialize)]
    struct Wire {
        layers: Vec<Value>,
    }
    let raw = match RegistrySource::itself(beside, options)?
        .manifest(None)
        .await
    {
        Ok(raw) => raw,
        Err(Error::NotFound { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let wire: Wire = serde_json::from_slice(&raw.bytes)
        .with_context(|| format!("{beside} is no list of signatures; delete that tag first"))?;
    Ok(wire.layers)
}

/// A config with a list of the layers, which are not compressed.
fn config(layers: &[Value]) -> Vec<u8> {
    let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config = json!({
        "architecture": "",
        "os": "",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": digests},
    });
    config.to_string().into_bytes()
}

fn manifest(config: &[u8], layers: &[Value]) -> Vec<u8> {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": CONFIG,
            "digest": Digest::of(config).to_string(),
            "size": config.len(),
        },
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}
