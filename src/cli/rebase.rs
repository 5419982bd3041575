//! `rebase IMAGE`: arguments become a request that names its image; everything else is as for
//! `upgrade`.

use anyhow::Result;

use super::args::RebaseArgs;
use super::upgrade::{Wanted, carry_out};
use super::{Context, Outcome, reference};
use crate::upgrade::Target;

/// Follows another image.
pub fn run(args: &RebaseArgs, context: &Context) -> Result<Outcome> {
    let image = reference::parse(&args.image)?;
    carry_out(
        &Wanted {
            target: Target::Image(image),
            mode: args.mode,
            retain: args.retain,
            force: args.force,
            fetch: &args.fetch,
        },
        context,
    )?;
    Ok(Outcome::Done)
}
