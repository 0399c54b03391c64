//! What a server costs: CPU time from the scheduler and memory from the kernel's own accounting.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::lab::{HOST, Subject};
use super::load::Sample;

/// CPU time in nanoseconds that each thread of these processes has run so far (`/proc/<pid>/task/*/schedstat`, first field).
type Spent = HashMap<PathBuf, u64>;

fn spent(pids: &[i32]) -> Spent {
    let tasks = pids
        .iter()
        .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok())
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
            Some((task.path(), nanoseconds))
        })
        .collect()
}

/// What was spent since, by the threads that are there now: one that has ended takes its figure along.
fn since(before: &Spent, pids: &[i32]) -> u64 {
    let more = |(task, now): (PathBuf, u64)| {
        let before = before.get(&task).copied().unwrap_or_default();
        now.saturating_sub(before)
    };
    spent(pids).into_iter().map(more).sum()
}

/// CPU time in nanoseconds of all threads of these processes so far.
pub(crate) fn cpu_nanoseconds(pids: &[i32]) -> u64 {
    spent(pids).values().sum()
}

/// Proportional set size in KiB over these processes (`smaps_rollup`).
pub(crate) fn pss_kib(pids: &[i32]) -> u64 {
    pids.iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
        .filter_map(|text| {
            text.lines()
                .find_map(|line| {
                    line.strip_prefix("Pss:")?
                        .trim()
                        .trim_end_matches(" kB")
                        .trim()
                        .parse()
                        .ok()
                })
                .map(|kib: u64| kib)
        })
        .sum()
}

/// Runs a load and charges the server's CPU time to its requests. A short unmeasured load comes first, so that
/// connections, caches and branch predictors are warm.
pub(crate) fn under(
    subject: &Subject,
    load: impl Fn() -> Result<Sample, String>,
) -> Result<Sample, String> {
    let pids = subject.pids();
    let before = spent(&pids);
    let mut sample = load()?;
    let spent = since(&before, &pids);
    if sample.requests == 0 {
        return Err(format!("{}: no request was answered", subject.name));
    }
    if sample.errors > 0 {
        return Err(format!(
            "{}: {} requests failed",
            subject.name, sample.errors
        ));
    }
    sample.cpu_us = spent as f64 / 1000.0 / sample.requests as f64;
    Ok(sample)
}

/// Opens `count` connections, each of which has answered one request and then waits, and measures the growth of memory.
pub(crate) fn idle(subject: &Subject, client: &Path, count: usize) -> Result<Sample, String> {
    let pids = subject.pids();
    let before = pss_kib(&pids);
    let mut child = Command::new("python3")
        .arg(client)
        .args([
            "127.0.0.1",
            &subject.port.to_string(),
            HOST,
            &count.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("python3: {error}"))?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out)
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
    }
    std::thread::sleep(Duration::from_secs(2));
    let after = pss_kib(&pids);
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(b"end\n");
    }
    child.wait().map_err(|error| error.to_string())?;
    if line.trim() != count.to_string() {
        return Err(format!(
            "{}: only {} of {count} connections were opened",
            subject.name,
            line.trim()
        ));
    }
    let kib = (after.saturating_sub(before)) as f64 / count as f64;
    Ok(Sample {
        requests: count as u64,
        memory_kib: Some(kib),
        base_kib: Some(before as f64),
        ..Sample::default()
    })
}
