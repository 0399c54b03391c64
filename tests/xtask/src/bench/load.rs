//! The load generators of Debian, pinned to CPU 1: wrk for HTTP/1.1, h2load for HTTP/2. Their reports are read, not trusted:
//! failed requests end the run.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::lab::HOST;

/// One measurement of one server.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sample {
    pub requests: u64,
    pub errors: u64,
    pub per_second: f64,
    /// CPU time of the server per request, in µs.
    pub cpu_us: f64,
    /// Latency in µs.
    pub p50_us: f64,
    /// Latency in µs; for h2load the maximum is not used, the 99th percentile comes from its log.
    pub p99_us: f64,
    pub memory_kib: Option<f64>,
    pub base_kib: Option<f64>,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.memory_kib {
            Some(kib) => write!(
                f,
                "{kib:.1} KiB per connection, base {:.0} KiB",
                self.base_kib.unwrap_or_default()
            ),
            None => write!(
                f,
                "{:.1} CPU-µs/request, {:.0}/s, p50 {:.0} µs, p99 {:.0} µs",
                self.cpu_us, self.per_second, self.p50_us, self.p99_us
            ),
        }
    }
}

/// wrk with one thread; `close` makes every request open (and handshake) its own connection.
pub(crate) fn wrk(
    port: u16,
    path: &str,
    connections: u32,
    time: Duration,
    close: bool,
) -> Result<Sample, String> {
    // Neither load generator knows that every *.localhost is this machine (RFC 6761 §6.3).
    let host = format!("Host: {HOST}:{port}");
    let mut header = vec![host.as_str()];
    if close {
        header.push("Connection: close");
    }
    wrk_with(port, path, connections, time, &header)
}

/// wrk with one thread and these header fields, `Host` among them.
pub(crate) fn wrk_with(
    port: u16,
    path: &str,
    connections: u32,
    time: Duration,
    header: &[&str],
) -> Result<Sample, String> {
    let mut command = pinned("wrk");
    command.args([
        "-t1",
        &format!("-c{connections}"),
        &format!("-d{}s", time.as_secs()),
        "--latency",
        "--timeout",
        "10s",
    ]);
    for field in header {
        command.args(["-H", field]);
    }
    let text = output(command.arg(format!("https://127.0.0.1:{port}{path}")))?;
    parse_wrk(&text).ok_or_else(|| format!("wrk said:\n{text}"))
}

fn parse_wrk(text: &str) -> Option<Sample> {
    let mut sample = Sample::default();
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["50%", value] => sample.p50_us = microseconds(value)?,
            ["99%", value] => sample.p99_us = microseconds(value)?,
            [count, "requests", "in", ..] => sample.requests = count.parse().ok()?,
            ["Requests/sec:", value] => sample.per_second = value.parse().ok()?,
            ["Non-2xx", "or", "3xx", "responses:", count] => {
                sample.errors += count.parse::<u64>().ok()?
            }
            [
                "Socket",
                "errors:",
                "connect",
                a,
                "read",
                b,
                "write",
                c,
                "timeout",
                d,
            ] => {
                for count in [a, b, c, d] {
                    sample.errors += count.trim_end_matches(',').parse::<u64>().ok()?;
                }
            }
            _ => {}
        }
    }
    (sample.requests > 0).then_some(sample)
}

/// h2load: `clients` connections with `streams` requests in flight on each.
pub(crate) fn h2load(
    port: u16,
    path: &str,
    clients: u32,
    streams: u32,
    time: Duration,
) -> Result<Sample, String> {
    run_h2load(
        (HOST, port, path),
        time,
        &[format!("-c{clients}"), format!("-m{streams}")],
        Duration::ZERO,
    )
}

/// HTTP/1.1 with `clients` connections, each of which asks `rate` times a second, whether the server is quick or not.
///
/// Latencies are those of readers who are there: the first second, in which all connect at once and wait for each other's handshakes,
/// is not among them. (Their processor time is.)
pub(crate) fn paced(
    (host, port, path): (&str, u16, &str),
    clients: u32,
    rate: u32,
    time: Duration,
    header: &[&str],
) -> Result<Sample, String> {
    let mut arguments = vec![
        "--h1".to_owned(),
        format!("-c{clients}"),
        format!("--rps={rate}"),
    ];
    for field in header {
        arguments.extend(["-H".to_owned(), (*field).to_owned()]);
    }
    let time = time.max(3 * CONNECTING);
    run_h2load((host, port, path), time, &arguments, CONNECTING)
}

/// So long after the first request everybody has connected.
const CONNECTING: Duration = Duration::from_secs(1);

fn run_h2load(
    (host, port, path): (&str, u16, &str),
    time: Duration,
    arguments: &[String],
    connecting: Duration,
) -> Result<Sample, String> {
    let log = std::env::temp_dir().join(format!("h2load-{}.log", std::process::id()));
    let _ = std::fs::remove_file(&log);
    let mut command = pinned("h2load");
    command
        .args(arguments)
        .args([
            "-t1".to_owned(),
            "-D".to_owned(),
            time.as_secs().to_string(),
            // With a warm-up its requests would not be counted, though the server's time for them is.
            "--warm-up-time=0".to_owned(),
        ])
        .arg(format!("--log-file={}", log.display()))
        .arg(format!("--connect-to=127.0.0.1:{port}"))
        .arg(format!("https://{host}:{port}{path}"));
    let text = output(&mut command)?;
    let sample =
        parse_h2load(&text, &log, connecting).ok_or_else(|| format!("h2load said:\n{text}"));
    let _ = std::fs::remove_file(&log);
    sample
}

fn parse_h2load(text: &str, log: &PathBuf, connecting: Duration) -> Option<Sample> {
    let mut sample = Sample::default();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("requests: ") {
            let number = |word: &str| {
                let end = rest.find(word)?;
                rest[..end]
                    .trim()
                    .rsplit([' ', ','])
                    .next()?
                    .parse::<u64>()
                    .ok()
            };
            sample.requests = number(" succeeded")?;
            sample.errors = number(" failed")? + number(" errored")? + number(" timeout")?;
        }
        if let Some(rest) = line.strip_prefix("finished in ") {
            sample.per_second = rest.split(", ").nth(1)?.split(' ').next()?.parse().ok()?;
        }
    }
    // Start time, status, response time; times in µs.
    let requests: Vec<(u128, f64)> = std::fs::read_to_string(log)
        .ok()?
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let start = fields.next()?.parse().ok()?;
            Some((start, fields.nth(1)?.parse().ok()?))
        })
        .collect();
    let first = requests.iter().map(|(start, _)| *start).min()?;
    let mut times: Vec<f64> = requests
        .iter()
        .filter(|(start, _)| start - first >= connecting.as_micros())
        .map(|(_, time)| *time)
        .collect();
    times.sort_by(f64::total_cmp);
    if let Some(last) = times.len().checked_sub(1) {
        sample.p50_us = times[last / 2];
        sample.p99_us = times[last * 99 / 100];
    }
    (sample.requests > 0).then_some(sample)
}

/// "478.00us", "1.20ms", "2.01s" in µs.
fn microseconds(text: &str) -> Option<f64> {
    for (unit, factor) in [("us", 1.0), ("ms", 1e3), ("s", 1e6)] {
        if let Some(value) = text.strip_suffix(unit) {
            return value.parse::<f64>().ok().map(|value| value * factor);
        }
    }
    None
}

fn pinned(program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "1", program]);
    command
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_wrk_is_read_with_its_failures() {
        let text = "  Latency Distribution\n     50%  478.00us\n     99%    1.20ms\n  120 requests in 1.00s, 2MB read\n  \
                    Socket errors: connect 0, read 1, write 0, timeout 2\n  Non-2xx or 3xx responses: 4\nRequests/sec:  120.5\n";
        let sample = parse_wrk(text).expect("the report is complete");
        assert_eq!((sample.requests, sample.errors), (120, 7));
        assert!((sample.p99_us - 1200.0).abs() < 0.1);
    }

    #[test]
    fn a_report_without_requests_is_no_sample() {
        assert!(parse_wrk("unable to connect").is_none());
    }

    #[test]
    fn requests_while_everybody_connects_are_no_latencies() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let lines: String = [
            (0, 70_000),
            (900_000, 60_000),
            (1_100_000, 2_000),
            (1_500_000, 3_000),
        ]
        .iter()
        .map(|(start, time)| format!("{}\t200\t{time}\n", 1_796_000_000_000_000_u64 + start))
        .collect();
        std::fs::write(&log, lines).unwrap();
        let text = "finished in 3.00s, 800.00 req/s, 1MB/s\nrequests: 4 total, 4 started, 4 done, 4 succeeded, 0 failed, 0 errored, 0 timeout\n";
        let all = parse_h2load(text, &log, Duration::ZERO).unwrap();
        let settled = parse_h2load(text, &log, CONNECTING).unwrap();
        assert!((all.p50_us - 3_000.0).abs() < 0.1 && (settled.p50_us - 2_000.0).abs() < 0.1);
        assert!(settled.p99_us < 3_000.1);
    }
}
