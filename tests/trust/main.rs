//! Signatures from outside: real programs sign (`skopeo`, `cosign`, `gpg`, `ostree`), a real
//! `docker-registry` or a directory keeps the signatures, and the program pulls and deploys, or refuses
//! to. Where a program is missing the tests say so. Tests that deploy need root.

mod attacks;
mod certificates;
mod commit_verify;
#[path = "../registry/daemon.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of registries, which use more of it"
)]
mod daemon;
mod disk;
mod ed25519;
mod gpg;
mod host;
mod journal;
mod remote;
mod scene;
mod sign;
mod sign_gpg;
mod sign_made;
mod sigstore;
