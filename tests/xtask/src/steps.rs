//! Runs commands, one after another or in lanes, each step with a line on the terminal, its time, and its output kept in a file.
//!
//! It does not know what the commands check.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use test_harness::error::tail;

use crate::lanes::{self, Job};

/// What has passed and failed so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Tally {
    fn add(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed += more.failed;
    }
}

/// A run of steps.
#[derive(Debug)]
pub(crate) struct Run {
    directory: PathBuf,
    tally: Tally,
    skipped: Vec<String>,
    failures: Vec<String>,
}

impl Run {
    /// Keeps each step's output below `directory`.
    pub(crate) fn new(directory: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
            tally: Tally::default(),
            skipped: Vec::new(),
            failures: Vec::new(),
        })
    }

    /// Runs one command. Where its output holds test results, those are counted; otherwise the step counts as one.
    pub(crate) fn step(
        &mut self,
        name: &str,
        mut command: impl std::borrow::BorrowMut<Command>,
    ) -> bool {
        print!("{name:<34} ");
        let _ = std::io::stdout().flush();
        let start = Instant::now();
        let file = self.file(name);
        let success = run_into(command.borrow_mut(), &file);
        let output = std::fs::read_to_string(&file).unwrap_or_default();
        let counted = count(&output, success);
        self.take(name, start, counted, success);
        if !success {
            explain(&output, &file);
        }
        success
    }

    /// Runs programs of tests two at a time, the first of the list first; one step, and one file of output for each program.
    ///
    /// No program at all is a failure: then they were not found, and nothing would be tested.
    pub(crate) fn in_lanes(&mut self, name: &str, jobs: Vec<Job>) -> bool {
        print!("{name:<34} ");
        let _ = std::io::stdout().flush();
        let start = Instant::now();
        let file = self.file(name);
        let folder = file.with_extension("");
        let _ = std::fs::create_dir_all(&folder);
        let are_there = !jobs.is_empty();
        let ended = lanes::run(jobs, &folder);
        let mut sum = Tally::default();
        let mut times = String::new();
        let mut failed = Vec::new();
        for program in &ended {
            let output = std::fs::read_to_string(&program.log).unwrap_or_default();
            sum.add(count(&output, program.success));
            let word = if program.success { "ok    " } else { "FAILED" };
            times.push_str(&format!(
                "{word} {:7.1} s  {}\n",
                program.seconds, program.name
            ));
            if !program.success {
                failed.push((output, &program.log));
            }
        }
        let _ = std::fs::write(&file, times);
        let success = are_there && failed.is_empty();
        self.take(name, start, sum, success);
        for (output, log) in &failed {
            explain(output, log);
        }
        success
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory
            .join(format!("{}.log", name.replace([' ', '/'], "-")))
    }

    /// The output of a step that ran.
    pub(crate) fn output(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    fn take(&mut self, name: &str, start: Instant, counted: Tally, success: bool) {
        self.tally.add(counted);
        let seconds = start.elapsed().as_secs_f32();
        let word = if success { "ok    " } else { "FAILED" };
        println!("{word}  {seconds:6.1} s   {}", summary(counted));
        if !success {
            self.failures.push(name.to_owned());
        }
    }

    /// Says plainly that a step does not run, and why.
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        println!("{name:<34} skipped: {why}");
        self.skipped.push(name.to_owned());
    }

    /// Prints the closing lines and gives whether everything passed.
    pub(crate) fn close(&self) -> bool {
        println!();
        if !self.skipped.is_empty() {
            println!("skipped: {}", self.skipped.join(", "));
        }
        if !self.failures.is_empty() {
            println!("failed: {}", self.failures.join(", "));
        }
        println!("{} passed, {} failed", self.tally.passed, self.tally.failed);
        self.tally.failed == 0 && self.failures.is_empty()
    }
}

/// What a person needs of a failed command's output.
fn explain(output: &str, file: &Path) {
    println!(
        "{}\n    (all of it: {})",
        indent(&interesting(output)),
        file.display()
    );
}

/// Runs a command with its output in `file`, and gives whether it succeeded.
pub(crate) fn run_into(command: &mut Command, file: &Path) -> bool {
    let files = File::create(file).and_then(|out| Ok((out.try_clone()?, out)));
    let Ok((out, err)) = files else { return false };
    match command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .status()
    {
        Ok(status) => status.success(),
        Err(error) => {
            let _ = std::fs::write(file, format!("{command:?} cannot be started: {error}\n"));
            false
        }
    }
}

/// Sums every `test result:` line; a step that failed without naming a failed test (it did not compile) counts as one.
fn count(output: &str, success: bool) -> Tally {
    let mut tally = Tally::default();
    let mut has_results = false;
    for line in output
        .lines()
        .filter(|line| line.starts_with("test result:"))
    {
        has_results = true;
        tally.passed += number_before(line, "passed");
        tally.failed += number_before(line, "failed");
    }
    if !has_results && success {
        tally.passed = 1;
    }
    if !success && tally.failed == 0 {
        tally.failed = 1;
    }
    tally
}

fn number_before(line: &str, word: &str) -> usize {
    let words: Vec<&str> = line
        .split([' ', ';'])
        .filter(|part| !part.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

fn summary(tally: Tally) -> String {
    match tally {
        Tally {
            passed: 0 | 1,
            failed: 0 | 1,
        } => String::new(),
        Tally { passed, failed: 0 } => format!("{passed} tests"),
        Tally { passed, failed } => format!("{passed} passed, {failed} failed"),
    }
}

/// The part of a failed step's output that a person needs: from the first failure report on, or the end.
fn interesting(output: &str) -> String {
    let failures: Vec<&str> = output.split("\nfailures:\n").skip(1).step_by(2).collect();
    if failures.is_empty() {
        tail(output, 60)
    } else {
        tail(&failures.join("\n"), 120)
    }
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| format!("    | {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_test_binaries_are_summed() {
        let output = "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured\nnoise\n\
                      test result: FAILED. 3 passed; 2 failed; 0 ignored\n";
        assert_eq!(
            count(output, false),
            Tally {
                passed: 15,
                failed: 2
            }
        );
    }

    #[test]
    fn a_step_that_does_not_compile_counts_as_one_failure() {
        assert_eq!(
            count("error[E0308]: mismatched types", false),
            Tally {
                passed: 0,
                failed: 1
            }
        );
    }

    #[test]
    fn a_step_without_tests_counts_as_one() {
        assert_eq!(
            count("", true),
            Tally {
                passed: 1,
                failed: 0
            }
        );
    }

    #[test]
    fn a_crate_without_tests_adds_nothing() {
        let output = "test result: ok. 0 passed; 0 failed; 0 ignored";
        assert_eq!(
            count(output, true),
            Tally {
                passed: 0,
                failed: 0
            }
        );
    }

    #[test]
    fn a_step_without_a_program_fails() {
        let directory = tempfile::tempdir().unwrap();
        let mut run = Run::new(directory.path()).unwrap();
        assert!(!run.in_lanes("nothing", Vec::new()));
        assert!(!run.close());
    }
}
