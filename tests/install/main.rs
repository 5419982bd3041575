//! Installing images of a fixture system to plain files, looked at with the tools of others. Needs
//! root, as a deployment's files belong to it.

mod configuration;
mod scene;
mod to_disk;
mod to_mounted;
