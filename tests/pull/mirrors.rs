//! Whole pulls through a mirror that lies: it costs time, and what is stored is right.

use std::sync::Arc;

use bowline::image::{ImageReference, Transport, host_arch};
use bowline::progress::{Event, Phase, ProgressSink};
use bowline::pull::{self, Prepared, PullOptions};
use bowline::testing::registry::{Fault, TestRegistry};
use bowline::testing::samples;
use bowline::transport::{self, SourceOptions};
use bowline::trust::{PolicyPaths, Rules};

use crate::support::{Place, chain, runtime};

/// Hears about layers that are fetched from elsewhere.
#[derive(Debug, Default)]
struct Warnings(std::sync::Mutex<Vec<String>>);

impl ProgressSink for Warnings {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

/// Pulls through a mirror that has `fault` for what lies under `path`. Gives the warnings.
fn pull(path: &str, fault: Fault, only_mirror: bool) -> Result<Vec<String>, anyhow::Error> {
    let place = Place::new("bare-user");
    let image = samples::os_image("1", "").unwrap();
    image.write_layout(&place.layout(), "1").unwrap();
    let (registry, mirror) = (TestRegistry::start(), TestRegistry::start());
    for server in [&registry, &mirror] {
        server.add_layout("ns/os", &place.layout()).unwrap();
    }
    mirror.fault(path, fault.clone());
    if only_mirror {
        registry.fault("/blobs/", fault);
    }
    let conf = format!(
        "[[registry]]\nprefix = 'os.example'\nlocation = '{}'\n\
         [[registry.mirror]]\nlocation = '{}'\n",
        registry.host(),
        mirror.host()
    );
    let file = place.dir.path().join("registries.conf");
    std::fs::write(&file, conf).unwrap();
    let warnings = Arc::new(Warnings::default());
    let mut options = SourceOptions {
        idle_timeout: std::time::Duration::from_millis(250),
        first_pause: std::time::Duration::from_millis(1),
        ..SourceOptions::default()
    };
    options.host.root = place.dir.path().into();
    options.host.registries_conf = Some(file);
    let imgref = ImageReference {
        transport: Transport::Registry,
        name: "os.example/ns/os:1".into(),
    };
    let pulled = runtime().block_on(async {
        let source = transport::open(&imgref, &options).await?;
        let arch = host_arch().to_string();
        let rules = Rules {
            policy: PolicyPaths {
                system: Vec::new(),
                ..PolicyPaths::default()
            },
            require_digest: Some(image.digest()),
            ..Rules::default()
        };
        let followed = format!("ostree-unverified-image:{imgref}").parse().unwrap();
        let accepted = pull::accept(&*source, &followed, &arch, &rules).await?;
        let wanted = PullOptions {
            arch,
            require_bootable: true,
        };
        let prepared = pull::prepare(&place.repo, &*source, &accepted, &wanted).await?;
        let Prepared::Ready(plan) = prepared else {
            panic!("nothing is here yet");
        };
        let (source, progress) = (Arc::from(source), warnings.clone());
        progress.event(Event::Phase(Phase::Fetch));
        pull::run(&place.repo, source, *plan, 3, progress).await
    });
    place.check();
    let stored = place.repo.image(&imgref).unwrap();
    assert_eq!(stored.is_some(), pulled.is_ok());
    pulled?;
    Ok(std::mem::take(&mut *warnings.0.lock().unwrap()))
}

#[test]
fn wrong_bytes_are_fetched_again_from_elsewhere() {
    let warnings = pull("/blobs/", Fault::WrongBytes, false).unwrap();
    // The config is the first thing that is wrong; nobody asks there again.
    assert_eq!(warnings, [""; 0]);
    for fault in [Fault::FlipAt(100), Fault::WrongBytes] {
        let image = samples::os_image("1", "").unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
        let layer = manifest["layers"][1]["digest"].as_str().unwrap();
        let warnings = pull(layer, fault, false).unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let text = "layer 2 of 3 is not what the manifest promises, fetching it from elsewhere: ";
        assert!(warnings[0].starts_with(text), "{warnings:?}");
    }
}

#[test]
fn other_trouble_of_a_mirror_costs_time_only() {
    for fault in [
        Fault::Status(404, String::new()),
        Fault::StallAfter(10),
        Fault::Hang,
        Fault::Garbage,
        Fault::Shorten(5),
    ] {
        let warnings = pull("/blobs/", fault.clone(), false).unwrap();
        assert_eq!(warnings, [""; 0], "{fault:?}");
    }
}

#[test]
fn where_everybody_lies_nothing_is_stored() {
    let error = pull("/blobs/", Fault::WrongBytes, true).unwrap_err();
    assert!(chain(&error).contains("is corrupt"), "{error:#}");
}
