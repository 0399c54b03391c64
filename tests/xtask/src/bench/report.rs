//! The table: medians, and each server's figure as a ratio to the best peer of the same run.

use std::fmt::Write as _;

use super::lab::{Lab, Signatures};
use super::{Row, Sample, Series};

/// The middle value; of an even number the lower middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(f64::NAN)
}

fn middle(series: &Series, figure: impl Fn(&Sample) -> f64) -> f64 {
    median(series.samples.iter().map(figure).collect())
}

fn cost(row: Row, series: &Series) -> f64 {
    match row {
        Row::IdleConnection => middle(series, |sample| sample.memory_kib.unwrap_or(f64::NAN)),
        Row::RelaySmallHttp1 | Row::RelaySmallHttp2 | Row::RelayLarge | Row::Handshake => {
            middle(series, |sample| sample.cpu_us)
        }
    }
}

/// The whole report as Markdown. Subject 0 is the gateway; the others are peers.
pub(crate) fn markdown(lab: &Lab, table: &[(Row, Vec<Series>)], signatures: &Signatures) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}\n", lab.machine);
    let mut header = "| work |".to_owned();
    let mut rule = "|---|".to_owned();
    for subject in &lab.subjects {
        let _ = write!(header, " {} |", subject.name);
        rule.push_str("---|");
    }
    let _ = writeln!(text, "{header} ratio to best peer | goal |\n{rule}---|---|");
    for (row, all) in table {
        let _ = write!(text, "| {} |", row.title());
        for series in all {
            let cell = match row {
                Row::IdleConnection => format!(
                    "{:.1} KiB (base {:.0} MiB)",
                    cost(*row, series),
                    middle(series, |sample| sample.base_kib.unwrap_or(f64::NAN)) / 1024.0
                ),
                Row::RelaySmallHttp1 | Row::RelaySmallHttp2 | Row::RelayLarge | Row::Handshake => {
                    format!(
                        "{:.1} CPU-µs · {:.0}/s · p50 {:.0} / p99 {:.0} µs",
                        cost(*row, series),
                        middle(series, |sample| sample.per_second),
                        middle(series, |sample| sample.p50_us),
                        middle(series, |sample| sample.p99_us)
                    )
                }
            };
            let _ = write!(text, " {cell} |");
        }
        let ours = all.first().map_or(f64::NAN, |series| cost(*row, series));
        let best = all
            .iter()
            .skip(1)
            .map(|series| cost(*row, series))
            .fold(f64::INFINITY, f64::min);
        let _ = writeln!(text, " {:.2} × | {} |", ours / best, row.goal());
    }
    let _ = writeln!(
        text,
        "\nTPM signatures for {} upstream connections, each used once: {} (the others resumed). Goal: ≤ 1 per hour and \
         connection slot.",
        signatures.connections, signatures.full
    );
    text
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_ignores_one_noisy_round() {
        assert!((median(vec![3.0, 900.0, 1.0, 2.0, 4.0]) - 3.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_median_of_nothing_is_not_a_number() {
        assert!(median(Vec::new()).is_nan());
    }
}
