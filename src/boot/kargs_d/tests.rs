//! Tests of an image's kernel arguments: bootc's directory, ours, and mistakes.

use proptest::prelude::*;

use super::*;
use crate::sys::tree::DirTree;
use crate::testing::samples;

fn read(files: &[(&str, &str)]) -> Result<ImageKargs> {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        samples::write(&dir.path().join("usr/lib"), path, text).unwrap();
    }
    ImageKargs::read(&DirTree::open(dir.path()).unwrap())
}

fn args(files: &[(&str, &str)], arch: &str) -> String {
    read(files).unwrap().for_arch(arch).to_string()
}

fn refused(path: &str, text: &str) -> String {
    let error = read(&[(path, text)]).unwrap_err();
    let error = error.downcast::<KargsDError>().unwrap().to_string();
    error[error.find("/usr/lib").unwrap()..].into()
}

#[test]
fn files_count_by_name_and_each_argument_once() {
    let files = [
        (
            "bootc/kargs.d/20-b.toml",
            "kargs = ['console=ttyS0 panic=5', 'quiet']",
        ),
        (
            "bootc/kargs.d/10-a.toml",
            "kargs = ['console=tty0', 'nosmt']",
        ),
        ("bootc/kargs.d/note.txt", "no toml"),
        ("bootc/kargs.d/30-c.yaml", "no: yaml of ours"),
        (
            "bowline/kargs.d/05-d.yaml",
            "kargs: [nosmt, rd.emergency=reboot]",
        ),
        ("bowline/kargs.d/06-e.toml", "no yaml of ours"),
    ];
    assert_eq!(
        args(&files, "amd64"),
        "console=tty0 nosmt console=ttyS0 panic=5 quiet rd.emergency=reboot"
    );
    assert_eq!(args(&[], "amd64"), "");
}

#[test]
fn architectures_have_the_names_of_rust() {
    let files = [
        (
            "bootc/kargs.d/1.toml",
            "kargs = ['x86']\nmatch-architectures = ['x86_64']",
        ),
        (
            "bootc/kargs.d/2.toml",
            "kargs = ['arm']\nmatch-architectures = ['aarch64', 's390x']",
        ),
        (
            "bowline/kargs.d/3.yaml",
            "{kargs: [none], match-architectures: []}",
        ),
        (
            "bowline/kargs.d/4.yaml",
            "{kargs: [goarch], match-architectures: [amd64]}",
        ),
        ("bowline/kargs.d/5.yaml", "kargs: [all]"),
    ];
    assert_eq!(args(&files, "amd64"), "x86 all");
    assert_eq!(args(&files, "arm64"), "arm all");
    assert_eq!(args(&files, "riscv64"), "all");
}

#[test]
fn mistakes_name_file_line_and_what_is_allowed() {
    let (toml, yaml) = ("bootc/kargs.d/x.toml", "bowline/kargs.d/x.yaml");
    for (path, text, said) in [
        (
            toml,
            "kargs = []\nfoo = 1",
            ":2: unknown field `foo`, expected `kargs` or `match-architectures`",
        ),
        (
            toml,
            "match-architectures = []",
            ":1: missing field `kargs`",
        ),
        (
            toml,
            "kargs = 'quiet'",
            ":1: invalid type: string \"quiet\", expected a sequence",
        ),
        (
            toml,
            "kargs = [\"a=\\\"b\"]",
            ": \"a=\\\"b\" has a control character or an open quote",
        ),
        (
            toml,
            "kargs = [\"a\\nb\"]",
            ": \"a\\nb\" has a control character or an open quote",
        ),
        (
            toml,
            "kargs = ['ostree=x']",
            ": \"ostree=x\" says which deployment boots: libostree sets it, nobody else may",
        ),
        (
            yaml,
            "kargs: []\nfoo: 1",
            ":2: unknown field `foo`, expected `kargs` or `match-architectures` at line 2 column 1",
        ),
        (
            yaml,
            "kargs:\n- [1]\n",
            ":2: kargs[0]: invalid type: sequence, expected a string at line 2 column 3",
        ),
    ] {
        assert_eq!(refused(path, text), format!("/usr/lib/{path}{said}"));
    }
    let huge = format!("# {}", "x".repeat(70_000));
    assert_eq!(
        refused(toml, &huge),
        format!("/usr/lib/{toml}: larger than 65536 bytes")
    );
}

proptest! {
    #[test]
    fn any_text_is_arguments_or_a_located_error(text in "(kargs ?[=:] ?|[\\[\\]'\",\na-z-]|\\PC){0,40}") {
        for parser in [parse::toml as Parser, parse::yaml] {
            let parsed = parsed("f", &text, parser);
            if let Err(KargsDError { line: Some(line), .. }) = parsed {
                prop_assert!(line >= 1 && line <= text.lines().count() + 1);
            }
        }
    }
}
