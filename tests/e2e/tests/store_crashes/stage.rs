//! A facility whose state can be put back to the morning of the scripted day, as often as one likes.
//!
//! It does not choose where to die.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gateway_e2e::visiting::Visitor;
use test_harness::crash::CrashPoints;
use test_harness::facility::{Facility, Options};
use test_harness::wait;

use crate::day;
use crate::remains::{self, Needles};

const SOON: Duration = Duration::from_secs(120);

/// The parts that have a state of their own.
const PARTS: [&str; 3] = ["tpm", "city", "gateway"];

/// How one day ended.
pub(crate) struct Outcome {
    /// The box was killed at its point.
    pub(crate) died: bool,
    /// What was wrong afterwards.
    pub(crate) verdict: Result<(), String>,
}

/// See the module.
pub(crate) struct Stage {
    facility: Facility,
    directory: tempfile::TempDir,
    /// The note that the city deletes during the day.
    deleted: String,
    /// What was sealed in the morning, by person.
    morning: BTreeMap<String, Needles>,
}

/// In memory where there is such a place: what a killed process has written stays, and nobody waits for a disk.
fn place() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("renraku-crash-");
        builder
    };
    builder()
        .tempdir_in(memory)
        .or_else(|_| builder().tempdir())
        .unwrap()
}

impl Stage {
    /// Starts a facility, lets it fill its store, stops it and keeps that state.
    pub(crate) fn prepared() -> Self {
        let directory = place();
        let facility =
            Facility::start_in(&directory.path().join("now"), Options::default()).unwrap();
        let deleted = day::prepare(&facility);
        let mut stage = Self {
            facility,
            directory,
            deleted,
            morning: BTreeMap::new(),
        };
        let visitor = stage.signed_in();
        wait::until("the store to be filled", SOON, || {
            let read = day::read_everything(&stage.facility, &visitor)?;
            (1..=9).all(|number| read.contains(&number)).then_some(())
        })
        .unwrap();
        stage.facility.gateway.process().stop();
        stage.end_all();
        stage.copy("now", "morning");
        stage.morning =
            remains::rows_by_person(&stage.part("morning", "gateway").join("state").join(WATCHED));
        assert!(stage.morning.len() >= 3, "{}", stage.morning.len());
        // The search that finds nothing in the evening finds everybody in the morning.
        for (person, rows) in &stage.morning {
            let found = remains::found(&stage.part("morning", "gateway"), rows);
            assert!(found.len() >= rows.len(), "{person}: {found:?}");
        }
        stage
    }

    fn part(&self, when: &str, part: &str) -> PathBuf {
        self.directory.path().join(when).join(part)
    }

    fn state(&self) -> PathBuf {
        self.facility.gateway.state_directory()
    }

    fn end_all(&mut self) {
        self.facility.gateway.process().kill();
        self.facility.city.process().kill();
        self.facility.tpm.kill();
    }

    fn copy(&self, from: &str, to: &str) {
        std::fs::create_dir_all(self.directory.path().join(to)).unwrap();
        for part in PARTS {
            let _ = std::fs::remove_dir_all(self.part(to, part));
            let status = Command::new("cp")
                .arg("-a")
                .arg(self.part(from, part))
                .arg(self.part(to, part))
                .status()
                .unwrap();
            assert!(status.success(), "{part}");
        }
    }

    /// Everything as it was in the morning; TPM and city run, the box does not.
    fn morning(&mut self) {
        self.end_all();
        self.copy("morning", "now");
        self.facility.tpm.restart().unwrap();
        self.facility.city.restart().unwrap();
    }

    fn signed_in(&self) -> Visitor {
        let visitor = Visitor::new(&self.facility, day::READER);
        wait::until("the reader to sign in", SOON, || {
            let page = visitor.sign_in(&self.facility, day::READER);
            page.says("支援対象者").then_some(())
        })
        .unwrap();
        visitor
    }

    /// The points of a whole day.
    pub(crate) fn day_without_a_crash(&mut self) -> Vec<String> {
        self.morning();
        let points = self.watched(0);
        self.facility.gateway.start_again().unwrap();
        self.live_through();
        let visitor = self.signed_in();
        self.level_with_the_city(&visitor).unwrap();
        self.facility.gateway.process().kill();
        points.list()
    }

    /// A day on which the box dies at `at`, is started again, and has to be as if nothing had happened.
    pub(crate) fn day_with_a_crash(&mut self, at: u64) -> Outcome {
        self.morning();
        let points = self.watched(at);
        // Dying while it starts is part of the day.
        let alive = self.facility.gateway.start_again().is_ok();
        self.live_through();
        if alive {
            self.wait_for_death_or_the_end();
        }
        let status = self.facility.gateway.process().kill();
        let died = status.is_some_and(|status| status.signal() == Some(9)) && points.passed() >= at;
        self.facility.gateway.start_through(Vec::new());
        let verdict = self.recovers().map_err(|fault| {
            format!(
                "point {at} ({}): {fault}",
                points.list().last().cloned().unwrap_or_default()
            )
        });
        Outcome { died, verdict }
    }

    fn watched(&mut self, at: u64) -> CrashPoints {
        let points =
            CrashPoints::new(&self.state().join(WATCHED), at, self.directory.path()).unwrap();
        self.facility
            .gateway
            .start_through(points.through().to_vec());
        points
    }

    /// The day as the city lives it, and a reader as long as there is a box.
    fn live_through(&mut self) {
        let visitor = Visitor::new(&self.facility, day::READER);
        let _ = visitor.sign_in(&self.facility, day::READER);
        let _ = visitor.stored(&self.facility.gateway);
        day::happen(&self.facility.city, &self.deleted).unwrap();
        let _ = day::read_everything(&self.facility, &visitor);
        day::end(&self.facility.city).unwrap();
    }

    fn wait_for_death_or_the_end(&mut self) {
        let visitor = Visitor::new(&self.facility, day::READER);
        let end = std::time::Instant::now() + SOON;
        let mut signed_in = false;
        while std::time::Instant::now() < end && self.facility.gateway.process().is_running() {
            if !signed_in {
                signed_in = visitor
                    .sign_in(&self.facility, day::READER)
                    .says("支援対象者");
            } else if day::read_everything(&self.facility, &visitor)
                .is_some_and(|read| read.contains(&day::LAST))
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn level_with_the_city(&self, visitor: &Visitor) -> Result<(), String> {
        let expected = day::readable();
        let mut last = None;
        wait::until("the box to be level with the city", SOON, || {
            let read = day::read_everything(&self.facility, visitor);
            let level = read.as_ref() == Some(&expected);
            last = read;
            level.then_some(())
        })
        .map_err(|error| format!("{error}: {last:?} can be read, {expected:?} should"))
    }

    fn recovers(&mut self) -> Result<(), String> {
        self.facility
            .gateway
            .start_again()
            .map_err(|error| format!("does not start again: {error}"))?;
        let visitor = self.signed_in();
        self.level_with_the_city(&visitor)?;
        // What may not be read must not come back later either, and what was sealed must be gone.
        let words: Needles = day::all()
            .map(|number| (day::word(number), day::word(number).into_bytes()))
            .collect();
        let mut found = remains::found(self.facility.gateway.directory(), &words);
        let now = remains::rows_by_person(&self.state().join(WATCHED));
        if self.morning.keys().all(|person| now.contains_key(person)) {
            return Err("nobody has been purged".to_owned());
        }
        // Whoever was purged or sealed anew has left nothing: the one of whom a note was deleted, and everybody once the store
        // was filled anew. (It is when the box was away while the city forgot; one that lived through the day was not.)
        let touched = |person: &&String| {
            !now.get(*person).is_some_and(|rows| {
                remains::notes_of(&self.morning[*person]).all(|row| rows.contains(row))
            })
        };
        let touched: Vec<&String> = self.morning.keys().filter(touched).collect();
        if touched.len() < 2 {
            return Err("whose note was deleted is sealed as in the morning".to_owned());
        }
        let sealed = touched.into_iter().flat_map(|person| &self.morning[person]);
        let sealed: Needles = sealed.cloned().collect();
        found.extend(remains::found(&self.state(), &sealed));
        if found.is_empty() {
            Ok(())
        } else {
            Err(format!("left on disk: {}", found.join(", ")))
        }
    }
}

/// What is watched, below the state directory: the store.
const WATCHED: &str = "notes";

/// How often each call occurs among the points.
pub(crate) fn kinds(points: &[String]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for line in points {
        let call = line.split(' ').nth(1).unwrap_or_default();
        *kinds.entry(call.to_owned()).or_default() += 1;
    }
    kinds
}
