//! OCI image layouts (image-spec, image-layout.md), in a directory or in a tar: `index.json` leads
//! to a manifest by tag, blobs lie under `blobs/sha256`. Never writes into a layout.

use async_trait::async_trait;

use super::attachments::{self, Attachment, Collected, MAX_REFERRERS};
use super::files::Files;
use super::{Blob, Error, ImageSource, RawManifest};
use crate::image::{Descriptor, Digest, Index, ManifestOrIndex, StoredSignature, is_manifest_type};

const INDEX: &str = "index.json";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One image of an OCI layout.
#[derive(Debug)]
pub(super) struct OciLayout<F> {
    files: F,
    entry: Descriptor,
    /// What else there is, which may be signatures.
    others: Vec<Descriptor>,
}

impl<F: Files> OciLayout<F> {
    /// Finds the image `tag`, or the only image where there is no tag.
    pub(super) fn open(files: F, tag: Option<&str>) -> Result<Self, Error> {
        let raw = files.read_small(INDEX)?;
        let digest = Digest::of(&raw);
        let place = || format!("{}/{INDEX}", files.place());
        let parsed = ManifestOrIndex::parse(raw, None).map_err(|source| Error::Manifest {
            place: place(),
            digest,
            source,
        })?;
        let ManifestOrIndex::Index(index) = parsed else {
            return Err(Error::Refused {
                place: place(),
                detail: "it is a manifest, not the index of an OCI layout".into(),
            });
        };
        let entry = find(&index, tag, files.place())?;
        let others = index.entries.into_iter().map(|entry| entry.descriptor);
        let others = others.filter(|other| *other != entry).collect();
        Ok(Self {
            files,
            entry,
            others,
        })
    }

    /// Reads an entry that is tagged as signatures of one of `manifests`, or says that it belongs to
    /// one.
    fn attachment(
        &self,
        entry: &Descriptor,
        manifests: &[Digest],
        collected: &mut Collected,
    ) -> Result<(), Error> {
        let name = entry.annotations.get(REF_NAME);
        let is_tagged = |m: &Digest| name == Some(&attachments::signature_tag(m));
        let path = blob_path(&entry.digest);
        let place = format!("{}/{path}", self.files.place());
        let bytes = self.files.read_verified(&path, &entry.digest, entry.size)?;
        let attachment = Attachment::parse(&bytes, &place)?;
        let refers = attachment.subject.is_some_and(|m| manifests.contains(&m));
        if !refers && !manifests.iter().any(is_tagged) {
            return Ok(());
        }
        for layer in &attachment.layers {
            let path = blob_path(&layer.digest);
            let payload = self.files.read_verified(&path, &layer.digest, layer.size)?;
            let place = format!("{}/{path}", self.files.place());
            collected.push(attachments::signature(layer, payload, place)?)?;
        }
        Ok(())
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Picks an entry of `index.json`: by tag the first that has it, as containers/image does.
fn find(index: &Index, tag: Option<&str>, place: &str) -> Result<Descriptor, Error> {
    let entries = || index.entries.iter().map(|e| &e.descriptor);
    let name = |d: &Descriptor| d.annotations.get(REF_NAME).cloned();
    let Some(tag) = tag else {
        return match &*index.entries {
            [only] => Ok(only.descriptor.clone()),
            [] => Err(Error::NotFound {
                place: format!("an image in {place}"),
            }),
            _ => Err(Error::Config(format!(
                "{place} holds more than one image; name one of its tags behind the path: {}",
                listed(entries().filter_map(name))
            ))),
        };
    };
    let named: Vec<_> = entries()
        .filter(|d| name(d).as_deref() == Some(tag))
        .collect();
    let usable = named.iter().find(|d| is_manifest_type(&d.media_type));
    match (usable, named.first()) {
        (Some(found), _) => Ok((*found).clone()),
        (None, Some(other)) => Err(Error::Refused {
            place: format!("{place}:{tag}"),
            detail: format!("its media type {:?} is no image", other.media_type),
        }),
        (None, None) => Err(Error::NotFound {
            place: format!(
                "tag {tag:?} in {place} (which has {})",
                listed(entries().filter_map(name))
            ),
        }),
    }
}

fn listed(names: impl Iterator<Item = String>) -> String {
    match names.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "no tags".into(),
        some => some,
    }
}

#[async_trait]
impl<F: Files> ImageSource for OciLayout<F> {
    async fn manifest(&self, digest: Option<&Digest>) -> Result<RawManifest, Error> {
        let (digest, size, media_type) = match digest {
            Some(digest) => (digest, None, None),
            None => (
                &self.entry.digest,
                self.entry.size,
                Some(self.entry.media_type.clone()),
            ),
        };
        Ok(RawManifest {
            bytes: self.files.read_verified(&blob_path(digest), digest, size)?,
            media_type: media_type.filter(|t| !t.is_empty()),
        })
    }

    async fn blob(&self, blob: &Descriptor) -> Result<Blob, Error> {
        self.files.open_blob(&blob_path(&blob.digest), blob)
    }

    async fn signatures(&self, manifests: &[Digest]) -> Result<Vec<StoredSignature>, Error> {
        let mut collected = Collected::default();
        for entry in self.others.iter().take(MAX_REFERRERS) {
            self.attachment(entry, manifests, &mut collected)?;
        }
        Ok(collected.found)
    }

    fn place(&self) -> String {
        self.files.place().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::Directory;
    use super::*;
    use crate::image::SignatureContent;
    use crate::image::vectors::{list, load, text};

    #[test]
    fn names_agree_with_containers_image() {
        let Some((folder, table)) = load("manifests") else {
            return;
        };
        for case in list(&table, "layout_names") {
            let dir = folder.join(text(case, "layout"));
            let files = Directory::open(dir.to_str().unwrap()).unwrap();
            let tag = Some(text(case, "name")).filter(|t| !t.is_empty());
            let found = OciLayout::open(files, tag).map(|layout| layout.entry);
            match text(case, "expect") {
                "ok" => {
                    let entry = found.unwrap();
                    assert_eq!(entry.digest.to_string(), text(case, "digest"), "{case:?}");
                    assert_eq!(entry.media_type, text(case, "media_type"), "{case:?}");
                }
                _ => assert!(found.is_err(), "{case:?}"),
            }
        }
    }

    /// A layout whose index.json has these entries: tag, media type, digest, size.
    fn layout(entries: &[(&str, &str, Digest, i64)]) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        let entries = entries.iter().map(|(tag, media_type, digest, size)| {
            serde_json::json!({
                "mediaType": media_type, "digest": digest, "size": size,
                "annotations": { REF_NAME: tag },
            })
        });
        let entries: Vec<_> = entries.collect();
        let index = serde_json::json!({"schemaVersion": 2, "manifests": entries});
        std::fs::write(temp.path().join(INDEX), index.to_string()).unwrap();
        std::fs::create_dir_all(temp.path().join("blobs/sha256")).unwrap();
        temp
    }

    fn open(temp: &tempfile::TempDir, tag: Option<&str>) -> Result<OciLayout<Directory>, Error> {
        OciLayout::open(Directory::open(temp.path().to_str().unwrap())?, tag)
    }

    const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

    #[test]
    fn says_which_tags_there_are() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let temp = layout(&[("a", TYPE, one, 1), ("b", TYPE, two, 1)]);
        let words = |tag| open(&temp, tag).unwrap_err().to_string();
        assert!(words(None).ends_with("name one of its tags behind the path: a, b"));
        assert!(words(Some("c")).contains("(which has a, b)"));
        assert!(open(&layout(&[]), None).is_err());
    }

    /// Attachments belong to an image by their tag or by their subject.
    #[tokio::test]
    async fn attachments_of_the_image_are_its_signatures() {
        let image = Digest::of(b"image");
        let other = Digest::of(b"other");
        let attachment = |payload: &str, subject: Option<Digest>| {
            let layer = serde_json::json!({
                "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
                "digest": Digest::of(payload.as_bytes()), "size": payload.len(),
            });
            let subject = subject.map(|digest| serde_json::json!({"digest": digest, "size": 5}));
            serde_json::json!({"layers": [layer], "subject": subject}).to_string()
        };
        let tag = attachments::signature_tag(&image);
        let tag_of_other = attachments::signature_tag(&other);
        let manifests = [
            (&*tag, attachment("by tag", None)),
            ("", attachment("by subject", Some(image))),
            ("", attachment("of another", Some(other))),
            (&*tag_of_other, attachment("of another, too", None)),
        ];
        let entries = manifests.iter().map(|(tag, text)| {
            let size = i64::try_from(text.len()).unwrap();
            (*tag, TYPE, Digest::of(text.as_bytes()), size)
        });
        let entries: Vec<_> = [("a", TYPE, image, 5)].into_iter().chain(entries).collect();
        let temp = layout(&entries);
        let payloads = ["by tag", "by subject"].map(str::to_owned);
        let blobs = manifests.iter().map(|(_, text)| text).chain(&payloads);
        for blob in blobs {
            let path = blob_path(&Digest::of(blob.as_bytes()));
            std::fs::write(temp.path().join(path), blob).unwrap();
        }
        let found = open(&temp, Some("a")).unwrap().signatures(&[image]).await;
        let payload = |signature: StoredSignature| match signature.content {
            SignatureContent::Attachment { payload, .. } => String::from_utf8(payload).unwrap(),
            SignatureContent::File(_) => panic!("a file"),
        };
        let found: Vec<_> = found.unwrap().into_iter().map(payload).collect();
        assert_eq!(found, payloads);
        // One that was changed is no signature, and no reason to believe the others.
        let path = blob_path(&Digest::of(b"by subject"));
        std::fs::write(temp.path().join(path), "by Subject").unwrap();
        let found = open(&temp, Some("a")).unwrap().signatures(&[image]).await;
        assert!(matches!(found, Err(Error::Mismatch { .. })), "{found:?}");
    }

    #[test]
    fn an_index_that_is_none_is_refused() {
        let temp = layout(&[]);
        let large = " ".repeat(crate::image::MAX_MANIFEST_BYTES as usize + 1);
        for (text, words) in [
            ("{", "not valid JSON"),
            (
                r#"{"manifests":[{"digest":"sha256:../..","size":1}]}"#,
                "hex digits",
            ),
            (&large, "larger than"),
        ] {
            std::fs::write(temp.path().join(INDEX), text).unwrap();
            let error = open(&temp, None).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        std::fs::remove_file(temp.path().join(INDEX)).unwrap();
        assert!(matches!(open(&temp, None), Err(Error::NotFound { .. })));
    }

    #[tokio::test]
    async fn blobs_that_are_not_what_was_promised_are_refused() {
        let digest = Digest::of(b"right");
        for (content, size) in [(b"wrong", 5), (b"right", 4)] {
            let temp = layout(&[("a", TYPE, digest, size)]);
            std::fs::write(temp.path().join(blob_path(&digest)), content).unwrap();
            let source = open(&temp, None).unwrap();
            let error = source.manifest(None).await.unwrap_err();
            assert!(matches!(error, Error::Mismatch { .. }), "{error}");
            let blob = Descriptor {
                size: Some(4),
                ..source.entry.clone()
            };
            let error = source.blob(&blob).await.unwrap_err();
            assert!(matches!(error, Error::Mismatch { .. }), "{error}");
            let missing = source.manifest(Some(&Digest::of(b"none"))).await;
            assert!(matches!(missing, Err(Error::NotFound { .. })));
        }
    }
}
