//! Whose kernel arguments are whose: those that the image asks for come and go with it, the
//! machine's own stay. Entries, records and images come in; new entries and records go out. Pure.
//!
//! The record is a group of the origin, so that it is written with the deployment and goes with
//! it (docs/adr/0007-owners-of-kernel-arguments.md):
//!
//! ```text
//! [bowline]
//! image-kargs=console=ttyS0 quiet      what the image asked for, as far as it is known here
//! local-kargs=quiet                    of these: what this machine wants all the same
//! ```

use crate::boot::kargs::{Karg, KernelArgs};
use crate::boot::kargs_edit::{Edit, EditError};
use crate::sysroot::{Deployment, Origin};

const GROUP: &str = "bowline";
const IMAGE: &str = "image-kargs";
const LOCAL: &str = "local-kargs";

/// Who wants an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The image; it goes when an image no longer asks for it.
    Image,
    /// This machine; it stays.
    Local,
    /// Both; it stays.
    Both,
}

/// The arguments of a deployment, and who wants them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kargs {
    /// All of them, in order.
    pub args: KernelArgs,
    /// What the image asks for. Not all of it need be in `args`: somebody may have removed it.
    image: KernelArgs,
    /// Of `image`: what the machine wants too.
    local: KernelArgs,
}

impl Kargs {
    /// The arguments of a deployment. `asked` is what its own tree asks for; it counts where the
    /// origin says nothing, because another tool made the deployment. What the machine wanted
    /// before that is then known from the other deployments of the stateroot, `all` of the host.
    pub fn of(deployment: &Deployment, asked: KernelArgs, all: &[Deployment]) -> Self {
        let args = KernelArgs::parse(&deployment.kargs.join(" "));
        if let Some((image, local)) = record(&deployment.origin) {
            return Self { args, image, local };
        }
        // Tools that know nothing of kargs.d apply none of it; whoever does applies all.
        let applied = asked.iter().any(|arg| args.contains(arg));
        let image = if applied {
            asked
        } else {
            KernelArgs::default()
        };
        let same = |d: &&Deployment| d.id.stateroot == deployment.id.stateroot;
        let mut others = all.iter().filter(same);
        let wanted = others.find_map(|d| record(&d.origin)).unwrap_or_default().1;
        let local = wanted.filtered(|arg| image.contains(arg) && args.contains(arg));
        Self { args, image, local }
    }

    /// Who wants an argument of `args`.
    pub fn owner(&self, arg: &Karg) -> Owner {
        match (self.image.contains(arg), self.local.contains(arg)) {
            (true, true) => Owner::Both,
            (true, false) => Owner::Image,
            (false, _) => Owner::Local,
        }
    }

    /// What the image asks for and somebody removed here.
    pub fn left_out(&self) -> KernelArgs {
        self.image.filtered(|arg| !self.args.contains(arg))
    }

    /// The arguments for a successor whose image asks for `asked`: what only the old image asked
    /// for goes, what is newly asked for comes. What was asked for before and is not here was
    /// removed by somebody, and stays away. What comes stands behind what the image asks for before
    /// it, or else in front of all: the kernel takes the last word, and that is the machine's.
    pub fn upgraded(&self, asked: KernelArgs) -> Self {
        let goes = |arg: &Karg| self.owner(arg) == Owner::Image && !asked.contains(arg);
        let mut args = self.args.filtered(|arg| !goes(arg));
        let own = |arg: &Karg| args.contains(arg) && self.owner(arg) != Owner::Image;
        let local = asked.filtered(own);
        let mut next = 0;
        for arg in asked.iter().filter(|arg| !local.contains(arg)) {
            match args.position(arg) {
                Some(at) => next = at + 1,
                None if self.image.contains(arg) => {}
                None => {
                    args.insert(next, arg.clone());
                    next += 1;
                }
            }
        }
        Self {
            args,
            image: asked,
            local,
        }
    }

    /// The arguments after a person's changes, which belong to the machine.
    pub fn edited(&self, edits: &[Edit]) -> Result<Self, EditError> {
        let mut next = self.clone();
        for edit in edits {
            let change = edit.apply(&mut next.args)?;
            next.local = next
                .local
                .filtered(|arg| !change.removed.iter().any(|r| r.same(arg)));
            for arg in change.wanted.iter().filter(|arg| self.image.contains(arg)) {
                next.local.append_if_missing(arg);
            }
        }
        Ok(next)
    }

    /// Writes the record; an image that asks for nothing leaves none.
    pub fn record_in(&self, origin: &mut Origin) {
        let value = |args: &KernelArgs| Some(args.to_string()).filter(|text| !text.is_empty());
        origin.set_value(GROUP, IMAGE, value(&self.image).as_deref());
        origin.set_value(GROUP, LOCAL, value(&self.local).as_deref());
    }

    /// The first argument that `before` does not have and GRUB would take for script, and the
    /// character that makes it so.
    pub fn obstacle(&self, before: &KernelArgs) -> Option<(Karg, char)> {
        let new = self.args.iter().filter(|arg| !before.contains(arg));
        let mut found = new.filter_map(|arg| Some((arg.clone(), arg.grub_obstacle()?)));
        found.next()
    }
}

fn record(origin: &Origin) -> Option<(KernelArgs, KernelArgs)> {
    let list = |key| origin.get(GROUP, key).map(|text| KernelArgs::parse(&text));
    Some((list(IMAGE)?, list(LOCAL).unwrap_or_default()))
}

#[cfg(test)]
mod tests;
