//! The program from outside: help, manual pages, completion, usage errors. Needs `bash` for the
//! syntax of the completion script; no root.

use std::fs::File;
use std::process::{Command, Output, Stdio};

use bowline::cli::args::Cli;
use clap::CommandFactory;

fn bowline(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(args).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Calls `check` with every command of the tree and its words.
fn walk(
    command: &clap::Command,
    words: &[String],
    check: &mut dyn FnMut(&[String], &clap::Command),
) {
    check(words, command);
    for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
        let words = [words, &[sub.get_name().to_owned()]].concat();
        walk(sub, &words, check);
    }
}

#[test]
fn the_tree_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_and_option_has_a_help_text() {
    let mut root = Cli::command();
    root.build();
    let mut commands = 0;
    walk(&root, &[], &mut |words, command| {
        commands += 1;
        assert!(command.get_about().is_some(), "{words:?} has no help text");
        for arg in command.get_arguments() {
            assert!(arg.get_help().is_some(), "{words:?} {arg} has no help text");
        }
    });
    assert!(commands >= 3, "{commands}");
}

#[test]
fn options_of_which_one_would_be_ignored_are_refused() {
    for options in [
        ["--stat", "--format=json"],
        ["--name-only", "--format=yaml"],
        ["--stat", "--name-only"],
    ] {
        let words = ["bowline", "config-diff", options[0], options[1]];
        let error = Cli::command().try_get_matches_from(words).unwrap_err();
        let kind = clap::error::ErrorKind::ArgumentConflict;
        assert_eq!(error.kind(), kind, "{options:?}");
    }
}

#[test]
fn help_of_every_command_is_printed() {
    let mut root = Cli::command();
    root.build();
    walk(&root, &[], &mut |words, command| {
        let args: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let output = bowline(&args);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        let about = command.get_about().unwrap().to_string();
        assert!(stdout(&output).starts_with(&about), "{}", stdout(&output));
    });
}

#[test]
fn version_names_the_program() {
    let expected = format!("bowline {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(stdout(&bowline(&["--version"])), expected);
}

#[test]
fn manual_pages_have_names_options_and_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let output = bowline(&["man", dir.path().to_str().unwrap()]);
    assert_eq!(stderr(&output), "");
    let page = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(!dir.path().join("bowline-man.1").exists(), "man is hidden");
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    walk(&root, &["bowline".into()], &mut |words, command| {
        if command.is_hide_set() {
            return;
        }
        let page = page(&format!("{}.1", words.join("-")));
        let title = format!(".TH {} 1", words.join("-"));
        for part in [
            &title,
            ".SH NAME",
            "\n.SH \"EXIT STATUS\"\n",
            "\n77\n",
            ".SH FILES",
        ] {
            assert!(page.contains(part), "{words:?} lacks {part}");
        }
    });
    assert_eq!(stdout(&bowline(&["man"])), page("bowline.1"));
}

#[test]
fn manual_pages_need_a_directory_that_exists() {
    let output = bowline(&["man", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "error: Writing /nowhere/at/all/bowline.1\n  caused by: No such file or directory \
         (os error 2)\n"
    );
}

#[test]
fn completion_scripts_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = bowline(&["completion", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("completion"), "{shell}");
    }
}

#[test]
fn the_bash_completion_parses() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("bowline.bash");
    std::fs::write(&script, bowline(&["completion", "bash"]).stdout).unwrap();
    let output = Command::new("bash")
        .arg("-n")
        .arg(&script)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn wrong_usage_exits_with_2_and_says_why() {
    for (args, says) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
        (&["completion", "tcsh"], "invalid value 'tcsh'"),
        (&["--frob"], "unexpected argument '--frob'"),
        (&["-q", "-v", "man"], "cannot be used with"),
        (&[], "Usage: bowline"),
    ] {
        let output = bowline(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            stderr(&output).contains(says),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_bowline"))
        .args(["completion", "bash"])
        .stdout(File::from(writer))
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}

#[test]
fn a_progress_descriptor_must_be_open_for_writing() {
    let hint = "hint: open it for the program, such as with `--progress-fd 3 3>progress.jsonl`\n";
    for (redirect, says) in [
        ("3>&-", "error: --progress-fd 3 is not open\n"),
        (
            "3</dev/null",
            "error: --progress-fd 3 is not open for writing\n",
        ),
    ] {
        let script = format!("exec \"$0\" image pull oci:/nowhere --progress-fd 3 {redirect}");
        let output = Command::new("bash")
            .args(["-c", &script, env!("CARGO_BIN_EXE_bowline")])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{redirect}");
        assert_eq!(stderr(&output), format!("{says}{hint}"), "{redirect}");
    }
    for number in ["-1", "0", "2", "x", "4294967299"] {
        let output = bowline(&["image", "pull", "oci:/nowhere", "--progress-fd", number]);
        assert_eq!(output.status.code(), Some(2), "{number}");
    }
}
/// Command lines of the documentation: indented lines that begin with `bowline`.
fn documented() -> Vec<(String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let book = std::fs::read_dir(root.join("docs/src")).unwrap();
    let mut pages: Vec<_> = book.map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    let lines = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let lines = text.lines().filter_map(|line| line.strip_prefix("    "));
        let commands = lines.filter(|line| line.starts_with("bowline "));
        commands
            .map(|line| (name.clone(), line.into()))
            .collect::<Vec<_>>()
    };
    pages.into_iter().flat_map(lines).collect()
}

#[test]
fn every_documented_command_line_parses() {
    let documented = documented();
    assert!(documented.len() >= 10, "{documented:?}");
    for (page, line) in documented {
        let command = line.split('#').next().unwrap();
        // Redirections are the shell's.
        let words = command
            .split_whitespace()
            .take_while(|word| !word.contains('>'));
        if let Err(error) = <Cli as clap::Parser>::try_parse_from(words) {
            panic!("{page}: {line}: {error}");
        }
    }
}

#[test]
fn the_book_lists_every_page() {
    let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src");
    let summary = std::fs::read_to_string(src.join("SUMMARY.md")).unwrap();
    for entry in std::fs::read_dir(&src).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let listed = summary.contains(&format!("]({name})"));
        assert!(
            listed || name == "SUMMARY.md",
            "{name} is not in SUMMARY.md"
        );
    }
    for target in summary
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
    {
        assert!(
            src.join(target).exists(),
            "{target} is listed but not there"
        );
    }
}
