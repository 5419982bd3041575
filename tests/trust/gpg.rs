//! Simple signing by GPG: a lookaside directory and server, `dir:` images, and what becomes of keys.

use std::fs;

use serde_json::{Value, json};

use crate::scene::{Gpg, Scene, claim, dir_image, os};

fn requirement(scene: &Scene, keys: &str) -> Value {
    json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": scene.path(keys)}])
}

#[test]
fn what_skopeo_signs_with_gpg_is_accepted() {
    let Some(scene) = Scene::new(&["gpg"]) else {
        return;
    };
    let gpg = Gpg::new(&scene.path("gnupg"));
    let key = gpg.key("os@example.org", "never", &[]);
    gpg.export("os@example.org", &scene.path("os.gpg"));
    scene.policy(&requirement(&scene, "os.gpg"));
    let image = os("1");
    scene.push(&image, "1", &[]);
    scene.refused(
        &scene.signed("1"),
        "says \"signedBy\" for the default, and no signature was found",
    );

    // As `skopeo standalone-sign` writes it, for the digest of the manifest's own bytes.
    let manifest = scene.path("manifest");
    let blob = format!("layout-1/blobs/sha256/{}", image.digest().hex());
    fs::copy(scene.path(&blob), &manifest).unwrap();
    let signature = scene.path("signature");
    let mut command = std::process::Command::new("skopeo");
    command
        .arg("standalone-sign")
        .arg(&manifest)
        .arg(scene.name("1"))
        .arg(&key);
    command
        .arg("--output")
        .arg(&signature)
        .env("GNUPGHOME", &gpg.home);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    scene.lay(&image.digest().to_string(), &[fs::read(signature).unwrap()]);
    scene.image(&["pull", &scene.signed("1")]);
    let by = &scene.inspect(&scene.name("1"))["verified"];
    let expected = json!([{
        "kind": "gpg",
        "key": key,
        "identity": scene.name("1"),
        "digest": image.digest(),
    }]);
    assert_eq!(*by, expected);
    // The same bytes under another tag are not what was signed; by digest they are.
    scene.push(&image, "2", &[]);
    scene.refused(&scene.signed("2"), "but must be for the image's exact name");
    let by_digest = format!("{}/ns/os@{}", scene.daemon.host, image.digest());
    scene.image(&["pull", &format!("ostree-image-signed:docker://{by_digest}")]);
}

#[test]
fn lookaside_servers_are_asked_until_they_have_no_more() {
    let Some(scene) = Scene::new(&["gpg", "python3"]) else {
        return;
    };
    let gpg = Gpg::new(&scene.path("gnupg"));
    let (one, two) = (
        gpg.key("one@x", "never", &[]),
        gpg.key("two@x", "never", &[]),
    );
    gpg.export("two@x", &scene.path("two.gpg"));
    scene.policy(&requirement(&scene, "two.gpg"));
    let image = os("1");
    scene.push(&image, "1", &[]);
    let digest = image.digest().to_string();
    let sign = |key: &str| gpg.sign(key, &scene.name("1"), &digest, &[]);
    scene.lay(&digest, &[sign(&one), sign(&two)]);
    let server = Server::start(&scene.path("lookaside"));
    let config = format!(
        "docker:\n  {}/ns:\n    lookaside: {}\n",
        scene.daemon.host, server.url
    );
    scene.write("config/containers/registries.d/all.yaml", &config);
    scene.image(&["pull", &scene.signed("1")]);
    let told = scene.run(&["container", "verify", &scene.signed("1")]);
    let told = String::from_utf8(told.stdout).unwrap();
    let unknown = format!("the signature is by an unknown key, {}", &one[24..]);
    assert!(told.contains(&unknown), "{told}");
    assert!(
        told.contains(&format!("signature-2: signed by {two} for ")),
        "{told}"
    );
    // A server that is not there is a failure of the network, and no signature is one of the policy.
    drop(server);
    let output = scene.run(&["container", "verify", &scene.signed("1")]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn a_claim_in_lines_may_be_signed_as_a_text() {
    let Some(scene) = Scene::new(&["gpg"]) else {
        return;
    };
    let gpg = Gpg::new(&scene.path("gnupg"));
    let key = gpg.key("os@example.org", "never", &[]);
    gpg.export("os@example.org", &scene.path("os.gpg"));
    scene.policy(&requirement(&scene, "os.gpg"));
    let image = os("1");
    scene.push(&image, "1", &[]);
    let digest = image.digest().to_string();
    let kind = "atomic container signature";
    let claim = claim(kind, &scene.name("1"), &digest, json!({}));
    let claim: Value = serde_json::from_str(&claim).unwrap();
    let lines = serde_json::to_string_pretty(&claim).unwrap();
    let from = scene.write("claim", &lines).display().to_string();
    let to = scene.path("signed").display().to_string();
    let sign = ["--textmode", "--local-user", &key, "--output", &to];
    gpg.run(&[&sign[..], &["--sign", &from]].concat());
    let signature = fs::read(&to).unwrap();
    scene.lay(&digest, std::slice::from_ref(&signature));
    scene.image(&["pull", &scene.signed("1")]);

    // The signature of another text does not fit, whatever its lines end with.
    let other = lines.replace(&digest[7..17], "0123456789");
    let from = scene.write("claim", &other).display().to_string();
    gpg.run(&[
        "--yes",
        "--textmode",
        "--compress-algo",
        "none",
        "--local-user",
        &key,
        "--output",
        &to,
        "--sign",
        &from,
    ]);
    let changed = replace(
        &fs::read(&to).unwrap(),
        b"0123456789",
        &digest.as_bytes()[7..17],
    );
    scene.lay(&digest, &[changed]);
    scene.refused(&scene.signed("1"), "was changed");
}

/// The bytes with the first `from` in them replaced by `to`.
fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes
        .windows(from.len())
        .position(|part| part == from)
        .unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// A web server for a directory.
struct Server {
    child: std::process::Child,
    url: String,
}

impl Server {
    fn start(dir: &std::path::Path) -> Self {
        use std::io::{BufRead as _, BufReader};
        let program = "import http.server, sys, functools\n\
            h = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])\n\
            s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), h)\n\
            print(s.server_address[1], flush=True)\n\
            s.serve_forever()\n";
        let mut child = std::process::Command::new("python3")
            .args(["-c", program])
            .arg(dir)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let url = format!("http://127.0.0.1:{}", line.trim());
        Self { child, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already if this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_directory_has_its_signatures_beside_the_manifest() {
    let Some(scene) = Scene::new(&["gpg"]) else {
        return;
    };
    let gpg = Gpg::new(&scene.path("gnupg"));
    let key = gpg.key("os@x", "never", &[]);
    gpg.export("os@x", &scene.path("os.gpg"));
    let (image, digest) = dir_image(&scene, &os("1"));
    let digest = digest.to_string();
    fs::write(
        scene.path("image/signature-1"),
        gpg.sign(&key, "quay.io/a:1", &digest, &[]),
    )
    .unwrap();
    let mut rule = requirement(&scene, "os.gpg");
    scene.policy(&rule);
    // Only a policy that names the identity itself can match an image without a name.
    let signed = format!("ostree-image-signed:{image}");
    scene.refused(&signed, "but must be for the image's exact name");
    rule[0]["signedIdentity"] = json!({"type": "exactRepository", "dockerRepository": "quay.io/a"});
    scene.policy(&rule);
    scene.image(&["pull", &signed]);
}

/// Keys whose time is over, that were withdrawn, or that nobody knows.
#[test]
fn keys_out_of_force_vouch_for_nothing() {
    let Some(scene) = Scene::new(&["gpg"]) else {
        return;
    };
    let gpg = Gpg::new(&scene.path("gnupg"));
    let image = os("1");
    scene.push(&image, "1", &[]);
    let digest = image.digest().to_string();
    let try_key = |key: &str, user: &str, more: &[&str], words: &str| {
        gpg.export(user, &scene.path("keys.gpg"));
        scene.policy(&requirement(&scene, "keys.gpg"));
        scene.lay(&digest, &[gpg.sign(key, &scene.name("1"), &digest, more)]);
        match words {
            "" => drop(scene.image(&["pull", &scene.signed("1")])),
            words => scene.refused(&scene.signed("1"), words),
        }
    };
    let then = ["--faked-system-time", "20200101T000000!"];
    let old = gpg.key("old@x", "10d", &then);
    try_key(
        &old,
        "old@x",
        &then,
        &format!("key {old} expired at 2020-01-1"),
    );
    // A signature that runs out is one thing, a key that runs out another.
    let key = gpg.key("key@x", "never", &then);
    let short = [&then[..], &["--default-sig-expire", "1d"]].concat();
    try_key(
        &key,
        "key@x",
        &short,
        "the signature expired at 2020-01-02 00:00:00 UTC",
    );
    try_key(&key, "key@x", &then, "");
    // What is revoked is revoked for good, whenever it signed.
    let revocation = gpg.home.join(format!("openpgp-revocs.d/{key}.rev"));
    let text = fs::read_to_string(revocation)
        .unwrap()
        .replace("\n:---", "\n---");
    let file = scene.write("revocation", &text).display().to_string();
    let signature = gpg.sign(&key, &scene.name("1"), &digest, &then);
    gpg.run(&["--import", &file]);
    gpg.export("key@x", &scene.path("keys.gpg"));
    scene.lay(&digest, &[signature]);
    scene.refused(&scene.name("1"), &format!("key {key} is revoked"));
    let other = gpg.key("other@x", "never", &[]);
    let stranger = gpg.key("stranger@x", "never", &[]);
    let unknown = format!("is by an unknown key, {}", &stranger[24..]);
    try_key(&stranger, "other@x", &[], &unknown);
    try_key(&other, "other@x", &[], "");
}
