//! The chunking of the `ostree-ext` crate, as rpm-ostree calls it: a commit, its packages and which object
//! is of which come in, an OCI layout goes out. `benches/chunking` runs it; the crate's command line cannot.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use ostree_ext::chunking::ObjectMetaSized;
use ostree_ext::container::{Config, ExportOpts, ImageReference, Transport, encapsulate};
use ostree_ext::objectsource::{ObjectMeta, ObjectSourceMeta};
use ostree_ext::oci_spec::image::ImageManifest;
use ostree_ext::{gio, ostree};
use serde::Deserialize;

const USAGE: &str =
    "usage: peer-chunks REPO COMMIT PACKAGES.json MAX_LAYERS PREVIOUS-MANIFEST|- LAYOUT:TAG";

/// Packages with how often they change, and the objects of each.
#[derive(Deserialize)]
struct Input {
    packages: Vec<(String, u32)>,
    objects: BTreeMap<String, usize>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [repo, commit, input, max_layers, previous, target] = &args[..] else {
        bail!(USAGE);
    };
    let repo = ostree::Repo::new(&gio::File::for_path(repo));
    repo.open(gio::Cancellable::NONE)?;
    let input: Input = serde_json::from_slice(&std::fs::read(input)?)?;
    let meta = ObjectMetaSized::compute_sizes(&repo, meta(&input)?)?;
    let previous = (previous != "-").then(|| ImageManifest::from_file(PathBuf::from(previous)));
    let previous = previous
        .transpose()
        .context("Reading the previous manifest")?;
    let mut options = ExportOpts::default();
    options.max_layers = Some(NonZeroU32::new(max_layers.parse()?).context("no layers")?);
    options.contentmeta = Some(&meta);
    options.prior_build = previous.as_ref();
    let (transport, name) = (Transport::OciDir, target.clone());
    let target = ImageReference { transport, name };
    encapsulate(&repo, commit, &Config::default(), Some(options), &target).await?;
    Ok(())
}

fn meta(input: &Input) -> Result<ObjectMeta> {
    let mut meta = ObjectMeta::default();
    for (name, change_frequency) in &input.packages {
        let name: Rc<str> = Rc::from(name.as_str());
        meta.set.insert(ObjectSourceMeta {
            identifier: name.clone(),
            name: name.clone(),
            srcid: name,
            change_time_offset: 0,
            change_frequency: *change_frequency,
        });
    }
    for (object, package) in &input.objects {
        let (name, _) = input.packages.get(*package).context("no such package")?;
        meta.map.insert(object.clone(), Rc::from(name.as_str()));
    }
    Ok(meta)
}
