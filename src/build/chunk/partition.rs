//! The best way to put items into a number of chunks, when each changes by itself at a known rate.
//!
//! A chunk is downloaded when anything in it changed, so that it costs its weight times the
//! likelihood of that. For a number of chunks the sum is least when, sorted by rate per weight, each
//! chunk takes a run of neighbours: whatever the other chunks look like, an item is best placed by the
//! ratio of its two numbers. The best runs are found exactly. All numbers are integers, so
//! that all machines agree.

use super::item::{Item, ONE};

/// What a layer costs by itself, in bytes: its directories, compressed, and a request.
const LAYER_COST: u64 = 6 << 10;

/// More runs of items than this are not told apart, since the search takes the square of it.
const MOST_RUNS: usize = 1500;

/// Puts all items into at most `most` bins (at least 1), none of them empty.
pub(super) fn bins(items: Vec<Item>, most: usize) -> Vec<Vec<Item>> {
    let (mut apart, mut rest): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|i| i.apart);
    // Too many for a chunk each: the lightest are treated like everything else.
    apart.sort_by(|a, b| (b.weight, &a.key).cmp(&(a.weight, &b.key)));
    let places = most.saturating_sub(usize::from(!rest.is_empty() || apart.len() > most));
    rest.extend(apart.drain(places.min(apart.len())..));
    let left = most.max(1) - apart.len();
    let mut bins: Vec<Vec<Item>> = apart.into_iter().map(|item| vec![item]).collect();
    bins.sort_by(|a, b| a[0].key.cmp(&b[0].key));
    bins.extend(by_rate(rest, left));
    bins
}

fn by_rate(mut items: Vec<Item>, most: usize) -> Vec<Vec<Item>> {
    if items.is_empty() {
        return Vec::new();
    }
    // Rate per weight, compared without a division.
    items.sort_by(|a, b| {
        let left = u128::from(a.rate()) * u128::from(b.weight.max(1));
        let right = u128::from(b.rate()) * u128::from(a.weight.max(1));
        left.cmp(&right).then_with(|| a.key.cmp(&b.key))
    });
    let step = items.len().div_ceil(MOST_RUNS);
    let runs: Vec<(u64, u64)> = items
        .chunks(step)
        .map(|run| (sum(run, |item| item.weight), sum(run, Item::rate)))
        .collect();
    let mut bins = Vec::new();
    for cut in cuts(&runs, most).into_iter().rev() {
        bins.push(items.split_off(cut * step));
    }
    bins.reverse();
    bins
}

fn sum(items: &[Item], number: impl Fn(&Item) -> u64) -> u64 {
    items.iter().map(number).fold(0, u64::saturating_add)
}

/// What a bin costs per build: its weight times the likelihood of a change, which for independent
/// changes at the rate r is about r/(1+r).
pub(super) fn cost(weight: u64, rate: u64) -> u64 {
    let bytes = u128::from(weight.saturating_add(LAYER_COST));
    let cost = bytes * u128::from(rate) / (u128::from(ONE) + u128::from(rate));
    u64::try_from(cost).unwrap_or(u64::MAX)
}

/// Where the bins begin, ascending from 0, such that the sum of their costs is least.
fn cuts(runs: &[(u64, u64)], most: usize) -> Vec<usize> {
    let count = runs.len();
    let mut best = vec![u64::MAX; count + 1];
    best[0] = 0;
    // from[k][j]: where the last of k+1 bins begins when they hold the first j runs.
    let mut from: Vec<Vec<u32>> = Vec::new();
    let mut least = (u64::MAX, 0);
    for bins in 0..most.min(count) {
        let (next, begins) = one_more(runs, &best);
        from.push(begins);
        best = next;
        // More bins are taken only where they save something.
        if best[count] < least.0 {
            least = (best[count], bins);
        }
    }
    let (mut cuts, mut end) = (Vec::new(), count);
    for begins in from[..=least.1].iter().rev() {
        end = begins[end] as usize;
        cuts.push(end);
    }
    cuts.reverse();
    cuts
}

fn one_more(runs: &[(u64, u64)], best: &[u64]) -> (Vec<u64>, Vec<u32>) {
    let mut next = vec![u64::MAX; best.len()];
    let mut begins = vec![0; best.len()];
    for end in 1..best.len() {
        let (mut weight, mut rate) = (0u64, 0u64);
        for begin in (0..end).rev() {
            weight = weight.saturating_add(runs[begin].0);
            rate = rate.saturating_add(runs[begin].1);
            if best[begin] == u64::MAX {
                continue;
            }
            let sum = best[begin].saturating_add(cost(weight, rate));
            if sum < next[end] {
                next[end] = sum;
                begins[end] = begin as u32;
            }
        }
    }
    (next, begins)
}
