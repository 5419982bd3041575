//! What `rebase` and `upgrade` say of each layer with `--plan`. Steps of a pull come in; a table for
//! people or values for programs go out, whose form is stable (docs/src/updating.md). Never prints.

use serde_json::{Value, json};

use super::text;
use crate::image::LayerKind;
use crate::pull::{Action, LayerStep};

/// A table of all layers, with the sums below; nothing where no layer is known.
pub fn human(steps: &[LayerStep]) -> String {
    if steps.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = steps.iter().map(row).collect();
    let table = text::table(&["LAYER", "DIGEST", "KIND", "SIZE", "WHAT IS DONE"], &rows);
    format!("\n{table}{}\n", sums(steps))
}

fn row(step: &LayerStep) -> Vec<String> {
    vec![
        step.number.to_string(),
        text::short(&step.digest),
        kind(step.kind).into(),
        size(step),
        words(step),
    ]
}

fn size(step: &LayerStep) -> String {
    step.size.map_or_else(|| "unknown".into(), text::bytes)
}

fn words(step: &LayerStep) -> String {
    let (fetch, kept) = (text::bytes(step.to_fetch), text::bytes(step.kept));
    match (step.action, step.kept) {
        (Action::Present, _) => "here".into(),
        (Action::Reuse, _) => "here under another compression".into(),
        (Action::SameAs(number), _) => format!("same as layer {number}"),
        (Action::Whole, 0) if step.size.is_none() => "fetched whole".into(),
        (Action::Whole, 0) => format!("fetched whole, {fetch}"),
        (Action::Whole, _) => format!(
            "goes on where it stopped, {kept} of {} are here",
            size(step)
        ),
        (Action::Parts, _) => in_parts(step),
    }
}

fn in_parts(step: &LayerStep) -> String {
    let parts = format!(
        "{} of {} fetched in parts, {} reused from files that are here",
        text::bytes(step.to_fetch),
        size(step),
        text::bytes(step.reused)
    );
    match step.kept {
        0 => parts,
        kept => format!(
            "{parts}, goes on where it stopped behind {}",
            text::bytes(kept)
        ),
    }
}

fn sums(steps: &[LayerStep]) -> String {
    let sum = |of: fn(&LayerStep) -> u64| text::bytes(steps.iter().map(of).sum());
    let fetched = |s: &&LayerStep| matches!(s.action, Action::Whole | Action::Parts);
    format!(
        "{}, {} of them to fetch: {} to fetch, {} reused from files that are here, {} from where it stopped",
        text::count(steps.len(), "layer"),
        steps.iter().filter(fetched).count(),
        sum(|s| s.to_fetch),
        sum(|s| s.reused),
        sum(|s| s.kept),
    )
}

/// The layers for programs.
pub fn values(steps: &[LayerStep]) -> Vec<Value> {
    steps.iter().map(value).collect()
}

fn value(step: &LayerStep) -> Value {
    let (action, same_as) = match step.action {
        Action::Present => ("present", None),
        Action::Reuse => ("reuse", None),
        Action::SameAs(number) => ("sameAs", Some(number)),
        Action::Whole => ("fetch", None),
        Action::Parts => ("fetchParts", None),
    };
    json!({
        "number": step.number,
        "digest": step.digest.to_string(),
        "kind": kind(step.kind),
        "size": step.size,
        "action": action,
        "sameAs": same_as,
        "bytesToFetch": step.to_fetch,
        "bytesReused": step.reused,
        "bytesKept": step.kept,
    })
}

const fn kind(kind: LayerKind) -> &'static str {
    match kind {
        LayerKind::Base => "base",
        LayerKind::Chunk => "chunk",
        LayerKind::Derived => "derived",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    fn step(number: usize, action: Action, bytes: [u64; 3]) -> LayerStep {
        let [to_fetch, reused, kept] = bytes;
        LayerStep {
            number,
            digest: Digest::of(b"layer"),
            kind: LayerKind::Chunk,
            size: Some(12_000_000),
            action,
            to_fetch,
            reused,
            kept,
        }
    }

    #[test]
    fn every_kind_of_step_has_its_words() {
        let unknown = LayerStep {
            size: None,
            ..step(1, Action::Whole, [0; 3])
        };
        assert_eq!(words(&unknown), "fetched whole");
        for (action, bytes, expected) in [
            (Action::Present, [0; 3], "here"),
            (Action::Reuse, [0; 3], "here under another compression"),
            (Action::SameAs(7), [0; 3], "same as layer 7"),
            (Action::Whole, [12_000_000, 0, 0], "fetched whole, 12.0 MB"),
            (
                Action::Whole,
                [4_000_000, 0, 8_000_000],
                "goes on where it stopped, 8.0 MB of 12.0 MB are here",
            ),
            (
                Action::Parts,
                [2_000_000, 9_900_000, 0],
                "2.0 MB of 12.0 MB fetched in parts, 9.9 MB reused from files that are here",
            ),
            (
                Action::Parts,
                [1_000_000, 9_900_000, 1_000_000],
                "1.0 MB of 12.0 MB fetched in parts, 9.9 MB reused from files that are here, \
                 goes on where it stopped behind 1.0 MB",
            ),
        ] {
            assert_eq!(words(&step(1, action, bytes)), expected);
        }
    }

    #[test]
    fn columns_line_up_however_many_layers_there_are() {
        let steps: Vec<_> = (1..=128)
            .map(|n| match n % 2 {
                0 => step(n, Action::Present, [0; 3]),
                _ => step(n, Action::Whole, [12_000_000, 0, 0]),
            })
            .collect();
        let table = human(&steps);
        let lines: Vec<_> = table.lines().collect();
        let at = lines[1].find("WHAT IS DONE").unwrap();
        for line in &lines[2..130] {
            assert!(
                line[at..].starts_with("here") || line[at..].starts_with("fetched"),
                "{line}"
            );
            assert!(line.len() < 80);
        }
        assert_eq!(
            lines[130],
            "128 layers, 64 of them to fetch: 768.0 MB to fetch, 0 B reused from files that are \
             here, 0 B from where it stopped"
        );
        assert_eq!(human(&[]), "");
    }
}
