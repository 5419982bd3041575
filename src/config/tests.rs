//! Tests of the settings: layers, and what each mistake is told.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::testing::samples::{self, files};

fn refused(text: &str) -> String {
    let dir = files(&[("etc/bowline/x.yaml", text)]).unwrap();
    let error = load(dir.path()).unwrap_err();
    let error = error.downcast::<ConfigError>().unwrap().to_string();
    error.replace(&format!("{}/", dir.path().display()), "/")
}

#[test]
fn without_files_there_are_defaults() {
    let dir = files(&[]).unwrap();
    assert_eq!(load(dir.path()).unwrap(), Settings::default());
}

#[test]
fn later_files_win_key_by_key() {
    let dir = files(&[
        (
            "usr/lib/bowline/10-a.yaml",
            "update: {apply: true, metered: allow}\nhealth: {units: [a, b]}",
        ),
        (
            "usr/lib/bowline/20-b.yaml",
            "health:\n  tries: 5\n  timeout: 1h 30min\n  free-space: {/var: 1 GiB}\n",
        ),
        ("etc/bowline/05-c.yaml", "health: {tries: 2, units: [c]}\n"),
        ("run/bowline/x.yaml", "update:\n  apply: false\n"),
        ("etc/bowline/empty.yaml", "# nothing\n"),
        ("etc/bowline/null.yaml", "update:\n"),
        ("etc/bowline/note.txt", "no: yaml: at all"),
        ("etc/bowline/.hidden.yaml", "no: yaml: at all"),
        ("etc/bowline/install/y.yaml", "other: thing"),
    ])
    .unwrap();
    let expected = Settings {
        update: Update {
            apply: false,
            metered: Willing::Allow,
            battery: Willing::Skip,
        },
        health: Health {
            tries: 2,
            timeout: std::time::Duration::from_secs(5400),
            units: vec!["c".into()],
            free_space: [("/var".to_owned(), 1 << 30)].into(),
            ..Health::default()
        },
        trust: Trust::default(),
    };
    assert_eq!(load(dir.path()).unwrap(), expected);
}

#[test]
fn a_link_to_dev_null_hides_files_of_its_name() {
    let dir = files(&[
        ("usr/lib/bowline/a.yaml", "no such key: 1"),
        ("etc/bowline/b.yaml", ""),
    ])
    .unwrap();
    std::os::unix::fs::symlink("/dev/null", dir.path().join("etc/bowline/a.yaml")).unwrap();
    assert_eq!(load(dir.path()).unwrap(), Settings::default());
}

#[test]
fn mistakes_name_file_line_and_what_is_allowed() {
    for (text, said) in [
        (
            "update:\n  aply: true\n",
            ":2: update: unknown field `aply`, expected one of `apply`, `metered`, `battery` at \
             line 2 column 3",
        ),
        (
            "\nupdates: {}\n",
            ":2: unknown field `updates`, expected one of `update`, `health`, `trust` at line 2 column 1",
        ),
        (
            "update:\n  apply: 3\n",
            ":2: update.apply: invalid type: integer `3`, expected a boolean at line 2 column 10",
        ),
        (
            "update:\n  metered: maybe\n",
            ":2: update.metered: unknown variant `maybe`, expected `skip` or `allow` at line 2 \
             column 12",
        ),
        (
            "health:\n  network: required\n  tries: 0\n",
            ":3: health.tries: invalid value: integer `0`, expected a whole number from 1 to 9 \
             at line 3 column 10",
        ),
        (
            "health:\n  tries: many\n",
            ":2: health.tries: invalid type: string \"many\", expected a whole number from 1 to 9 \
             at line 2 column 10",
        ),
        (
            "health:\n\n  timeout: soon\n",
            ":3: health.timeout: \"soon\" is no duration: write numbers with the units ms, s, min, \
             h, d or w, such as 90s, 5min or 1h 30min at line 3 column 12",
        ),
        (
            "health:\n  tries: 2\n  timeout: 0s\n",
            ":3: health.timeout: \"0s\" leaves no time at all: write a duration above zero, such as \
             90s or 5min at line 3 column 12",
        ),
        (
            "health:\n  check-timeout: 0min 0ms\n",
            ":2: health.check-timeout: \"0min 0ms\" leaves no time at all: write a duration above \
             zero, such as 90s or 5min at line 2 column 18",
        ),
        (
            "health: {free-space: {/: lots}}",
            ":1: health.free-space./: \"lots\" is no size: write a number with a unit (B, K, M, G, T \
             in steps of 1024; kB, MB, GB, TB in steps of 1000), such as 512M or 10 GiB at line 1 \
             column 26",
        ),
        (
            "health: {units: sshd}",
            ":1: health.units: invalid type: string \"sshd\", expected a sequence at line 1 column \
             17",
        ),
        (
            "- a\n",
            ":1: invalid type: sequence, expected a mapping of sections",
        ),
        ("update: {}\nupdate: {}\n", ":1: duplicate field `update`"),
        (
            "update:\n---\nhealth:\n",
            ":1: deserializing from YAML containing more than one document is not supported",
        ),
    ] {
        assert_eq!(refused(text), format!("/etc/bowline/x.yaml{said}"));
    }
}

#[test]
fn a_huge_file_and_bytes_that_are_no_text_are_refused() {
    let dir = files(&[("etc/bowline/x.yaml", &"#".repeat(300 << 10))]).unwrap();
    let error = load(dir.path()).unwrap_err();
    let name = dir.path().join("etc/bowline/x.yaml").display().to_string();
    let expected = ConfigError::file(&name, "larger than 262144 bytes");
    assert_eq!(error.downcast_ref(), Some(&expected));
    fs::write(dir.path().join("etc/bowline/x.yaml"), b"update:\xff").unwrap();
    let error = load(dir.path()).unwrap_err();
    assert!(error.is::<ConfigError>(), "{error:#}");
}

proptest! {
    #[test]
    fn any_text_is_settings_or_a_located_error(text in "([a-z: \\[\\]{}&*|>'\"#\n-]|update:|health:|\n  tries: |[0-9]|\\PC){0,60}") {
        let parsed = layers::yaml::<settings::SettingsFile>("f", &text);
        if let Err(ConfigError::Text { line, .. }) = parsed {
            prop_assert!(line >= 1 && line <= text.lines().count() + 1, "line {}", line);
        }
    }
}

proptest! {
    #[test]
    fn of_any_files_the_last_word_on_a_key_counts(
        files in prop::collection::vec((0..3_usize, "[a-c]{1,2}", any::<Option<bool>>(), prop::option::of(1..=9_u32)), 0..8),
    ) {
        let text = |apply: Option<bool>, tries: Option<u32>| {
            let apply = apply.map(|v| format!("update: {{apply: {v}}}\n")).unwrap_or_default();
            let tries = tries.map(|v| format!("health:\n  tries: {v}\n")).unwrap_or_default();
            apply + &tries
        };
        // Of two files with one path the last one is written.
        let by_path: std::collections::BTreeMap<_, _> =
            files.iter().map(|(place, name, apply, tries)| ((*place, format!("{name}.yaml")), (*apply, *tries))).collect();
        let paths: Vec<_> = by_path.iter().map(|((place, name), (apply, tries))| {
            (format!("{}/{name}", PLACES[*place]), text(*apply, *tries))
        }).collect();
        let paths: Vec<_> = paths.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let dir = samples::files(&paths).unwrap();
        let settings = load(dir.path()).unwrap();
        let apply = by_path.values().rev().find_map(|v| v.0);
        let tries = by_path.values().rev().find_map(|v| v.1);
        prop_assert_eq!(settings.update.apply, apply.unwrap_or(Update::default().apply));
        prop_assert_eq!(settings.health.tries, tries.unwrap_or(Health::default().tries));
    }
}
