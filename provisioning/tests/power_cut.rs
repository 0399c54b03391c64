//! The power is cut: after every step, after every durable step of a renewal, and at moments nobody chose. Afterwards
//! the same number and code complete the ceremony, with the same key; the number is not burned.

mod stage;

use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use gateway_provisioning::{Failure, Label, Outcome, Renewal, State, Step, quietly};
use stage::{Stage, enrol, state};

const STEPS: [Step; 8] = [
    Step::CityTrusted,
    Step::KeyStored,
    Step::Answered,
    Step::CertificateStored,
    Step::TrialPassed,
    Step::Switched,
    Step::LanAnswered,
    Step::LanStored,
];

/// Not a test by itself: the process whose power is cut. It aborts at the step that its environment names.
#[tokio::test]
async fn child_that_dies_at_a_step() {
    let Ok(at) = std::env::var("CUT_AT") else {
        return;
    };
    let text = |name: &str| std::env::var(name).expect(name);
    let config =
        gateway_provisioning::ProvisioningConfig::load(text("CUT_CONFIG").as_ref()).unwrap();
    let provisioner = stage::open(config).unwrap();
    let letter = stage::Letter {
        number: text("CUT_NUMBER"),
        code: text("CUT_CODE"),
    };
    let (number, code) = letter.entry();
    let progress = move |step: Step| {
        if format!("{step:?}") == at {
            std::process::abort();
        }
        ControlFlow::Continue(())
    };
    let _ = provisioner
        .enrol(&Label::main(), number, code, &progress)
        .await;
}

#[tokio::test]
async fn a_power_cut_after_any_step_neither_burns_the_number_nor_loses_the_certificate() {
    let stage = Stage::start();
    for step in STEPS {
        let _ = std::fs::remove_dir_all(stage.state_dir().join("provisioning"));
        let letter = stage.letter();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_dies_at_a_step"])
            .env("CUT_AT", format!("{step:?}"))
            .env("CUT_CONFIG", stage.config_file())
            .env("CUT_NUMBER", &letter.number)
            .env("CUT_CODE", &letter.code)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(
            status.signal(),
            Some(nix::libc::SIGABRT),
            "{step:?}: {status}"
        );
        let provisioner = stage.provisioner();
        let found = state(&provisioner).await;
        let key = pending_key(&stage);
        let outcome = if found.resumes_by_itself() {
            provisioner
                .resume(&Label::main(), &quietly)
                .await
                .map_err(|error| stage::explained(&error))
        } else if found == State::Provisioned {
            Ok(Outcome::Provisioned)
        } else {
            enrol(&provisioner, &letter).await
        };
        assert!(
            matches!(outcome, Ok(Outcome::Provisioned)),
            "{step:?} left {found:?}: {outcome:?}"
        );
        let identity = provisioner.identities().await.unwrap().remove(0);
        if let Some(key) = key {
            assert_eq!(
                identity.key.to_pem(),
                key,
                "{step:?}: the key of before the cut is the key in use"
            );
        }
        assert!(
            provisioner.lan_identity().await.unwrap().is_some(),
            "{step:?}"
        );
        println!("{step:?}: found {found:?}, completed");
    }
}

/// The PEM of the one key on disk, when there is exactly one.
fn pending_key(stage: &Stage) -> Option<String> {
    let folder = stage.state_dir().join("provisioning/main");
    let keys: Vec<_> = ["slot-a.pem", "slot-b.pem"]
        .iter()
        .filter_map(|name| std::fs::read_to_string(folder.join(name)).ok())
        .collect();
    if let [key] = keys.as_slice() {
        Some(key.clone())
    } else {
        None
    }
}

fn start_enrolment(config: &Path, letter: &stage::Letter) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gateway-provision"))
        .arg("--config")
        .arg(config)
        .args(["enrol", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("piped");
    writeln!(stdin, "{}\n{}", letter.number, letter.code).expect("it reads");
    child
}

#[tokio::test]
async fn killed_at_moments_nobody_chose_the_ceremony_still_completes() {
    const MOMENTS: u32 = 40;
    let stage = Stage::start();
    let config = stage.config_file();
    let begun = Instant::now();
    assert!(
        start_enrolment(&config, &stage.letter())
            .wait()
            .unwrap()
            .success()
    );
    let whole = begun.elapsed();
    let mut found_states = Vec::new();
    for moment in 0..MOMENTS {
        std::fs::remove_dir_all(stage.state_dir().join("provisioning")).unwrap();
        let letter = stage.letter();
        let mut child = start_enrolment(&config, &letter);
        tokio::time::sleep(whole * moment / MOMENTS).await;
        // It may have been quicker this time.
        let _ = child.kill();
        let _ = child.wait().unwrap();
        let provisioner = stage.provisioner();
        let found = state(&provisioner).await;
        let outcome = match found {
            State::Provisioned => Ok(Outcome::Provisioned),
            _ if found.resumes_by_itself() => provisioner
                .resume(&Label::main(), &quietly)
                .await
                .map_err(|error| stage::explained(&error)),
            _ => enrol(&provisioner, &letter).await,
        };
        assert!(
            matches!(outcome, Ok(Outcome::Provisioned)),
            "at moment {moment}: {found:?}: {outcome:?}"
        );
        found_states.push(found);
    }
    found_states.dedup();
    println!("{whole:?} in {MOMENTS} moments found {found_states:?}");
    assert!(
        found_states.len() > 2,
        "the kills hit different states: {found_states:?}"
    );
}

#[tokio::test]
async fn a_tpm_that_lost_power_too_still_has_the_key() {
    let mut stage = Stage::start();
    let letter = stage.letter();
    let provisioner = stage.provisioner();
    let stop = |step| {
        if step == Step::Answered {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let (number, code) = letter.entry();
    let error = provisioner
        .enrol(&Label::main(), number, code, &stop)
        .await
        .unwrap_err();
    assert_eq!(error.failure(), &Failure::Interrupted);
    drop(provisioner);
    stage.tpm.restart().unwrap();
    stage.city.restart().unwrap();
    let provisioner = stage.provisioner();
    assert!(matches!(
        enrol(&provisioner, &letter).await,
        Ok(Outcome::Provisioned)
    ));
}

#[tokio::test]
async fn a_renewal_cut_after_any_step_ends_with_one_certificate_in_use() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    enrol(&provisioner, &stage.letter()).await.unwrap();
    for cut in [
        Step::KeyStored,
        Step::Answered,
        Step::CertificateStored,
        Step::TrialPassed,
        Step::Switched,
    ] {
        let before = stage::serial(&provisioner).await;
        let stop = move |step| {
            if step == cut {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        provisioner.renew_now(&stop).await.unwrap();
        let found = state(&provisioner).await;
        assert!(
            found.is_usable(),
            "{cut:?} left {found:?}: there is always one certificate in use"
        );
        if cut < Step::Switched {
            assert_eq!(found, State::Renewing);
            assert_eq!(
                stage::serial(&provisioner).await,
                before,
                "the old one, until the new one was accepted"
            );
            let renewals = provisioner.renew_if_due(&quietly).await.unwrap();
            assert!(
                matches!(renewals.certificates[0].1, Renewal::Renewed),
                "{cut:?}: {:?}",
                renewals.certificates
            );
        }
        assert_eq!(state(&provisioner).await, State::Provisioned);
        assert_ne!(stage::serial(&provisioner).await, before);
        let folder = stage.state_dir().join("provisioning/main");
        assert!(
            pending_key(&stage).is_some(),
            "the old key is deleted: {:?}",
            std::fs::read_dir(folder).unwrap().collect::<Vec<_>>()
        );
    }
}
