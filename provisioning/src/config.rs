//! The tables of the configuration file that provisioning needs; `gatewayd` reads the same file and the same tables.
//!
//! It does not know the daemon's other tables: `gateway-provision` tolerates them, the daemon checks them.

use std::path::{Path, PathBuf};

use gateway_city::Endpoint;
use serde::Deserialize;

/// Table `[tpm]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmTable {
    /// TCTI string, `device:/dev/tpmrm0` on the box.
    pub tcti: String,
    /// Accept a TPM that says it is software. For tests and demonstrations only.
    #[serde(default)]
    pub allow_software: bool,
}

/// Table `[city]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CityTable {
    /// PEM file with the city's trust anchor, shipped with the box.
    pub anchor: PathBuf,
    /// The enrolment server.
    pub est: Endpoint,
    /// The gateway API.
    pub gateway_api: Endpoint,
}

/// Table `[lan]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanTable {
    /// DNS names that the LAN server certificate must carry: the relayed hosts and the box's own console.
    pub names: Vec<String>,
}

/// What provisioning reads from the configuration file.
#[derive(Clone, Debug, Deserialize)]
pub struct ProvisioningConfig {
    /// The box's state directory.
    pub state_dir: PathBuf,
    /// Table `[tpm]`.
    pub tpm: TpmTable,
    /// Table `[city]`.
    pub city: CityTable,
    /// Table `[lan]`.
    pub lan: LanTable,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("could not understand {}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
}

impl ProvisioningConfig {
    /// Reads the tables from a file; tables of the daemon beside them are not looked at.
    ///
    /// # Errors
    /// When the file cannot be read or one of these tables is wrong or missing.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: source.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"
        state_dir = "/var/lib/renraku-gateway"
        [tpm]
        tcti = "device:/dev/tpmrm0"
        [city]
        anchor = "/etc/renraku-gateway/city-anchor.pem"
        est = { host = "est.city.example" }
        gateway_api = { host = "gw.city.example", port = 9443, connect = "127.0.0.1:9443" }
        [lan]
        names = ["renraku.city.example", "box.city.example"]
        [limits]
        connections = 10
    "#;

    #[test]
    fn tables_of_the_daemon_are_tolerated() {
        let config: ProvisioningConfig = toml::from_str(SOUND).expect("sound");
        assert_eq!(config.city.est.port, 443);
        assert!(!config.tpm.allow_software);
    }

    #[test]
    fn an_unknown_key_in_our_own_tables_is_refused() {
        for (table, key) in [
            ("[tpm]", "allow_sofware = true"),
            ("[city]", "anchro = \"x\""),
            ("[lan]", "name = \"x\""),
        ] {
            let text = SOUND.replace(table, &format!("{table}\n{key}"));
            assert!(
                toml::from_str::<ProvisioningConfig>(&text).is_err(),
                "{key}"
            );
        }
    }
}
