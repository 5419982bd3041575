//! Blobs: transfers that break go on where they stopped, and no byte more than promised comes.

use bowline::image::{Descriptor, Digest};
use bowline::testing::registry::{Fault, TestRegistry};
use bowline::transport::{Error, ImageSource, RateLimit};

use proptest::prelude::*;

use crate::bench::{Bench, descriptor, read};

const PATH: &str = "/blobs/";
const SIZE: usize = 100_000;

async fn fetch(bench: &Bench, blob: &Descriptor) -> (Vec<u8>, Option<Error>) {
    match bench.source(":1").blob(blob).await {
        Ok(blob) => read(blob).await,
        Err(error) => (Vec::new(), Some(error)),
    }
}

fn ranges(bench: &Bench) -> Vec<Option<String>> {
    let requests = bench.registry.requests().into_iter();
    requests
        .map(|r| r.header("range").map(ToOwned::to_owned))
        .collect()
}

#[tokio::test]
async fn a_blob_costs_one_request() {
    let bench = Bench::new();
    for size in [0, 1, SIZE, 30_000_000] {
        let (bytes, blob) = bench.blob(size);
        let (found, error) = fetch(&bench, &blob).await;
        assert!(found == bytes && error.is_none(), "{size}: {error:?}");
    }
    assert_eq!(ranges(&bench), [None, None, None, None]);
}

#[tokio::test]
async fn the_rate_is_limited_for_all_transfers_together() {
    let mut bench = Bench::new();
    let rate = std::num::NonZeroU64::new(400_000).unwrap();
    bench.options.limit = Some(std::sync::Arc::new(RateLimit::new(rate)));
    let (first, second) = (bench.blob(60_000), bench.blob(50_000));
    let (one, other) = (bench.source(":1"), bench.source(":1"));
    let start = std::time::Instant::now();
    let (one, other) = tokio::join!(one.blob(&first.1), other.blob(&second.1));
    let (one, other) = tokio::join!(read(one.unwrap()), read(other.unwrap()));
    assert!(one.0 == first.0 && other.0 == second.0);
    let least = std::time::Duration::from_millis(275);
    assert!(start.elapsed() >= least, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_stopped() {
    let faults = [Fault::CutAfter(70_000), Fault::StallAfter(70_000)];
    for fault in faults {
        let bench = Bench::impatient();
        let (bytes, blob) = bench.blob(SIZE);
        bench.registry.fault_times(PATH, fault.clone(), 1);
        let (found, error) = fetch(&bench, &blob).await;
        assert!(found == bytes && error.is_none(), "{fault:?}: {error:?}");
        assert_eq!(ranges(&bench), [None, Some("bytes=70000-".into())]);
        let sent = bench
            .registry
            .requests()
            .iter()
            .map(|r| r.bytes)
            .sum::<u64>();
        assert_eq!(sent, SIZE as u64, "{fault:?}");
    }
}

#[tokio::test]
async fn a_registry_without_ranges_starts_over_and_we_skip() {
    let bench = Bench::new();
    let (bytes, blob) = bench.blob(SIZE);
    bench.registry.fault(PATH, Fault::NoRange);
    bench.registry.fault_times(PATH, Fault::CutAfter(70_000), 2);
    let (found, error) = fetch(&bench, &blob).await;
    assert!(found == bytes && error.is_none(), "{error:?}");
    assert_eq!(bench.requests().len(), 3);
}

#[tokio::test]
async fn retries_are_counted_anew_when_bytes_flow() {
    let bench = Bench::new();
    let (bytes, blob) = bench.blob(SIZE);
    bench.registry.fault(PATH, Fault::CutAfter(10_000));
    let (found, error) = fetch(&bench, &blob).await;
    assert!(found == bytes && error.is_none(), "{error:?}");
    assert_eq!(bench.requests().len(), 10);
}

#[tokio::test]
async fn retries_end_when_no_byte_comes() {
    let bench = Bench::new();
    let (bytes, blob) = bench.blob(SIZE);
    bench.registry.fault_times(PATH, Fault::CutAfter(10), 1);
    bench.registry.fault(PATH, Fault::CutAfter(0));
    let (found, error) = fetch(&bench, &blob).await;
    assert_eq!(found, bytes[..10]);
    let error = error.unwrap();
    assert!(error.is_temporary());
    let expected = format!(
        "http://HOST/v2/ns/os/blobs/{}: the connection broke: end of file before message length \
         reached (gave up after 3 attempts)",
        blob.digest
    );
    assert_eq!(bench.text(&error), expected);
    assert_eq!(bench.requests().len(), 3);
}

#[tokio::test]
async fn a_failure_while_going_on_is_sorted_like_any_other() {
    let bench = Bench::new();
    let (_, blob) = bench.blob(SIZE);
    bench.registry.fault_times(PATH, Fault::CutAfter(10), 1);
    bench
        .registry
        .fault(PATH, Fault::Status(404, String::new()));
    let (found, error) = fetch(&bench, &blob).await;
    assert_eq!(found.len(), 10);
    assert!(matches!(error, Some(Error::NotFound { .. })), "{error:?}");
}

#[tokio::test]
async fn another_range_than_asked_for_is_refused() {
    let bench = Bench::new();
    let (_, blob) = bench.blob(SIZE);
    bench.registry.fault_times(PATH, Fault::CutAfter(10), 1);
    bench.registry.fault(PATH, Fault::WrongRange(9));
    let (found, error) = fetch(&bench, &blob).await;
    assert_eq!(found.len(), 10);
    let expected = format!(
        "http://HOST/v2/ns/os/blobs/{}: asked to go on at byte 10, it sends the range \"bytes \
         9-99999/100000\"",
        blob.digest
    );
    assert_eq!(bench.text(&error.unwrap()), expected);
}

#[tokio::test]
async fn sizes_are_those_of_the_manifest() {
    let table = [
        // What the manifest says, the fault, the bytes that may come, what is said.
        (99_999, None, 0, "expected 99999 bytes, got 100000 bytes"),
        (100_001, None, 0, "expected 100001 bytes, got 100000 bytes"),
        (
            100_000,
            Some(Fault::Shorten(10)),
            0,
            "expected 100000 bytes, got 10 bytes",
        ),
        (
            100_000,
            Some(Fault::Endless(vec![1; 1000])),
            100_000,
            "expected 100000 bytes, got more",
        ),
    ];
    for (size, fault, most, expected) in table {
        let bench = Bench::new();
        let (_, blob) = bench.blob(SIZE);
        let blob = descriptor(blob.digest, Some(size));
        if let Some(fault) = fault {
            bench.registry.fault(PATH, fault);
        }
        let (found, error) = fetch(&bench, &blob).await;
        assert!(found.len() <= most, "{}", found.len());
        let place = format!("http://HOST/v2/ns/os/blobs/{} is corrupt: ", blob.digest);
        assert_eq!(bench.text(&error.unwrap()), format!("{place}{expected}"));
    }
}

#[tokio::test]
async fn a_blob_of_unknown_size_is_as_long_as_the_registry_says() {
    let bench = Bench::new();
    let (bytes, blob) = bench.blob(SIZE);
    bench.registry.fault_times(PATH, Fault::CutAfter(10), 1);
    let (found, error) = fetch(&bench, &descriptor(blob.digest, None)).await;
    assert!(found == bytes && error.is_none(), "{error:?}");
}

#[tokio::test]
async fn a_blob_that_is_not_there_is_not_found() {
    let bench = Bench::new();
    let digest = Digest::of(b"nobody has it");
    let (_, error) = fetch(&bench, &descriptor(digest, Some(13))).await;
    let expected = format!(
        "http://HOST/v2/ns/os/blobs/{digest} (the registry says: blob unknown to registry) does \
         not exist"
    );
    assert_eq!(bench.text(&error.unwrap()), expected);
}

#[tokio::test]
async fn redirections_are_followed_afresh_after_a_cut() {
    let bench = Bench::new();
    let other = TestRegistry::start();
    let (bytes, blob) = bench.blob(SIZE);
    other.add_blob(bytes.clone());
    other.fault_times(PATH, Fault::CutAfter(70_000), 1);
    let to = format!("http://{}/v2/cdn/blobs/{}?sig=x", other.host(), blob.digest);
    bench.registry.fault(PATH, Fault::Redirect(to));
    let (found, error) = fetch(&bench, &blob).await;
    assert!(found == bytes && error.is_none(), "{error:?}");
    assert_eq!(bench.requests().len(), 2);
    let requests = other.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].header("range"), Some("bytes=70000-"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_is_cut_arrives_whole(
        cuts in proptest::collection::vec(0..120_000_u64, 0..6),
        no_range: bool,
        size_known: bool,
    ) {
        let mut bench = Bench::new();
        bench.options.retries = 6;
        let (bytes, blob) = bench.blob(SIZE);
        let size = size_known.then_some(SIZE as u64);
        for cut in &cuts {
            bench.registry.fault_times(PATH, Fault::CutAfter(*cut), 1);
        }
        if no_range {
            bench.registry.fault(PATH, Fault::NoRange);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (found, error) = runtime
            .unwrap()
            .block_on(fetch(&bench, &descriptor(blob.digest, size)));
        prop_assert!(error.is_none(), "{:?}", error);
        prop_assert!(found == bytes);
    }
}
