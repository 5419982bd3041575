//! Tests of the JSON lines: field names against the published schema, rates by a made-up clock,
//! readers that are stuck or gone.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use super::*;
use crate::image::Digest;

fn layer(index: usize, size: u64) -> Event {
    Event::LayerStarted {
        index,
        digest: Digest::of(&[index as u8]),
        size: Some(size),
    }
}

fn planned() -> Event {
    Event::Planned {
        layers: 5,
        layers_to_fetch: 2,
        bytes_to_fetch: 300,
        bytes_present: 70,
        bytes_reused: 0,
    }
}

fn lines(events: Vec<(u64, Event)>) -> Vec<Value> {
    let (mut report, start) = (Report::new("docker://quay.io/a/b"), Instant::now());
    events
        .iter()
        .flat_map(|(at, event)| report.event(event, start + Duration::from_millis(*at)))
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn start_comes_first_and_names_the_version() {
    let start = to_line(&Line::Start { version: VERSION });
    assert_eq!(start, "{\"type\":\"Start\",\"version\":\"0.1.0\"}\n");
}

#[test]
fn a_line_about_bytes_has_every_field_of_the_schema() {
    let lines = lines(vec![
        (0, Event::Phase(Phase::Fetch)),
        (0, planned()),
        (0, layer(3, 100)),
        (
            300,
            Event::LayerProgress {
                index: 3,
                bytes: 40,
            },
        ),
    ]);
    let id = Digest::of(&[3]);
    let expected = json!({
        "type": "ProgressBytes",
        "task": "pulling",
        "description": "Pulling image: docker://quay.io/a/b",
        "id": "docker://quay.io/a/b",
        "bytesCached": 70, "bytes": 40, "bytesTotal": 300,
        "stepsCached": 3, "steps": 0, "stepsTotal": 2,
        "subtasks": [{
            "subtask": "layer",
            "description": format!("Layer: {}", &id.hex()[..12]),
            "id": id.to_string(),
            "bytesCached": 0, "bytes": 40, "bytesTotal": 100,
        }],
    });
    assert_eq!(lines.last(), Some(&expected));
}

#[test]
fn a_line_about_steps_has_every_field_of_the_schema() {
    let lines = lines(vec![
        (0, Event::Phase(Phase::Merge)),
        (0, Event::Phase(Phase::Publish)),
        (0, Event::Finished),
    ]);
    let fields = [
        "type",
        "task",
        "description",
        "id",
        "stepsCached",
        "steps",
        "stepsTotal",
    ];
    let all = fields.into_iter().chain(["subtasks"]).collect();
    let mut seen = Vec::new();
    for line in &lines {
        assert_eq!(keys(line), all);
        let sub = &line["subtasks"][0];
        let names = BTreeSet::from(["subtask", "description", "id", "completed"]);
        assert_eq!(keys(sub), names);
        seen.push((
            line["steps"].clone(),
            sub["id"].clone(),
            sub["completed"].clone(),
        ));
    }
    let expect = [
        (0, "merge", false),
        (1, "merge", true),
        (1, "publish", false),
        (2, "publish", true),
    ];
    let expect = expect.map(|(steps, id, done)| (json!(steps), json!(id), json!(done)));
    assert_eq!(seen, expect);
}

#[test]
fn bytes_come_at_most_five_times_a_second() {
    let mut events = vec![
        (0, Event::Phase(Phase::Fetch)),
        (0, planned()),
        (0, layer(0, 300)),
    ];
    let progress = |at: u64| {
        (
            at,
            Event::LayerProgress {
                index: 0,
                bytes: at,
            },
        )
    };
    events.extend((1..1000).map(progress));
    assert_eq!(lines(events).len(), 5);
}

#[test]
fn the_last_word_about_bytes_is_never_dropped() {
    let lines = lines(vec![
        (0, Event::Phase(Phase::Fetch)),
        (0, planned()),
        (1, layer(0, 100)),
        (2, Event::LayerDone { index: 0 }),
        (3, Event::Phase(Phase::Publish)),
    ]);
    let last = lines
        .iter()
        .rfind(|line| line["task"] == "pulling")
        .unwrap();
    assert_eq!((&last["bytes"], &last["steps"]), (&json!(100), &json!(1)));
    let layer = &last["subtasks"][0];
    assert_eq!(
        (&layer["bytes"], &layer["bytesTotal"]),
        (&json!(100), &json!(100))
    );
}

#[test]
fn a_reader_gets_everything_up_to_the_end() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let sink = JsonSink::new(File::from(writer), "docker://a.b/c");
    sink.event(Event::Phase(Phase::Resolve));
    sink.event(Event::Finished);
    let lines: Vec<String> = BufReader::new(File::from(reader))
        .lines()
        .map(Result::unwrap)
        .collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[2].contains("\"completed\":true"), "{}", lines[2]);
}

#[test]
fn a_reader_that_is_gone_does_not_matter() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let sink = JsonSink::new(File::from(writer), "docker://a.b/c");
    for _ in 0..1000 {
        sink.event(planned());
    }
    sink.event(Event::Finished);
}

#[test]
fn a_reader_that_never_reads_blocks_nothing() {
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    let sink = JsonSink::new(File::from(writer), "docker://a.b/c");
    // A pipe holds 64 KiB; this is several times as much.
    let began = Instant::now();
    for _ in 0..4000 {
        sink.event(planned());
    }
    sink.event(Event::Finished);
    assert!(began.elapsed() < GRACE * 5);
}
