//! The floor plan, kept true: which room may import which, where `ostree::` types may appear, who
//! may print, and that every file says what it is for. Reads `src/` as text.

use std::path::{Path, PathBuf};

/// Rooms by floor, the lowest first. A room imports its own floor's files and those below, and of
/// its own floor only itself.
const FLOORS: [&[&str]; 9] = [
    &["image", "sys"],
    &["progress"],
    &[
        "transport",
        "trust",
        "repo",
        "config",
        "boot",
        "etc_merge",
        "packages",
    ],
    &[
        "pull", "unpack", "clean", "sysroot", "health", "lint", "build", "sign",
    ],
    &["host", "deploy"],
    &["upgrade", "install", "unattended"],
    &["agent"],
    &["cli"],
    &["main"],
];

/// Rooms that may speak of `ostree::` types.
const OSTREE: [&str; 3] = ["repo", "sysroot", "testing"];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// A source file: its path below `src`, its room, and its text without comments and test modules.
struct Source {
    path: String,
    room: String,
    text: String,
    opens_with_docs: bool,
    is_test: bool,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let read = |file: &PathBuf| {
        let path = file.strip_prefix(&root).unwrap().display().to_string();
        (path, std::fs::read_to_string(file).unwrap())
    };
    let files: Vec<(String, String)> = files.iter().map(read).collect();
    let tests = files
        .iter()
        .flat_map(|(path, text)| test_modules(path, text));
    let tests: Vec<String> = tests.collect();
    let all = files.into_iter().map(|(path, text)| {
        let inside = |test: &String| {
            path.strip_prefix(test)
                .is_some_and(|r| r.starts_with(['.', '/']))
        };
        let room = path.split(['/', '.']).next().unwrap().to_string();
        Source {
            opens_with_docs: text.starts_with("//! "),
            text: production(&text),
            is_test: tests.iter().any(inside),
            path,
            room,
        }
    });
    all.collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in dir.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// The text without comments and without what stands from an inline test module on.
fn production(text: &str) -> String {
    let lines = text.lines().take_while(|l| !l.ends_with("mod tests {"));
    let code = lines.filter(|l| !l.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// The files and directories, without `.rs`, that `#[cfg(test)] mod NAME;` lines lead to.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let stem = path.trim_end_matches(".rs");
    let parent = match stem.rsplit_once('/') {
        Some((parent, "mod")) => format!("{parent}/"),
        None if stem == "lib" || stem == "main" => String::new(),
        _ => format!("{stem}/"),
    };
    let parts = text.split("#[cfg(test)]\n").skip(1);
    let names = parts.filter_map(|part| {
        let line = part.lines().next()?.strip_suffix(';')?;
        line.rsplit_once("mod ").map(|(_, name)| name)
    });
    names.map(|name| format!("{parent}{name}")).collect()
}

/// The rooms that a text imports through `crate::…`, groups in braces included.
fn imports(text: &str) -> Vec<String> {
    let word = |rest: &str| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        rest[..end.unwrap_or(rest.len())].to_string()
    };
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => rooms.push(word(rest)),
            Some(group) => rooms.extend(top_words(group).into_iter().map(|w| word(w.trim()))),
        }
    }
    rooms
}

/// The comma-separated members of a group up to its closing brace, nested groups left whole.
fn top_words(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut words) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                words.push(&group[start..at]);
                break;
            }
            ',' if depth == 0 => {
                words.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    words.retain(|w| !w.trim().is_empty());
    words
}

#[test]
fn no_import_climbs() {
    let mut climbs = Vec::new();
    for source in sources().iter().filter(|s| !s.is_test) {
        let Some(own) = floor(&source.room) else {
            assert!(
                ["lib", "testing"].contains(&source.room.as_str()),
                "src/{} is a room without a floor: add it to FLOORS",
                source.path
            );
            continue;
        };
        for room in imports(&source.text) {
            let below = floor(&room).is_some_and(|other| other < own);
            if room != source.room && !below {
                climbs.push(format!("src/{} imports crate::{room}", source.path));
            }
        }
    }
    assert!(climbs.is_empty(), "{}", climbs.join("\n"));
}

#[test]
fn ostree_types_stay_in_their_rooms() {
    let names = |text: &str| text.contains("ostree::") || text.contains("use ostree;");
    let strays = sources()
        .into_iter()
        .filter(|s| names(&s.text) && !s.is_test && !OSTREE.contains(&s.room.as_str()));
    let strays: Vec<String> = strays.map(|s| s.path).collect();
    assert!(strays.is_empty(), "ostree:: outside {OSTREE:?}: {strays:?}");
}

#[test]
fn only_the_cli_prints() {
    let prints = [
        "println!",
        "print!(",
        "eprint",
        "io::stdout()",
        "io::stderr()",
    ];
    let strays = sources().into_iter().filter(|s| {
        let allowed = ["cli", "main"].contains(&s.room.as_str());
        !allowed && !s.is_test && prints.iter().any(|p| s.text.contains(p))
    });
    let strays: Vec<String> = strays.map(|s| s.path).collect();
    assert!(strays.is_empty(), "these print: {strays:?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = sources().into_iter().filter(|s| !s.opens_with_docs);
    let silent: Vec<String> = silent.map(|s| s.path).collect();
    assert!(silent.is_empty(), "these do not open with //!: {silent:?}");
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::image::Digest;\nuse crate::{pull, repo::{self, Repo}, sys};\n\
                let x = crate::progress::Event::Done;";
    let production_only = production("a\n// crate::x\n#[cfg(test)]\nmod tests {\ncrate::y");
    assert_eq!(imports(text), ["image", "pull", "repo", "sys", "progress"]);
    assert_eq!(production_only, "a\n#[cfg(test)]");
    let tests = "#[cfg(test)]\nmod a;\nmod b;\n#[cfg(test)]\nmod tests {";
    assert_eq!(test_modules("x/mod.rs", tests), ["x/a"]);
    assert_eq!(test_modules("x/y.rs", tests), ["x/y/a"]);
}
