//! The tables of references that are accepted, refused and printed.

use proptest::prelude::*;

use super::*;

/// Every word of a transport, its canonical form, and the transport.
const TRANSPORTS: [(&str, &str, Transport); 8] = [
    ("registry:", "docker://", Transport::Registry),
    ("docker://", "docker://", Transport::Registry),
    ("oci:", "oci:", Transport::OciDir),
    ("oci-archive:", "oci-archive:", Transport::OciArchive),
    (
        "docker-archive:",
        "docker-archive:",
        Transport::DockerArchive,
    ),
    (
        "containers-storage:",
        "containers-storage:",
        Transport::ContainerStorage,
    ),
    ("dir:", "dir:", Transport::Dir),
    ("docker-daemon:", "docker-daemon:", Transport::DockerDaemon),
];

#[test]
fn each_transport_prints_canonically() {
    for (typed, canonical, transport) in TRANSPORTS {
        for name in ["quay.io/a/b:1", "/srv/d:t:x", "a"] {
            let imgref: ImageReference = format!("{typed}{name}").parse().unwrap();
            assert_eq!((imgref.transport, &*imgref.name), (transport, name));
            assert_eq!(imgref.to_string(), format!("{canonical}{name}"));
        }
    }
}

#[test]
fn each_scheme_prints_canonically() {
    let policy = SignatureSource::ContainerPolicy;
    let insecure = SignatureSource::ContainerPolicyAllowInsecure;
    let remote = SignatureSource::OstreeRemote("myremote".into());
    for (text, printed, sigverify) in [
        (
            "ostree-image-signed:registry:quay.io/a/b",
            "ostree-image-signed:docker://quay.io/a/b",
            &policy,
        ),
        (
            "ostree-image-signed:oci:/d:t",
            "ostree-image-signed:oci:/d:t",
            &policy,
        ),
        (
            "ostree-unverified-image:registry:quay.io/a/b:1",
            "ostree-unverified-registry:quay.io/a/b:1",
            &insecure,
        ),
        (
            "ostree-unverified-image:docker://quay.io/a/b:1",
            "ostree-unverified-registry:quay.io/a/b:1",
            &insecure,
        ),
        (
            "ostree-unverified-registry:quay.io/a/b:1",
            "ostree-unverified-registry:quay.io/a/b:1",
            &insecure,
        ),
        (
            "ostree-unverified-image:oci:/d:t:x",
            "ostree-unverified-image:oci:/d:t:x",
            &insecure,
        ),
        (
            "ostree-remote-registry:myremote:quay.io/a/b",
            "ostree-remote-image:myremote:docker://quay.io/a/b",
            &remote,
        ),
        (
            "ostree-remote-image:myremote:oci-archive:/d.tar",
            "ostree-remote-image:myremote:oci-archive:/d.tar",
            &remote,
        ),
    ] {
        let parsed: OstreeImageReference = text.parse().unwrap();
        assert_eq!(parsed.to_string(), printed, "{text}");
        assert_eq!(parsed.sigverify, *sigverify, "{text}");
    }
}

#[test]
fn refuses_what_the_reference_implementation_refuses() {
    use ReferenceError as E;
    let parse = |text: &str| text.parse::<ImageReference>().unwrap_err();
    assert_eq!(parse(""), E::NoTransport("".into()));
    assert_eq!(parse("foo://"), E::UnknownTransport("foo".into()));
    assert_eq!(parse("docker:blah"), E::DockerSlashes("docker:blah".into()));
    assert_eq!(parse("docker://"), E::EmptyName("docker://".into()));
    assert_eq!(parse("registry:"), E::EmptyName("registry:".into()));
    assert_eq!(parse("foo:bar"), E::UnknownTransport("foo".into()));
    let parse = |text: &str| text.parse::<OstreeImageReference>().unwrap_err();
    let scheme = |text: &str| E::UnknownScheme(text.into());
    for text in ["", "oci:/x", "ostree-image:oci:/x", "ostree-image-signed"] {
        assert_eq!(parse(text), scheme(text));
    }
    for text in ["ostree-remote-image:x", "ostree-remote-registry::quay.io/a"] {
        assert_eq!(parse(text), E::NoRemote(text.into()));
    }
    for text in ["ostree-unverified-registry:", "ostree-remote-registry:r:"] {
        assert_eq!(parse(text), E::EmptyName(text.into()));
    }
    let inner = parse("ostree-image-signed:quay.io/a");
    assert_eq!(inner, E::NoTransport("quay.io/a".into()));
}

#[test]
fn users_may_type_less() {
    let user = |text| OstreeImageReference::from_user(text).map(|r| r.to_string());
    for (typed, stored) in [
        ("quay.io/a/b:1", "ostree-unverified-registry:quay.io/a/b:1"),
        (
            "localhost:5000/a",
            "ostree-unverified-registry:localhost:5000/a",
        ),
        ("localhost/a", "ostree-unverified-registry:localhost/a"),
        ("docker://busybox", "ostree-unverified-registry:busybox"),
        ("registry:quay.io/a", "ostree-unverified-registry:quay.io/a"),
        ("oci:/srv/d", "ostree-unverified-image:oci:/srv/d"),
        (
            "ostree-image-signed:oci:/srv/d",
            "ostree-image-signed:oci:/srv/d",
        ),
    ] {
        assert_eq!(user(typed), Ok(stored.into()));
    }
    for short in ["fedora", "fedora:41", "fedora/x:1", "registry:5000/x"] {
        assert_eq!(user(short), Err(ReferenceError::ShortName(short.into())));
    }
    // A host would not make these names.
    for empty in ["", " "] {
        assert_eq!(user(empty), Err(ReferenceError::EmptyName(empty.into())));
    }
    for odd in ["my image", "Fedora", "fedora:", "a//b"] {
        let error = user(odd).unwrap_err();
        let named = matches!(&error, ReferenceError::RegistryName { name, .. } if name == odd);
        assert!(named, "{error:?}");
    }
    for wrong in [
        "quay.io/A",
        "docker://quay.io/a:-",
        "ostree-x:oci:/d",
        "oci:",
    ] {
        assert!(user(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn parsing_and_printing_are_inverse(
        scheme in prop::sample::select(vec![
            "", "ostree-image-signed:", "ostree-unverified-image:", "ostree-remote-image:r:",
            "ostree-unverified-registry:", "ostree-remote-registry:r:",
        ]),
        transport in prop::sample::select(TRANSPORTS.to_vec()),
        name in "\\PC{1,40}",
    ) {
        let transport = if scheme.ends_with("registry:") { "" } else { transport.0 };
        if let Ok(first) = format!("{scheme}{transport}{name}").parse::<OstreeImageReference>() {
            prop_assert_eq!(first.to_string().parse(), Ok(first));
        }
        if let Ok(first) = format!("{transport}{name}").parse::<ImageReference>() {
            prop_assert_eq!(first.to_string().parse(), Ok(first));
        }
    }

    #[test]
    fn any_text_is_a_reference_or_an_error(text in "(ostree-[a-z-]{0,20}:)?[a-z-]{0,12}:?\\PC{0,30}") {
        let _ = text.parse::<OstreeImageReference>();
        if let Ok(typed) = OstreeImageReference::from_user(&text) {
            prop_assert_eq!(OstreeImageReference::from_user(&typed.to_string()), Ok(typed));
        }
    }
}
