//! Pulls of fixture images into real repositories, judged by libostree's own tools.
//! Needs the `ostree` program, and root for bare repositories (files keep their owners there).

mod broken;
mod chunked;
mod confined;
mod damaged;
mod derived;
mod encapsulated;
mod hostile;
mod mirrors;
mod promised;
mod reexport;
mod resumed;
mod support;
mod umoci;
