//! What scanning costs the person who waits: files that never repeat, through the gateway and through squid with c-icap, beside
//! clamd asked directly and nginx, which scans nothing.
//!
//! Wall time per file, one after the other on one connection. Every round has new files, the same for all; what scanning adds is
//! measured apart, in pairs ([`super::paired`]). The peers are
//! Debian 13's; squidclamav is not packaged there, so c-icap's own clamd module does its work.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::lab::HOST;
use super::paired::{self, Pair};
use super::report::median;

/// A size of file and how many of it one round has.
const SIZES: [(&str, &str, usize, usize); 3] = [
    ("scan-10k", "10 KB", 10_000, 120),
    ("scan-1m", "1 MB", 1_000_000, 24),
    ("scan-25m", "25 MB", 25_000_000, 4),
];

/// Which way a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Down,
    Up,
}

impl Way {
    const fn word(self) -> &'static str {
        match self {
            Self::Down => "download",
            Self::Up => "upload",
        }
    }
}

/// Where the files go through.
pub(crate) struct Ports {
    pub gateway: u16,
    pub nginx: u16,
    pub squid: u16,
}

/// The stage on which it is measured.
pub(crate) struct Stage<'a> {
    pub ports: Ports,
    /// The folder the origin serves as `/files/`.
    pub files: &'a Path,
    /// The socket of the clamd that the gateway and c-icap both use.
    pub clamd: PathBuf,
}

/// Medians of all rounds, in milliseconds per file.
struct Measured {
    title: String,
    pair: Pair,
    gateway: f64,
    repeated: f64,
    squid: f64,
}

/// Measures the rows that are wanted; the answer is a table in Markdown, empty when none is.
pub(crate) fn table(
    stage: &Stage<'_>,
    rounds: usize,
    wanted: impl Fn(&str) -> bool,
) -> Result<String, String> {
    let mut rows = Vec::new();
    for (row, title, bytes, count) in SIZES {
        if wanted(row) {
            for way in [Way::Down, Way::Up] {
                let title = format!("{title} {}", way.word());
                rows.push(measure(stage, title, way, bytes, count, rounds)?);
            }
        }
    }
    Ok(if rows.is_empty() {
        String::new()
    } else {
        markdown(&rows)
    })
}

fn measure(
    stage: &Stage<'_>,
    title: String,
    way: Way,
    bytes: usize,
    count: usize,
    rounds: usize,
) -> Result<Measured, String> {
    let mut all: [Vec<f64>; 6] = Default::default();
    for round in 0..rounds {
        let files = Files::make(stage.files, bytes, count)?;
        let through = |port| files.send(way, port);
        let ends = (stage.ports.nginx, stage.ports.gateway);
        let [gateway, again, squid] = [
            through(stage.ports.gateway)?,
            through(stage.ports.gateway)?,
            through(stage.ports.squid)?,
        ];
        // The gateway knows these files now.
        let fresh = Files::make(stage.files, bytes, count)?;
        let pair = paired::measure(&fresh.paths(), way, ends, &stage.clamd)?;
        let times = [pair.nginx, pair.clamd, pair.gateway, gateway, again, squid];
        eprintln!(
            "{title} round {}: in pairs nginx {:.2} · clamd {:.2} · gateway {:.2} · alone gateway {:.2}, again {:.2} · squid {:.2} ms",
            round + 1,
            times[0],
            times[1],
            times[2],
            times[3],
            times[4],
            times[5]
        );
        for (series, time) in all.iter_mut().zip(times) {
            series.push(time);
        }
    }
    let [nginx, clamd, paired, gateway, repeated, squid] = all.map(median);
    Ok(Measured {
        title,
        pair: Pair {
            nginx,
            clamd,
            gateway: paired,
        },
        gateway,
        repeated,
        squid,
    })
}

fn markdown(rows: &[Measured]) -> String {
    let mut text = String::from(
        "\n| one file, ms | nginx, no scan | clamd asked directly | gatewayd | scanning adds, × clamd (goal ≤ 1.10) | gatewayd alone | the same again | squid + c-icap | × squid (goal < 1) |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            row.title,
            row.pair.nginx,
            row.pair.clamd,
            row.pair.gateway,
            (row.pair.gateway - row.pair.nginx) / row.pair.clamd,
            row.gateway,
            row.repeated,
            row.squid,
            row.gateway / row.squid
        );
    }
    text
}

/// Files of one round; nobody has seen their bytes before.
struct Files<'a> {
    folder: &'a Path,
    names: Vec<String>,
}

impl<'a> Files<'a> {
    fn make(folder: &'a Path, bytes: usize, count: usize) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).map_err(failed)?;
        let mut random = File::open("/dev/urandom").map_err(failed)?;
        let mut content = vec![0; bytes];
        let names: Vec<String> = (0..count).map(|number| format!("{number}.bin")).collect();
        for name in &names {
            random.read_exact(&mut content).map_err(failed)?;
            // Never the beginning of a program or an archive, which would be another kind of work.
            content[..4].copy_from_slice(b"data");
            fs::write(folder.join(name), &content).map_err(failed)?;
        }
        Ok(Self { folder, names })
    }

    fn paths(&self) -> Vec<PathBuf> {
        let paths = self.names.iter().map(|name| self.folder.join(name));
        paths.collect()
    }

    /// All of them, one after the other, by one curl on one connection.
    fn send(&self, way: Way, port: u16) -> Result<f64, String> {
        let base = format!("https://{HOST}:{port}");
        let mut script = String::new();
        for name in &self.names {
            let _ = write!(
                script,
                "insecure\nsilent\nhttp1.1\noutput = /dev/null\nwrite-out = \"%{{http_code}} %{{time_total}}\\n\"\n"
            );
            let _ = match way {
                Way::Down => writeln!(script, "url = {base}/files/{name}"),
                Way::Up => write!(
                    script,
                    "url = {base}/sink\nheader = \"Expect:\"\nheader = \"Content-Type: application/octet-stream\"\ndata-binary = \"@{}\"\n",
                    self.folder.join(name).display()
                ),
            };
            script.push_str("next\n");
        }
        let mut curl = Command::new("taskset")
            .args(["-c", "1", "curl", "--config", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("curl: {error}"))?;
        let script = script.trim_end_matches("next\n");
        if let Some(mut stdin) = curl.stdin.take() {
            stdin
                .write_all(script.as_bytes())
                .map_err(|error| format!("curl: {error}"))?;
        }
        let output = curl
            .wait_with_output()
            .map_err(|error| format!("curl: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        // The first file pays for the handshakes.
        let times = text.lines().skip(1).map(|line| {
            let (status, seconds) = line.split_once(' ')?;
            let seconds: f64 = seconds.parse().ok()?;
            (status == "200").then_some(seconds * 1000.0)
        });
        let times: Option<Vec<f64>> = times.collect();
        times
            .filter(|times| times.len() + 1 == self.names.len())
            .map(median)
            .ok_or_else(|| {
                format!(
                    "not every {} through port {port} succeeded:\n{text}",
                    way.word()
                )
            })
    }
}
