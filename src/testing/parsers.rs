//! Every parser of bytes that others write, as functions that take any bytes: what fuzzing runs, and
//! what the committed corpora are run through by `cargo test`. Only a panic would be wrong.

use std::str;

use crate::boot::entry::{BlsEntry, EntryName};
use crate::boot::kargs::KernelArgs;
use crate::boot::{Grubenv, kargs_d};
use crate::image::{ImageConfig, ImageReference, ManifestOrIndex, OstreeImageReference};
use crate::sysroot::Origin;
use crate::trust::Policy;
use crate::{pull, repo, transport, trust};

/// A parser that can be given anything.
#[derive(Debug, Clone, Copy)]
pub struct Parser {
    /// The name of its fuzz target and of its corpus.
    pub name: &'static str,
    /// Parses.
    pub run: fn(&[u8]),
}

macro_rules! parsers {
    ($($name:ident = $run:expr,)*) => {
        &[$(Parser { name: stringify!($name), run: $run }),*]
    };
}

/// All of them.
pub const ALL: &[Parser] = parsers! {
    attachments = transport::probe::attachments,
    boot_entry = boot_entry,
    certificate = trust::probe::certificate,
    challenge = transport::probe::challenge,
    credentials = transport::probe::credentials,
    grubenv = grubenv,
    image_config = image_config,
    image_reference = image_reference,
    kargs = kargs,
    manifest = manifest,
    multipart = transport::probe::multipart,
    objects = repo::probe::objects,
    openpgp = trust::probe::openpgp,
    origin = origin,
    policy = policy,
    promise = trust::probe::promise,
    registries_conf = transport::probe::registries_conf,
    registries_d = transport::probe::registries_d,
    signature = trust::probe::signature,
    signature_payload = trust::probe::payload,
    table_of_contents = pull::probe::table_of_contents,
    tar_split = pull::probe::tar_split,
    tar_stream = repo::probe::tar_stream,
};

/// Runs the parser of this name.
///
/// # Panics
/// Where there is none, and where the parser does.
pub fn run(name: &str, data: &[u8]) {
    let parser = ALL.iter().find(|parser| parser.name == name);
    (parser.expect("a parser of this name").run)(data);
}

/// What is text, as text: the rest is refused before the parser sees it.
fn text(data: &[u8], parse: impl FnOnce(&str)) {
    if let Ok(text) = str::from_utf8(data) {
        parse(text);
    }
}

fn boot_entry(data: &[u8]) {
    text(data, |text| drop(EntryName::parse(text)));
    if let Ok(entry) = BlsEntry::parse(data) {
        let printed = entry.to_string();
        let again = BlsEntry::parse(printed.as_bytes()).map(|again| again.to_string());
        assert_eq!(again.ok(), Some(printed), "an entry prints as another one");
    }
}

fn grubenv(data: &[u8]) {
    if let Ok(block) = Grubenv::parse(data) {
        // A block that was read can be written.
        drop(block.print().expect("the variables fit where they were"));
    }
}

fn image_config(data: &[u8]) {
    drop(ImageConfig::parse(data.to_vec()));
}

fn image_reference(data: &[u8]) {
    text(data, |text| {
        if let Ok(reference) = text.parse::<OstreeImageReference>() {
            let printed = reference.to_string();
            assert_eq!(printed.parse(), Ok(reference), "{printed:?}");
        }
        if let Ok(reference) = text.parse::<ImageReference>() {
            let printed = reference.to_string();
            assert_eq!(printed.parse(), Ok(reference), "{printed:?}");
        }
    });
}

fn kargs(data: &[u8]) {
    text(data, |text| {
        let words = KernelArgs::parse(text).to_words();
        assert_eq!(KernelArgs::parse(&words.join(" ")).to_words(), words);
    });
    kargs_d::probe(data);
}

fn manifest(data: &[u8]) {
    for stated in [None, Some("application/vnd.oci.image.index.v1+json")] {
        match ManifestOrIndex::parse(data.to_vec(), stated) {
            Ok(ManifestOrIndex::Index(index)) => drop(index.choose("amd64").is_ok()),
            Ok(ManifestOrIndex::Manifest(manifest)) => drop(manifest.to_oci_json()),
            Err(_) => {}
        }
    }
}

fn origin(data: &[u8]) {
    text(data, |text| {
        if let Ok(origin) = text.parse::<Origin>() {
            drop(origin.image());
        }
    });
}

fn policy(data: &[u8]) {
    drop(Policy::parse(data));
}
