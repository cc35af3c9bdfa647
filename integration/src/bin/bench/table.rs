//! Prints measurements side by side, and how they stand to the goals.

use crate::measure::Measured;

/// At most so many times what another took.
pub(crate) struct Goal {
    /// Name of the row it speaks of.
    pub(crate) of: &'static str,
    /// Name of the row it is compared with; a prefix is enough.
    pub(crate) against: &'static str,
    pub(crate) at_most: f64,
}

/// Milliseconds, memory and ratios to `base`, one row a command.
pub(crate) fn print(rows: &[Measured], base: &str) {
    let reference = find(rows, base).map_or(f64::NAN, Measured::median);
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(7);
    println!("| {:width$} | min ms | median ms | × {base} | peak MiB |", "command");
    println!("|-{:-<width$}-|-------:|----------:|--------:|---------:|", "");
    for row in rows {
        let peak = row.peak_kib.map_or("-".into(), |kib| format!("{:.1}", kib as f64 / 1024.0));
        println!(
            "| {:width$} | {:.2} | {:.2} | {:.2} | {peak} |",
            row.name,
            row.min() * 1e3,
            row.median() * 1e3,
            row.median() / reference,
        );
    }
}

/// Each goal beside what was reached; a rival that was left out leaves its goal unjudged.
pub(crate) fn judge(rows: &[Measured], goals: &[Goal]) {
    println!();
    for goal in goals {
        let (Some(ours), Some(theirs)) = (find(rows, goal.of), find(rows, goal.against)) else {
            println!("goal: {} ≤ {} × {}: not judged", goal.of, goal.at_most, goal.against);
            continue;
        };
        let ratio = ours.median() / theirs.median();
        let verdict = if ratio <= goal.at_most { "reached" } else { "MISSED" };
        let (of, against) = (goal.of, &theirs.name);
        println!("goal: {of} ≤ {} × {against}: {ratio:.3}, {verdict}", goal.at_most);
    }
}

/// Peak memory beside what it may be.
pub(crate) fn judge_peak(rows: &[Measured], of: &str, at_most_mib: f64) {
    let peak = find(rows, of).and_then(|row| row.peak_kib).map_or(f64::NAN, |kib| kib as f64);
    let peak = peak / 1024.0;
    let verdict = if peak <= at_most_mib { "reached" } else { "MISSED" };
    println!("goal: peak memory of {of} ≤ {at_most_mib} MiB: {peak:.1}, {verdict}");
}

fn find<'m>(rows: &'m [Measured], name: &str) -> Option<&'m Measured> {
    rows.iter()
        .find(|row| row.name == name)
        .or_else(|| rows.iter().find(|r| r.name.starts_with(name)))
}
