//! Where the TPM is and how patient to be; it does not read any file.

use crate::VaultError;
use std::{path::PathBuf, time::Duration};

/// How to open the vault.
#[derive(Debug, Clone)]
pub struct Config {
    /// TCTI string: `device:/dev/tpmrm0`, or `swtpm:host=127.0.0.1,port=2321` for tests and the demo. Nothing else is
    /// accepted, because other spellings silently mean something else (see [`Config::check_tcti`]).
    pub tcti: String,
    /// Accept a TPM that says it is software. Never set in production.
    pub allow_software_tpm: bool,
    /// The box's state directory; the vault keeps `tpm/srk.name` and `tpm/ak.blob` in it.
    pub state_dir: PathBuf,
    /// The longest a signature may take, waiting included.
    pub sign_deadline: Duration,
    /// The longest any other command may take, waiting included. Real TPMs need seconds to create a key.
    pub deadline: Duration,
}

impl Config {
    /// A configuration with the product's deadlines (signing 5 s, all else 20 s) that refuses software TPMs.
    pub fn new(tcti: impl Into<String>, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            tcti: tcti.into(),
            allow_software_tpm: false,
            state_dir: state_dir.into(),
            sign_deadline: Duration::from_secs(5),
            deadline: Duration::from_secs(20),
        }
    }

    /// The same, with software TPMs allowed: for tests and the demo.
    #[must_use]
    pub fn allow_software_tpm(mut self) -> Self {
        self.allow_software_tpm = true;
        self
    }

    /// Checks the TCTI string without touching the TPM, so that a configuration can be refused at its line.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tcti`]. `swtpm:path=…` would silently connect to localhost:2321 and a bare `device` would mean
    /// `/dev/tpm0`, past the kernel's resource manager; both are refused here by name.
    pub fn check_tcti(&self) -> Result<(), VaultError> {
        let refuse = |reason| {
            Err(VaultError::Tcti {
                given: self.tcti.clone(),
                reason,
            })
        };
        if let Some(path) = self.tcti.strip_prefix("device:") {
            return if path.starts_with('/') {
                Ok(())
            } else {
                refuse("name the device, device:/dev/tpmrm0")
            };
        }
        if self.tcti == "device" {
            return refuse(
                "a bare \"device\" means /dev/tpm0, past the resource manager; write device:/dev/tpmrm0",
            );
        }
        let Some(options) = self.tcti.strip_prefix("swtpm:") else {
            return refuse("write device:/dev/tpmrm0 or swtpm:host=ADDRESS,port=PORT");
        };
        let (mut host, mut port) = (None, None);
        for option in options.split(',') {
            match option.split_once('=') {
                Some(("host", value)) if !value.is_empty() && host.is_none() => host = Some(value),
                Some(("port", value)) if port.is_none() => port = value.parse::<u16>().ok(),
                Some(("path", _)) => {
                    return refuse(
                        "Unix socket paths are silently ignored by the TPM library; use host= and port=",
                    );
                }
                _ => return refuse("swtpm takes exactly host=ADDRESS,port=PORT"),
            }
        }
        if host.is_some() && port.is_some() {
            Ok(())
        } else {
            refuse("swtpm takes exactly host=ADDRESS,port=PORT")
        }
    }

    /// A simulator behind a socket is software whatever it says of itself, and has no resource manager.
    pub(crate) fn is_simulator(&self) -> bool {
        !self.tcti.starts_with("device:")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(tcti: &str) -> String {
        Config::new(tcti, "/nowhere")
            .check_tcti()
            .expect_err(tcti)
            .to_string()
    }

    #[test]
    fn the_two_documented_tcti_forms_are_accepted() {
        for tcti in [
            "device:/dev/tpmrm0",
            "swtpm:host=127.0.0.1,port=2321",
            "swtpm:port=2321,host=localhost",
        ] {
            Config::new(tcti, "/nowhere").check_tcti().expect(tcti);
        }
    }

    #[test]
    fn a_unix_path_is_refused_because_the_library_would_ignore_it() {
        assert!(refusal("swtpm:path=/run/swtpm.sock").contains("silently ignored"));
    }

    #[test]
    fn a_bare_device_is_refused_because_it_means_tpm0() {
        assert!(refusal("device").contains("device:/dev/tpmrm0"));
        assert!(refusal("device:").contains("device:/dev/tpmrm0"));
    }

    #[test]
    fn anything_else_is_refused() {
        for tcti in [
            "",
            "swtpm",
            "swtpm:",
            "swtpm:host=127.0.0.1",
            "swtpm:port=99999,host=a",
            "tabrmd",
            "mssim:host=a,port=1",
        ] {
            refusal(tcti);
        }
        refusal("swtpm:host=a,port=1,port=2");
    }
}
