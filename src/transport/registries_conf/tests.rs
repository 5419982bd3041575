//! Tests of registries.conf on the shared vectors. One difference from the reference library is
//! on purpose: files of version 1 are refused.

use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::*;

const VECTORS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../shared/vectors/registries.conf"
);

#[derive(Deserialize)]
struct File {
    conf: String,
    dropin_dir: Option<String>,
    expect: String,
    #[serde(default)]
    registries: Vec<ExpectedRegistry>,
    #[serde(default)]
    credential_helpers: Vec<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct ExpectedRegistry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirrors: Vec<ExpectedMirror>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct ExpectedMirror {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

#[derive(Deserialize)]
struct Lookup {
    conf: String,
    dropin_dir: Option<String>,
    normalized: Option<String>,
    #[serde(rename = "match")]
    matched: Option<ExpectedRegistry>,
    #[serde(default)]
    blocked: bool,
    pull_sources: Option<ExpectedSources>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ExpectedSources {
    Word(String),
    List(Vec<ExpectedSource>),
}

#[derive(Deserialize)]
struct ExpectedSource {
    insecure: bool,
    reference: String,
}

#[derive(Deserialize)]
struct Matching {
    reference: String,
    prefix: String,
    matched_length: i64,
}

#[derive(Deserialize)]
struct Rewriting {
    reference: String,
    prefix: String,
    location: String,
    expect: String,
}

/// A table of expect.yaml; `None`, with a word about it, where there are no vectors.
fn table<T: DeserializeOwned>(name: &str) -> Option<Vec<T>> {
    let path = format!("{VECTORS}/expect.yaml");
    let Ok(text) = std::fs::read_to_string(&path) else {
        #[allow(clippy::print_stderr, reason = "a test that cannot run says so")]
        {
            eprintln!("skipped: {path} is not there");
        }
        return None;
    };
    let all: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).unwrap();
    let table = match &all[name]["cases"] {
        serde_yaml_ng::Value::Null => &all[name],
        cases => cases,
    };
    Some(serde_yaml_ng::from_value(table.clone()).unwrap())
}

fn load(conf: &str, drop_ins: Option<&str>) -> Result<RegistriesConf, Error> {
    let mut loaded = RegistriesConf::default();
    if !loaded.add_file(&Path::new(VECTORS).join(conf))? {
        return Err(Error::Config("no such file".into()));
    }
    let drop_ins = drop_ins.map(|dir| Path::new(VECTORS).join(dir));
    loaded.add_drop_ins(drop_ins.into_iter())?;
    Ok(loaded)
}

impl From<&Registry> for ExpectedRegistry {
    fn from(registry: &Registry) -> Self {
        let mirror = |mirror: &parse::Mirror| ExpectedMirror {
            location: mirror.location.clone(),
            insecure: mirror.insecure,
            pull_from_mirror: match mirror.when {
                PullFromMirror::All => "all".into(),
                PullFromMirror::DigestOnly => "digest-only".into(),
                PullFromMirror::TagOnly => "tag-only".into(),
            },
        };
        Self {
            prefix: registry.prefix.clone(),
            location: registry.location.clone(),
            insecure: registry.insecure,
            blocked: registry.blocked,
            mirror_by_digest_only: registry.mirror_by_digest_only,
            mirrors: registry.mirrors.iter().map(mirror).collect(),
        }
    }
}

/// The digests of the vectors are shorter than any of sha256.
fn real_digest(text: &str) -> String {
    match text.split_once("@sha256:") {
        Some((name, _)) => format!("{name}@sha256:{}", "a".repeat(64)),
        None => text.into(),
    }
}

#[test]
fn files_are_taken_and_refused_as_by_the_reference_library() {
    let Some(files) = table::<File>("files") else {
        return;
    };
    assert!(files.len() > 50);
    for file in files {
        let loaded = load(&file.conf, file.dropin_dir.as_deref());
        if file.conf.starts_with("v1-") || file.expect != "ok" {
            assert!(loaded.is_err(), "{}", file.conf);
            continue;
        }
        let loaded = loaded.unwrap();
        let helpers = match &loaded.credential_helpers().0[..] {
            [] => ["containers-auth.json".to_owned()].to_vec(),
            helpers => helpers.to_vec(),
        };
        assert_eq!(helpers, file.credential_helpers, "{}", file.conf);
        let mut found: Vec<ExpectedRegistry> = loaded.registries.iter().map(Into::into).collect();
        // The library keeps one of several entries with one prefix; only the first is ever found.
        found.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        found.dedup_by(|b, a| a.prefix == b.prefix);
        let mut expected = file.registries;
        expected.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        expected.dedup_by(|b, a| a.prefix == b.prefix);
        assert_eq!(found, expected, "{} {:?}", file.conf, file.dropin_dir);
    }
}

#[test]
fn names_lead_to_the_places_of_the_reference_library() {
    let Some(lookups) = table::<Lookup>("lookups") else {
        return;
    };
    let mut checked = 0;
    for case in lookups.iter().filter(|c| !c.conf.starts_with("v1-")) {
        let conf = load(&case.conf, case.dropin_dir.as_deref()).unwrap();
        let Some(normalized) = case.normalized.as_deref().map(real_digest) else {
            continue;
        };
        let what = format!("{} {normalized}", case.conf);
        let found = conf.find(&normalized);
        let settings =
            |r: &ExpectedRegistry| (r.prefix.clone(), r.location.clone(), r.insecure, r.blocked);
        let found = found.map(|r| settings(&r.into()));
        assert_eq!(found, case.matched.as_ref().map(settings), "{what}");
        let name: RegistryName = normalized.parse().unwrap();
        let sources = conf.pull_sources(&name);
        match &case.pull_sources {
            _ if case.blocked => assert!(sources.is_err(), "{what}"),
            Some(ExpectedSources::Word(word)) if word == "as given" => {
                let [source] = &sources.unwrap()[..] else {
                    panic!("{what}: more than one source");
                };
                assert_eq!((&source.name, source.insecure), (&name, false), "{what}");
            }
            Some(ExpectedSources::Word(_)) => assert!(sources.is_err(), "{what}"),
            Some(ExpectedSources::List(list)) => {
                let places = list.iter().map(|s| (real_digest(&s.reference), s.insecure));
                let found = sources.unwrap();
                let found = found.iter().map(|s| (text(&s.name), s.insecure));
                assert!(found.eq(places), "{what}");
            }
            None => continue,
        }
        checked += 1;
    }
    assert!(checked > 80, "{checked}");
}

#[test]
fn prefixes_match_as_in_the_reference_library() {
    for name in ["prefix_matching", "wildcard_prefix_matching"] {
        for case in table::<Matching>(name).unwrap_or_default() {
            let found = match_prefix(&case.reference, &case.prefix);
            let expected = usize::try_from(case.matched_length).ok();
            assert_eq!(found, expected, "{} {}", case.reference, case.prefix);
        }
    }
}

#[test]
fn names_are_rewritten_as_by_the_reference_library() {
    for case in table::<Rewriting>("rewriting").unwrap_or_default() {
        let reference = real_digest(&case.reference);
        let what = format!("{reference} {} {}", case.prefix, case.location);
        let found = rewrite(&reference, &case.prefix, &case.location);
        if case.expect == "error" {
            assert!(found.is_err(), "{what}");
            continue;
        }
        let expected: RegistryName = real_digest(&case.expect).parse().unwrap();
        assert_eq!(found.unwrap(), expected, "{what}");
    }
}

fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, HostPaths) {
    let root = tempfile::tempdir().unwrap();
    for (file, text) in files {
        let path = root.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let paths = HostPaths {
        root: root.path().into(),
        home: Some(root.path().join("root")),
        ..HostPaths::default()
    };
    (root, paths)
}

const MINE: &str = "[[registry]]\nprefix='a.example'\nlocation='";

fn place(paths: &HostPaths) -> String {
    let conf = RegistriesConf::load(paths).unwrap();
    let sources = conf.pull_sources(&"a.example/x".parse().unwrap()).unwrap();
    sources[0].name.host.clone()
}

#[test]
fn the_first_main_file_counts_and_drop_ins_change_it() {
    let entry = |host: &str| format!("{MINE}{host}'");
    let table = [
        (
            "root/.config/containers/registries.conf.d/a.conf",
            "d3.example",
        ),
        ("etc/containers/registries.conf.d/b.conf", "d2.example"),
        ("etc/containers/registries.conf.d/a.conf", "d1.example"),
        (
            "usr/share/containers/registries.conf.d/a.conf",
            "d0.example",
        ),
        ("root/.config/containers/registries.conf", "user.example"),
        ("etc/containers/registries.conf", "etc.example"),
        ("usr/share/containers/registries.conf", "usr.example"),
    ];
    // b.conf comes after a.conf, wherever they lie.
    let expected = [
        "d2.example",
        "d2.example",
        "d1.example",
        "d0.example",
        "user.example",
        "etc.example",
        "usr.example",
        "a.example",
    ];
    for (first, expected) in expected.iter().enumerate() {
        let texts = table[first..].iter().map(|(file, to)| (*file, entry(to)));
        let texts: Vec<_> = texts.collect();
        let files: Vec<_> = texts.iter().map(|(file, text)| (*file, &**text)).collect();
        let (_root, paths) = host(&files);
        assert_eq!(place(&paths), *expected, "{first}");
    }
}

#[test]
fn the_named_file_replaces_the_main_file() {
    let text = format!("{MINE}mine.example'");
    let (root, mut paths) = host(&[("etc/containers/registries.conf", "junk"), ("mine", &text)]);
    paths.registries_conf = Some(root.path().join("mine"));
    assert_eq!(place(&paths), "mine.example");
    paths.registries_conf = Some("/nowhere".into());
    let error = RegistriesConf::load(&paths).unwrap_err();
    assert_eq!(error.to_string(), "/nowhere does not exist");
}

#[test]
fn errors_name_the_file_and_the_line() {
    let message = |text: &str| {
        let (root, paths) = host(&[("etc/containers/registries.conf", text)]);
        let error = RegistriesConf::load(&paths).unwrap_err().to_string();
        error.replace(root.path().to_str().unwrap(), "")
    };
    let v1 = "/etc/containers/registries.conf cannot be used: it is in the old version 1 format \
              ([registries.…]): write [[registry]] tables";
    assert_eq!(message("[registries.search]\nregistries = []"), v1);
    let text = message("[[registry]]\nlocation = 7");
    let start = "/etc/containers/registries.conf cannot be used: line 2: ";
    assert!(text.starts_with(start), "{text}");
}

#[test]
fn what_is_blocked_is_refused() {
    let text = "[[registry]]\nlocation = 'a.example/x'\nblocked = true";
    let (_root, paths) = host(&[("etc/containers/registries.conf", text)]);
    let conf = RegistriesConf::load(&paths).unwrap();
    let error = conf.pull_sources(&"a.example/x/y:1".parse().unwrap());
    assert_eq!(
        error.unwrap_err().to_string(),
        "pulling a.example/x/y:1 is blocked: registries.conf blocks a.example/x"
    );
    assert!(conf.pull_sources(&"a.example/y:1".parse().unwrap()).is_ok());
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(text: String, bytes: Vec<u8>) {
        // Only a panic would be wrong.
        let _ = parse::parse(text.as_bytes());
        let _ = parse::parse(&bytes);
    }

    #[test]
    fn odd_entries_never_panic(prefix in "[*a.:/@ü]{0,8}", location in "[*a.:/@ü]{0,8}") {
        let text = format!("[[registry]]\nprefix='{prefix}'\nlocation='{location}'");
        if let Ok(parsed) = parse::parse(text.as_bytes()) {
            let conf = RegistriesConf { registries: parsed.registries, ..RegistriesConf::default() };
            // Refusing is fine as well.
            let _ = conf.pull_sources(&"a.a/a:a".parse().unwrap());
        }
    }
}
