//! `install print-configuration`: how a tree or an image wants to be installed, as the JSON that
//! bootc prints. Takes no lock and changes nothing.

use anyhow::{Context as _, Result};

use super::args::PrintConfigurationArgs;
use crate::cli::exit::UsageError;
use crate::cli::{Context, reference};
use crate::config::InstallConfig;
use crate::image::is_arch;
use crate::install::{self, Wanted};
use crate::progress::Event;
use crate::sys::tree::DirTree;

/// Prints the configuration.
pub fn run(args: &PrintConfigurationArgs, context: &Context) -> Result<()> {
    let config = match &args.image {
        Some(image) => of_image(image, args, context)?,
        None => of_tree(args, context)?,
    };
    context.print(&format!("{}\n", config.to_json(args.all)?))
}

fn of_tree(args: &PrintConfigurationArgs, context: &Context) -> Result<InstallConfig> {
    let (root, arch) = (&args.root, context.arch(&args.fetch));
    if !root.is_dir() {
        let error = UsageError::new(format!("{} is no directory", root.display()));
        return Err(error.hint("name the root of a system with --root").into());
    }
    // An image would say which ones there are.
    if !is_arch(&arch) {
        let error = UsageError::new(format!("{arch:?} is no architecture"));
        return Err(error.hint("write one such as amd64 or arm64").into());
    }
    let tree = DirTree::open(root).with_context(|| format!("Opening {}", root.display()))?;
    InstallConfig::load(&tree, &arch)
}

fn of_image(
    image: &str,
    args: &PrintConfigurationArgs,
    context: &Context,
) -> Result<InstallConfig> {
    let image = reference::parse(image)?;
    let progress = context.progress(&image.imgref.to_string())?;
    let wanted = Wanted {
        target_image: image.clone(),
        stateroot: None,
        kargs: Vec::new(),
        root_keys: None,
        loader: None,
        firmware: None,
        generic: true,
        arch: context.arch(&args.fetch),
        jobs: usize::try_from(args.fetch.jobs)?,
        source: context.source_options(&args.fetch, progress.clone()),
        rules: context.trust_rules()?,
        progress,
        image,
    };
    context.block_on(async {
        let config = install::configuration(&wanted, &args.scratch).await;
        wanted.progress.event(Event::Finished);
        config
    })
}
