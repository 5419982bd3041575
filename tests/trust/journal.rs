//! What the journal is told of an image that was accepted. The program runs in a mount namespace of its
//! own, with a socket of the test's in place of the journal's. Needs root.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use bowline::testing::samples::stderr;
use serde_json::json;

use crate::scene::{Gpg, Scene, os};

/// Puts the directory `$1` where the journal's socket is, and runs the rest.
const IN_PLACE: &str = r#"
set -eu
journal=$1; shift
mount -t tmpfs none /run
mkdir -p /run/systemd/journal
mount --bind "$journal" /run/systemd/journal
exec "$@"
"#;

#[allow(clippy::print_stderr, reason = "a test that cannot run says why")]
fn can_mount() -> bool {
    let mut unshare = Command::new("unshare");
    let unshare = unshare.args(["-m", "--", "mount", "-t", "tmpfs", "none", "/run"]);
    let can = unshare.output().is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: needs mount namespaces");
    }
    can
}

/// The entries that have come, as texts of lines `FIELD=VALUE`.
fn entries(journal: &UnixDatagram) -> Vec<String> {
    let mut buffer = vec![0; 64 << 10];
    let next = |buffer: &mut Vec<u8>| journal.recv(buffer).ok().map(|n| buffer[..n].to_vec());
    let all = std::iter::from_fn(|| next(&mut buffer));
    all.map(|entry| String::from_utf8(entry).unwrap()).collect()
}

#[test]
fn the_journal_is_told_who_vouches_for_an_image() {
    let Some(scene) = Scene::new(&["gpg"]).filter(|_| can_mount()) else {
        return;
    };
    // A path with /run in it would be hidden.
    let place = scene.path("journal");
    fs::create_dir(&place).unwrap();
    let journal = UnixDatagram::bind(place.join("socket")).unwrap();
    journal.set_nonblocking(true).unwrap();
    let gpg = Gpg::new(&scene.path("gnupg"));
    let key = gpg.key("os@x", "never", &[]);
    gpg.export("os@x", &scene.path("os.gpg"));
    let rule = json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": scene.path("os.gpg")});
    let image = os("1");
    let digest = image.digest().to_string();
    scene.push(&image, "1", &[]);
    let pull = |image: &str| {
        let repo = scene.repo.path().to_str().unwrap();
        let command = scene.command(&["image", "--repo", repo, "pull", image]);
        let mut unshare = Command::new("unshare");
        unshare.args([
            "-m",
            "--propagation",
            "private",
            "--",
            "sh",
            "-c",
            IN_PLACE,
            "sh",
        ]);
        unshare
            .arg(&place)
            .arg(command.get_program())
            .args(command.get_args());
        unshare.env_clear();
        let known = command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        let output = unshare.envs(known).output().unwrap();
        let told = entries(&journal);
        (output.status.code(), told, stderr(&output))
    };
    let has = |entry: &str, field: &str| {
        assert!(
            entry.lines().any(|line| line == field),
            "{field} is not in {entry}"
        );
    };

    scene.policy(&json!([{"type": "insecureAcceptAnything"}]));
    let (code, told, said) = pull(&scene.name("1"));
    assert_eq!(code, Some(0), "{said}");
    let [entry] = &*told else {
        panic!("{told:?} {said}")
    };
    let id = "MESSAGE_ID=5d0a2f3c6b944e6f8f1c7a90d2e4b713";
    let file = scene.path("policy.json").display().to_string();
    let unverified =
        format!("BOWLINE_VERIFIED=unverified: {file} accepts anything for the default");
    for field in [id, "SYSLOG_IDENTIFIER=bowline", "PRIORITY=6", &unverified] {
        has(entry, field);
    }

    // What is refused is not told as accepted.
    scene.policy(&json!([rule]));
    let (code, told, said) = pull(&scene.signed("1"));
    assert_eq!((code, &*told), (Some(4), &[][..]), "{said}");

    let signature = gpg.sign(&key, &scene.name("1"), &digest, &[]);
    scene.lay(&digest, &[signature]);
    let (code, told, said) = pull(&scene.signed("1"));
    assert_eq!(code, Some(0), "{said}");
    let [entry] = &*told else {
        panic!("{told:?} {said}")
    };
    let verified = format!("gpg {key} for {}", scene.name("1"));
    let signed = scene.signed("1");
    for field in [
        id.to_owned(),
        format!("BOWLINE_IMAGE={signed}"),
        format!("BOWLINE_IMAGE_DIGEST={digest}"),
        format!("BOWLINE_VERIFIED={verified}"),
        format!("MESSAGE={signed} ({digest}) was accepted: {verified}"),
    ] {
        has(entry, &field);
    }
    // Nothing is new the second time.
    let (code, told, said) = pull(&scene.signed("1"));
    assert_eq!((code, &*told), (Some(0), &[][..]), "{said}");
}
