//! Hands: file work and programs that the rooms above share. Takes handles, paths and relative
//! names, gives bytes and handles. Never decides what should be written.

pub mod amount;
pub mod answer;
pub mod bulk;
pub mod command;
pub mod confine;
pub mod fs;
pub mod journal;
pub mod kernel;
pub mod mount;
pub mod namespace;
pub mod network;
pub mod parse;
pub mod power;
pub mod tool;
pub mod tree;
pub mod watched;
