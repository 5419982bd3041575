//! Keeps an update or goes back: after each boot, facts about it and the results of its checks
//! become a decision and steps. `machine` decides, pure; the other files gather the facts and carry
//! the steps out.

mod carry_out;
mod facts;
pub mod machine;

pub use carry_out::carry_out;
pub use facts::{NotBooted, facts, image};
