//! Runs every committed input of `fuzz/corpus` through its parser, whole and torn, and checks that
//! each parser has a corpus and a fuzz target. What fuzzing finds is added there.

use std::fs;
use std::path::{Path, PathBuf};

use bowline::testing::parsers;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_parser_takes_its_corpus() {
    for parser in parsers::ALL {
        let dir = fuzz().join("corpus").join(parser.name);
        let inputs = names(&dir);
        assert!(inputs.len() > 1, "{} has no corpus", parser.name);
        for input in inputs {
            let data = fs::read(dir.join(input)).unwrap();
            (parser.run)(&data);
            for torn in [
                1,
                data.len() / 3,
                data.len() / 2,
                data.len().saturating_sub(1),
            ] {
                (parser.run)(data.get(..torn).unwrap_or_default());
            }
        }
        (parser.run)(b"");
    }
}

#[test]
fn every_parser_has_a_fuzz_target() {
    let parsers: Vec<String> = parsers::ALL.iter().map(|p| p.name.to_owned()).collect();
    assert_eq!(names(&fuzz().join("corpus")), parsers);
    let files: Vec<String> = parsers.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names(&fuzz().join("fuzz_targets")), files);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in parsers {
        let target = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"");
        assert!(manifest.contains(&target), "{name}");
        let text = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        let text: String = text.split_whitespace().collect();
        assert!(text.contains(&format!("run(\"{name}\",data)")), "{name}");
    }
}
