//! Tests of the whole room: the tables of containers/image, and what each kind of reference gets
//! under each kind of policy.

use std::path::PathBuf;

use proptest::prelude::*;

use super::scope::{is_valid, scopes};
use super::*;
use crate::image::vectors::{list, load, text};
use crate::image::{
    Digest, ManifestOrIndex, OstreeImageReference, RegistryName, SignatureContent, StoredSignature,
};

#[test]
fn files_agree() {
    let Some((folder, table)) = load("policy") else {
        return;
    };
    for case in list(&table, "files") {
        let bytes = std::fs::read(folder.join(text(case, "file"))).unwrap();
        let parsed = Policy::parse(&bytes);
        let expected = text(case, "expect") == "ok";
        assert_eq!(parsed.is_ok(), expected, "{case:?}: {parsed:?}");
    }
}

#[test]
fn scopes_agree() {
    let Some((folder, table)) = load("policy") else {
        return;
    };
    for group in list(&table, "scope_lookups") {
        let file = folder.join(text(group, "policy"));
        let policy = Policy::parse(&std::fs::read(file).unwrap()).unwrap();
        for case in list(group, "cases") {
            let imgref = text(case, "image").parse().unwrap();
            let expected = match text(case, "expect") {
                "reference-error" => {
                    assert!(scopes(&imgref).is_err(), "{case:?}");
                    continue;
                }
                "default" => "the default".to_owned(),
                "scope" if text(case, "scope").is_empty() => {
                    "all images of transport \"docker\"".into()
                }
                _ => format!("scope {:?} of transport \"docker\"", text(case, "scope")),
            };
            assert_eq!(
                policy.applying(&imgref).unwrap().scope,
                expected,
                "{case:?}"
            );
            let searched: Vec<_> = list(case, "searched").filter_map(|s| s.as_str()).collect();
            assert_eq!(scopes(&imgref).unwrap(), searched, "{case:?}");
        }
    }
}

#[test]
fn scope_texts_agree() {
    let Some((_, table)) = load("policy") else {
        return;
    };
    for case in list(&table["oci_transport_scopes"], "cases") {
        let valid = is_valid("oci", text(case, "scope"));
        assert_eq!(valid, text(case, "expect") == "ok", "{case:?}");
    }
    for case in list(&table, "remap_prefix_values") {
        let valid = RegistryName::is_prefix(text(case, "prefix"));
        assert_eq!(valid, text(case, "expect") == "ok", "{case:?}");
    }
}

/// The digest of an image that nobody has signed.
fn digest() -> Digest {
    Digest::of(b"")
}

fn subject(image: OstreeImageReference) -> Subject {
    Subject {
        image,
        manifest: digest(),
        index: None,
    }
}

/// What a policy says about an image without signatures.
fn check(image: OstreeImageReference, paths: &PolicyPaths) -> Result<Verdict, Denied> {
    Ruling::of(subject(image), paths)?.judge(&[], 0).verdict
}

/// The verdict or refusal about `image` under a policy.json with this text, in words.
fn verdict(image: &str, policy: Option<&str>) -> Result<String, String> {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("policy.json");
    if let Some(policy) = policy {
        std::fs::write(&file, policy).unwrap();
    }
    let paths = PolicyPaths {
        explicit: None,
        user: None,
        system: vec![file.clone()],
    };
    let imgref = OstreeImageReference::from_user(image).unwrap();
    let words = |text: String| text.replace(file.to_str().unwrap(), "FILE");
    let digest = format!(" ({})", digest());
    check(imgref, &paths)
        .map(|verdict| words(verdict.to_string()))
        .map_err(|denied| words(denied.to_string()).replace(&digest, ""))
}

const ACCEPT: &str = r#"{"type":"insecureAcceptAnything"}"#;
const REJECT: &str = r#"{"type":"reject"}"#;
const GPG: &str = r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/no/key"}"#;
const X509: &str = r#"{"type":"signedBy","keyType":"X509Certificates","keyPath":"/no/key"}"#;
const SIGSTORE: &str = r#"{"type":"sigstoreSigned","keyPath":"/no/key"}"#;

fn default(requirements: &[&str]) -> String {
    format!(r#"{{"default":[{}]}}"#, requirements.join(","))
}

#[test]
fn each_requirement_has_its_verdict() {
    let image = "quay.io/a/b:1";
    let of = |requirements: &[&str]| verdict(image, Some(&default(requirements)));
    let denied = |reason: &str| {
        Err(format!(
            "ostree-unverified-registry:quay.io/a/b:1 is refused: \
             the signature policy FILE says {reason}"
        ))
    };
    let accepted = "FILE accepts anything for the default";
    assert_eq!(of(&[ACCEPT]), Ok(accepted.into()));
    assert_eq!(of(&[REJECT]), denied("\"reject\" for the default"));
    let cannot = |kind: &str| {
        denied(&format!(
            "{kind:?} for the default, and its keys cannot be used: the key file /no/key cannot be \
             read: No such file or directory (os error 2)"
        ))
    };
    assert_eq!(of(&[GPG]), cannot("signedBy"));
    assert_eq!(of(&[SIGSTORE]), cannot("sigstoreSigned"));
    let never = "\"signedBy\" for the default in a form that no signature can satisfy";
    assert_eq!(of(&[X509]), denied(never));
    // Every requirement must hold, in whatever order they stand.
    assert_eq!(of(&[ACCEPT, GPG]), cannot("signedBy"));
    assert_eq!(of(&[ACCEPT, REJECT]), denied("\"reject\" for the default"));
}

#[test]
fn a_host_without_policy_accepts_what_needs_no_signature() {
    let none = "this host has no policy.json";
    let accepted = Ok(none.to_owned());
    assert_eq!(verdict("quay.io/a/b:1", None), accepted);
    assert_eq!(verdict("oci:/no/such/place", None), accepted);
    let signed = verdict("ostree-image-signed:docker://quay.io/a/b:1", None);
    let refused = "ostree-image-signed:docker://quay.io/a/b:1 is refused: a signed image is \
                   asked for, but this host has no policy.json";
    assert_eq!(signed, Err(refused.into()));
}

/// The loophole of deciding by the default alone: here a scope accepts what the default rejects.
#[test]
fn signed_images_are_judged_by_what_applies_to_them() {
    let policy = format!(
        r#"{{"default":[{REJECT}],"transports":{{"docker":{{"":[{ACCEPT}],"quay.io/signed":[{GPG}]}}}}}}"#
    );
    let of = |image: &str| verdict(image, Some(&policy));
    let anything = "FILE accepts anything for all images of transport \"docker\"";
    let signed = of("ostree-image-signed:docker://quay.io/a").unwrap_err();
    let reason = format!("a signed image is asked for, but {anything}");
    assert!(signed.ends_with(&reason), "{signed}");
    assert_eq!(
        of("ostree-unverified-registry:quay.io/a"),
        Ok(anything.into())
    );
    assert!(
        of("quay.io/signed/a")
            .unwrap_err()
            .contains("says \"signedBy\" for scope \"quay.io/signed\"")
    );
    assert!(of("ostree-image-signed:docker://quay.io/signed/a").is_err());
    assert!(
        of("docker-archive:/x.tar")
            .unwrap_err()
            .contains("\"reject\"")
    );
}

/// Whichever transport, and however far the scope is from the image's own name.
#[test]
fn whatever_accepts_anything_is_no_signature() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().canonicalize().unwrap();
    let root = root.to_str().unwrap();
    let (registry, tagged) = (
        "docker://reg.example.org:5000/ns/os:1",
        format!("oci:{root}:1"),
    );
    for (image, transport, scope) in [
        (registry, "docker", "reg.example.org:5000/ns/os:1"),
        (registry, "docker", "reg.example.org:5000/ns/os"),
        (registry, "docker", "reg.example.org:5000/ns"),
        (registry, "docker", "reg.example.org:5000"),
        (registry, "docker", "*.example.org"),
        (registry, "docker", "*.org"),
        (registry, "docker", ""),
        (&*tagged, "oci", root),
        (&*tagged, "oci", "/tmp"),
        (&*tagged, "oci", ""),
        (&*format!("oci-archive:{root}"), "oci-archive", root),
        (&*format!("dir:{root}"), "dir", root),
        ("docker-archive:/x.tar", "docker-archive", ""),
        ("containers-storage:localhost/a", "containers-storage", ""),
        ("docker-daemon:a:1", "docker-daemon", ""),
    ] {
        if scope == "/tmp" && !root.starts_with("/tmp/") {
            continue;
        }
        for default in [REJECT, GPG] {
            let policy = format!(
                r#"{{"default":[{default}],"transports":{{"{transport}":{{"{scope}":[{ACCEPT},{ACCEPT}]}}}}}}"#
            );
            let of = |kind: &str| verdict(&format!("{kind}:{image}"), Some(&policy));
            let accepted = of("ostree-unverified-image");
            let words = accepted.unwrap_or_else(|error| panic!("{image} {scope}: {error}"));
            assert!(words.starts_with("FILE accepts anything for "), "{words}");
            let refused = of("ostree-image-signed").unwrap_err();
            let reason = format!("a signed image is asked for, but {words}");
            assert!(refused.ends_with(&reason), "{image} {scope}: {refused}");
        }
    }
}

/// Bundles are found, but nothing in them says for which name they are.
#[test]
fn bundles_are_refused_in_words_that_help() {
    let Some((folder, _)) = load("signatures") else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("policy.json");
    let key = folder.canonicalize().unwrap().join("cosign.pub");
    let rule = serde_json::json!({"type": "sigstoreSigned", "keyPath": key});
    std::fs::write(&file, serde_json::json!({"default": [rule]}).to_string()).unwrap();
    let paths = PolicyPaths {
        explicit: Some(file),
        ..PolicyPaths::default()
    };
    let bundle = StoredSignature {
        place: "a referrer".into(),
        content: SignatureContent::Attachment {
            media_type: "application/vnd.dev.sigstore.bundle.v0.3+json".into(),
            payload: b"{}".to_vec(),
            annotations: std::collections::BTreeMap::new(),
        },
    };
    let image = OstreeImageReference::from_user("quay.io/a/b:1").unwrap();
    let ruling = Ruling::of(subject(image), &paths).unwrap();
    let denied = ruling.judge(&[bundle], 0).verdict.unwrap_err().to_string();
    let words = "the only one is not accepted: a referrer: it is a bundle, as cosign 3 writes them, and \
                 does not say for which name the image was signed; `cosign sign --new-bundle-format=false";
    assert!(denied.contains(words), "{denied}");
}

/// Whoever follows a remote's signatures is not exempt from the policy.
#[test]
fn the_policy_applies_whatever_else_is_asked_for() {
    for image in [
        "ostree-remote-registry:r:quay.io/a",
        "ostree-unverified-registry:quay.io/a",
        "ostree-unverified-image:docker://quay.io/a",
        "quay.io/a",
    ] {
        assert!(verdict(image, Some(&default(&[ACCEPT]))).is_ok(), "{image}");
        assert!(
            verdict(image, Some(&default(&[REJECT]))).is_err(),
            "{image}"
        );
        assert!(
            verdict(image, Some(&default(&[ACCEPT, SIGSTORE]))).is_err(),
            "{image}"
        );
    }
}

#[test]
fn paths_are_judged_by_where_they_really_are() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("real")).unwrap();
    std::os::unix::fs::symlink("real", root.join("link")).unwrap();
    let real = root.join("real").to_str().unwrap().to_owned();
    for transport in ["oci", "dir"] {
        let policy = format!(
            r#"{{"default":[{REJECT}],"transports":{{"{transport}":{{"{real}":[{ACCEPT}]}}}}}}"#
        );
        let link = format!("{transport}:{}/link", root.display());
        let accepted =
            format!("FILE accepts anything for scope {real:?} of transport {transport:?}");
        assert_eq!(verdict(&link, Some(&policy)), Ok(accepted));
        let above = format!("{transport}:{}", root.display());
        assert!(verdict(&above, Some(&policy)).is_err());
        let missing = format!("{transport}:{}/missing", root.display());
        assert!(verdict(&missing, Some(&policy)).is_err());
    }
    let tagged = format!("oci:{real}:latest").parse().unwrap();
    assert_eq!(
        scopes(&tagged).unwrap()[..2],
        [real, root.to_str().unwrap().into()]
    );
}

#[test]
fn the_first_file_that_exists_is_used_alone() {
    let temp = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = temp.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let accept = write("accept", &default(&[ACCEPT]));
    let reject = write("reject", &default(&[REJECT]));
    let broken = write("broken", "{");
    let missing = temp.path().join("missing");
    let directory = temp.path().to_owned();
    type Place<'a> = Option<&'a PathBuf>;
    let of = |explicit: Place, user: Place, system: &[&PathBuf]| {
        let paths = PolicyPaths {
            explicit: explicit.cloned(),
            user: user.cloned(),
            system: system.iter().map(|p| (*p).clone()).collect(),
        };
        let imgref = OstreeImageReference::from_user("quay.io/a").unwrap();
        check(imgref, &paths).map_err(|denied| *denied.reason)
    };
    assert!(of(Some(&accept), Some(&reject), &[&reject]).is_ok());
    assert!(of(None, Some(&accept), &[&reject]).is_ok());
    assert!(of(None, Some(&missing), &[&missing, &accept, &reject]).is_ok());
    assert_eq!(of(None, Some(&missing), &[]).unwrap(), Verdict::NoPolicy);
    let explicit = of(Some(&missing), Some(&accept), &[&accept]);
    assert!(matches!(explicit, Err(Reason::Unreadable { .. })));
    let unreadable = of(None, Some(&directory), &[&accept]);
    assert!(matches!(unreadable, Err(Reason::Unreadable { .. })));
    let nowhere = temp.path().join("nowhere");
    std::os::unix::fs::symlink(&missing, &nowhere).unwrap();
    let dangling = of(None, None, &[&nowhere, &accept]);
    assert!(matches!(dangling, Err(Reason::Unreadable { .. })));
    let malformed = of(None, Some(&broken), &[&accept]);
    assert!(matches!(malformed, Err(Reason::Malformed { .. })));
}

/// JSON that looks like a policy, with something wrong here and there.
fn policies() -> impl Strategy<Value = String> {
    let requirement = prop_oneof![
        Just(ACCEPT.to_owned()),
        Just(REJECT.into()),
        Just(GPG.into()),
        Just(SIGSTORE.into()),
        Just(r#"{"type":"insecureAcceptAnything","x":1}"#.into()),
        Just("{}".into()),
        Just("null".into()),
    ];
    let requirements = prop::collection::vec(requirement, 0..3).prop_map(|r| r.join(","));
    let key = prop::sample::select(vec!["", "quay.io", "quay.io/a", "*.io", "docker.io"]);
    let scope = (key, requirements.clone()).prop_map(|(k, r)| format!(r#""{k}":[{r}]"#));
    let scopes = prop::collection::vec(scope, 0..3).prop_map(|s| s.join(","));
    let word = prop::sample::select(vec!["docker", "oci", "dir"]);
    (requirements, word, scopes).prop_map(|(default, word, scopes)| {
        format!(r#"{{"default":[{default}],"transports":{{"{word}":{{{scopes}}}}}}}"#)
    })
}

proptest! {
    #[test]
    fn only_accept_anything_accepts(text in policies().boxed().prop_union("\\PC{0,60}".boxed())) {
        let imgref = "docker://quay.io/a:1".parse().unwrap();
        let applies = Policy::parse(text.as_bytes()).ok().and_then(|policy| {
            let applying = policy.applying(&imgref).ok()?;
            Some(applying.requirements.to_vec())
        });
        let anything = applies.is_some_and(|requirements| {
            !requirements.is_empty()
                && requirements.iter().all(|r| *r == Requirement::InsecureAcceptAnything)
        });
        prop_assert_eq!(verdict("quay.io/a:1", Some(&text)).is_ok(), anything);
        prop_assert!(verdict("ostree-image-signed:docker://quay.io/a:1", Some(&text)).is_err());
    }
}

/// A policy requirement of the tables, as JSON with paths that lead into their folder.
fn absolute(requirement: &serde_yaml_ng::Value, folder: &std::path::Path) -> serde_json::Value {
    fn amend(value: &mut serde_json::Value, folder: &str) {
        let Some(object) = value.as_object_mut() else {
            return;
        };
        for (key, value) in object {
            let join = |value: &mut serde_json::Value| {
                *value = format!("{folder}/{}", value.as_str().unwrap()).into();
            };
            match value {
                serde_json::Value::String(_) if key.ends_with("Path") => join(value),
                serde_json::Value::Array(list) if key.ends_with("Paths") => {
                    list.iter_mut().for_each(join);
                }
                other => amend(other, folder),
            }
        }
    }
    let mut value = serde_json::to_value(requirement).unwrap();
    amend(&mut value, folder.to_str().unwrap());
    value
}

/// Digest of a manifest that can be read, or that of nothing.
fn digest_of_manifest(folder: &std::path::Path, case: &serde_yaml_ng::Value) -> Option<Digest> {
    let bytes = std::fs::read(folder.join(case["manifest"].as_str()?)).unwrap();
    let digest = Digest::of(&bytes);
    ManifestOrIndex::parse(bytes, None).ok().map(|_| digest)
}

#[test]
fn verdicts_agree_with_containers_image() {
    let Some((folder, table)) = load("signatures") else {
        return;
    };
    let folder = folder.canonicalize().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let paths = PolicyPaths {
        explicit: Some(temp.path().join("policy.json")),
        ..PolicyPaths::default()
    };
    let (mut accepted, mut refused) = (0, 0);
    for case in list(&table, "policy_cases") {
        // A manifest that cannot be used never gets as far as a policy.
        let Some(manifest) = digest_of_manifest(&folder, case) else {
            assert_eq!(text(case, "verdict"), "reject", "{case:?}");
            continue;
        };
        let requirements = list(case, "requirements").map(|r| absolute(r, &folder));
        let policy = serde_json::json!({"default": requirements.collect::<Vec<_>>()});
        std::fs::write(paths.explicit.as_ref().unwrap(), policy.to_string()).unwrap();
        let signatures = list(case, "signatures").map(|file| {
            let place = file.as_str().unwrap();
            StoredSignature {
                place: place.into(),
                content: SignatureContent::File(std::fs::read(folder.join(place)).unwrap()),
            }
        });
        let signatures: Vec<_> = signatures.collect();
        let image = OstreeImageReference::from_user(&format!(
            "ostree-unverified-image:docker://{}",
            text(case, "docker_reference")
        ));
        let subject = Subject {
            image: image.unwrap(),
            manifest,
            index: None,
        };
        let judge = |signatures: &[StoredSignature]| {
            let ruling = Ruling::of(subject.clone(), &paths);
            ruling.and_then(|ruling| ruling.judge(signatures, NOW).verdict)
        };
        let found = judge(&signatures);
        let expected = text(case, "verdict") == "accept";
        assert_eq!(found.is_ok(), expected, "{case:?}: {found:?}");
        *(if expected {
            &mut accepted
        } else {
            &mut refused
        }) += 1;
        for (signature, expected) in signatures.iter().zip(list(case, "per_signature")) {
            let found = judge(std::slice::from_ref(signature));
            let expected = expected == "accept";
            assert_eq!(found.is_ok(), expected, "{case:?}: {found:?}");
        }
    }
    assert!(accepted > 30 && refused > 40, "{accepted} {refused}");
}

/// When all the fixtures are valid that ever are.
const NOW: i64 = 1_795_000_000;
