//! Hands: fd-relative file work that the rooms above share. Takes directory handles and relative
//! names, gives bytes and handles. Never decides what should be written.

pub mod command;
pub mod fs;
pub mod tree;
