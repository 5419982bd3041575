//! `boot ok`: runs once a boot is complete. Ends the trial of what runs, has the bootloader count it
//! no more, and tells others.

use std::path::Path;

use anyhow::Result;

use super::settings;
use crate::agent::{self, carry_out, machine};
use crate::boot::BootSetup;
use crate::cli::{Context, Outcome};
use crate::health::news::{self, News};
use crate::health::{Event, EventKind};
use crate::host;
use crate::sysroot::Sysroot;

/// Marks this boot as good.
pub fn run(context: &Context) -> Result<Outcome> {
    let settings = settings(context).health;
    let sysroot = Sysroot::open(&context.sysroot)?;
    let setup = BootSetup::read(sysroot.path())?;
    let store = host::store(&sysroot);
    let look = || agent::facts(&sysroot, &setup, &store, settings.tries);
    let facts = super::patiently(super::PATIENCE, look)?;
    drop(sysroot);
    let steps = machine::good(&facts);
    carry_out(&steps, &store, || super::locked(context))?;
    let runs = facts.order.iter().find(|entry| entry.id == facts.booted);
    let event = Event {
        kind: EventKind::Good,
        when: facts.now,
        image: runs.map(|entry| entry.image.clone()).unwrap_or_default(),
        ..Event::default()
    };
    let sentence = match steps.is_empty() {
        true => "This boot is good".to_owned(),
        false => event.sentence(),
    };
    context.say(&format!("{sentence}\n"))?;
    let time = settings.check_timeout;
    news::tell(Path::new("/"), News::Good, &event, &sentence, time);
    Ok(Outcome::Done)
}
