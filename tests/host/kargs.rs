//! Kernel arguments from the images' files and the command to the boot loader entries, across
//! upgrades and other tools.

use std::fs;

use serde_json::{Value, json};

use crate::scene::{Scene, os, ostree, stderr, turn};

const ONE: &str = "file /usr/lib/bootc/kargs.d/10-a.toml 0 0 644 \
                   kargs = [\"console=ttyS0\", \"quiet\"]\\n\n\
                   file /usr/lib/bootc/kargs.d/20-b.toml 0 0 644 \
                   kargs = [\"never\"]\\nmatch-architectures = [\"sparc64\"]\\n";
const TWO: &str = "file /usr/lib/bowline/kargs.d/10-a.yaml 0 0 644 \
                   kargs: [console=ttyS0, nosmt, mine]\\n";

/// A sysroot that follows an image with these fixture lines.
fn scene(more: &str) -> Scene {
    let scene = Scene::new();
    scene.publish(&os("1", more), "os");
    scene.ok(&["rebase", "-q", &scene.image_name("os")]);
    scene
}

fn upgrade(scene: &Scene, version: &str, more: &str) -> String {
    scene.publish(&os(version, more), "os");
    scene.ok(&["upgrade"])
}

/// The arguments of the entry that boots next, without `ostree=`.
fn options(scene: &Scene) -> String {
    let entries = scene.path().join("boot/loader/entries");
    let mut names: Vec<_> = fs::read_dir(entries)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    names.sort();
    let text = fs::read_to_string(names.last().unwrap()).unwrap();
    let line = text.lines().find(|l| l.starts_with("options")).unwrap();
    let words = line.split_whitespace().skip(1);
    let words = words.filter(|word| !word.starts_with("ostree="));
    words.collect::<Vec<_>>().join(" ")
}

fn listed(scene: &Scene) -> Value {
    serde_json::from_str(&scene.ok(&["kargs", "--format", "json"])).unwrap()
}

/// Arguments with their owners.
fn owners(scene: &Scene) -> Vec<String> {
    let list = listed(scene)["kargs"].clone();
    let list = list.as_array().unwrap().iter();
    let pair = |line: &Value| {
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        format!("{} {}", text("argument"), text("owner"))
    };
    list.map(pair).collect()
}

#[test]
fn arguments_of_the_image_follow_it_and_those_of_the_machine_stay() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = scene(ONE);
    assert_eq!(options(&scene), "console=ttyS0 quiet");
    scene.ok(&["kargs", "append", "root=UUID=1", "mine"]);
    assert_eq!(options(&scene), "console=ttyS0 quiet root=UUID=1 mine");

    let said = upgrade(&scene, "2", TWO);
    let change = "\nKernel arguments: - quiet + nosmt\nDeployed ";
    assert!(said.contains(change), "{said}");
    assert_eq!(options(&scene), "console=ttyS0 nosmt root=UUID=1 mine");
    assert_eq!(
        owners(&scene),
        [
            "console=ttyS0 image",
            "nosmt image",
            "root=UUID=1 local",
            "mine both"
        ]
    );
    // No kargs.d any more: nothing of the image is left.
    upgrade(&scene, "3", "");
    assert_eq!(options(&scene), "root=UUID=1 mine");
    assert_eq!(owners(&scene), ["root=UUID=1 local", "mine local"]);
    upgrade(&scene, "4", ONE);
    // The last word of a key counts: it is the machine's.
    assert_eq!(options(&scene), "console=ttyS0 quiet root=UUID=1 mine");
    scene.fsck();
}

#[test]
fn a_change_is_a_deployment_of_the_same_commit() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = scene(ONE);
    let etc = scene.next().join("etc/motd");
    fs::write(etc, "mine\n").unwrap();
    let before = scene.status();
    let said = scene.ok(&["kargs", "replace", "quiet=3"]);
    let commit = listed(&scene)["checksum"].as_str().unwrap().to_owned();
    assert_eq!(
        said,
        format!(
            "- quiet\n+ quiet=3\nDeployed default/{}.1: it boots next\n",
            &commit[..12]
        )
    );
    let after = scene.status();
    let old = |status: &Value| status["status"]["otherDeployments"][0]["ostree"].clone();
    assert_eq!(old(&before)["checksum"], old(&after)["checksum"]);
    assert_eq!(old(&after)["deploySerial"], 1);
    let image = |status: &Value| status["status"]["otherDeployments"][0]["image"].clone();
    assert_eq!(image(&before), image(&after));
    let motd = fs::read_to_string(scene.next().join("etc/motd"));
    assert_eq!(motd.unwrap(), "mine\n");
    // A rollback has the old arguments again.
    scene.ok(&["rollback"]);
    assert_eq!(options(&scene), "console=ttyS0 quiet");
    scene.fsck();
}

#[test]
fn the_list_says_whose_an_argument_is() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = scene(ONE);
    scene.ok(&["kargs", "append", "root=UUID=1"]);
    scene.ok(&["kargs", "delete", "quiet"]);
    let list = listed(&scene);
    let short = &list["checksum"].as_str().unwrap()[..12];
    assert_eq!(
        scene.ok(&["kargs"]),
        format!(
            "Kernel arguments of default/{short}.2, which boots next\n\
             ARGUMENT       WANTED BY\n\
             console=ttyS0  image\n\
             root=UUID=1    this machine\n\
             Asked for by the image, but removed here: quiet\n"
        )
    );
    assert_eq!(
        list["kargs"][0],
        json!({"argument": "console=ttyS0", "key": "console", "value": "ttyS0", "owner": "image"})
    );
    assert_eq!(list["options"], "console=ttyS0 root=UUID=1");
    assert_eq!(list["leftOut"], json!(["quiet"]));
    assert_eq!(
        (&list["booted"], &list["staged"]),
        (&json!(false), &json!(false))
    );
    let yaml = scene.ok(&["kargs", "list", "--format", "yaml"]);
    assert!(
        yaml.contains("options: console=ttyS0 root=UUID=1\n"),
        "{yaml}"
    );
    // What was removed by hand stays away.
    upgrade(&scene, "2", &format!("{ONE}\nfile /usr/x 0 0 644 x"));
    assert_eq!(options(&scene), "console=ttyS0 root=UUID=1");
}

#[test]
fn nothing_to_do_is_told_by_77() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = scene(ONE);
    let state = scene.state();
    for args in [
        &[
            "kargs",
            "append",
            "--if-missing",
            "--unchanged-exit-77",
            "quiet",
        ][..],
        &[
            "kargs",
            "append",
            "--if-missing",
            "--unchanged-exit-77",
            "quiet",
        ],
        &[
            "kargs",
            "delete",
            "--if-present",
            "--unchanged-exit-77",
            "nosmt",
        ],
        &["kargs", "replace", "--unchanged-exit-77", "console=ttyS0"],
    ] {
        let output = scene.run(args);
        assert_eq!(
            output.status.code(),
            Some(77),
            "{args:?} {}",
            stderr(&output)
        );
    }
    assert_eq!(scene.state(), state);
    // Asked for by hand, it is the machine's now, whatever the image says.
    assert_eq!(owners(&scene), ["console=ttyS0 both", "quiet both"]);
    upgrade(&scene, "2", "");
    assert_eq!(options(&scene), "console=ttyS0 quiet");
    scene.ok(&["kargs", "append", "--if-missing", "quiet"]);
    assert_eq!(options(&scene), "console=ttyS0 quiet");
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = scene(ONE);
    for (code, args, said) in [
        (2, &["append", "a b"][..], "more than one argument"),
        (2, &["append", "ostree=/x"], "libostree sets it"),
        (2, &["append", "=x"], "no key"),
        (2, &["append", "a=\"b"], "nothing closes"),
        (
            2,
            &["delete", "nosmt"],
            "there is no kernel argument nosmt\nhint: `bowline kargs` lists",
        ),
        (2, &["delete", "console=tty0"], "there is console=ttyS0"),
        (2, &["replace", "quiet"], "KEY=OLD=NEW"),
        (2, &["append"], "required"),
        (2, &["append", "x", "--apply"], "did not boot from"),
        (
            2,
            &["list", "--stateroot", "x"],
            "nothing is deployed in stateroot x",
        ),
        (
            7,
            &["append", "a=$b"],
            "reads boot loader entries as script and would take the $ for its own",
        ),
        (7, &["append", "ok", "a;b"], "would take the ; for its own"),
        (2, &["append", "a='b c'"], "more than one argument"),
        (7, &["append", "a='b'"], "would take the ' for its own"),
        (7, &["append", "a={b}"], "would take the { for its own"),
    ] {
        let args: Vec<_> = ["kargs"].iter().chain(args).copied().collect();
        let error = scene.fails(code, &args);
        assert!(error.contains(said), "{args:?}: {error}");
    }
    scene.ok(&["kargs", "append", "console=tty0"]);
    let error = scene.fails(2, &["kargs", "delete", "console"]);
    assert_eq!(
        error,
        "error: console has several values: console=ttyS0, console=tty0\n\
         hint: say which one is meant: KEY=VALUE\n"
    );
    let empty = Scene::new();
    fs::create_dir_all(empty.path().join("boot")).unwrap();
    assert!(empty.fails(2, &["kargs"]).contains("nothing is deployed"));
}

#[test]
fn an_editor_changes_the_whole_list() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = scene(ONE);
    let edit = |editor: &str| {
        let mut command = scene.command(&["kargs", "edit", "--unchanged-exit-77"]);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command
            .env("TMPDIR", scene.dir.path())
            .env("EDITOR", editor);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), stderr(&output))
    };
    let seen = scene.dir.path().join("seen");
    let (code, error) = edit(&format!("cp -t {} --", seen.display()));
    assert_eq!(code, 1, "{error}");
    fs::create_dir(&seen).unwrap();
    let (code, error) = edit(&format!("cp -t {} --", seen.display()));
    assert_eq!(code, 77, "{error}");
    let shown = fs::read_dir(&seen).unwrap().next().unwrap().unwrap().path();
    let list = listed(&scene);
    assert_eq!(
        fs::read_to_string(shown).unwrap(),
        format!(
            "# Kernel arguments of default/{}.0, one on each line, in their order.\n\
             # Lines that start with # do not count. From the image: console=ttyS0 quiet\n\
             console=ttyS0\nquiet\n",
            list["checksum"].as_str().unwrap()
        )
    );
    let (code, error) = edit("sed -i -e 's/^quiet$/root=UUID=1/' -e '1i first'");
    assert_eq!(code, 0, "{error}");
    assert_eq!(options(&scene), "first console=ttyS0 root=UUID=1");
    let left: Vec<_> = fs::read_dir(scene.dir.path())
        .unwrap()
        .filter(|e| {
            e.as_ref()
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .contains("kargs")
        })
        .collect();
    assert_eq!(left.len(), 0, "a draft is left: {left:?}");
    let (code, error) = edit("sed -i 's/^first$/a b/'");
    assert_eq!(code, 2, "{error}");
    let kept = error.split("which is in ").nth(1).unwrap();
    let kept = fs::read_to_string(kept.lines().next().unwrap()).unwrap();
    assert!(kept.contains("\na b\n"), "{kept}");
    let (code, error) = edit("sed -i d");
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("no kernel argument is left"), "{error}");
    assert_eq!(options(&scene), "first console=ttyS0 root=UUID=1");
}

#[test]
fn another_tool_in_between_loses_nothing() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = scene(ONE);
    scene.ok(&["kargs", "append", "mine"]);
    let path = format!("--sysroot={}", scene.path().display());
    // One that keeps the origin.
    let append = |arg: &str| format!("--append={arg}");
    let set = ["admin", "instutil", "set-kargs", &path, "--merge"];
    ostree(&[&set[..], &[&append("theirs")]].concat());
    assert_eq!(options(&scene), "console=ttyS0 quiet mine theirs");
    upgrade(&scene, "2", TWO);
    assert_eq!(options(&scene), "console=ttyS0 nosmt mine theirs");
    // One that writes a new origin, without any record.
    let commit = listed(&scene)["checksum"].as_str().unwrap().to_owned();
    ostree(&[
        "admin",
        "deploy",
        &path,
        "--os=default",
        "--karg-append=x",
        &commit,
    ]);
    assert_eq!(options(&scene), "console=ttyS0 nosmt mine theirs x");
    scene.publish(&os("3", ""), "os");
    scene.ok(&["rebase", "-q", &scene.image_name("os")]);
    assert_eq!(options(&scene), "mine theirs x");
}

#[test]
fn quoted_values_of_an_image_stay_in_one_piece() {
    let Some(_turn) = turn() else {
        return;
    };
    let quoted = "file /usr/lib/bowline/kargs.d/x.yaml 0 0 644 \
                  kargs: ['dyndbg=\"file a.c +p; file b.c +p\"', last]\n";
    let scene = scene(quoted);
    let options_of = "dyndbg=\"file a.c +p; file b.c +p\" last";
    assert_eq!(options(&scene), options_of);
    scene.ok(&["kargs", "append", "mine"]);
    assert_eq!(options(&scene), format!("{options_of} mine"));
    let list = listed(&scene);
    assert_eq!(list["kargs"][0]["value"], "file a.c +p; file b.c +p");
    assert_eq!(list["kargs"][0]["owner"], "image");
    upgrade(&scene, "2", "");
    assert_eq!(options(&scene), "mine");
}

#[test]
fn an_image_with_a_broken_file_is_refused_and_named() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = scene("");
    let broken = "file /usr/lib/bootc/kargs.d/x.toml 0 0 644 kargs = [\"a\"]\\nkarg = 1\\n";
    scene.publish(&os("2", broken), "os");
    let output = scene.run(&["upgrade"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let error = stderr(&output);
    assert!(
        error.contains("/usr/lib/bootc/kargs.d/x.toml of commit "),
        "{error}"
    );
    assert!(error.contains(":2: unknown field `karg`"), "{error}");
    assert!(error.contains("oci:"), "{error}");
    assert!(
        error.contains("\nhint: whoever builds the image"),
        "{error}"
    );
}
