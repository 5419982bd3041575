//! What somebody might try who can write to a registry, to a mirror, to the network between, or to the
//! disk: nothing is deployed, the exit code is 4, the message names what did not hold, and what was
//! deployed before is as it was. Needs root.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use bowline::testing::registry::TestRegistry;
use bowline::testing::samples::stderr;
use bowline::testing::{Image, ScratchSysroot};
use serde_json::json;

use crate::scene::{Gpg, Scene, os};

/// A host that follows a signed image, and the key.
struct Host {
    scene: Scene,
    gpg: Gpg,
    key: String,
    sysroot: ScratchSysroot,
    first: Image,
}

impl Host {
    #[allow(clippy::print_stderr, reason = "a test that cannot run says why")]
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let scene = Scene::new(&["gpg", "ostree"])?;
        let gpg = Gpg::new(&scene.path("gnupg"));
        let key = gpg.key("os@example.org", "never", &[]);
        gpg.export("os@example.org", &scene.path("os.gpg"));
        let rule = json!({
            "type": "signedBy", "keyType": "GPGKeys", "keyPath": scene.path("os.gpg"),
        });
        scene.policy(&json!([rule]));
        let host = Self {
            scene,
            gpg,
            key,
            sysroot: ScratchSysroot::new().unwrap(),
            first: os("1"),
        };
        host.scene.push(&host.first, "1", &[]);
        host.sign(&host.first, &host.scene.name("1"));
        let output = host.run(&["rebase", &host.scene.signed("1")]);
        assert!(output.status.success(), "{}", stderr(&output));
        Some(host)
    }

    fn sign(&self, image: &Image, name: &str) {
        let digest = image.digest().to_string();
        let signature = self.gpg.sign(&self.key, name, &digest, &[]);
        self.scene.lay(&digest, &[signature]);
    }

    fn run(&self, args: &[&str]) -> Output {
        let sysroot = self.sysroot.path().to_str().unwrap();
        self.scene.run(&[&["--sysroot", sysroot], args].concat())
    }

    fn repo(&self) -> PathBuf {
        self.sysroot.path().join("ostree/repo")
    }

    /// Boot entries, deployments and images.
    fn state(&self) -> (Vec<String>, String, String) {
        let entries = fs::read_dir(self.sysroot.path().join("boot/loader/entries")).unwrap();
        let read = |entry: std::io::Result<fs::DirEntry>| {
            fs::read_to_string(entry.unwrap().path()).unwrap()
        };
        let mut entries: Vec<_> = entries.map(read).collect();
        entries.sort();
        let text = |args: &[&str]| String::from_utf8(self.run(args).stdout).unwrap();
        (
            entries,
            text(&["status", "--json"]),
            text(&["image", "list"]),
        )
    }

    /// Upgrades, or follows another image; that must be refused for a reason with these words.
    fn refuses(&self, args: &[&str], words: &str) {
        let before = self.state();
        let output = self.run(args);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(4), "{args:?}: {text}");
        let told = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(words), "{words:?} is not in: {told}");
        assert_eq!(self.state(), before, "{args:?}");
    }

    fn upgrades(&self) {
        let output = self.run(&["upgrade"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }

    /// Offers the second version under the followed tag.
    fn second(&self) -> Image {
        let second = os("2");
        self.scene.push(&second, "1", &[]);
        second
    }
}

#[test]
fn signatures_of_other_images_are_worth_nothing() {
    let Some(host) = Host::new() else { return };
    let second = host.second();
    host.refuses(&["upgrade"], "no signature was found");
    let of = |repository: &str| format!("{}/ns/{repository}", host.scene.daemon.host);
    for name in [
        of("other:1"),
        of("os:2"),
        "quay.io/ns/os:1".into(),
        of("os"),
    ] {
        host.sign(&second, &name);
        let words = format!("it was made for {name:?}, but must be for the image's exact name");
        host.refuses(&["upgrade"], &words);
    }
    // A signature of the first version, laid beside the second.
    let digest = host.first.digest().to_string();
    let replayed = host
        .gpg
        .sign(&host.key, &host.scene.name("1"), &digest, &[]);
    host.scene.lay(&second.digest().to_string(), &[replayed]);
    let words = format!("it is a signature of another image, {digest}");
    host.refuses(&["upgrade"], &words);
    host.sign(&second, &host.scene.name("1"));
    host.upgrades();
}

#[test]
fn one_good_signature_is_enough_and_a_changed_one_is_none() {
    let Some(host) = Host::new() else { return };
    let second = host.second();
    let digest = second.digest().to_string();
    let good = host
        .gpg
        .sign(&host.key, &host.scene.name("1"), &digest, &["-z", "0"]);
    let at = good.windows(6).position(|w| w == b"ns/os:").unwrap();
    let mut changed = good.clone();
    changed[at] ^= 1;
    host.scene.lay(&digest, &[changed.clone()]);
    host.refuses(&["upgrade"], "was changed");
    host.scene.lay(&digest, &[b"no signature at all".to_vec()]);
    host.refuses(&["upgrade"], "the signature is in no format that is known");
    host.scene.lay(&digest, &[changed, good]);
    host.upgrades();
    let status = String::from_utf8(host.run(&["status"]).stdout).unwrap();
    let line = format!(
        "Verified    gpg {} for {}\n",
        host.key,
        host.scene.name("1")
    );
    assert!(status.contains(&line), "{status}");
}

#[test]
fn policies_that_cannot_be_used_accept_nothing() {
    let Some(host) = Host::new() else { return };
    let second = host.second();
    host.sign(&second, &host.scene.name("1"));
    let unknown = r#"{"default":[{"type":"requireSigstoreAttestations"}]}"#;
    for (text, words) in [
        ("{", "is not valid: it is not valid JSON"),
        ("{}", "is not valid: default is missing"),
        (
            r#"{"default":[]}"#,
            "is not valid: default: the list of requirements is empty",
        ),
        (
            unknown,
            "unknown requirement type \"requireSigstoreAttestations\"",
        ),
        (
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
            "accepts anything for the default",
        ),
    ] {
        host.scene.write("policy.json", text);
        host.refuses(&["upgrade"], words);
        host.refuses(&["upgrade", "--check"], words);
    }
    fs::remove_file(host.scene.path("policy.json")).unwrap();
    host.refuses(&["upgrade"], "policy.json cannot be read: ");
    fs::create_dir(host.scene.path("policy.json")).unwrap();
    host.refuses(&["upgrade"], "policy.json cannot be read: ");
}

#[test]
fn a_mirror_cannot_slip_in_what_nobody_signed() {
    let Some(host) = Host::new() else { return };
    let mirror = TestRegistry::start();
    let layout = host.scene.path("mirrored");
    os("evil").write_layout(&layout, "1").unwrap();
    mirror.add_layout("ns/os", &layout).unwrap();
    let config = format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        host.scene.daemon.host,
        mirror.host()
    );
    host.scene
        .write("config/containers/registries.conf", &config);
    host.refuses(&["upgrade"], "no signature was found");
}

/// The manifest that was judged is the one that is used, since it is fetched once.
#[test]
fn a_manifest_is_fetched_once() {
    let Some(host) = Host::new() else { return };
    let registry = TestRegistry::start();
    let second = os("2");
    let layout = host.scene.path("second");
    second.write_layout(&layout, "1").unwrap();
    registry.add_layout("ns/os", &layout).unwrap();
    let name = format!("{}/ns/os:1", registry.host());
    host.sign(&second, &name);
    let output = host.run(&["rebase", &format!("ostree-image-signed:docker://{name}")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let manifests = registry.requests().into_iter();
    let manifests = manifests.filter(|r| {
        let path = format!("{r:?}");
        path.contains("/manifests/1") || path.contains(&format!("/manifests/{}", second.digest()))
    });
    assert_eq!(manifests.count(), 1, "{:?}", registry.requests());
}

#[test]
fn what_was_changed_on_the_disk_is_not_deployed() {
    let Some(host) = Host::new() else { return };
    // The second version shares files with the first.
    let second = host.second();
    host.sign(&second, &host.scene.name("1"));
    let changed = largest_file(&host.repo());
    let good = fs::read(&changed).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    // In place: a deployment may have a hard link to it.
    fs::write(&changed, &bad).unwrap();
    let words = "in the repository was changed or damaged on the disk";
    let output = host.run(&["upgrade"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{text}");
    let told = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains(words), "{told}");
    let status = host.run(&["status", "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    let deployed = &status["status"]["otherDeployments"];
    assert_eq!(deployed.as_array().unwrap().len(), 1, "{status}");
    assert_eq!(
        deployed[0]["image"]["imageDigest"],
        host.first.digest().to_string()
    );
    fs::write(&changed, &good).unwrap();
    host.upgrades();
}

/// The largest file object of a repository.
fn largest_file(repo: &std::path::Path) -> PathBuf {
    let dirs = fs::read_dir(repo.join("objects")).unwrap();
    let files = dirs.flat_map(|dir| fs::read_dir(dir.unwrap().path()).unwrap());
    let files = files.map(|file| file.unwrap().path());
    let objects = files.filter(|p| p.extension().is_some_and(|e| e == "file") && p.is_file());
    objects
        .max_by_key(|p| fs::symlink_metadata(p).unwrap().len())
        .unwrap()
}
