//! What a plan promises is what is fetched then, as the registry's log has it.

use std::fs;

use bowline::image::{Compression, ImageReference, host_arch};
use bowline::progress::Silent;
use bowline::pull::{self, Action, LayerStep, Prepared, PullOptions};
use bowline::testing::chunked::ChunkedLayer;
use bowline::testing::oci::{Image, ImageBuilder, Layer};
use bowline::testing::tar;
use bowline::transport::{self, SourceOptions};

use crate::chunked::Scene;
use crate::resumed::{self, Interrupted};
use crate::support::{accept, runtime};

/// Bytes that come between the parts of an answer: their heads, and small gaps.
const PER_PART: u64 = 256;

/// What `--plan` finds out: the bytes to fetch, those reused, and a step for each layer.
fn promise(scene: &Scene, imgref: &ImageReference) -> (u64, u64, Vec<LayerStep>) {
    let options = PullOptions {
        arch: host_arch().to_string(),
        require_bootable: false,
    };
    let repo = &scene.place.repo;
    runtime().block_on(async {
        let source = transport::open(imgref, &SourceOptions::default()).await;
        let source = source.unwrap();
        let accepted = accept(&*source, imgref, &options.arch).await.unwrap();
        let prepared = pull::prepare(repo, &*source, &accepted, &options).await;
        let Prepared::Ready(mut plan) = prepared.unwrap() else {
            panic!("nothing to pull")
        };
        let silent: std::sync::Arc<dyn bowline::progress::ProgressSink> =
            std::sync::Arc::new(Silent);
        pull::compare(repo, &*source, &mut plan, &silent)
            .await
            .unwrap();
        let fetched = plan.bytes_to_fetch() + plan.bytes_listed();
        (fetched, plan.bytes_reused(), plan.steps())
    })
}

/// Bytes of layers that the registry sent in a pull, and what the pull says of itself: bytes
/// fetched and reused.
fn pull(scene: &Scene, imgref: &ImageReference) -> (u64, u64, u64) {
    let record = scene.pull(imgref).0.unwrap();
    let layers: Vec<_> = record
        .manifest
        .layers
        .iter()
        .map(|l| l.digest.to_string())
        .collect();
    let requests = scene.registry.requests().into_iter();
    let of_layers = requests.filter(|r| layers.iter().any(|layer| r.path.ends_with(layer)));
    let told = scene.place.repo.transfer(&record.commit).unwrap().unwrap();
    (of_layers.map(|r| r.bytes).sum(), told.fetched, told.reused)
}

fn two_layers(second: &str) -> Image {
    let layer = |lines: &str, compression| Layer::new(&tar::layer(lines).unwrap(), compression);
    let first = layer("data /usr/a 0 0 644 300000 1", Compression::Gzip).unwrap();
    let second = layer(second, Compression::Gzip).unwrap();
    ImageBuilder::default().layer(first).layer(second).build()
}

#[test]
fn ordinary_layers() {
    let scene = Scene::new("bare-user");
    let first = scene.serve(&two_layers("data /usr/b 0 0 644 200000 2"), "1");
    let (fetched, reused, steps) = promise(&scene, &first);
    assert!(steps.iter().all(|step| step.action == Action::Whole));
    let sizes = steps.iter().map(|step| step.size.unwrap()).sum::<u64>();
    assert_eq!((fetched, reused), (sizes, 0));
    assert_eq!(pull(&scene, &first), (fetched, fetched, 0));

    let second = scene.serve(&two_layers("data /usr/b 0 0 644 250000 3"), "2");
    let (fetched, reused, steps) = promise(&scene, &second);
    let actions: Vec<_> = steps.iter().map(|step| step.action).collect();
    assert_eq!(actions, [Action::Present, Action::Whole]);
    assert_eq!((fetched, reused), (steps[1].size.unwrap(), 0));
    let here = steps[0].size.unwrap();
    assert_eq!(pull(&scene, &second), (fetched, fetched, here));
}

fn chunked(changed: usize) -> Image {
    let seed = |n| if n < changed { n + 1000 } else { n };
    let lines = (0..40).map(|n| format!("data /usr/f{n:02} 0 0 644 20000 {}\n", seed(n)));
    let tar = tar::layer(&lines.collect::<String>()).unwrap();
    let layer = ChunkedLayer::new(&tar).unwrap().layer().unwrap();
    ImageBuilder::default().layer(layer).build()
}

#[test]
fn parts_of_layers() {
    // Little that is new, and so much that the table of contents was fetched in vain.
    for (changed, action) in [(3, Action::Parts), (39, Action::Whole)] {
        let scene = Scene::new("bare-user");
        pull(&scene, &scene.serve(&chunked(0), "1"));
        let imgref = scene.serve(&chunked(changed), "2");
        let (fetched, reused, steps) = promise(&scene, &imgref);
        let step = &steps[0];
        assert_eq!(
            (step.action, step.to_fetch, step.reused),
            (action, fetched, reused)
        );
        assert_eq!(reused > 0, action == Action::Parts);
        let (sent, told, told_reused) = pull(&scene, &imgref);
        assert_eq!((told, told_reused), (fetched, reused));
        assert!(
            (fetched..=fetched + 4 * PER_PART).contains(&sent),
            "{sent} {fetched}"
        );
    }
}

#[test]
fn interrupted_layers() {
    let interrupted = Interrupted::new(resumed::image());
    let (scene, imgref) = (&interrupted.scene, &interrupted.imgref);
    let (fetched, reused, steps) = promise(scene, imgref);
    let step = &steps[0];
    assert_eq!((step.action, step.kept), (Action::Whole, resumed::CUT));
    assert_eq!(
        (fetched, reused),
        (step.size.unwrap() - step.kept, step.kept)
    );
    assert_eq!(pull(scene, imgref), (fetched, fetched, reused));
}

#[test]
fn a_layer_that_nearly_came_goes_on_rather_than_in_parts() {
    let scene = Scene::new("bare-user");
    pull(&scene, &scene.serve(&chunked(0), "1"));
    let new = chunked(30);
    let imgref = scene.serve(&new, "2");
    let (blob, size) = resumed::largest(&new);
    let kept = resumed::kept_dir(&scene);
    fs::create_dir_all(&kept).unwrap();
    let near = usize::try_from(size - 1000).unwrap();
    fs::write(kept.join(blob.hex()), &new.blobs[&blob][..near]).unwrap();
    let (fetched, reused, steps) = promise(&scene, &imgref);
    assert_eq!(steps[0].action, Action::Whole);
    assert_eq!((steps[0].kept, reused), (near as u64, near as u64));
    assert_eq!(pull(&scene, &imgref), (fetched, fetched, reused));
}
