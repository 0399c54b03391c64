//! nginx and HAProxy as Debian 13 ships them, in a tree of their own: their OpenSSL is much faster than Debian 12's, and
//! a comparison with the older one would flatter us.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::debian::mirror;

/// A Debian 13 tree with the peers in it.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Makes the tree if it is not there (root, mmdebstrap; under a minute).
    pub(crate) fn prepare(work: &Path) -> Result<Self, String> {
        let root = work.join("trixie");
        if !["haproxy", "squid"]
            .iter()
            .all(|name| root.join("usr/sbin").join(name).exists())
        {
            eprintln!(
                "making a Debian 13 tree with nginx, HAProxy, squid and c-icap in {}",
                root.display()
            );
            let _ = fs::remove_dir_all(&root);
            let status = Command::new("mmdebstrap")
                .args([
                    "--variant=apt",
                    "--include=nginx,haproxy,squid-openssl,c-icap,libc-icap-mod-virus-scan,ca-certificates",
                    "trixie",
                ])
                .arg(&root)
                .arg(mirror()?)
                .status()
                .map_err(|error| format!("mmdebstrap: {error}"))?;
            if !status.success() {
                return Err("mmdebstrap could not make the Debian 13 tree".to_owned());
            }
        }
        // The peers read their configuration and certificates from the tree itself.
        fs::create_dir_all(root.join("bench")).map_err(|error| error.to_string())?;
        // squid keeps its state in shared memory, as a user of its own.
        let shared = fs::Permissions::from_mode(0o1777);
        fs::set_permissions(root.join("dev/shm"), shared).map_err(|error| error.to_string())?;
        Ok(Self { root })
    }

    /// A folder inside the tree, and the name it has there.
    pub(crate) fn folder(&self, name: &str) -> Result<(PathBuf, String), String> {
        let path = self.root.join("bench").join(name);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok((path, format!("/bench/{name}")))
    }

    /// Starts a program of the tree in the foreground, pinned to one processor.
    pub(crate) fn spawn(&self, cpu: u32, arguments: &[&str], log: &Path) -> Result<Child, String> {
        let log = fs::File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        Command::new("taskset")
            .args(["-c", &cpu.to_string(), "chroot"])
            .arg(&self.root)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{arguments:?}: {error}"))
    }

    /// Starts a program of the tree in the foreground on any processor.
    pub(crate) fn spawn_anywhere(&self, arguments: &[&str], log: &Path) -> Result<Child, String> {
        let log = fs::File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        Command::new("chroot")
            .arg(&self.root)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{arguments:?}: {error}"))
    }

    /// What lies in the tree's shared memory under a name that begins so.
    pub(crate) fn shared_memory(&self, prefix: &str) -> Result<Vec<PathBuf>, String> {
        let folder = self.root.join("dev/shm");
        let entries =
            fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path())
            .collect())
    }

    /// The first line that says which version a program is.
    pub(crate) fn version(&self, arguments: &[&str]) -> String {
        let output = Command::new("chroot")
            .arg(&self.root)
            .args(arguments)
            .output();
        output
            .map(|output| [output.stdout, output.stderr].concat())
            .ok()
            .and_then(|text| {
                String::from_utf8_lossy(&text)
                    .lines()
                    .next()
                    .map(str::to_owned)
            })
            .unwrap_or_default()
    }
}

/// nginx as relay: TLS in, mutual TLS out, connections kept.
pub(crate) fn nginx_relay(port: u16, origin: u16, certificates: &str, host: &str) -> String {
    format!(
        "daemon off; worker_processes 1; pid /bench/nginx/pid; error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 128; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} ssl; http2 on; server_name {host};
    keepalive_requests 100000000;
    ssl_certificate {certificates}/server.pem; ssl_certificate_key {certificates}/server.key;
    ssl_protocols TLSv1.3; ssl_ecdh_curve X25519:prime256v1;
    location / {{
      proxy_pass https://origin; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;
      proxy_ssl_certificate {certificates}/client.pem; proxy_ssl_certificate_key {certificates}/client.key;
      proxy_ssl_trusted_certificate {certificates}/ca.pem; proxy_ssl_verify on; proxy_ssl_name {host};
      proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3; proxy_max_temp_file_size 0;
      client_max_body_size 60m; proxy_request_buffering off;
    }}
  }}
}}
"
    )
}

/// nginx with files.
pub(crate) fn nginx_static(port: u16, certificates: &str, root: &str) -> String {
    format!(
        "daemon off; worker_processes 1; pid {root}/pid; error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off; types {{ text/html html; }}
  server {{
    listen 127.0.0.1:{port} ssl; http2 on; keepalive_requests 100000000; root {root};
    ssl_certificate {certificates}/server.pem; ssl_certificate_key {certificates}/server.key;
    ssl_protocols TLSv1.3; ssl_ecdh_curve X25519:prime256v1;
  }}
}}
"
    )
}

/// HAProxy as relay, one thread.
pub(crate) fn haproxy_relay(port: u16, origin: u16, certificates: &str, host: &str) -> String {
    format!(
        "global
  nbthread 1
  maxconn 8192
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-bind-curves X25519:P-256
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  timeout http-keep-alive 60s
  http-reuse always
frontend lan
  bind 127.0.0.1:{port} ssl crt {certificates}/server-and-key.pem alpn h2,http/1.1
  default_backend city
backend city
  server origin 127.0.0.1:{origin} ssl crt {certificates}/client-and-key.pem ca-file {certificates}/ca.pem verify required sni str({host}) verifyhost {host} alpn http/1.1
"
    )
}

/// The origin: static files behind mandatory client certificates. `$ssl_session_reused` tells full handshakes from resumed ones.
pub(crate) fn nginx_origin(
    port: u16,
    one_shot: u16,
    certificates: &str,
    root: &str,
    log: &str,
) -> String {
    let server = |port: u16, requests: u32, log: &str| {
        format!(
            "  server {{
    listen 127.0.0.1:{port} ssl; keepalive_requests {requests}; access_log {log};
    ssl_certificate {certificates}/server.pem; ssl_certificate_key {certificates}/server.key;
    ssl_client_certificate {certificates}/clients.pem; ssl_verify_client on; ssl_verify_depth 3;
    ssl_protocols TLSv1.3; ssl_ecdh_curve X25519:prime256v1; ssl_session_timeout 1h;
    root {root};
    location /sink {{ client_max_body_size 60m; return 200 taken; }}
  }}
"
        )
    };
    format!(
        "daemon off; worker_processes 1; pid /bench/origin/pid; error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  log_format handshakes '$ssl_session_reused $status'; default_type text/plain; keepalive_timeout 600s;
{}{}}}
",
        server(port, 100_000_000, "off"),
        server(one_shot, 1, &format!("{log} handshakes")),
    )
}

/// squid in front of the origin, every body through c-icap before it goes on (`bypass=off`).
pub(crate) fn squid_relay(
    port: u16,
    icap: u16,
    origin: u16,
    certificates: &str,
    folder: &str,
    host: &str,
) -> String {
    format!(
        "https_port 127.0.0.1:{port} accel tls-cert={certificates}/server.pem tls-key={certificates}/server.key defaultsite={host}
cache_peer 127.0.0.1 parent {origin} 0 no-query originserver no-digest tls sslcert={certificates}/client.pem sslkey={certificates}/client.key sslcafile={certificates}/ca.pem ssldomain={host} name=origin
http_access allow all
cache deny all
access_log none
cache_log {folder}/squid.log
pid_filename {folder}/squid.pid
coredump_dir {folder}
cache_effective_user proxy
icap_enable on
icap_preview_enable on
icap_preview_size 1024
icap_persistent_connections on
icap_service down respmod_precache bypass=off icap://127.0.0.1:{icap}/virus_scan
icap_service up reqmod_precache bypass=off icap://127.0.0.1:{icap}/virus_scan
adaptation_access down allow all
adaptation_access up allow all
shutdown_lifetime 0 seconds
"
    )
}

/// c-icap with the clamd module: every type, every size up to more than is sent, nothing trickled before it was scanned.
pub(crate) fn c_icap(port: u16, folder: &str, clamd: &str) -> String {
    format!(
        "PidFile {folder}/c-icap.pid
CommandsSocket {folder}/c-icap.ctl
ServerLog {folder}/c-icap.log
Timeout 300
MaxKeepAliveRequests 1000000
KeepAliveTimeout 600
StartServers 1
MaxServers 1
MinSpareThreads 4
MaxSpareThreads 8
ThreadsPerChild 8
MaxRequestsPerChild 0
Port 127.0.0.1:{port}
TmpDir {folder}
MaxMemObject 131072
DebugLevel 1
Pipelining on
ModulesDir /usr/lib/x86_64-linux-gnu/c_icap
ServicesDir /usr/lib/x86_64-linux-gnu/c_icap
TemplateDir /usr/share/c_icap/templates/
TemplateDefaultLanguage en
LoadMagicFile /etc/c-icap/c-icap.magic
Module common clamd_mod.so
clamd_mod.ClamdSocket {clamd}
Service antivirus_module virus_scan.so
virus_scan.ScanFileTypes TEXT DATA EXECUTABLE ARCHIVE GIF JPEG JPEG2000 BMP PNG TIFF SWF MSOFFICE PDF BINARY
virus_scan.MaxObjectSize 100M
virus_scan.DefaultEngine clamd
"
    )
}
