//! The registry source against a registry with faults in process, and against docker-registry.
//! Needs no root. What needs `docker-registry`, `skopeo`, `htpasswd` or `openssl` says so where
//! one of them is missing, and passes.

mod access;
mod bench;
mod blobs;
mod daemon;
mod docker_registry;
mod encapsulate;
mod manifests;
mod mirrors;
mod proxy;
mod push;
mod ranges;
mod signatures;
mod tls;
mod token;
mod web;
