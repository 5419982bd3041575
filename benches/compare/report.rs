//! Medians and ratios as a table for docs/performance.md. Costs come in, lines of Markdown go out.

use crate::measure::Cost;

/// What the runs of one program in one case cost.
#[derive(Debug)]
pub struct Row {
    /// The case.
    pub case: &'static str,
    /// The program.
    pub program: String,
    /// Whether it is Bowline, which the ratios are against.
    pub ours: bool,
    /// Its runs.
    pub costs: Vec<Cost>,
}

/// The head of the table.
pub const HEAD: &str = "\
| case | program | wall s (min–max) | user s | sys s | memory MB | wire MB | requests | wall / ours | CPU / ours |
|---|---|---|---|---|---|---|---|---|---|";

/// The lines of one case; `rows` are its programs.
pub fn lines(rows: &[Row]) -> Vec<String> {
    let ours = rows.iter().find(|row| row.ours).map(Summary::new);
    let lines = rows.iter().map(|row| line(row, ours.as_ref()));
    lines.collect()
}

struct Summary {
    wall: [f64; 3],
    user: f64,
    sys: f64,
    memory: Option<f64>,
    bytes: f64,
    requests: f64,
}

impl Summary {
    fn new(row: &Row) -> Self {
        let timed = || row.costs.iter().filter(|cost| cost.memory.is_none());
        // Where every run was watched, its times are better than none.
        let chosen: Vec<Cost> = match timed().count() {
            0 => row.costs.clone(),
            _ => timed().copied().collect(),
        };
        let middle = |value: fn(&Cost) -> f64| sorted(chosen.iter().map(value))[1];
        let watched = row.costs.iter().filter_map(|cost| cost.memory);
        Self {
            wall: sorted(chosen.iter().map(|c| c.wall)),
            user: middle(|c| c.user),
            sys: middle(|c| c.sys),
            memory: watched.fold(None, |most, m| Some(m.max(most.unwrap_or(0.0)))),
            bytes: middle(|c| c.traffic.bytes as f64),
            requests: middle(|c| c.traffic.requests as f64),
        }
    }
}

/// Least, median and most.
fn sorted(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    [0, values.len() / 2, values.len().saturating_sub(1)].map(at)
}

fn line(row: &Row, ours: Option<&Summary>) -> String {
    let sum = Summary::new(row);
    let [least, wall, most] = sum.wall;
    let memory = sum.memory.map_or_else(|| "-".into(), |m| format!("{m:.0}"));
    let cpu = |s: &Summary| s.user + s.sys;
    let ratio = |theirs: f64, ours: f64| format!("{:.1}", theirs / ours.max(0.001));
    let ratios = match ours {
        Some(ours) if !row.ours => {
            [ratio(wall, ours.wall[1]), ratio(cpu(&sum), cpu(ours))].join(" | ")
        }
        _ => "  |  ".into(),
    };
    format!(
        "| {} | {} | {wall:.2} ({least:.2}–{most:.2}) | {:.2} | {:.2} | {memory} | {:.2} | {} | {ratios} |",
        row.case,
        row.program,
        sum.user,
        sum.sys,
        sum.bytes / 1e6,
        sum.requests,
    )
}
