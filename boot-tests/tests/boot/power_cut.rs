//! Scenario 6: the power is cut at random instants while an update is pulled, staged, finished and
//! mirrored to the ESP, on a disk that loses what was not flushed. Each time the file systems are
//! sound, the old or the new version boots, the repository is whole, and the command finishes when it
//! is run again.
//!
//! `BOOT_TESTS_SEED` repeats a run, `BOOT_TESTS_CUTS` sets the number of cuts of both tests together.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bowline_boot_tests::check;
use bowline_boot_tests::disk::{self, Flavour};
use bowline_boot_tests::mounted::Mounted;
use bowline_boot_tests::qemu::Cache;
use bowline_boot_tests::registry::Registry;
use bowline_boot_tests::story::Story;
use bowline_boot_tests::vm::Vm;
use fastrand::Rng;

use crate::guest::{digest_of, status, version};
use crate::scenario::{registry, scenario};

/// What an update does, one after another.
const PHASES: [&str; 4] = [
    "bowline upgrade --download-only",
    "bowline upgrade",
    FINISH,
    SHUTDOWN,
];
/// The deed of a shutdown alone: libostree finishes the deployment, Bowline arms the boot counter and
/// mirrors to the ESP.
const FINISH: &str = "systemctl stop ostree-finalize-staged.service";
/// The same with all that stops around it.
const SHUTDOWN: &str = "systemctl reboot; sleep 100";
/// How many of the phases stage the update; then either of the others finishes it, `FINISH` first.
const STAGING: usize = 2;
/// The length of a phase that was not seen to end yet, to begin with.
const GUESS: Duration = Duration::from_secs(8);
/// Cuts of both tests together, unless told otherwise.
const CUTS: u32 = 20;

/// Where a cut comes.
struct Cut {
    phase: usize,
    after: Duration,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn power_cuts(flavour: Flavour) {
    scenario(&format!("power-cut-{}", flavour.name()), |story| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let seed = number("BOOT_TESTS_SEED").unwrap_or(now);
        let cuts = number("BOOT_TESTS_CUTS").map_or(CUTS, |cuts| cuts as u32) / 2;
        story.tell(&format!(
            "{cuts} power cuts; BOOT_TESTS_SEED={seed} repeats them"
        ));
        let registry = registry(&["v1", "large"])?;
        registry.release("large", "stable")?;
        let mut random = Rng::with_seed(seed);
        let mut lengths = [GUESS; PHASES.len()];
        for number in 1..=cuts {
            // From the last phase to the first, so that early ones are measured first.
            let phase = PHASES.len() - 1 - (number as usize - 1) % PHASES.len();
            let after = lengths[phase].mul_f64(random.f64() * 1.1);
            let cut = Cut { phase, after };
            one_cut(flavour, story, &registry, &cut, &mut lengths)
                .with_context(|| format!("Cut {number}, in {:?} after {after:?}", PHASES[phase]))?;
        }
        Ok(())
    });
}

fn one_cut(
    flavour: Flavour,
    story: &Story,
    registry: &Registry,
    cut: &Cut,
    lengths: &mut [Duration; PHASES.len()],
) -> Result<()> {
    let mut vm = disk::booted_with(flavour, story, registry, Cache::Honest)?;
    for phase in 0..cut.phase.min(STAGING) {
        let start = Instant::now();
        vm.ok(PHASES[phase])?;
        lengths[phase] = start.elapsed();
    }
    let ended = vm.cut_during(PHASES[cut.phase], cut.after)?;
    if let Some(length) = ended {
        lengths[cut.phase] = length;
    }
    check::file_systems(&vm.machine().disk)?;
    // Quicker outside than in the machine, where the host may mount it.
    let looked_at = match Mounted::new(&vm.machine().disk) {
        Ok(mounted) => mounted.fsck().map(|()| true)?,
        Err(_) => false,
    };
    vm.start()?;
    vm.wait_up()?;
    let now = version(&mut vm)?;
    let when = format!("{} s into {:?}", cut.after.as_secs_f32(), PHASES[cut.phase]);
    story.tell(&format!("the power went {when}: version {now} booted"));
    ensure!(
        ["1", "large"].contains(&&*now),
        "That is neither the old nor the new version"
    );
    if !looked_at {
        vm.ok("ostree fsck --quiet --repo=/ostree/repo")?;
    }
    if let Some(took) = runs_again(&mut vm, registry)? {
        lengths[STAGING] = took;
        if PHASES[cut.phase] == SHUTDOWN {
            // It takes longer than was believed, or this would rarely happen.
            lengths[cut.phase] = lengths[cut.phase].mul_f64(1.5);
        }
    }
    vm.finish()
}

/// The command finishes when it is run again; tells how long the deed of a shutdown took, where it was
/// still to do.
fn runs_again(vm: &mut Vm, registry: &Registry) -> Result<Option<Duration>> {
    vm.ok("bowline upgrade")?;
    let host = status(vm)?;
    // The deployment is finished, but the boot loader had not heard of it.
    let unheard = host["status"]["rollbackQueued"] == true;
    let slots: &[&str] = if unheard {
        &["rollback"]
    } else {
        &["staged", "booted"]
    };
    let next = slots.iter().find_map(|slot| digest_of(&host, slot));
    ensure!(next == Some(registry.digest("large")?), "{host:#}");
    let start = Instant::now();
    vm.ok(FINISH)?;
    let took = (!host["status"]["staged"].is_null()).then(|| start.elapsed());
    let host = status(vm)?;
    ensure!(host["status"]["staged"].is_null(), "{host:#}");
    if unheard {
        vm.reboot()?;
        let now = version(vm)?;
        ensure!(now == "large", "Version {now} booted again");
    }
    Ok(took)
}

#[test]
fn power_cuts_with_bios_and_grub() {
    power_cuts(Flavour::BiosGrub);
}

#[test]
#[ignore = "not in the short run: hack/test --all"]
fn power_cuts_with_uefi_and_systemd_boot() {
    power_cuts(Flavour::UefiSystemdBoot);
}
