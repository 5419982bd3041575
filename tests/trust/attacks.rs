//! What somebody might try who can write to a registry, to a mirror, to the network between, or to the
//! disk: nothing is deployed, the exit code is 4, the message names what did not hold, and what was
//! deployed before is as it was. Needs root.

use std::fs;

use bowline::testing::registry::{Fault, TestRegistry};
use bowline::testing::samples::stderr;
use serde_json::json;

use crate::host::{Host, layered, ostree};
use crate::remote::Signed;
use crate::scene::os;

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

/// The same where the registry shows something else under the tag as soon as it has been asked.
#[test]
fn a_manifest_that_is_swapped_after_it_was_judged_is_not_used() {
    let Some(host) = Host::new() else { return };
    let registry = TestRegistry::start();
    let (second, evil) = (os("2"), os("evil"));
    for (image, directory) in [(&second, "good"), (&evil, "evil")] {
        let layout = host.scene.path(directory);
        image.write_layout(&layout, "1").unwrap();
        registry.add_layout("ns/os", &layout).unwrap();
    }
    let good = format!("good/blobs/sha256/{}", second.digest().hex());
    let good = fs::read_to_string(host.scene.path(&good)).unwrap();
    registry.fault_times("/manifests/1", Fault::Status(200, good), 1);
    let name = format!("{}/ns/os:1", registry.host());
    host.sign(&second, &name);
    let followed = format!("ostree-image-signed:docker://{name}");
    let output = host.run(&["rebase", &followed]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let digest = &host.next()["image"]["imageDigest"];
    assert_eq!(*digest, second.digest().to_string());
    host.refuses(&["upgrade"], "no signature was found");
}

#[test]
fn keys_out_of_force_deploy_nothing() {
    let Some(host) = Host::new() else { return };
    let digest = host.second().digest().to_string();
    let name = host.scene.name("1");
    let sign = |key: &str, more: &[&str]| {
        let signature = host.gpg.sign(key, &name, &digest, more);
        host.scene.lay(&digest, &[signature]);
    };
    let then = ["--faked-system-time", "20200101T000000!"];
    let stranger = host.gpg.key("stranger@x", "never", &[]);
    sign(&stranger, &[]);
    let unknown = format!("is by an unknown key, {}", &stranger[24..]);
    host.refuses(&["upgrade"], &unknown);

    let trust = |user: &str| host.gpg.export(user, &host.scene.path("os.gpg"));
    let old = host.gpg.key("old@x", "10d", &then);
    sign(&old, &then);
    trust("old@x");
    host.refuses(&["upgrade"], &format!("key {old} expired at 2020-01-1"));

    let revoked = host.gpg.key("revoked@x", "never", &[]);
    sign(&revoked, &[]);
    let revocation = host
        .gpg
        .home
        .join(format!("openpgp-revocs.d/{revoked}.rev"));
    let text = fs::read_to_string(revocation)
        .unwrap()
        .replace("\n:---", "\n---");
    let file = host.scene.write("revocation", &text).display().to_string();
    host.gpg.run(&["--import", &file]);
    trust("revoked@x");
    host.refuses(&["upgrade"], &format!("key {revoked} is revoked"));

    sign(&host.key, &[]);
    trust("os@example.org");
    host.upgrades();
}

/// That nobody can be asked for signatures is no reason to do without.
#[test]
fn places_of_signatures_that_fail_deploy_nothing() {
    let Some(host) = Host::new() else { return };
    let second = host.second();
    let place = "config/containers/registries.d/all.yaml";
    let good = fs::read_to_string(host.scene.path(place)).unwrap();
    host.scene.write(place, "docker: [");
    host.fails(2, &["upgrade"], "all.yaml cannot be used: ");
    let server = TestRegistry::start();
    server.fault("", Fault::Status(403, String::new()));
    let lookaside = format!(
        "default-docker:\n  lookaside: http://{}/sigs\n",
        server.host()
    );
    host.scene.write(place, &lookaside);
    host.fails(3, &["upgrade"], "/sigs/ns/os@sha256=");
    host.scene.write(place, &good);
    host.refuses(&["upgrade"], "no signature was found");
    host.sign(&second, &host.scene.name("1"));
    host.upgrades();
}

/// What came unverified does not become verified by being there.
#[test]
fn an_image_that_came_unverified_is_judged_when_it_is_to_be_signed() {
    let Some(host) = Host::new() else { return };
    let evil = os("evil");
    host.scene.push(&evil, "1", &[]);
    host.scene
        .policy(&json!([{"type": "insecureAcceptAnything"}]));
    let (unverified, signed) = (host.scene.name("1"), host.scene.signed("1"));
    let output = host.run(&["rebase", &unverified]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    host.refuses(&["rebase", &signed], "a signed image is asked for, but");
    host.require_gpg();
    host.refuses(&["rebase", &signed], "no signature was found");
    host.refuses(&["upgrade"], "no signature was found");
    // Once it is signed, a deployment that says so takes its place.
    host.sign(&evil, &unverified);
    let output = host.run(&["rebase", &signed]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let next = host.next();
    assert_eq!(next["image"]["imageDigest"], evil.digest().to_string());
    let status = String::from_utf8(host.run(&["status"]).stdout).unwrap();
    let line = format!("Verified    gpg {} for {unverified}\n", host.key);
    assert!(status.contains(&line), "{status}");
}

/// The base is here, verified, and the same; what lies on it is nobody's.
#[test]
fn layers_on_a_signed_base_that_is_here_are_not_deployed() {
    let Some(host) = Host::new() else { return };
    host.scene
        .policy(&json!([{"type": "insecureAcceptAnything"}]));
    let file = host.scene.path("os.gpg").display().to_string();
    let import = format!("--gpg-import={file}");
    ostree(
        &host.repo(),
        &["remote", "add", "os", "https://os.example", &import],
    );
    let signed = Signed::new("2");
    signed.by_gpg(&host.gpg, &host.key);
    let followed = format!("ostree-remote-image:os:docker://{}", host.scene.name("1"));
    for chunked in [false, true] {
        host.scene.push(&signed.image(chunked, ""), "1", &[]);
        let output = host.run(&["rebase", &followed]);
        assert!(
            matches!(output.status.code(), Some(0)),
            "{}",
            stderr(&output)
        );
        let evil = signed.image(chunked, "file /usr/bin/evil 0 0 755 evil\\n");
        host.scene.push(&evil, "1", &[]);
        let words =
            "vouches for the ostree commit inside, and nothing for the 1 layers on top of it";
        host.refuses(&["upgrade"], words);
        let unsigned = Signed::new("3").image(chunked, "");
        host.scene.push(&unsigned, "1", &[]);
        host.refuses(&["upgrade"], "it has no signature");
    }
    let evil = layered("4", "file /usr/bin/evil 0 0 755 evil\\n");
    host.scene.push(&evil, "1", &[]);
    host.refuses(
        &["upgrade"],
        "vouches for the ostree commit inside, and nothing for",
    );
}
