//! Parts of blobs: exactly the bytes that were asked for come, however the registry sends them.

use std::ops::Range;

use bowline::image::Descriptor;
use bowline::testing::registry::Fault;
use bowline::transport::{Error, ImageSource};
use proptest::prelude::*;
use serde_json::json;

use crate::bench::{Bench, read};
use crate::daemon::{Daemon, image, missing, push};
use crate::docker_registry;

const PATH: &str = "/blobs/";
const SIZE: usize = 400_000;
/// Far apart, close together, the last byte.
const WANTED: [Range<u64>; 4] = [10..20, 5000..90_000, 90_100..90_200, 399_999..400_000];

async fn fetch(bench: &Bench, blob: &Descriptor, wanted: &[Range<u64>]) -> Result<Vec<u8>, Error> {
    let blob = bench.source(":1").ranges(blob, wanted).await?;
    match read(blob).await {
        (bytes, None) => Ok(bytes),
        (_, Some(error)) => Err(error),
    }
}

fn cut(bytes: &[u8], wanted: &[Range<u64>]) -> Vec<u8> {
    let part = |range: &Range<u64>| bytes[range.start as usize..range.end as usize].to_vec();
    wanted.iter().flat_map(part).collect()
}

fn headers(bench: &Bench) -> Vec<String> {
    let requests = bench.registry.requests().into_iter();
    requests
        .map(|r| r.header("range").unwrap_or_default().to_owned())
        .collect()
}

fn sent(bench: &Bench) -> u64 {
    bench.registry.requests().iter().map(|r| r.bytes).sum()
}

#[tokio::test]
async fn many_ranges_cost_one_request() {
    let bench = Bench::new();
    let (bytes, blob) = bench.blob(SIZE);
    let found = fetch(&bench, &blob, &WANTED).await.unwrap();
    assert!(found == cut(&bytes, &WANTED));
    let asked = "bytes=10-19,5000-90199,399999-399999";
    assert_eq!(headers(&bench), [asked]);
    assert!(sent(&bench) < 86_200, "{}", sent(&bench));
}

#[tokio::test]
async fn a_registry_that_sends_one_range_at_a_time_is_asked_for_larger_ones() {
    for fault in [Fault::OneRange, Fault::ReverseParts] {
        let bench = Bench::new();
        let (bytes, blob) = bench.blob(SIZE);
        bench.registry.fault(PATH, fault.clone());
        let found = fetch(&bench, &blob, &WANTED).await.unwrap();
        assert!(found == cut(&bytes, &WANTED), "{fault:?}");
        let asked = ["bytes=10-90199", "bytes=399999-399999"];
        assert_eq!(headers(&bench)[1..], asked, "{fault:?}");
    }
}

#[tokio::test]
async fn a_registry_that_sends_whole_blobs_is_told_apart() {
    for fault in [Fault::NoRange, Fault::WrongRange(7)] {
        let bench = Bench::new();
        let (_, blob) = bench.blob(SIZE);
        bench.registry.fault(PATH, fault.clone());
        let error = fetch(&bench, &blob, &WANTED).await.unwrap_err();
        assert!(
            matches!(error, Error::WholeOnly { .. }),
            "{fault:?}: {error}"
        );
        // It is asked for several ranges, then for one.
        assert_eq!(headers(&bench).len(), 2, "{fault:?}");
        bench.registry.clear_requests();
        let error = fetch(&bench, &blob, &WANTED[..1]).await.unwrap_err();
        assert!(
            matches!(error, Error::WholeOnly { .. }),
            "{fault:?}: {error}"
        );
        assert_eq!(headers(&bench).len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_stopped() {
    for fault in [
        Fault::CutAfter(50_000),
        Fault::StallAfter(50_000),
        Fault::Shorten(50_000),
    ] {
        let bench = Bench::impatient();
        let (bytes, blob) = bench.blob(SIZE);
        bench.registry.fault_times(PATH, fault.clone(), 1);
        let found = fetch(&bench, &blob, &WANTED[1..3]).await.unwrap();
        assert!(found == cut(&bytes, &WANTED[1..3]), "{fault:?}");
        assert_eq!(headers(&bench), ["bytes=5000-90199", "bytes=55000-90199"]);
    }
    // In the middle of several parts.
    for cut_after in [0, 100, 300, 50_000, 85_500] {
        let bench = Bench::new();
        let (bytes, blob) = bench.blob(SIZE);
        bench
            .registry
            .fault_times(PATH, Fault::CutAfter(cut_after), 1);
        let found = fetch(&bench, &blob, &WANTED).await.unwrap();
        assert!(found == cut(&bytes, &WANTED), "{cut_after}");
        assert_eq!(headers(&bench).len(), 2, "{cut_after}");
    }
}

#[tokio::test]
async fn what_stays_broken_is_given_up() {
    let bench = Bench::new();
    let (_, blob) = bench.blob(SIZE);
    bench.registry.fault(PATH, Fault::CutAfter(0));
    let error = fetch(&bench, &blob, &WANTED).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    assert_eq!(headers(&bench).len(), 3);
    bench.registry.clear_faults();
    bench
        .registry
        .fault(PATH, Fault::Status(404, String::new()));
    let error = fetch(&bench, &blob, &WANTED).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn docker_registry_sends_many_ranges_at_once() {
    if missing(&["docker-registry", "skopeo"]) {
        return;
    }
    let bench = Bench::new();
    let layout = bench.root.path().join("layout");
    image(&layout);
    let daemon = Daemon::start(bench.root.path(), json!({}), json!({}));
    push(&layout, &daemon, &["--dest-tls-verify=false"]);
    let source = docker_registry::source(&bench, &daemon);
    let blob = &bowline::transport::resolve(&source, "amd64")
        .await
        .unwrap()
        .manifest
        .config;
    let (whole, _) = read(source.blob(blob).await.unwrap()).await;
    let wanted = [0..3, 290..291, 300..whole.len() as u64];
    let found = read(source.ranges(blob, &wanted).await.unwrap()).await;
    assert!(
        found.1.is_none() && found.0 == cut(&whole, &wanted),
        "{:?}",
        found.1
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_ranges_come_as_they_are(
        steps in prop::collection::vec((1u64..3000, 1u64..3000), 1..60),
        faults in prop::collection::vec(
            prop_oneof![
                Just(Fault::OneRange),
                (0u64..80_000).prop_map(Fault::CutAfter),
                (0u64..80_000).prop_map(Fault::Shorten),
            ],
            0..3,
        ),
    ) {
        let mut at = 0;
        let wanted: Vec<_> = steps.iter().map(|(gap, length)| {
            let start = at + gap;
            at = start + length;
            start..at
        }).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::new();
            bench.options.retries = 5;
            let (bytes, blob) = bench.blob(SIZE);
            for fault in faults {
                bench.registry.fault_times(PATH, fault, 1);
            }
            let found = fetch(&bench, &blob, &wanted).await.unwrap();
            prop_assert!(found == cut(&bytes, &wanted));
            Ok(())
        })?;
    }
}
