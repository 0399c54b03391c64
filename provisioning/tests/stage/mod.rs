//! A box to provision: a real software TPM, a real reference city, a state directory of its own.
#![allow(
    dead_code,
    clippy::print_stdout,
    reason = "each test file uses its own part of the stage; what it prints is shown when a test fails"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway_city::{Endpoint, Timeouts};
use gateway_provisioning::{
    AccessCode, CertificateNumber, CityTable, Failure, Label, LanTable, Outcome, Patience,
    Provisioner, ProvisioningConfig, ProvisioningError, State, StateLock, TpmTable, open_vault,
    quietly,
};
use serde_json::json;
use test_harness::city::{self, BOX_HOST, City, EST_HOST, GATEWAY_HOST, PORTAL_HOST};
use test_harness::swtpm::Swtpm;

/// Facility of the seeded city that most tests play.
pub(crate) const FACILITY: &str = "tkh-1001";

/// A number with its code, as on the letter.
#[derive(Clone)]
pub(crate) struct Letter {
    pub(crate) number: String,
    pub(crate) code: String,
}

impl Letter {
    pub(crate) fn entry(&self) -> (CertificateNumber, AccessCode) {
        let number = CertificateNumber::parse(self.number.clone())
            .expect("the city's numbers are well-formed");
        let code = AccessCode::parse(self.code.clone()).expect("so are its codes");
        (number, code)
    }

    pub(crate) fn with_wrong_code(&self) -> Self {
        Self {
            number: self.number.clone(),
            code: "00000000".into(),
        }
    }
}

pub(crate) struct Stage {
    pub(crate) tpm: Swtpm,
    pub(crate) city: City,
    pub(crate) directory: PathBuf,
    _temporary: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn start() -> Self {
        Self::start_with(city::Options::default())
    }

    pub(crate) fn start_with(options: city::Options) -> Self {
        let temporary = tempfile::Builder::new()
            .prefix("renraku-provisioning-")
            .tempdir()
            .expect("a directory");
        let directory = temporary.path().to_owned();
        let tpm = Swtpm::start(&directory.join("swtpm")).expect("swtpm starts");
        let city = City::start(&directory.join("city"), options).expect("the city starts");
        Self {
            tpm,
            city,
            directory,
            _temporary: temporary,
        }
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.directory.join("state")
    }

    pub(crate) fn endpoint(&self, host: &str) -> Endpoint {
        let connect = Some(([127, 0, 0, 1], self.city.port()).into());
        Endpoint {
            host: host.to_owned(),
            port: self.city.port(),
            connect,
        }
    }

    pub(crate) fn config(&self) -> ProvisioningConfig {
        ProvisioningConfig {
            state_dir: self.state_dir(),
            tpm: TpmTable {
                tcti: self.tpm.tcti(),
                allow_software: true,
            },
            city: CityTable {
                anchor: self.city.ca_file(),
                est: self.endpoint(EST_HOST),
                gateway_api: self.endpoint(GATEWAY_HOST),
            },
            lan: LanTable {
                names: vec![PORTAL_HOST.into(), BOX_HOST.into()],
            },
        }
    }

    /// The same configuration as a file, for `gateway-provision`.
    pub(crate) fn config_file(&self) -> PathBuf {
        let path = self.directory.join("gateway.toml");
        let port = self.city.port();
        let endpoint = |host| {
            format!("{{ host = \"{host}\", port = {port}, connect = \"127.0.0.1:{port}\" }}")
        };
        let text = format!(
            "state_dir = \"{}\"\n[tpm]\ntcti = \"{}\"\nallow_software = true\n[city]\nanchor = \"{}\"\nest = {}\n\
             gateway_api = {}\n[lan]\nnames = [\"{PORTAL_HOST}\", \"{BOX_HOST}\"]\n[limits]\nof_the_daemon = true\n",
            self.state_dir().display(),
            self.tpm.tcti(),
            self.city.ca_file().display(),
            endpoint(EST_HOST),
            endpoint(GATEWAY_HOST),
        );
        std::fs::write(&path, text).expect("written");
        path
    }

    pub(crate) fn provisioner(&self) -> Provisioner {
        self.provisioner_of(self.config())
    }

    pub(crate) fn provisioner_of(&self, config: ProvisioningConfig) -> Provisioner {
        open(config).expect("the box starts")
    }

    pub(crate) fn letter(&self) -> Letter {
        self.letter_with(json!({ "facility": FACILITY }))
    }

    pub(crate) fn letter_with(&self, what: serde_json::Value) -> Letter {
        let made = self
            .city
            .control("number", &what)
            .expect("the city makes a number");
        let text = |key: &str| made[key].as_str().expect("a text").to_owned();
        Letter {
            number: text("number"),
            code: text("code"),
        }
    }
}

pub(crate) fn open(config: ProvisioningConfig) -> Result<Provisioner, ProvisioningError> {
    let lock = Arc::new(StateLock::acquire(&config.state_dir)?);
    let vault = open_vault(&config)?;
    Ok(Provisioner::new(config, vault, lock)?.with_patience(impatient()))
}

pub(crate) fn impatient() -> Patience {
    let short = Duration::from_secs(3);
    Patience {
        timeouts: Timeouts {
            connect: short,
            handshake: Duration::from_secs(20),
            response: short,
            idle: short,
        },
        approval: Duration::ZERO,
    }
}

pub(crate) async fn enrol(provisioner: &Provisioner, letter: &Letter) -> Result<Outcome, Failure> {
    enrol_as(provisioner, &Label::main(), letter).await
}

pub(crate) async fn enrol_as(
    provisioner: &Provisioner,
    label: &Label,
    letter: &Letter,
) -> Result<Outcome, Failure> {
    let (number, code) = letter.entry();
    provisioner
        .enrol(label, number, code, &quietly)
        .await
        .map_err(|error| explained(&error))
}

/// The failure, after showing the whole chain in the test's output.
pub(crate) fn explained(error: &ProvisioningError) -> Failure {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        println!("  because: {error}");
        source = error.source();
    }
    println!("  {}", error.failure().line_ja());
    error.failure().clone()
}

pub(crate) async fn state(provisioner: &Provisioner) -> State {
    state_of(provisioner, &Label::main()).await
}

pub(crate) async fn state_of(provisioner: &Provisioner, label: &Label) -> State {
    let status = provisioner.status().await.expect("the state can be read");
    status
        .certificates
        .into_iter()
        .find(|certificate| certificate.label == *label)
        .map_or(State::Unprovisioned, |certificate| certificate.state)
}

pub(crate) async fn serial(provisioner: &Provisioner) -> String {
    provisioner
        .identities()
        .await
        .expect("readable")
        .first()
        .expect("one")
        .serial
        .clone()
}

/// Every file below `directory` with its content.
pub(crate) fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Ok(content) = std::fs::read(&path) {
            found.push((path, content));
        }
    }
    found
}
