//! A scenario as a test: tells its name and how long it took, and fails with the chain of causes.

use std::time::Instant;

use anyhow::Result;
use bowline_boot_tests::images;
use bowline_boot_tests::registry::Registry;
use bowline_boot_tests::story::Story;

/// Runs a scenario to its end.
pub fn scenario(name: &str, run: impl FnOnce(&Story) -> Result<()>) {
    let story = Story::begin(name).expect("a directory for the logs");
    let start = Instant::now();
    match run(&story) {
        Ok(()) => story.tell(&format!("passed in {:.0} s", start.elapsed().as_secs_f64())),
        Err(error) => {
            story.tell(&format!("failed: {error:#}"));
            panic!("{name} failed: see {}", story.directory().display());
        }
    }
}

/// A registry with these images, each under its own name as tag.
pub fn registry(names: &[&str]) -> Result<Registry> {
    let storages: Result<Vec<_>> = names.iter().map(|name| images::storage(name)).collect();
    Registry::start(&storages?)
}
