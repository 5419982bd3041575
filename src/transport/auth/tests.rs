//! Tests of the lookup of credentials, on the shared vectors and on scratch directories.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/vectors/auth");

#[derive(Deserialize)]
struct Expectations {
    lookups: Vec<Lookup>,
    key_lookup_order: KeyOrder,
}

#[derive(Deserialize)]
struct Lookup {
    file: String,
    format: String,
    key: String,
    expect: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    identity_token: Option<String>,
}

#[derive(Deserialize)]
struct KeyOrder {
    cases: Vec<KeyCase>,
}

#[derive(Deserialize)]
struct KeyCase {
    key: String,
    order: Vec<String>,
    order_in_legacy_format: Vec<String>,
}

fn expectations() -> Option<Expectations> {
    let path = format!("{VECTORS}/expect.yaml");
    let Ok(text) = std::fs::read_to_string(&path) else {
        #[allow(clippy::print_stderr, reason = "a test that cannot run says so")]
        {
            eprintln!("skipped: {path} is not there");
        }
        return None;
    };
    Some(serde_yaml_ng::from_str(&text).unwrap())
}

#[test]
fn finds_what_the_reference_library_finds() {
    let Some(expectations) = expectations() else {
        return;
    };
    assert!(expectations.lookups.len() > 50);
    for case in expectations.lookups {
        let format = match case.format.as_str() {
            "legacy" => Format::Legacy,
            _ => Format::Auths,
        };
        let text = config_file::read(&Path::new(VECTORS).join(&case.file)).unwrap();
        let found = text.map_or(Ok(None), |text| lookup(&text, format, &case.key));
        let expected = Credentials {
            user: case.username,
            password: case.password,
            identity_token: case.identity_token,
        };
        let what = format!("{} {}", case.file, case.key);
        match case.expect.as_str() {
            "found" => assert!(found == Ok(Some(Keeper::File(expected))), "{what}"),
            "none" => assert_eq!(found, Ok(None), "{what}"),
            _ => assert!(found.is_err(), "{what}"),
        }
    }
}

#[test]
fn tries_keys_from_the_most_specific_one() {
    let Some(expectations) = expectations() else {
        return;
    };
    for case in expectations.key_lookup_order.cases {
        assert_eq!(lookup_order(&case.key, Format::Auths), case.order);
        let legacy = lookup_order(&case.key, Format::Legacy);
        assert_eq!(legacy, case.order_in_legacy_format);
    }
}

/// A root with files, each with a user named after its path.
fn root_with(files: &[&str]) -> (tempfile::TempDir, SourceOptions) {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let auth = STANDARD.encode(format!("{file}:x"));
        let text = serde_json::json!({"auths": {"quay.example": {"auth": auth}}});
        std::fs::write(path, text.to_string()).unwrap();
    }
    let mut options = SourceOptions::default();
    options.host.root = root.path().into();
    options.host.home = Some(root.path().join("root"));
    (root, options)
}

fn user(options: &SourceOptions) -> Option<String> {
    let candidates = find("quay.example/ns/os", &Default::default(), options).unwrap();
    let found = choose(&candidates, &options.host).unwrap();
    found.map(|found| found.credentials.user)
}

#[test]
fn looks_where_ostree_looks_and_then_where_podman_looks() {
    let mut files = vec![
        "run/ostree/auth.json",
        "etc/ostree/auth.json",
        "usr/lib/ostree/auth.json",
        "run/containers/0/auth.json",
        "root/.config/containers/auth.json",
        "root/.docker/config.json",
    ];
    while let Some(first) = files.first() {
        let (_root, options) = root_with(&files);
        assert_eq!(user(&options).as_deref(), Some(*first));
        files.remove(0);
    }
    let (_root, options) = root_with(&files);
    assert_eq!(user(&options), None);
}

#[test]
fn other_users_have_their_own_files() {
    let mut files = vec![
        "xdg/ostree/auth.json",
        "root/.config/ostree/auth.json",
        "xdg/containers/auth.json",
        "root/.config/containers/auth.json",
    ];
    while let Some(first) = files.first() {
        let (root, mut options) = root_with(&files);
        options.host.uid = 1000;
        options.host.runtime_dir = Some(root.path().join("xdg"));
        assert_eq!(user(&options).as_deref(), Some(*first));
        files.remove(0);
    }
    let (_root, mut options) = root_with(&["etc/ostree/auth.json"]);
    options.host.uid = 1000;
    assert_eq!(user(&options), None);
}

#[test]
fn a_file_without_the_entry_gives_way_to_the_next() {
    let (root, options) = root_with(&["run/ostree/auth.json", "run/containers/0/auth.json"]);
    std::fs::write(root.path().join("run/ostree/auth.json"), "{}").unwrap();
    let expected = Some("run/containers/0/auth.json".into());
    assert_eq!(user(&options), expected);
}

#[test]
fn the_named_file_is_the_only_one_and_must_exist() {
    let (root, mut options) = root_with(&["run/ostree/auth.json", "mine.json"]);
    options.authfile = Some(root.path().join("mine.json"));
    assert_eq!(user(&options).as_deref(), Some("mine.json"));
    std::fs::write(root.path().join("mine.json"), "{}").unwrap();
    assert_eq!(user(&options), None);
    options.authfile = Some("/nowhere/auth.json".into());
    assert_eq!(
        find("quay.example", &Default::default(), &options)
            .unwrap_err()
            .to_string(),
        "the credentials file /nowhere/auth.json does not exist"
    );
}

#[test]
fn errors_name_the_file_and_quote_no_secret() {
    let (root, options) = root_with(&["etc/ostree/auth.json"]);
    let file = root.path().join("etc/ostree/auth.json");
    std::fs::write(&file, r#"{"auths": {"quay.example": "c2VjcmV0"}}"#).unwrap();
    let expected = format!(
        "credentials file {}: it is not JSON of that format (line 1, column 37)",
        file.display()
    );
    let error = find("quay.example", &Default::default(), &options).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

fn kept_by(text: &str) -> Option<Keeper> {
    lookup(text.as_bytes(), Format::Auths, "quay.example/ns/os").unwrap()
}

#[test]
fn files_say_which_helper_has_the_credentials() {
    let table = [
        (
            r#"{"credHelpers": {"quay.example": "ecr"}}"#,
            "quay.example",
            true,
        ),
        (
            r#"{"credHelpers": {"quay.example/ns": "ecr"}}"#,
            "quay.example/ns",
            true,
        ),
        (
            r#"{"credHelpers": {"quay.example": "ecr"}, "auths": {"quay.example": {"auth": "dTpw"}}}"#,
            "quay.example",
            true,
        ),
        (
            r#"{"credsStore": "ecr", "auths": {"quay.example": {}}}"#,
            "quay.example",
            true,
        ),
        (
            r#"{"credsStore": "ecr", "auths": {"https://quay.example/v1/": {}}}"#,
            "quay.example",
            true,
        ),
        (r#"{"credsStore": "ecr"}"#, "quay.example", false),
    ];
    for (text, server, required) in table {
        let expected = Keeper::Helper {
            name: "ecr".into(),
            server: server.into(),
            required,
        };
        assert_eq!(kept_by(text), Some(expected), "{text}");
    }
    assert_eq!(kept_by(r#"{"credHelpers": {"gcr.example": "ecr"}}"#), None);
    let both = r#"{"credsStore": "ecr", "auths": {"quay.example": {"auth": "dTpw"}}}"#;
    assert!(matches!(kept_by(both), Some(Keeper::File(_))));
}

/// Puts a helper that says `answer`, with exit code `code`, where podman keeps its own.
fn install(root: &Path, name: &str, answer: &str, code: u8) {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = root.join("usr/libexec/podman");
    std::fs::create_dir_all(&dir).unwrap();
    let program = dir.join(format!("docker-credential-{name}"));
    let script = format!("#!/bin/sh\necho '{answer}'\nexit {code}\n");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn names(helpers: &[&str]) -> (Vec<String>, PathBuf) {
    let names = helpers.iter().map(|name| (*name).into()).collect();
    (names, "/etc/containers/registries.conf".into())
}

#[test]
fn helpers_are_asked_in_the_order_of_registries_conf() {
    let (root, options) = root_with(&["etc/ostree/auth.json"]);
    let nothing = "credentials not found in native keychain";
    install(root.path(), "none", nothing, 1);
    install(
        root.path(),
        "some",
        r#"{"Username":"helped","Secret":"s"}"#,
        0,
    );
    install(root.path(), "broken", "the vault is locked", 1);
    let user = |helpers: &[&str]| {
        let candidates = find("quay.example/os", &names(helpers), &options).unwrap();
        let found = choose(&candidates, &options.host);
        found.map(|found| found.map(|f| f.credentials.user))
    };
    let file = "etc/ostree/auth.json";
    assert_eq!(user(&["none", FILES]).unwrap().as_deref(), Some(file));
    assert_eq!(user(&["some", FILES]).unwrap().as_deref(), Some("helped"));
    assert_eq!(user(&[FILES, "some"]).unwrap().as_deref(), Some(file));
    assert_eq!(
        user(&["broken", "some"]).unwrap().as_deref(),
        Some("helped")
    );
    assert_eq!(user(&["none"]).unwrap(), None);
    for (helper, why) in [
        ("broken", "it says: \"the vault is locked\""),
        (
            "absent",
            "it is not installed: install it, or name a credentials file with --authfile",
        ),
    ] {
        assert_eq!(
            user(&[helper, "none"]).unwrap_err().to_string(),
            format!(
                "the credential helper docker-credential-{helper}, which \
                 /etc/containers/registries.conf names for quay.example: {why}"
            )
        );
    }
}

#[test]
fn a_file_whose_helper_has_nothing_gives_way_to_the_next() {
    let (root, options) = root_with(&["etc/ostree/auth.json", "run/containers/0/auth.json"]);
    let nothing = "credentials not found in native keychain";
    install(root.path(), "none", nothing, 1);
    let text = r#"{"credHelpers": {"quay.example": "none"}}"#;
    std::fs::write(root.path().join("etc/ostree/auth.json"), text).unwrap();
    assert_eq!(
        user(&options).as_deref(),
        Some("run/containers/0/auth.json")
    );
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(bytes: Vec<u8>, key in "[a-z./:]{0,20}") {
        for format in [Format::Auths, Format::Legacy] {
            // Only a panic would be wrong.
            let _ = lookup(&bytes, format, &key);
        }
    }

    #[test]
    fn finds_what_was_written(user in "[^:\0]{1,8}", password in "[^\0]{0,8}") {
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let text = serde_json::json!({"auths": {"quay.example/os": {"auth": auth}}}).to_string();
        let found = lookup(text.as_bytes(), Format::Auths, "quay.example/os/a").unwrap();
        let Some(Keeper::File(found)) = found else {
            panic!("{found:?}");
        };
        prop_assert_eq!((found.user, found.password), (user, password));
    }
}
