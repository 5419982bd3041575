//! Proxies of the environment. Variables cannot be set for one test, so each of these runs this
//! binary again with the one ignored test that does the work.

use std::process::Command;

use bowline::transport::{Error, ImageSource, RegistrySource, SourceOptions};

use crate::bench::Bench;

/// Runs [`pull`] in a process of its own; gives what it found.
fn pull_with(bench: &Bench, name: &str, variables: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "proxy::pull", "--ignored", "--nocapture"])
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .env("TEST_NAME", name)
        .env("TEST_ROOT", bench.root.path())
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    std::fs::read_to_string(bench.root.path().join("found")).unwrap()
}

#[tokio::test]
#[ignore = "run by the others"]
async fn pull() {
    let Some(root) = std::env::var_os("TEST_ROOT") else {
        return;
    };
    let name = std::env::var("TEST_NAME").unwrap();
    let mut options = SourceOptions {
        retries: 0,
        no_proxy: std::env::var("no_proxy").ok(),
        ..SourceOptions::default()
    };
    options.host.root = root.clone().into();
    let source = RegistrySource::new(&name.parse().unwrap(), &options).unwrap();
    let found = match source.manifest(None).await {
        Ok(manifest) => format!("{} bytes", manifest.bytes.len()),
        Err(Error::Temporary { .. }) => "temporary".into(),
        Err(error) => error.to_string(),
    };
    std::fs::write(std::path::Path::new(&root).join("found"), found).unwrap();
}

#[test]
fn an_insecure_registry_is_reached_through_the_proxy_for_http() {
    let bench = Bench::new();
    let conf = "[[registry]]\nlocation = 'registry.invalid'\ninsecure = true";
    bench.write("etc/containers/registries.conf", conf);
    let proxy = format!("http://{}", bench.registry.host());
    let name = "registry.invalid/ns/os:1";
    let found = pull_with(&bench, name, &[("http_proxy", &proxy)]);
    assert_eq!(found, "19 bytes");
    let url = "GET http://registry.invalid/v2/ns/os/manifests/1";
    assert_eq!(bench.requests(), [(url.into(), 200)]);

    bench.registry.clear_requests();
    for list in ["invalid", "*.invalid", "registry.invalid:443"] {
        let variables = [("http_proxy", proxy.as_str()), ("no_proxy", list)];
        assert_eq!(pull_with(&bench, name, &variables), "temporary", "{list}");
        assert_eq!(bench.requests(), [], "{list}");
    }
}

#[test]
fn a_registry_is_reached_through_a_tunnel_of_the_proxy_for_https() {
    let bench = Bench::new();
    let proxy = format!("http://{}", bench.registry.host());
    let name = "registry.invalid/ns/os:1";
    pull_with(&bench, name, &[("https_proxy", &proxy)]);
    let methods = bench.registry.requests().into_iter();
    let methods: Vec<_> = methods.map(|r| (r.method, r.path)).collect();
    let tunnel = ("CONNECT".into(), "registry.invalid:443".into());
    assert_eq!(methods, [tunnel]);
}

#[test]
fn loopback_never_goes_through_a_proxy() {
    let bench = Bench::new();
    let name = format!("{}/ns/os:1", bench.registry.host());
    let nobody = "http://127.0.0.1:9";
    let variables = [("http_proxy", nobody), ("https_proxy", nobody)];
    assert_eq!(pull_with(&bench, &name, &variables), "19 bytes");
}
