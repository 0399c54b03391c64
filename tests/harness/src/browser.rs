//! A headless Chromium behind chromedriver, with an empty profile that trusts one city's root certificate.
//!
//! It does not drive the browser; tests do, over WebDriver, with [`Browser::capabilities`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

use crate::{Child, Error, Program, Result, binaries, http, ports, wait};

/// A running chromedriver; each WebDriver session starts its own Chromium. Dropping this ends both.
#[derive(Debug)]
pub struct Browser {
    home: TempDir,
    port: u16,
    chromium: PathBuf,
    accepts_any: bool,
    shows_certificate: bool,
    driver: Child,
}

impl Browser {
    /// Starts chromedriver; the browsers it starts trust the root certificate in `ca_file` (PEM) and nothing of this machine's user.
    ///
    /// # Errors
    /// When Chromium, chromedriver or certutil is not installed or does not start.
    pub fn start(ca_file: &Path) -> Result<Self> {
        let home = tempfile::Builder::new()
            .prefix("renraku-browser-")
            .tempdir()
            .map_err(|error| Error::new("a home for the browser cannot be made").because(error))?;
        trust(home.path(), ca_file)?;
        let chromium = binaries::debian("chromium", "chromium")?;
        let port = ports::free()?;
        let mut driver = Program::new(
            "chromedriver",
            binaries::debian("chromedriver", "chromium-driver")?,
            home.path().join("chromedriver.log"),
        )
        .arg(format!("--port={port}"))
        .env("HOME", home.path())
        .env("LANG", "C.UTF-8")
        .env_remove("XDG_DATA_HOME")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_CACHE_HOME")
        .env_remove("http_proxy")
        .env_remove("https_proxy")
        .env_remove("all_proxy")
        .spawn()?;
        wait::for_port(&mut driver, port, Duration::from_secs(20))?;
        let browser = Self {
            home,
            port,
            chromium,
            accepts_any: false,
            shows_certificate: false,
            driver,
        };
        wait::until("chromedriver", Duration::from_secs(20), || {
            browser.is_ready().then_some(())
        })?;
        Ok(browser)
    }

    /// Accepts whatever certificate a server shows: a box that is not provisioned yet can only show one of its own making,
    /// and its manager tells the browser to go on.
    #[must_use]
    pub fn accepting_any_certificate(mut self) -> Self {
        self.accepts_any = true;
        self
    }

    /// Imports a client certificate with its key (PKCS #12), as the manager does on a PC that has been paired. Windows opened
    /// from now on show it to every server that asks for one of its issuer, without a question: a headless browser cannot
    /// be asked.
    ///
    /// # Errors
    /// When pk12util is not installed or refuses the file or the password.
    pub fn install_certificate(&mut self, pkcs12: &Path, password: &str) -> Result<()> {
        let pk12util = binaries::debian("pk12util", "libnss3-tools")?;
        for database in databases(self.home.path()) {
            run(Command::new(&pk12util)
                .args(["-K", "", "-W", password, "-d"])
                .arg(format!("sql:{}", database.display()))
                .arg("-i")
                .arg(pkcs12))?;
        }
        self.shows_certificate = true;
        Ok(())
    }

    fn is_ready(&self) -> bool {
        let status = http::send(
            ([127, 0, 0, 1], self.port).into(),
            "GET",
            "/status",
            None,
            Duration::from_secs(5),
        );
        status
            .and_then(|answer| answer.json())
            .is_ok_and(|status| status["value"]["ready"] == true)
    }

    /// Where WebDriver clients connect.
    pub fn webdriver(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where the browser puts what is downloaded.
    pub fn downloads(&self) -> PathBuf {
        self.home.path().join("downloads")
    }

    /// What a new WebDriver session asks for. `*.localhost` needs no name server: Chromium maps it to loopback itself.
    pub fn capabilities(&self) -> serde_json::Map<String, serde_json::Value> {
        let profile = self
            .home
            .path()
            .join(format!("profile-{}", self.profiles()));
        let _ = fs::create_dir_all(&profile);
        let mut prefs = json!({
            "intl.accept_languages": "ja,en",
            "download.default_directory": self.downloads(),
            "download.prompt_for_download": false,
        });
        if self.shows_certificate {
            // What the managed policy AutoSelectCertificateForUrls writes into a profile, without touching the machine's policies.
            prefs["profile.content_settings.exceptions.auto_select_certificate"] =
                json!({ "*,*": { "setting": { "filters": [{}] } } });
        }
        let capabilities = json!({
            "browserName": "chrome",
            "acceptInsecureCerts": self.accepts_any,
            "goog:chromeOptions": {
                "binary": self.chromium,
                "args": [
                    "--headless=new",
                    // The tests may run as root, where Chromium's sandbox refuses to work.
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--disable-quic",
                    "--no-first-run",
                    "--disable-background-networking",
                    "--disable-component-update",
                    "--disable-sync",
                    "--no-proxy-server",
                    "--lang=ja",
                    "--window-size=1100,1000",
                    format!("--user-data-dir={}", profile.display()),
                ],
                "prefs": prefs,
            },
        });
        match capabilities {
            serde_json::Value::Object(map) => map,
            _ => serde_json::Map::new(),
        }
    }

    fn profiles(&self) -> usize {
        fs::read_dir(self.home.path()).map_or(0, |entries| {
            entries
                .flatten()
                .filter(|entry| entry.file_name().to_string_lossy().starts_with("profile-"))
                .count()
        })
    }
}

impl Drop for Browser {
    /// chromedriver gives Chromium a process group of its own, so ending the driver is not enough.
    fn drop(&mut self) {
        self.driver.stop();
        let home = self.home.path().to_string_lossy().into_owned();
        for _ in 0..50 {
            let left = processes_mentioning(&home);
            if left.is_empty() {
                break;
            }
            for pid in left {
                let _ = kill(pid, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Processes whose command line holds `text`: Chromium passes its profile's path on to all of its processes.
fn processes_mentioning(text: &str) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command_line).contains(text)
        })
        .map(Pid::from_raw)
        .collect()
}

/// Makes the NSS database that Chromium reads below its home directory.
///
/// # Errors
/// When certutil is not installed or refuses the certificate.
pub fn trust(home: &Path, ca_file: &Path) -> Result<()> {
    let certutil = binaries::debian("certutil", "libnss3-tools")?;
    for database in databases(home) {
        fs::create_dir_all(&database).map_err(|error| {
            Error::new("the browser's certificate store cannot be made").because(error)
        })?;
        let name = format!("sql:{}", database.display());
        run(Command::new(&certutil).args(["-N", "--empty-password", "-d", &name]))?;
        run(Command::new(&certutil)
            .args(["-A", "-d", &name, "-n", "city", "-t", "C,,", "-i"])
            .arg(ca_file))?;
    }
    Ok(())
}

/// Newer Chromium looks below `.local/share` first, older below `.pki`.
fn databases(home: &Path) -> [PathBuf; 2] {
    [home.join(".pki/nssdb"), home.join(".local/share/pki/nssdb")]
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|error| {
        Error::new("a program of libnss3-tools cannot be started").because(error)
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(format!(
        "the browser's certificate store refused: {}",
        String::from_utf8_lossy(&output.stderr)
    )))
}
