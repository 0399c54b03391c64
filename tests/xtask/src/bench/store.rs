//! The store of recent notes at its full size: how fast the first sync is, and what a list and a search cost beside nginx, which
//! serves the same bytes as a static file over TLS.
//!
//! A facility of its own, with the reference city on the same two processors: what the city spends on telling is part of the
//! sync's wall time. Nothing here asserts a time.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_harness::city::BOX_HOST;
use test_harness::facility::{self, Facility};
use test_harness::{binaries, ports};

use super::lab::{Ended, Subject, pin, wait_for, write};
use super::load::{self, Sample};
use super::peers::{self, Tree};
use super::report::median;
use super::{Arguments, cost};

/// The size the design asks for.
const NOTES: u64 = 100_000;
const ATTACHMENTS: u64 = 2_000;
const PERSONS: u64 = 300;
const DAYS: u64 = 25;
/// Who reads; one session for all connections.
const READER: &str = "sakura-01";
/// Readers at a time.
const READERS: u32 = 80;
/// Pages that each of them asks for in a second where they do not ask as fast as they are answered; far more than people do.
const PAGES_PER_SECOND: u32 = 10;
/// One word that stands in one note, and one that stands in very many.
const SEARCHES: [(&str, &str); 2] = [("rare", "0054321"), ("frequent", "血圧")];
/// How long the first sync may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(300);

/// The rows of this table.
pub(crate) const ROWS: [&str; 3] = ["store-sync", "store-list", "store-search"];

/// One page, at the box and as a file of nginx.
struct Page {
    row: &'static str,
    title: String,
    path: String,
    connections: u32,
    /// How often each connection asks in a second; `None`: as soon as it is answered.
    rate: Option<u32>,
    goal: &'static str,
}

/// Measures what is wanted; the answer is Markdown, empty when nothing is.
pub(crate) fn table(tree: &Tree, work: &Path, arguments: &Arguments) -> Result<String, String> {
    let wanted =
        |row: &str| arguments.row.is_empty() || arguments.row.iter().any(|name| name == row);
    if !ROWS.iter().any(|row| wanted(row)) {
        return Ok(String::new());
    }
    let directory = work.join("store");
    let _ = fs::remove_dir_all(&directory);
    let mut facility = filled(&directory)?;
    let mut text = synced(&mut facility)?;
    let cookie = console_cookie(&facility, &directory)?;
    let pages = pages(&facility, &cookie)?;
    let peer = StaticFiles::start(tree, work, &facility, &pages, &cookie)?;
    let pid = i32::try_from(facility.gateway.process().pid()).map_err(|error| error.to_string())?;
    pin(pid, 0)?;
    let gateway = Subject::new("gatewayd", facility.gateway.https_port(), pid);
    let _ = writeln!(
        text,
        "\n| stored notes, {READERS} readers or one | gatewayd | nginx, the same bytes as a file | ratio | goal |\n|---|---|---|---|---|"
    );
    for (number, page) in pages
        .iter()
        .enumerate()
        .filter(|(_, page)| wanted(page.row))
    {
        let [ours, theirs] = measured(page, number, [&gateway, &peer.subject], &cookie, arguments)?;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.2} × | {} |",
            page.title,
            cell(&ours),
            cell(&theirs),
            middle(&ours, |sample| sample.cpu_us) / middle(&theirs, |sample| sample.cpu_us),
            page.goal
        );
    }
    let _ = writeln!(
        text,
        "\ngatewayd's own memory with the whole store, after these reads: {:.0} MiB (goal ≤ 64).",
        anonymous_kib(pid) as f64 / 1024.0
    );
    Ok(text)
}

/// A facility that is provisioned and whose city has grown to the full size while the box was off.
fn filled(directory: &Path) -> Result<Facility, String> {
    let options = facility::Options {
        more_configuration:
            "[limits]\nworkers = 1\nconnections = 8192\nconnections_per_client = 8192\n".to_owned(),
        ..facility::Options::default()
    };
    let mut facility = Facility::start_in(directory, options)
        .map_err(|error| format!("the facility of the store: {error}"))?;
    facility.gateway.process().stop();
    facility
        .city
        .control(
            "many",
            &json!({ "persons": PERSONS, "notes": NOTES, "attachments": ATTACHMENTS, "days": DAYS, "readers": [READER] }),
        )
        .map_err(|error| error.to_string())?;
    Ok(facility)
}

/// Starts the box and waits until it is level with the city.
fn synced(facility: &mut Facility) -> Result<String, String> {
    facility
        .gateway
        .start_again()
        .map_err(|error| error.to_string())?;
    let pid = i32::try_from(facility.gateway.process().pid()).map_err(|error| error.to_string())?;
    let (started, spent) = (Instant::now(), cost::cpu_nanoseconds(&[pid]));
    let notes = await_progress(facility, |progress| {
        progress["caught_up"] == json!(true) && progress["notes"].as_u64() >= Some(NOTES)
    })?;
    let wall = started.elapsed();
    let cpu = Duration::from_nanos(cost::cpu_nanoseconds(&[pid]) - spent);
    let memory = anonymous_kib(pid) as f64 / 1024.0;
    let all = await_progress(facility, |progress| {
        progress["attachments"]["done"].as_u64() >= Some(ATTACHMENTS)
    })?;
    let with_attachments = started.elapsed();
    let count = notes["notes"].as_u64().unwrap_or_default();
    let rate = count as f64 / wall.as_secs_f64();
    eprintln!(
        "store-sync: {count} notes in {wall:?}, {rate:.0}/s, {cpu:?} of CPU; attachments after {with_attachments:?}: {all}"
    );
    Ok(format!(
        "\n| first sync | wall | notes/s | CPU of gatewayd | memory of gatewayd | goal |\n|---|---|---|---|---|---|\n\
         | {count} notes | {:.1} s | {rate:.0} | {:.1} s | {memory:.0} MiB | > 20,000/s, ≤ 64 MiB |\n\
         | with {ATTACHMENTS} attachments of 20 KB, each scanned | {:.1} s | | | | |\n",
        wall.as_secs_f64(),
        cpu.as_secs_f64(),
        with_attachments.as_secs_f64(),
    ))
}

/// Asks `gatewayctl` until its answer suffices.
fn await_progress(facility: &Facility, enough: impl Fn(&Value) -> bool) -> Result<Value, String> {
    let gatewayctl = binaries::ours("gatewayctl").map_err(|error| error.to_string())?;
    let end = Instant::now() + PATIENCE;
    let mut last = Value::Null;
    while Instant::now() < end {
        let output = Command::new(&gatewayctl)
            .args(["notes", "--json", "--socket"])
            .arg(facility.gateway.state_directory().join("control.sock"))
            .output()
            .map_err(|error| format!("gatewayctl: {error}"))?;
        last = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        if enough(&last) {
            return Ok(last);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("the store did not fill; at last: {last}"))
}

/// Memory that is the process's own, in KiB: not the page cache, not shared code.
fn anonymous_kib(pid: i32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            line.strip_prefix("Anonymous:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or(0)
}

fn curl(facility: &Facility, jar: &Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--fail",
            "--location",
            "--noproxy",
            "*",
            "--cacert",
        ])
        .arg(facility.city.ca_file())
        .arg("--cookie")
        .arg(jar)
        .arg("--cookie-jar")
        .arg(jar)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("curl: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("curl {arguments:?}: {}", output.status))
    }
}

/// Signs in at the notebook, goes over to the box's own pages, and returns the cookie they gave.
fn console_cookie(facility: &Facility, directory: &Path) -> Result<String, String> {
    let jar = directory.join("reader.cookies");
    let users = facility.city.described()["users"].clone();
    let password = users
        .as_array()
        .into_iter()
        .flatten()
        .find(|user| user["user_id"] == READER)
        .and_then(|user| user["password"].as_str())
        .ok_or("the city knows no such reader")?
        .to_owned();
    let portal = facility.gateway.portal_url();
    curl(
        facility,
        &jar,
        &[
            "--header",
            &format!("Origin: {}", portal.trim_end_matches('/')),
            "--data-urlencode",
            &format!("user_id={READER}"),
            "--data-urlencode",
            &format!("password={password}"),
            &format!("{portal}staff/login"),
        ],
    )?;
    curl(
        facility,
        &jar,
        &[&format!("{portal}.well-known/renraku-gateway/notes")],
    )?;
    // Netscape's format: domain, subdomains, path, secure, expiry, name, value.
    let text = fs::read_to_string(&jar).map_err(|error| error.to_string())?;
    text.lines()
        .map(|line| line.trim_start_matches("#HttpOnly_"))
        .filter(|line| line.starts_with(BOX_HOST))
        .find_map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            Some(format!("{}={}", fields.get(5)?, fields.get(6)?))
        })
        .ok_or_else(|| "the box gave no cookie for its own pages".to_owned())
}

fn pages(facility: &Facility, cookie: &str) -> Result<Vec<Page>, String> {
    let list = page(facility, cookie, "/notes")?;
    let person = String::from_utf8_lossy(&list)
        .split("href=\"")
        .filter_map(|rest| rest.split('"').next())
        .find(|link| link.starts_with("/notes/") && link.contains("q-"))
        .ok_or("no person of the large city on the list")?
        .to_owned();
    let mut pages = Vec::new();
    for (what, path) in [
        ("a person's newest 50".to_owned(), person.as_str()),
        (format!("the list of {PERSONS} persons"), "/notes"),
    ] {
        pages.push(Page {
            row: "store-list",
            title: format!("{what}, {READERS} readers"),
            path: path.to_owned(),
            connections: READERS,
            rate: None,
            goal: "≤ 2 ×",
        });
        pages.push(Page {
            row: "store-list",
            title: format!("{what}, {READERS} readers, each {PAGES_PER_SECOND} a second"),
            path: path.to_owned(),
            connections: READERS,
            rate: Some(PAGES_PER_SECOND),
            goal: "p99 < 5 ms",
        });
    }
    for (kind, word) in SEARCHES {
        pages.push(Page {
            row: "store-search",
            title: format!("search of all notes, a {kind} word, one reader"),
            path: search_path(facility, cookie, word)?,
            connections: 1,
            rate: None,
            goal: "",
        });
    }
    Ok(pages)
}

/// Where the form for searching leads: the words themselves stand in no address.
fn search_path(facility: &Facility, cookie: &str, words: &str) -> Result<String, String> {
    let nowhere = facility.directory().join("no.cookies");
    let console = facility.gateway.console_url();
    let console = console.trim_end_matches('/');
    let end = curl(
        facility,
        &nowhere,
        &[
            "--header",
            &format!("Cookie: {cookie}"),
            "--header",
            &format!("Origin: {console}"),
            "--data-urlencode",
            &format!("q={words}"),
            "--output",
            "/dev/null",
            "--write-out",
            "%{url_effective}",
            &format!("{console}/search"),
        ],
    )?;
    String::from_utf8_lossy(&end)
        .strip_prefix(console)
        .map(str::to_owned)
        .ok_or_else(|| "the search leads nowhere".to_owned())
}

fn page(facility: &Facility, cookie: &str, path: &str) -> Result<Vec<u8>, String> {
    let nowhere = facility.directory().join("no.cookies");
    let console = facility.gateway.console_url();
    curl(
        facility,
        &nowhere,
        &[
            "--header",
            &format!("Cookie: {cookie}"),
            "--header",
            "Accept: text/html",
            &format!("{}{path}", console.trim_end_matches('/')),
        ],
    )
}

/// nginx of Debian 13 with the pages as files.
struct StaticFiles {
    subject: Subject,
    _process: Ended,
}

impl StaticFiles {
    fn start(
        tree: &Tree,
        work: &Path,
        facility: &Facility,
        pages: &[Page],
        cookie: &str,
    ) -> Result<Self, String> {
        let port = ports::free().map_err(|error| error.to_string())?;
        let (folder, inside) = tree.folder("static")?;
        for (number, wanted) in pages.iter().enumerate() {
            let bytes = page(facility, cookie, &wanted.path)?;
            write(&folder.join(format!("{number}.html")), bytes)?;
        }
        let (_, certificates) = tree.folder("certificates")?;
        write(
            &folder.join("nginx.conf"),
            peers::nginx_static(port, &certificates, &inside),
        )?;
        let process = Ended(tree.spawn(
            0,
            &["nginx", "-c", &format!("{inside}/nginx.conf")],
            &work.join("static.log"),
        )?);
        wait_for(port)?;
        let subject = Subject::new("nginx", port, process.pid());
        Ok(Self {
            subject,
            _process: process,
        })
    }
}

/// Both servers in turn, as often as there are rounds.
fn measured(
    page: &Page,
    number: usize,
    [gateway, peer]: [&Subject; 2],
    cookie: &str,
    arguments: &Arguments,
) -> Result<[Vec<Sample>; 2], String> {
    let time = Duration::from_secs(arguments.seconds);
    let file = format!("/{number}.html");
    let cookie = format!("Cookie: {cookie}");
    let mut all = [Vec::new(), Vec::new()];
    for round in 0..arguments.rounds {
        for ((subject, path), samples) in [(gateway, page.path.as_str()), (peer, file.as_str())]
            .into_iter()
            .zip(&mut all)
        {
            let host = format!("Host: {BOX_HOST}:{}", subject.port);
            let sample = cost::under(subject, || match page.rate {
                None => load::wrk_with(
                    subject.port,
                    path,
                    page.connections,
                    time,
                    &[&host, &cookie, "Accept: text/html"],
                ),
                Some(rate) => load::paced(
                    (BOX_HOST, subject.port, path),
                    page.connections,
                    rate,
                    time,
                    &[&cookie, "Accept: text/html"],
                ),
            })?;
            eprintln!(
                "{} round {} {}: {sample}",
                page.title,
                round + 1,
                subject.name
            );
            samples.push(sample);
        }
    }
    Ok(all)
}

fn middle(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> f64 {
    median(samples.iter().map(figure).collect())
}

fn cell(samples: &[Sample]) -> String {
    format!(
        "{:.1} CPU-µs · {:.0}/s · p50 {:.0} / p99 {:.0} µs",
        middle(samples, |sample| sample.cpu_us),
        middle(samples, |sample| sample.per_second),
        middle(samples, |sample| sample.p50_us),
        middle(samples, |sample| sample.p99_us)
    )
}
