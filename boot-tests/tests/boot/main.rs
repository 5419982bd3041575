//! The scenarios, in the order of their numbers in CONTRIBUTING.md. Each says in its header what it
//! proves. A test is a story that one machine goes through, or a few such stories one after another.

mod broken;
mod existing_root;
mod guest;
mod install;
mod installer;
mod kargs;
mod other_tools;
mod power_cut;
mod rebase;
mod rollback;
mod scenario;
mod stories;
mod trouble;
mod unattended;
mod upgrade;
