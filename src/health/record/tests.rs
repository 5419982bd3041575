//! Records: what is read back, what is cut off, and how sentences read.

use proptest::prelude::*;

use super::*;

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn image(digest: &str) -> TrialImage {
    TrialImage {
        image: "ostree-unverified-registry:quay.io/os:stable".into(),
        digest: digest.into(),
        version: "2".into(),
    }
}

fn full() -> Record {
    let failure = |number| Failure {
        number,
        check: "10-db.sh".into(),
        said: "no database".into(),
    };
    Record {
        trial: Some(Trial {
            image: image("sha256:2"),
            deployment: "os/abc.0".into(),
            tries: 3,
            started: time("2026-02-01T10:00:00Z"),
            reached: 2,
            boot_id: "b".into(),
            uncounted: true,
            failed: false,
            failures: vec![failure(1), failure(2)],
        }),
        unproven: Some(Trial {
            image: image("sha256:0"),
            deployment: "os/000.0".into(),
            tries: 2,
            ..Trial::default()
        }),
        bad: vec![BadImage {
            image: image("sha256:1"),
            when: time("2026-01-01T10:00:00Z"),
            tries: 3,
            check: "10-db.sh".into(),
            reason: "check 10-db.sh failed".into(),
        }],
        last: Some(Event {
            kind: EventKind::Retry,
            when: time("2026-02-01T10:05:00Z"),
            image: image("sha256:2"),
            check: "10-db.sh".into(),
            reason: "check 10-db.sh failed: no database".into(),
        }),
        ..Record::default()
    }
}

#[test]
fn records_are_read_back() {
    for record in [Record::default(), full()] {
        assert_eq!(Record::parse(record.print().as_bytes()).unwrap(), record);
    }
}

#[test]
fn what_was_never_good_stays_known() {
    let mut record = full();
    assert!(record.is_unproven("os/abc.0") && record.is_unproven("os/000.0"));
    let trial = record.withdraw().unwrap();
    assert_eq!((trial.reached, trial.failures.len()), (2, 2));
    let unproven = record.unproven.clone().unwrap();
    assert_eq!((&*unproven.deployment, unproven.tries), ("os/abc.0", 3));
    assert_eq!((unproven.reached, &*unproven.boot_id), (0, ""));
    assert!(unproven.failures.is_empty() && !unproven.failed && !unproven.uncounted);
    assert!(record.withdraw().is_none() && record.unproven.is_some());
    // The same one again, then another one.
    record.begin(trial);
    assert!(record.unproven.is_none() && record.is_unproven("os/abc.0"));
    let other = Trial {
        deployment: "os/def.0".into(),
        ..Trial::default()
    };
    record.begin(other.clone());
    assert_eq!(record.trial, Some(other));
    assert!(record.is_unproven("os/abc.0") && !record.is_unproven("os/000.0"));
    record.begin(record.trial.clone().unwrap());
    assert!(record.is_unproven("os/abc.0"), "the same trial goes on");
}

#[test]
fn records_of_other_versions_are_understood() {
    let empty = Record::default();
    assert_eq!(Record::parse(b"{}").unwrap(), empty);
    let newer = br#"{"version": 9, "moon": {"phase": 1},
        "trial": {"deployment": "os/abc.0", "wings": 2},
        "last": {"kind": "abducted", "digest": "sha256:2"}}"#;
    let newer = Record::parse(newer).unwrap();
    assert_eq!(newer.trial.unwrap().deployment, "os/abc.0");
    let last = newer.last.unwrap();
    assert_eq!(
        (last.kind, &*last.image.digest),
        (EventKind::Unknown, "sha256:2")
    );
    for (written, read) in [("0", 1), ("3", 3), ("9", 9), ("4000000000", 9)] {
        let text = format!(r#"{{"trial": {{"deployment": "os/abc.0", "tries": {written}}}}}"#);
        let record = Record::parse(text.as_bytes()).unwrap();
        assert_eq!(
            record.trial.unwrap().tries,
            read,
            "what no bootloader counts"
        );
    }
    for broken in ["", "7", "{", r#"{"bad": 1}"#] {
        assert!(Record::parse(broken.as_bytes()).is_err(), "{broken}");
    }
}

#[test]
fn bad_images_are_known_by_digest_and_forgotten_oldest_first() {
    let mut record = Record::default();
    for number in 0..40 {
        let image = image(&format!("sha256:{number}"));
        record.remember_bad(BadImage {
            image,
            ..BadImage::default()
        });
    }
    assert_eq!(record.bad.len(), MAX_BAD);
    assert!(record.bad("sha256:7").is_none());
    assert!(record.bad("sha256:8").is_some());
    let again = BadImage {
        image: image("sha256:8"),
        tries: 2,
        ..BadImage::default()
    };
    record.remember_bad(again);
    assert_eq!(record.bad.len(), MAX_BAD);
    assert_eq!(record.bad("sha256:8").unwrap().tries, 2);
    record.forgive("sha256:8");
    assert!(record.bad("sha256:8").is_none());
    record.remember_bad(BadImage::default());
    assert!(
        record.bad("").is_none(),
        "what has no digest cannot be known again"
    );
    assert_eq!(record.bad.len(), MAX_BAD - 1);
}

#[test]
fn a_verdict_names_the_check_and_the_silence_after_it() {
    let mut trial = full().trial.unwrap();
    trial.failures[1].number = 3;
    let verdict = |trial: &Trial| trial.verdict();
    let said = "check 10-db.sh failed: no database";
    assert_eq!(verdict(&trial), ("10-db.sh".into(), said.into()));
    trial.failures.pop();
    let silent = "never reported back: it hung, panicked or lost power";
    let half = format!("{said} (try 1); after that it {silent}");
    assert_eq!(verdict(&trial), ("10-db.sh".into(), half));
    trial.failures.clear();
    assert_eq!(verdict(&trial), (String::new(), silent.into()));
}

#[test]
fn events_are_sentences() {
    let mut event = full().last.unwrap();
    event.kind = EventKind::FellBack;
    assert_eq!(
        event.sentence(),
        "quay.io/os:stable (version 2, sha256:2) failed its trial at 2026-02-01 10:05:00 UTC, and \
         the host went back to the deployment before it: check 10-db.sh failed: no database"
    );
    event.kind = EventKind::Good;
    event.image = TrialImage::default();
    assert_eq!(
        event.sentence(),
        "a deployment without image proved itself at 2026-02-01 10:05:00 UTC"
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Record::parse(&bytes);
    }

    #[test]
    fn texts_are_bounded_lines(said in "\\PC{0,900}|[\n\ta-z\u{1b}]{0,900}", count in 0_u32..40) {
        let mut record = full();
        let failure = |number| Failure { number, check: said.clone(), said: said.clone() };
        record.trial.as_mut().unwrap().failures = (0..count).map(failure).collect();
        record.last.as_mut().unwrap().reason = said.clone();
        let text = record.print();
        prop_assert!(u64::try_from(text.len()).unwrap() < LIMIT);
        let again = Record::parse(text.as_bytes()).unwrap();
        let reason = &again.last.as_ref().unwrap().reason;
        prop_assert!(!reason.chars().any(char::is_control));
        prop_assert_eq!(again.print(), text);
    }
}
