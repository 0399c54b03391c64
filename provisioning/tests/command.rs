//! `gateway-provision` as a person or a script uses it, and the promise that number and code stay nowhere.

mod stage;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use serde_json::json;
use stage::{Letter, Stage};

fn command(stage: &Stage) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway-provision"));
    command
        .arg("--config")
        .arg(stage.config_file())
        .env_remove("RENRAKU_LOG");
    command
}

fn run(stage: &Stage, arguments: &[&str], input: &str) -> Output {
    let mut child = command(stage)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A command that ends before it reads leaves a closed pipe, which is none of the test's business.
    let _ = child
        .stdin
        .take()
        .expect("piped")
        .write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn lines(letter: &Letter) -> String {
    format!("{}\n{}\n", letter.number, letter.code)
}

#[test]
fn the_whole_life_of_a_box_at_the_terminal() {
    let stage = Stage::start();
    let status = run(&stage, &["status"], "");
    assert_eq!(status.status.code(), Some(1));
    assert!(
        said(&status).contains("まだ入っていません"),
        "{}",
        said(&status)
    );
    let letter = stage.letter();
    let wrong = run(
        &stage,
        &["enrol", "--stdin"],
        &lines(&letter.with_wrong_code()),
    );
    assert_eq!(wrong.status.code(), Some(3));
    assert!(
        said(&wrong).contains("P-WRONG") && said(&wrong).contains("あと4回"),
        "{}",
        said(&wrong)
    );
    let done = run(&stage, &["enrol", "--stdin"], &lines(&letter));
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert!(said(&done).contains("準備完了"));
    assert_eq!(run(&stage, &["status"], "").status.code(), Some(0));
    let list = run(&stage, &["list"], "");
    assert!(
        said(&list).contains("TPM内で生成") && said(&list).contains(stage::FACILITY),
        "{}",
        said(&list)
    );
    let renew = run(&stage, &["renew"], "");
    assert!(
        said(&renew).contains("まだ更新の時期ではありません"),
        "{}",
        said(&renew)
    );
    assert!(said(&run(&stage, &["renew", "--now"], "")).contains("更新しました"));
    let again = run(&stage, &["enrol", "--stdin"], &lines(&stage.letter()));
    assert!(said(&again).contains("P-ALREADY"), "{}", said(&again));
    let unsure = run(&stage, &["decommission", "--reason", "leaving"], "no\n");
    assert_eq!(
        unsure.status.code(),
        Some(2),
        "without a terminal there is no confirmation"
    );
    let record = run(
        &stage,
        &["decommission", "--reason", "leaving", "--yes-erase"],
        "",
    );
    assert_eq!(record.status.code(), Some(0), "{}", said(&record));
    assert!(said(&record).contains("返却・廃棄の記録"));
    assert_eq!(run(&stage, &["status"], "").status.code(), Some(1));
}

#[test]
fn number_and_code_are_not_taken_from_the_arguments() {
    let stage = Stage::start();
    let letter = stage.letter();
    let output = run(&stage, &["enrol", &letter.number, &letter.code], "");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_import_asks_for_its_password_and_is_listed_as_imported() {
    let stage = Stage::start();
    let letter = stage.letter();
    let wanted = json!({ "number": letter.number, "code": letter.code, "password": "Hanamizuki" });
    let made = stage.city.control("p12", &wanted).unwrap();
    let path = made["path"].as_str().unwrap();
    let wrong = run(&stage, &["import", path, "--stdin"], "no\n");
    assert_eq!(wrong.status.code(), Some(3), "{}", said(&wrong));
    let done = run(&stage, &["import", path, "--stdin"], "Hanamizuki\n");
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert!(said(&run(&stage, &["list"], "")).contains("取り込み"));
}

#[test]
fn while_another_process_is_at_work_the_command_says_so() {
    let stage = Stage::start();
    let lock = gateway_provisioning::StateLock::acquire(&stage.state_dir()).unwrap();
    let output = run(&stage, &["status"], "");
    assert_eq!(output.status.code(), Some(8));
    assert!(said(&output).contains("作業中"), "{}", said(&output));
    drop(lock);
}

#[test]
fn a_wrong_configuration_is_told_with_its_line() {
    let stage = Stage::start();
    let path = stage.config_file();
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("allow_software", "allow_sofware");
    std::fs::write(&path, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_gateway-provision"))
        .arg("--config")
        .arg(&path)
        .arg("status")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("allow_sofware"), "{}", said(&output));
}

/// The forms in which a secret could have been written down.
fn forms(letter: &Letter) -> Vec<Vec<u8>> {
    let bare = |text: &str| {
        text.chars()
            .filter(char::is_ascii_alphanumeric)
            .collect::<String>()
    };
    let wide = |text: &str| -> String {
        text.chars()
            .map(|c| char::from_u32(u32::from(c) + 0xfee0).expect("full-width ASCII"))
            .collect()
    };
    let (number, code) = (bare(&letter.number), bare(&letter.code));
    let pairs = [
        format!("{number}:{code}"),
        format!("{}:{}", letter.number, letter.code),
    ];
    let mut forms = vec![
        letter.number.clone(),
        letter.code.clone(),
        wide(&number),
        wide(&code),
        number,
        code,
    ];
    forms.extend(
        pairs
            .iter()
            .map(|pair| base64::engine::general_purpose::STANDARD.encode(pair)),
    );
    forms.into_iter().map(String::into_bytes).collect()
}

fn search(what: &str, content: &[u8], forms: &[Vec<u8>]) {
    for form in forms {
        let found = content.windows(form.len()).any(|window| window == form);
        assert!(!found, "{what} holds {}", String::from_utf8_lossy(form));
    }
}

#[test]
fn number_and_code_appear_in_no_log_no_file_and_no_output_even_at_trace_level() {
    let stage = Stage::start();
    // Long and unusual, so that a hit is never chance.
    let letter = stage.letter_with(json!({
        "facility": stage::FACILITY, "number": "7391-8264-5073", "code": "6185-3942-0717",
    }));
    let forms = forms(&letter);
    for attempt in [letter.clone(), letter.with_wrong_code(), letter.clone()] {
        let log = stage.directory.join("trace.log");
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let mut child = command(&stage)
            .args(["enrol", "--stdin"])
            .env("RENRAKU_LOG", "trace")
            .env("RUST_BACKTRACE", "full")
            .stdin(Stdio::piped())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(lines(&attempt).as_bytes())
            .unwrap();
        child.wait().unwrap();
    }
    let log = std::fs::read(stage.directory.join("trace.log")).unwrap();
    assert!(
        log.len() > 10_000,
        "the trace is really there: {} bytes",
        log.len()
    );
    search("the log", &log, &forms);
    let files = stage::files(&stage.state_dir());
    assert!(files.iter().any(|(path, _)| path.ends_with("journal.json")));
    for (path, content) in files {
        search(&path.display().to_string(), &content, &forms);
    }
    // The city keeps only hashes; its log is its own, but it belongs to the same promise.
    let city_log = std::fs::read(stage.city.directory().join("city.log")).unwrap_or_default();
    search("the city's log", &city_log, &forms);
}

#[test]
fn the_process_cannot_be_dumped() {
    let stage = Stage::start();
    let mut child = command(&stage)
        .args(["enrol", "--stdin"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let limits = Path::new("/proc")
        .join(child.id().to_string())
        .join("limits");
    // It waits for its input, with everything that matters done before.
    let refused = test_harness::wait::until(
        "core dumps to be off",
        std::time::Duration::from_secs(5),
        || {
            let text = std::fs::read_to_string(&limits).ok()?;
            let line = text
                .lines()
                .find(|line| line.starts_with("Max core file size"))?
                .to_owned();
            let numbers: Vec<_> = line
                .split_whitespace()
                .filter(|word| word.parse::<u64>().is_ok())
                .collect();
            (numbers == ["0", "0"]).then_some(())
        },
    );
    let _ = child.kill();
    let _ = child.wait();
    refused.unwrap();
}
