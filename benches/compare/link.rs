//! The slow link: 100 Mbit/s, 40 ms there and back. Where this is a network namespace of its own
//! whose loopback takes netem, that; otherwise a relay. Never slows down the loopback of the host.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::relay::Relay;

/// Set by `hack/bench --shaped`, which has made a network namespace for the bench.
const OWN_NETWORK: &str = "BENCH_OWN_NETWORK";

/// What both directions of loopback share; each delays by half of the round trip.
const NETEM: [&str; 9] = [
    "dev", "lo", "root", "netem", "delay", "20ms", "rate", "100mbit", "limit",
];
const PACKETS: &str = "10000";

/// The slow link to the registry.
#[derive(Debug)]
pub struct SlowLink {
    name: String,
    relay: Option<Relay>,
}

/// The link is slow until this goes away.
#[derive(Debug)]
pub struct Slowed<'a>(&'a SlowLink);

impl SlowLink {
    /// The link to the images `name` (HOST:PORT/NAME), not slow yet.
    pub fn new(name: &str) -> Result<Self> {
        if std::env::var_os(OWN_NETWORK).is_some() && tc("add").is_ok() {
            tc("del")?;
            let name = name.into();
            return Ok(Self { name, relay: None });
        }
        let (host, path) = name.split_once('/').context("the images have no host")?;
        let relay = Relay::start(host.parse::<SocketAddr>()?)?;
        Ok(Self {
            name: format!("{}/{path}", relay.address),
            relay: Some(relay),
        })
    }

    /// The images, as they are called at the other end.
    pub const fn name(&self) -> &String {
        &self.name
    }

    /// Makes it slow for as long as the answer lives.
    pub fn slow_down(&self) -> Result<Slowed<'_>> {
        match &self.relay {
            Some(relay) => relay.set_slow(true),
            None => tc("add")?,
        }
        Ok(Slowed(self))
    }
}

impl Drop for Slowed<'_> {
    fn drop(&mut self) {
        match &self.0.relay {
            Some(relay) => relay.set_slow(false),
            // A link that stays slow makes the next step slow; there is nobody to tell.
            None => drop(tc("del")),
        }
    }
}

fn tc(verb: &str) -> Result<()> {
    let mut command = Command::new("tc");
    command.args(["qdisc", verb]).args(NETEM).arg(PACKETS);
    let output = command.output().context("Starting tc")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {words}");
    Ok(())
}
