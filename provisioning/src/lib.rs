//! In construction.
mod config;
pub use config::{CityTable, ConfigError, LanTable, ProvisioningConfig, TpmTable};
