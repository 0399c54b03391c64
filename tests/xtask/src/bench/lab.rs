//! The laboratory: an origin that demands client certificates, the three relays in front of it, and one client machine.
//!
//! The gateway is the real one, in a facility of its own: TPM, city, virus scanner, provisioned by its setup page.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use test_harness::facility::{self, Facility};
use test_harness::ports;

use super::peers::{self, Tree};
use super::scanning::{Ports, Stage};

/// The host name all relays serve: the notebook's, which the gateway's LAN certificate carries.
pub(crate) const HOST: &str = test_harness::city::PORTAL_HOST;

/// One relay.
pub(crate) struct Subject {
    pub name: String,
    pub port: u16,
    leader: i32,
}

impl Subject {
    /// A server by its first process.
    pub(crate) fn new(name: &str, port: u16, leader: i32) -> Self {
        Self {
            name: name.to_owned(),
            port,
            leader,
        }
    }

    /// Its processes: the leader and all below it.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let mut all = vec![self.leader];
        let mut next = 0;
        while let Some(pid) = all.get(next) {
            let children =
                fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<i32>().ok()),
            );
            next += 1;
        }
        all
    }
}

/// How many upstream handshakes needed a signature.
pub(crate) struct Signatures {
    pub connections: usize,
    pub full: usize,
}

/// Everything that runs during the benchmark; ends with it.
pub(crate) struct Lab {
    /// The gateway first, then the peers.
    pub subjects: Vec<Subject>,
    /// What it was measured on.
    pub machine: String,
    pub idle_client: PathBuf,
    facility: Facility,
    anchor: PathBuf,
    one_shot_port: u16,
    handshake_log: PathBuf,
    files: PathBuf,
    scanning: (u16, u16),
    _processes: Vec<Ended>,
}

/// A process that ends with this value.
pub(crate) struct Ended(pub(crate) Child);

impl Ended {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap_or(0)
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.pid()),
            nix::sys::signal::Signal::SIGTERM,
        );
        let _ = self.0.wait();
    }
}

impl Lab {
    pub(crate) fn start(root: &Path, work: &Path, tree: &Tree) -> Result<Self, String> {
        let port = || ports::free().map_err(|error| error.to_string());
        let (origin_port, one_shot_port, nginx_port, haproxy_port) =
            (port()?, port()?, port()?, port()?);
        let (squid_port, icap_port) = (port()?, port()?);
        let (certificates, certificates_inside) = tree.folder("certificates")?;
        make_certificates(&certificates)?;

        // In the tree, so that c-icap in there reaches the same clamd.
        let (facility_directory, facility_inside) = tree.folder("facility")?;
        let _ = fs::remove_dir_all(&facility_directory);
        let options = facility::Options {
            // wrk and h2load come from one address, with more connections than one tablet has.
            more_configuration:
                "[limits]\nworkers = 1\nconnections = 8192\nconnections_per_client = 8192\n"
                    .to_owned(),
            ..facility::Options::default()
        };
        let mut facility = Facility::start_in(&facility_directory, options)
            .map_err(|error| format!("the facility: {error}"))?;

        // The origin trusts the facility's certificate and the peers' one.
        let clients = [certificates.join("ca.pem"), facility.city.ca_file()]
            .iter()
            .map(fs::read)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("trust anchors: {error}"))?
            .concat();
        write(&certificates.join("clients.pem"), clients)?;

        let (origin, origin_inside) = tree.folder("origin")?;
        write(&origin.join("1k"), vec![b'k'; 1 << 10])?;
        write(&origin.join("1m"), vec![b'm'; 1 << 20])?;
        let handshake_log = origin.join("handshakes.log");
        let _ = fs::remove_file(&handshake_log);
        let log_inside = format!("{origin_inside}/handshakes.log");
        write(
            &origin.join("nginx.conf"),
            peers::nginx_origin(
                origin_port,
                one_shot_port,
                &certificates_inside,
                &origin_inside,
                &log_inside,
            ),
        )?;
        let (nginx, _) = tree.folder("nginx")?;
        write(
            &nginx.join("nginx.conf"),
            peers::nginx_relay(nginx_port, origin_port, &certificates_inside, HOST),
        )?;
        let (haproxy, _) = tree.folder("haproxy")?;
        write(
            &haproxy.join("haproxy.cfg"),
            peers::haproxy_relay(haproxy_port, origin_port, &certificates_inside, HOST),
        )?;

        let origin_process = Ended(tree.spawn(
            1,
            &["nginx", "-c", "/bench/origin/nginx.conf"],
            &work.join("origin.log"),
        )?);
        let nginx_process = Ended(tree.spawn(
            0,
            &["nginx", "-c", "/bench/nginx/nginx.conf"],
            &work.join("nginx.log"),
        )?);
        let haproxy_process = Ended(tree.spawn(
            0,
            &["haproxy", "-db", "-f", "/bench/haproxy/haproxy.cfg"],
            &work.join("haproxy.log"),
        )?);
        let scanning = start_squid(
            tree,
            work,
            &certificates_inside,
            &format!("{facility_inside}/clamd/clamd.sock"),
            [squid_port, icap_port, origin_port],
        )?;
        for port in [origin_port, nginx_port, haproxy_port, squid_port] {
            wait_for(port)?;
        }
        let anchor = certificates.join("clients.pem");
        let gateway_pid = point_gateway_at(&mut facility, origin_port, &anchor)?;

        let subjects = vec![
            Subject::new("gatewayd", facility.gateway.https_port(), gateway_pid),
            Subject::new("nginx", nginx_port, nginx_process.pid()),
            Subject::new("HAProxy", haproxy_port, haproxy_process.pid()),
        ];
        Ok(Self {
            subjects,
            machine: machine(tree),
            idle_client: root.join("tests/xtask/src/bench/idle_connections.py"),
            facility,
            anchor,
            one_shot_port,
            handshake_log,
            files: origin.join("files"),
            scanning: (nginx_port, squid_port),
            _processes: scanning
                .into_iter()
                .chain([haproxy_process, nginx_process, origin_process])
                .collect(),
        })
    }

    /// What the rows about scanning are measured on.
    pub(crate) fn scanning(&self) -> Stage<'_> {
        Stage {
            ports: Ports {
                gateway: self.facility.gateway.https_port(),
                nginx: self.scanning.0,
                squid: self.scanning.1,
            },
            files: &self.files,
            clamd: self.facility.clamd.socket(),
        }
    }

    /// Sends requests to an origin that closes after each, and counts at the origin how many handshakes were full: each of
    /// those, and only those, cost a signature of the TPM.
    pub(crate) fn tpm_signatures(&mut self, requests: usize) -> Result<Signatures, String> {
        point_gateway_at(&mut self.facility, self.one_shot_port, &self.anchor)?;
        // What it took to see that the relay works is not counted, its handshakes are: they made the session that resumes.
        let url = format!("https://{HOST}:{}/1k", self.facility.gateway.https_port());
        let status = Command::new("curl")
            .args(["--silent", "--insecure", "--fail"])
            .args(std::iter::repeat_n(url, requests))
            .stdout(Stdio::null())
            .status()
            .map_err(|error| format!("curl: {error}"))?;
        if !status.success() {
            return Err("the origin that closes after each request was not reached".to_owned());
        }
        // nginx writes the line when the request ends, the last one perhaps after curl has gone.
        std::thread::sleep(Duration::from_millis(300));
        let log = fs::read_to_string(&self.handshake_log)
            .map_err(|error| format!("handshake log: {error}"))?;
        let full = log.lines().filter(|line| line.starts_with(". ")).count();
        Ok(Signatures {
            connections: log.lines().count(),
            full,
        })
    }
}

/// squid on the processor of the relays; c-icap wherever there is time, like clamd.
fn start_squid(
    tree: &Tree,
    work: &Path,
    certificates: &str,
    clamd: &str,
    [squid, icap, origin]: [u16; 3],
) -> Result<[Ended; 2], String> {
    let (folder, inside) = tree.folder("squid")?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))
        .map_err(|error| error.to_string())?;
    // What a squid that was killed left behind keeps the next one from starting.
    for left in tree.shared_memory("squid-")? {
        let _ = fs::remove_file(left);
    }
    write(
        &folder.join("c-icap.conf"),
        peers::c_icap(icap, &inside, clamd),
    )?;
    write(
        &folder.join("squid.conf"),
        peers::squid_relay(squid, icap, origin, certificates, &inside, HOST),
    )?;
    let config = |name: &str| format!("{inside}/{name}");
    let c_icap = tree.spawn_anywhere(
        &["c-icap", "-N", "-f", &config("c-icap.conf")],
        &work.join("c-icap.log"),
    )?;
    let c_icap = Ended(c_icap);
    wait_for(icap)?;
    let squid = tree.spawn(
        0,
        &["squid", "-N", "-f", &config("squid.conf")],
        &work.join("squid.log"),
    )?;
    Ok([Ended(squid), c_icap])
}

/// Lets the notebook's site of a provisioned gateway lead to the origin instead of the city, starts it with that, pins it,
/// and waits until it relays. Returns its process id.
fn point_gateway_at(facility: &mut Facility, port: u16, anchor: &Path) -> Result<i32, String> {
    let file = facility.gateway.configuration_file();
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let begin = text
        .find("\n[[site]]")
        .ok_or("the configuration has no site")?;
    let end = text
        .find("\n[limits]")
        .ok_or("the configuration has no limits")?;
    let site = format!(
        "\n[[site]]\nhosts = [{HOST:?}]\nport = {port}\nconnect = \"127.0.0.1:{port}\"\nprotocol = \"http1\"\n"
    );
    // The origin stands for the city: its authority is trusted like the city's own.
    let city_anchor = format!("anchor = {:?}", facility.city.ca_file());
    let before = text[..begin].replace(&city_anchor, &format!("anchor = {anchor:?}"));
    write(&file, [before.as_str(), &site, &text[end..]].concat())?;
    facility
        .gateway
        .restart()
        .map_err(|error| error.to_string())?;
    let pid = i32::try_from(facility.gateway.process().pid()).map_err(|error| error.to_string())?;
    pin(pid, 0)?;
    let url = format!("https://{HOST}:{}/1k", facility.gateway.https_port());
    let relays = || {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--insecure",
                "--fail",
                "--output",
                "/dev/null",
                &url,
            ])
            .status();
        output.is_ok_and(|status| status.success())
    };
    let end = Instant::now() + Duration::from_secs(20);
    while !relays() {
        if Instant::now() > end {
            return Err(format!(
                "gatewayd does not relay:\n{}",
                facility.gateway.log()
            ));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(pid)
}

/// A bench authority, a server certificate for the relays and the origin, a client certificate for the peers: all P-256.
pub(crate) fn make_certificates(directory: &Path) -> Result<(), String> {
    let openssl = |arguments: &[&str]| -> Result<(), String> {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(directory)
            .output()
            .map_err(|error| format!("openssl: {error}"))?;
        output
            .status
            .success()
            .then_some(())
            .ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
    ];
    openssl(
        &[
            &[
                "req",
                "-x509",
                "-subj",
                "/CN=bench authority",
                "-keyout",
                "ca.key",
                "-out",
                "ca.pem",
            ],
            &key[..],
        ]
        .concat(),
    )?;
    for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
        let names = format!("subjectAltName=DNS:{HOST}");
        openssl(
            &[
                &[
                    "req",
                    "-x509",
                    "-CA",
                    "ca.pem",
                    "-CAkey",
                    "ca.key",
                    "-subj",
                    &format!("/CN={name}"),
                ],
                &key[..],
                &[
                    "-addext",
                    "basicConstraints=critical,CA:FALSE",
                    "-addext",
                    &format!("extendedKeyUsage={usage}"),
                ],
                &[
                    "-addext",
                    &names,
                    "-keyout",
                    &format!("{name}.key"),
                    "-out",
                    &format!("{name}.pem"),
                ],
            ]
            .concat(),
        )?;
        let both = [format!("{name}.pem"), format!("{name}.key")]
            .iter()
            .map(|file| fs::read(directory.join(file)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.to_string())?
            .concat();
        write(&directory.join(format!("{name}-and-key.pem")), both)?;
    }
    Ok(())
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), String> {
    fs::write(path, content).map_err(|error| format!("{}: {error}", path.display()))
}

pub(crate) fn wait_for(port: u16) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > end {
            return Err(format!(
                "nothing listens on port {port}; see the logs in target/bench"
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// All threads of a running process on one processor.
pub(crate) fn pin(pid: i32, cpu: u32) -> Result<(), String> {
    let output = Command::new("taskset")
        .args(["-acp", &cpu.to_string(), &pid.to_string()])
        .output()
        .map_err(|error| format!("taskset: {error}"))?;
    output
        .status
        .success()
        .then_some(())
        .ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn machine(tree: &Tree) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
        .unwrap_or("unknown");
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{} · {model} · load average before: {} · {} · {}",
        Command::new("date").arg("+%F").output().map_or_else(
            |_| String::new(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned()
        ),
        load.split(' ').next().unwrap_or("?"),
        tree.version(&["nginx", "-v"])
            .replace("nginx version: ", ""),
        tree.version(&["haproxy", "-v"]),
    )
}
