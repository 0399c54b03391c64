//! A whole facility on this machine: TPM, city, virus scanner and gateway, provisioned through the box's setup page.
//!
//! It does not know what is tested with it.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::city::{self, City};
use crate::clamd::Clamd;
use crate::gatewayd::{self, Gatewayd, Site};
use crate::signatures::{self, Signatures};
use crate::swtpm::Swtpm;
use crate::{Error, Result, WallClock, setup};

/// How to start a facility.
#[derive(Clone, Debug)]
pub struct Options {
    /// Type the city's first certificate number and access code into the setup page.
    pub provision: bool,
    /// The box's TLS port; a free one when absent.
    pub https_port: Option<u16>,
    /// The box's port for clear HTTP; a free one when absent.
    pub http_port: Option<u16>,
    /// The city.
    pub city: city::Options,
    /// Scan with the official signatures in this directory instead of the small test database.
    pub signatures: Option<PathBuf>,
    /// Refuse devices that are not registered, once one is.
    pub refuse_unknown_devices: bool,
    /// Sites that the box relays beside the city's portal.
    pub more_sites: Vec<Site>,
    /// Lines put at the end of the box's configuration.
    pub more_configuration: String,
    /// A program, with arguments, that starts gatewayd; see [`gatewayd::Options::through`].
    pub through: Vec<String>,
    /// The clock that the box sees, and the city too unless it has been given one of its own; the true one when absent.
    pub clock: Option<WallClock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            provision: true,
            https_port: None,
            http_port: None,
            city: city::Options::default(),
            signatures: None,
            refuse_unknown_devices: false,
            more_sites: Vec::new(),
            more_configuration: String::new(),
            through: Vec::new(),
            clock: None,
        }
    }
}

/// A running facility. Fields end in this order: the gateway first, what it depends on after it.
#[derive(Debug)]
pub struct Facility {
    /// The box's daemon.
    pub gateway: Gatewayd,
    /// The virus scanner.
    pub clamd: Clamd,
    /// The city.
    pub city: City,
    /// The TPM.
    pub tpm: Swtpm,
    directory: PathBuf,
    _temporary: Option<TempDir>,
}

impl Facility {
    /// Starts a facility whose state ends with it.
    ///
    /// # Errors
    /// When a part does not start, or provisioning does not succeed; the error says which and why.
    pub fn start(options: Options) -> Result<Self> {
        let temporary = tempfile::Builder::new()
            .prefix("renraku-facility-")
            .tempdir()
            .map_err(|error| {
                Error::new("a directory for the facility cannot be made").because(error)
            })?;
        let mut facility = Self::start_in(temporary.path(), options)?;
        facility._temporary = Some(temporary);
        Ok(facility)
    }

    /// Starts a facility whose state lives below `directory`.
    ///
    /// # Errors
    /// As [`Facility::start`].
    pub fn start_in(directory: &Path, options: Options) -> Result<Self> {
        let tpm = Swtpm::start(&directory.join("tpm"))?;
        let city = city::Options {
            clock: options.city.clock.or_else(|| options.clock.clone()),
            ..options.city
        };
        let city = City::start(&directory.join("city"), city)?;
        let signatures = match &options.signatures {
            Some(from) => Signatures::official(from).map_err(|error| {
                Error::new(format!("{} cannot be used", from.display())).because(error)
            })?,
            None => Signatures::built(signatures::now()),
        };
        let clamd = Clamd::start_of(&directory.join("clamd"), &signatures, "")?;
        let box_options = gatewayd::Options {
            tcti: tpm.tcti(),
            anchor: city.ca_file(),
            city_port: city.port(),
            clamd: clamd.socket(),
            https_port: options.https_port,
            http_port: options.http_port,
            refuse_unknown_devices: options.refuse_unknown_devices,
            more_sites: options.more_sites,
            more: options.more_configuration,
            through: options.through,
            clock: options.clock,
        };
        let gateway = Gatewayd::start(&directory.join("gateway"), &box_options)?;
        let facility = Self {
            gateway,
            clamd,
            city,
            tpm,
            directory: directory.to_owned(),
            _temporary: None,
        };
        if options.provision {
            let (number, code) = (
                facility.city.text("certificate_number"),
                facility.city.text("access_code"),
            );
            setup::provision(&facility.gateway, number, code)?;
        }
        Ok(facility)
    }

    /// Where everything keeps its state and its output.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
