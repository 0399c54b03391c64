//! The configuration file: one commented TOML, read once, every fault reported together with its key and line.
//!
//! It holds no secret. The tables `[tpm]`, `[city]` and `[lan]` belong to provisioning and mean the same to
//! `gateway-provision`. The city's signed policy (a later part) tightens what is said here.

pub(crate) mod faults;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_policy::Machine;
use gateway_provisioning::{CityTable, LanTable, TpmTable};
use serde::Deserialize;

pub(crate) use faults::Fault;

/// Everything the daemon is told from outside.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where the box keeps its state, `/var/lib/renraku-gateway`.
    pub(crate) state_dir: PathBuf,
    /// Addresses for starting without systemd's sockets.
    pub(crate) listen: Listen,
    /// Which TPM.
    pub(crate) tpm: TpmTable,
    /// Where the city is and which authority it is trusted by.
    pub(crate) city: CityTable,
    /// How the box is called on the LAN.
    pub(crate) lan: LanTable,
    /// The relayed sites.
    pub(crate) sites: Vec<Site>,
    /// The virus scanner.
    pub(crate) antivirus: crate::antivirus::Table,
    /// The facility's PCs and tablets.
    pub(crate) devices: Devices,
    /// The city's signed releases, policy and antivirus databases.
    pub(crate) signed_channel: crate::signed_channel::Table,
    /// How the box is measured.
    pub(crate) posture: PostureTable,
    /// The audit log.
    pub(crate) audit: crate::record_keeping::Table,
    /// Bounds of the store of recent notes.
    pub(crate) store: Store,
    /// Bounds of the data path.
    pub(crate) limits: Limits,
    /// Who answers questions.
    pub(crate) support: Support,
}

/// Table `[support]`: who answers the facility's questions (第12条). Texts are data; no city is built in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Support {
    /// The office, as pages name it.
    pub(crate) office: String,
    /// Its telephone number, with extensions.
    pub(crate) phone: String,
}

/// Table `[listen]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listen {
    /// Where TLS is served.
    pub(crate) https: Vec<SocketAddr>,
    /// Where clear HTTP is served: redirect, PAC file, CONNECT to the city's hosts.
    pub(crate) http: Vec<SocketAddr>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            https: vec![SocketAddr::from(([0_u16; 8], 443))],
            http: vec![SocketAddr::from(([0_u16; 8], 80))],
        }
    }
}

/// Table `[[site]]`: one set of host names relayed to one upstream.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Site {
    /// Host names as browsers write them, without port.
    pub(crate) hosts: Vec<String>,
    /// The upstream's port.
    #[serde(default = "https_port")]
    pub(crate) port: u16,
    /// Dial here instead of asking the DNS for the first host name.
    pub(crate) connect: Option<SocketAddr>,
    /// PEM file with the authorities of a site that is not the city's. Such a site is never shown the facility
    /// certificate, and nothing it says of staff is believed. Absent: the site is the city's.
    pub(crate) anchor: Option<PathBuf>,
    /// Paths open to everybody whatever the verdict (第17条), each with everything below it; `/` is the root page alone.
    #[serde(default)]
    pub(crate) public_paths: Vec<String>,
    /// `auto` (ALPN), `http1` or `http2`.
    #[serde(default)]
    pub(crate) protocol: Protocol,
}

const fn https_port() -> u16 {
    443
}

/// Which HTTP is spoken to an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// What the upstream chooses by ALPN.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// Table `[devices]`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Devices {
    /// What unknown devices get: `refuse` (public portal and pairing page only, 第29条) or, while they are being
    /// registered, `warn`.
    pub(crate) unknown: UnknownDevice,
}

/// Table `[posture]`: how the box is measured.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PostureTable {
    /// Our image: what cannot be found out about it counts against it. `false` on a demonstration or a developer's PC.
    pub(crate) appliance: bool,
    /// Where `proc`, `sys`, `etc` and `usr` are; other than `/` only in tests.
    pub(crate) root: PathBuf,
}

impl Default for PostureTable {
    fn default() -> Self {
        Self {
            appliance: true,
            root: PathBuf::from("/"),
        }
    }
}

impl PostureTable {
    /// The same in the policy's words.
    pub(crate) const fn machine(&self) -> Machine {
        if self.appliance {
            Machine::Appliance
        } else {
            Machine::Other
        }
    }
}

/// What unknown devices get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnknownDevice {
    /// The public portal and the box's own pages.
    #[default]
    Refuse,
    /// Everything, with a warning.
    Warn,
}

/// Table `[store]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Store {
    /// Notes older than this are forgotten.
    pub(crate) days: u32,
    /// The most notes that are kept.
    pub(crate) notes: u32,
    /// The most bytes that are kept, attachments among them.
    pub(crate) bytes: u64,
    /// Whether attachments are kept.
    pub(crate) attachments: bool,
    /// The largest attachment that is kept, in bytes.
    pub(crate) attachment_bytes: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            days: 30,
            notes: 100_000,
            bytes: 1 << 30,
            attachments: true,
            attachment_bytes: 25 << 20,
        }
    }
}

/// Table `[limits]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Data threads; 0 means one for each processor.
    pub(crate) workers: usize,
    /// Connections at one time, all clients together.
    pub(crate) connections: usize,
    /// Connections at one time from one address.
    pub(crate) connections_per_client: usize,
    /// Seconds an upstream may take to the first byte of its answer.
    pub(crate) answer_seconds: u64,
    /// Seconds a connection may stay idle.
    pub(crate) idle_seconds: u64,
    /// Seconds open requests get to finish when the box is told to stop.
    pub(crate) drain_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: 0,
            connections: 4096,
            connections_per_client: 256,
            answer_seconds: 60,
            idle_seconds: 75,
            drain_seconds: 20,
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// It says things that cannot be; all of them.
    #[error("{} faults in the configuration", .0.len())]
    Faults(Vec<Fault>),
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`ConfigError`]; with faults, all of them.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read(path.to_owned(), error))?;
        Self::parse(&text).map_err(ConfigError::Faults)
    }

    /// Reads and checks the text of a configuration file.
    ///
    /// # Errors
    /// Every fault in it.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let mut document = faults::Document::parse(text);
        let state_dir = document.value("state_dir");
        let listen = document.table("listen");
        let tpm = document.table("tpm");
        let city = document.table("city");
        let lan = document.table("lan");
        let sites: Vec<Site> = document.tables("site");
        let one_is_faulty = document
            .faults
            .iter()
            .any(|fault| fault.key.starts_with("site"));
        if sites.is_empty() && !one_is_faulty {
            document.note("site", "at least one [[site]] must be relayed");
        }
        let antivirus = document.table("antivirus");
        let devices = document.table("devices");
        let signed_channel = document.table("signed_channel");
        let posture = document.table("posture");
        let audit = document.table("audit");
        check_audit(&mut document, audit.as_ref());
        let store = document.table("store");
        let limits = document.table("limits");
        let support = document.table("support");
        check(
            &mut document,
            listen.as_ref(),
            &sites,
            antivirus.as_ref(),
            limits.as_ref(),
        );
        check_signed_channel(&mut document, signed_channel.as_ref());
        check_names(&mut document, lan.as_ref(), &sites);
        let faults = document.finish();
        match (
            state_dir,
            listen,
            tpm,
            city,
            lan,
            antivirus,
            devices,
            signed_channel,
            posture,
            audit,
            store,
            limits,
            support,
        ) {
            (
                Some(state_dir),
                Some(listen),
                Some(tpm),
                Some(city),
                Some(lan),
                Some(antivirus),
                Some(devices),
                Some(signed_channel),
                Some(posture),
                Some(audit),
                Some(store),
                Some(limits),
                Some(support),
            ) if faults.is_empty() => Ok(Self {
                state_dir,
                listen,
                tpm,
                city,
                lan,
                sites,
                antivirus,
                devices,
                signed_channel,
                posture,
                audit,
                store,
                limits,
                support,
            }),
            _ => Err(faults),
        }
    }

    /// The box's own names: those of the LAN certificate that no site relays.
    #[must_use]
    pub(crate) fn console_names(&self) -> Vec<String> {
        own_names(&self.lan, &self.sites)
            .map(str::to_owned)
            .collect()
    }

    /// What the console is told.
    #[must_use]
    pub(crate) fn console(&self) -> gateway_console::Config {
        let first = |names: Option<&String>| names.cloned().unwrap_or_default();
        gateway_console::Config {
            console_host: first(self.console_names().first()),
            notebook_host: first(self.sites.first().and_then(|site| site.hosts.first())),
            support_office: self.support.office.clone(),
            support_phone: self.support.phone.clone(),
        }
    }

    /// Bounds of the data path: what may be configured, and the built-in rest.
    #[must_use]
    pub(crate) fn proxy_limits(&self) -> gateway_proxy::Limits {
        gateway_proxy::Limits {
            connections: self.limits.connections,
            connections_per_client: self.limits.connections_per_client,
            first_byte: Duration::from_secs(self.limits.answer_seconds),
            keep_alive: Duration::from_secs(self.limits.idle_seconds),
            ..gateway_proxy::Limits::default()
        }
    }

    /// The gate, with its answer to unknown devices.
    #[must_use]
    pub(crate) const fn gate(&self) -> gateway_policy::Gate {
        gateway_policy::Gate::new().with_unknown_devices(self.unknown_devices())
    }

    /// What unknown devices get.
    #[must_use]
    pub(crate) const fn unknown_devices(&self) -> gateway_policy::UnknownDevices {
        use gateway_policy::UnknownDevices;
        match self.devices.unknown {
            UnknownDevice::Refuse => UnknownDevices::RefuseOnceOneIsRegistered,
            UnknownDevice::Warn => UnknownDevices::Warn,
        }
    }

    /// Bounds of the store.
    #[must_use]
    pub(crate) fn store_limits(&self) -> gateway_notes::Limits {
        gateway_notes::Limits {
            days: self.store.days,
            notes: u64::from(self.store.notes),
            bytes: self.store.bytes,
        }
    }
}

impl Config {
    /// What of the city's notes is kept, unless the policy says less.
    #[must_use]
    pub(crate) fn store_bounds(&self) -> crate::store_bounds::Bounds {
        let store = &self.store;
        crate::store_bounds::Bounds::configured(
            self.store_limits(),
            store.attachments,
            store.attachment_bytes,
        )
    }
}

fn own_names<'a>(lan: &'a LanTable, sites: &'a [Site]) -> impl Iterator<Item = &'a str> {
    let relayed = |name: &str| {
        sites
            .iter()
            .any(|site| site.hosts.iter().any(|host| host == name))
    };
    lan.names
        .iter()
        .map(String::as_str)
        .filter(move |name| !relayed(name))
}

/// The LAN certificate must serve every relayed host, and the box needs a name of its own.
fn check_names(document: &mut faults::Document<'_>, lan: Option<&LanTable>, sites: &[Site]) {
    let Some(lan) = lan else { return };
    if own_names(lan, sites).next().is_none() {
        document.note(
            "lan.names",
            "needs a name that no site relays: the box's own",
        );
    }
    for (index, site) in sites.iter().enumerate() {
        for host in site.hosts.iter().filter(|host| !lan.names.contains(host)) {
            document.note(
                &format!("site[{index}].hosts"),
                format!("{host} is missing in lan.names"),
            );
        }
    }
}

/// The canary must be scanned at least this often for the gate to believe in the scanner (compliance check AV-ALIVE).
const CANARY_AT_MOST: u64 = 300;

/// Faults of meaning, which the types cannot express.
fn check(
    document: &mut faults::Document<'_>,
    listen: Option<&Listen>,
    sites: &[Site],
    antivirus: Option<&crate::antivirus::Table>,
    limits: Option<&Limits>,
) {
    if listen.is_some_and(|listen| listen.https.is_empty()) {
        document.note("listen.https", "needs at least one address");
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, site) in sites.iter().enumerate() {
        if site.hosts.is_empty() {
            document.note(
                &format!("site[{index}].hosts"),
                "needs at least one host name",
            );
        }
        for host in &site.hosts {
            if seen.contains(&host.as_str()) {
                document.note(
                    &format!("site[{index}].hosts"),
                    format!("{host} is already relayed by another site"),
                );
            } else if !is_host_name(host) {
                document.note(
                    &format!("site[{index}].hosts"),
                    format!("{host:?} is not a host name"),
                );
            }
            seen.push(host);
        }
        if let Some(path) = site.public_paths.iter().find(|path| !path.starts_with('/')) {
            document.note(
                &format!("site[{index}].public_paths"),
                format!("{path:?} must begin with a slash"),
            );
        }
    }
    if antivirus.is_some_and(|antivirus| !(1..=CANARY_AT_MOST).contains(&antivirus.canary_seconds))
    {
        document.note(
            "antivirus.canary_seconds",
            format!("must be between 1 and {CANARY_AT_MOST}"),
        );
    }
    if limits.is_some_and(|limits| limits.connections == 0 || limits.connections_per_client == 0) {
        document.note("limits.connections", "must not be zero");
    }
}

/// An hour is usual; a minute is for trials, and a day is as long as the shortest signature may be valid.
fn check_signed_channel(
    document: &mut faults::Document<'_>,
    table: Option<&crate::signed_channel::Table>,
) {
    if table.is_some_and(|table| !(60..=86_400).contains(&table.interval_seconds)) {
        document.note(
            "signed_channel.interval_seconds",
            "must be between 60 and 86400",
        );
    }
}

/// Files are verified often enough to notice, and not all the time; a year of entries is what an inspection asks for.
fn check_audit(document: &mut faults::Document<'_>, audit: Option<&crate::record_keeping::Table>) {
    let Some(audit) = audit else { return };
    if !(1..=86_400).contains(&audit.verify_seconds) {
        document.note("audit.verify_seconds", "must be between 1 and 86400");
    }
    if !(30..=3660).contains(&audit.days) {
        document.note("audit.days", "must be between 30 and 3660");
    }
    if audit.bytes < 16 << 20 {
        document.note("audit.bytes", "must be at least 16777216");
    }
}

/// Lower-case letters, digits, hyphens and dots (RFC 1123 §2.1); no port, no wildcard.
fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests;
