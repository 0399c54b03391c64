//! What is out of reach takes no longer, and no shorter, than what does not exist.
//!
//! Not a test of speed: the two are asked for in turn over one connection, so that a busy machine is as busy for the one as for
//! the other, and what is compared is how often the one took longer than the other beside it. That the work behind both is the
//! same is shown where it can be counted, in the store's own tests.

use std::process::Command;

use crate::town::{Person, Thing, Town};

/// Pairs. With so many, chance alone stays within the bounds in all but one of a million runs.
const PAIRS: usize = 300;
/// How often the one may take longer than its neighbour, of a hundred.
const BOUNDS: std::ops::RangeInclusive<usize> = 30..=70;

pub(crate) fn out_of_reach_takes_as_long_as_nothing(who: &Person<'_>, town: &Town) {
    let cookie = format!("Cookie: __Host-box={}", who.session(town, who.user));
    let (hidden, missing) = (&town.things["p-1003"], Thing::missing());
    for path in [
        "/notes/{person}",
        "/notes/{person}/print",
        "/notes/attachment/{attachment}",
    ] {
        let url = |thing: &Thing| {
            who.url(
                &path
                    .replace("{person}", &thing.person)
                    .replace("{attachment}", &thing.attachment),
            )
        };
        let mut urls = Vec::new();
        for pair in 0..PAIRS {
            // Whoever comes first in a pair may be slower for it.
            let (first, second) = if pair % 2 == 0 {
                (hidden, &missing)
            } else {
                (&missing, hidden)
            };
            urls.extend([url(first), url(second)]);
        }
        let times = times(who, town, &cookie, &urls);
        assert_eq!(times.len(), urls.len(), "{path}");
        let mut longer = 0;
        for (pair, both) in times.chunks(2).enumerate() {
            let (of_hidden, of_missing) = if pair % 2 == 0 {
                (both[0], both[1])
            } else {
                (both[1], both[0])
            };
            longer += usize::from(of_hidden > of_missing);
        }
        let share = longer * 100 / PAIRS;
        println_share(path, share);
        assert!(
            BOUNDS.contains(&share),
            "{path}: what is out of reach took longer {share} times of 100"
        );
    }
}

fn println_share(path: &str, share: usize) {
    use std::io::Write as _;
    let _ = writeln!(
        std::io::stderr(),
        "{path}: out of reach took longer {share} times of 100"
    );
}

/// Microseconds from sending to the first byte, over one connection.
fn times(who: &Person<'_>, town: &Town, cookie: &str, urls: &[String]) -> Vec<u64> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--noproxy", "*", "--cacert"])
        .arg(town.facility.city.ca_file())
        .args(["--header", cookie, "--header", "Accept: text/html"])
        .args(["--write-out", "%{time_pretransfer} %{time_starttransfer}\n"]);
    for url in urls {
        curl.args(["--output", "/dev/null"]).arg(url);
    }
    let output = curl.output().unwrap();
    assert!(output.status.success(), "{}", who.user);
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let (sent, first) = line.split_once(' ').unwrap();
            let micros = |text: &str| (text.parse::<f64>().unwrap() * 1e6).round();
            // Whole microseconds of a request: far below what an integer holds.
            format!("{}", micros(first) - micros(sent))
                .parse()
                .unwrap_or(0)
        })
        .collect()
}
