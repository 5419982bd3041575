//! The ostree commit at the beginning of an image's first layer, and what is noted about it: the layer's
//! tar stream comes in, the bytes of both go out. Reads no further than that, and writes nothing.
//!
//! Order of the entries: docs of ostree-ext, "tar format"; the signatures stand behind the commit at once.

use std::io::BufRead;

use super::LayerError;
use super::commit_check::{CommitSigner, CommitUnsigned};
use super::import_ostree::{Place, place, read_detached, read_object, refuse};
use super::object::ObjectKind;
use super::store::Repo;
use super::tar_stream::TarStream;
use crate::image::Digest;

/// A commit whose bytes give its name, and what the layer has beside it.
#[derive(Debug, PartialEq, Eq)]
pub struct BaseCommit {
    /// Its name.
    pub commit: Digest,
    data: Vec<u8>,
    /// Its detached metadata, where signatures are.
    noted: Option<Vec<u8>>,
}

impl BaseCommit {
    /// Reads the commit off the beginning of a base layer, by the rules by which such a layer is imported.
    pub fn read(input: impl BufRead) -> Result<Self, LayerError> {
        let mut tar = TarStream::new(input, None);
        let mut found: Option<Self> = None;
        while let Some(entry) = tar.next_entry()? {
            match (&mut found, place(&entry)?) {
                (_, Place::Nowhere) | (None, Place::XattrSet(_)) => {}
                (None, Place::Object(commit, "commit")) => {
                    found = Some(Self {
                        commit,
                        data: read_object(ObjectKind::Commit, commit, &entry, &mut tar)?,
                        noted: None,
                    });
                }
                (None, Place::Object(..)) => {
                    return Err(refuse(
                        &entry.display(),
                        "the commit is not the first object",
                    ));
                }
                (Some(found), Place::Object(name, "commitmeta")) if name == found.commit => {
                    found.noted = Some(read_detached(&entry, &mut tar)?);
                    break;
                }
                (Some(_), _) => break,
            }
        }
        found.ok_or_else(|| refuse("the end of the layer", "the commit layer has no commit"))
    }
}

impl Repo {
    /// Verifies a commit that is not in the repository through one of its remotes, and tells who signed it.
    pub fn verify_base(
        &self,
        base: &BaseCommit,
        remote: &str,
    ) -> Result<Vec<CommitSigner>, CommitUnsigned> {
        self.signers(remote, base.commit, &base.data, base.noted.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ostree::glib::prelude::*;

    use super::*;
    use crate::testing::fixture::{Fixture, OS};

    struct Signed {
        name: Digest,
        commit: Vec<u8>,
        noted: Vec<u8>,
    }

    fn signed() -> Signed {
        let fixture = Fixture::new().unwrap();
        let checksum = fixture.commit(OS).unwrap();
        let repo = Repo::open(fixture.path()).unwrap();
        repo.set_vouched(&checksum, "x").unwrap();
        let name = Digest::from_hex(&checksum).unwrap();
        let bytes = |kind| repo.object_bytes(name, kind).unwrap().unwrap();
        Signed {
            name,
            commit: bytes(ObjectKind::Commit),
            noted: bytes(ObjectKind::CommitMeta),
        }
    }

    fn object(name: Digest, extension: &str) -> String {
        let (dir, rest) = (&name.hex()[..2], &name.hex()[2..]);
        format!("sysroot/ostree/repo/objects/{dir}/{rest}.{extension}")
    }

    fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            tar.append_data(&mut header, Path::new(path), *content)
                .unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn the_commit_and_what_follows_it_at_once_are_found() {
        let signed = signed();
        let (commit, noted) = (
            object(signed.name, "commit"),
            object(signed.name, "commitmeta"),
        );
        let (commit, noted) = ((&*commit, &*signed.commit), (&*noted, &*signed.noted));
        let config = ("sysroot/ostree/repo/config", &b"[core]"[..]);
        let other = object(Digest::of(b""), "commitmeta");
        let other = (&*other, &*signed.noted);
        let tree = object(Digest::of(b""), "dirtree");
        let tree = (&*tree, &b"never read"[..]);
        let is_noted = Some(signed.noted.clone());
        for (entries, expected) in [
            (vec![commit, noted], is_noted.clone()),
            (vec![config, commit, config, noted, tree], is_noted),
            (vec![commit], None),
            (vec![commit, other, noted], None),
            (vec![commit, tree, noted], None),
        ] {
            let found = BaseCommit::read(&*tar(&entries)).unwrap();
            assert_eq!((found.commit, &found.data), (signed.name, &signed.commit));
            assert_eq!(found.noted, expected, "{entries:?}");
        }
    }

    #[test]
    fn layers_that_do_not_begin_with_a_commit_are_refused() {
        let signed = signed();
        let (commit, noted) = (
            object(signed.name, "commit"),
            object(signed.name, "commitmeta"),
        );
        let (good, bad) = (&*signed.commit, &signed.commit[1..]);
        let wrong = object(Digest::of(bad), "commit");
        for (entries, words) in [
            (vec![], "has no commit"),
            (vec![("usr/bin/sh", good)], "has no commit"),
            (
                vec![(&*noted, &*signed.noted), (&commit, good)],
                "not the first",
            ),
            (vec![(&*commit, bad)], "has the content of"),
            (vec![(&*wrong, bad)], "is "),
            (vec![(&*commit, good), (&noted, &b"garbage"[..])], "is "),
        ] {
            let error = BaseCommit::read(&*tar(&entries)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let cut = &tar(&[(&commit, good)])[..600];
        assert!(BaseCommit::read(cut).is_err());
    }

    #[test]
    fn a_repository_without_the_commit_can_verify_it() {
        let (signed, fixture) = (signed(), Fixture::new().unwrap());
        let repo = Repo::open(fixture.path()).unwrap();
        let options = ostree::glib::VariantDict::new(None);
        options.insert_value("gpg-verify", &false.to_variant());
        let none = ostree::gio::Cancellable::NONE;
        let added = repo
            .ostree()
            .remote_add("os", Some("https://x"), Some(&options.end()), none);
        added.unwrap();
        let path = object(signed.name, "commit");
        let base = BaseCommit::read(&*tar(&[(&path, &signed.commit)])).unwrap();
        let problem = |base: &BaseCommit, remote| {
            let error = repo.verify_base(base, remote).unwrap_err();
            assert_eq!(error.commit, signed.name.hex());
            error.problem
        };
        assert_eq!(problem(&base, "os"), "it has no signature");
        let noted = Some(signed.noted.clone());
        let base = BaseCommit { noted, ..base };
        assert!(problem(&base, "os").contains("asks for no signature"));
        assert!(problem(&base, "other").contains("not found"));
    }
}
