//! Making images: what goes into which layer. Never deploys anything.

pub mod chunk;
