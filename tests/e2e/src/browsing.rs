//! One browser window: open a page, read it, type, click, photograph.
//!
//! Everything waits until it is possible, within a limit, and on failure says what the page showed instead.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::json;
use test_harness::binaries::workspace;
use test_harness::browser::Browser;
use test_harness::http;

/// The version of axe-core that `tests/e2e/axe-core.sh` brings.
const AXE_CORE: &str = "4.14.1";
/// How long a person would wait for a page before giving up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What could not be done, and what the page showed.
pub struct Failed(String);

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Shorthand for what can fail on a page.
pub type Result<T> = std::result::Result<T, Failed>;

/// An open browser window.
#[derive(Debug)]
pub struct Window {
    client: Client,
    driver: SocketAddr,
}

impl Window {
    /// Opens a window in a fresh profile.
    ///
    /// # Errors
    /// When Chromium does not start.
    pub async fn open(browser: &Browser) -> Result<Self> {
        let cannot =
            |error: &dyn fmt::Display| Failed(format!("the browser does not start: {error}"));
        let mut builder = ClientBuilder::rustls().map_err(|error| cannot(&error))?;
        builder.capabilities(browser.capabilities());
        let client = builder
            .connect(&browser.webdriver())
            .await
            .map_err(|error| cannot(&error))?;
        let driver = browser.webdriver();
        let driver = driver.trim_start_matches("http://").parse();
        Ok(Self {
            client,
            driver: driver.map_err(|error| cannot(&error))?,
        })
    }

    /// Opens an address. An error page of the browser itself is no error here; look at [`Window::text`].
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn visit(&self, url: &str) -> Result<()> {
        match self.client.goto(url).await {
            Err(error) if !error.to_string().contains("net::ERR") => {
                Err(Failed(format!("{url} cannot be opened: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Loads the page again.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn reload(&self) -> Result<()> {
        self.client
            .refresh()
            .await
            .map_err(|error| Failed(format!("reloading failed: {error}")))
    }

    /// The address shown.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn url(&self) -> Result<String> {
        let url = self.client.current_url().await;
        url.map(String::from)
            .map_err(|error| Failed(format!("the address cannot be read: {error}")))
    }

    /// What a person can read on the page.
    pub async fn text(&self) -> String {
        let text = self
            .client
            .execute(
                "return document.body ? document.body.innerText : ''",
                Vec::new(),
            )
            .await;
        text.ok()
            .and_then(|text| text.as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    /// Waits until the page says `words`.
    ///
    /// # Errors
    /// When it does not within half a minute; the error holds what it says.
    pub async fn reads(&self, words: &str) -> Result<()> {
        self.until(&format!("「{words}」"), async || {
            self.text().await.contains(words).then_some(())
        })
        .await
    }

    /// Loads the page again until it says `words`, as a person does who waits for something to come back.
    ///
    /// # Errors
    /// As [`Window::reads`].
    pub async fn reads_after_reloading(&self, words: &str) -> Result<()> {
        self.until(&format!("「{words}」 after reloading"), async || {
            if self.text().await.contains(words) {
                return Some(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            let _ = self.reload().await;
            None
        })
        .await
    }

    /// The first element that a CSS selector finds, as soon as there is one.
    ///
    /// # Errors
    /// When there is none within half a minute.
    pub async fn element(&self, css: &str) -> Result<Element> {
        self.until(css, async || self.client.find(Locator::Css(css)).await.ok())
            .await
    }

    /// How many elements a CSS selector finds now.
    pub async fn count(&self, css: &str) -> usize {
        self.client
            .find_all(Locator::Css(css))
            .await
            .map_or(0, |found| found.len())
    }

    /// An attribute of an element.
    ///
    /// # Errors
    /// When there is no such element or attribute.
    pub async fn attribute(&self, css: &str, name: &str) -> Result<String> {
        let value = self.element(css).await?.attr(name).await.ok().flatten();
        value.ok_or_else(|| Failed(format!("{css} has no {name}")))
    }

    /// Empties a field and types into it.
    ///
    /// # Errors
    /// When there is no such field.
    pub async fn type_into(&self, css: &str, text: &str) -> Result<()> {
        let field = self.element(css).await?;
        let is_file = field.attr("type").await.ok().flatten().as_deref() == Some("file");
        if !is_file {
            field
                .clear()
                .await
                .map_err(|error| Failed(format!("{css} cannot be emptied: {error}")))?;
        }
        field
            .send_keys(text)
            .await
            .map_err(|error| Failed(format!("{css} takes no text: {error}")))
    }

    /// Clicks.
    ///
    /// # Errors
    /// When there is nothing to click on within half a minute.
    pub async fn click(&self, css: &str) -> Result<()> {
        self.until(&format!("something to click: {css}"), async || {
            let element = self.client.find(Locator::Css(css)).await.ok()?;
            element.click().await.ok()
        })
        .await
    }

    /// Runs a script in the page.
    ///
    /// # Errors
    /// When it throws.
    pub async fn run(&self, script: &str) -> Result<serde_json::Value> {
        self.client
            .execute(script, Vec::new())
            .await
            .map_err(|error| {
                let beginning: String = script.chars().take(200).collect();
                Failed(format!("{beginning}: {error}"))
            })
    }

    /// Makes the window so large, in CSS pixels.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn resize(&self, width: u32, height: u32) -> Result<()> {
        self.client
            .set_window_size(width, height)
            .await
            .map_err(|error| Failed(format!("the window cannot be made so large: {error}")))
    }

    /// Makes the page see a screen of this size, in CSS pixels; a narrow one with a finger instead of a mouse. Windows of the
    /// browser itself cannot be as narrow as a telephone.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn screen(&self, width: u32, height: u32) -> Result<()> {
        let finger = width < 600;
        let screen =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": finger });
        self.devtools("Emulation.setDeviceMetricsOverride", &screen)
            .await
    }

    /// Shows the page as it is printed, or again as on a screen.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn on_paper(&self, paper: bool) -> Result<()> {
        let media = json!({ "media": if paper { "print" } else { "" } });
        self.devtools("Emulation.setEmulatedMedia", &media).await
    }

    /// A command of Chromium's own, which WebDriver does not have.
    async fn devtools(&self, command: &str, parameters: &serde_json::Value) -> Result<()> {
        let cannot = |error: &dyn fmt::Display| Failed(format!("{command}: {error}"));
        let session = self.client.session_id().await;
        let session = session.map_err(|error| cannot(&error))?.unwrap_or_default();
        let body = json!({ "cmd": command, "params": parameters });
        let path = format!("/session/{session}/goog/cdp/execute");
        let answer = http::send(self.driver, "POST", &path, Some(&body), PATIENCE);
        match answer {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(cannot(&answer.text())),
            Err(error) => Err(cannot(&error)),
        }
    }

    /// Holds the page to the rules of WCAG 2.2 A and AA that a program can check (axe-core), and gives what breaks them, one line
    /// each.
    ///
    /// # Errors
    /// When axe-core is not there (`tests/e2e/axe-core.sh` brings it) or cannot run.
    pub async fn breaches(&self) -> Result<Vec<String>> {
        let file = workspace()
            .join("target/axe-core")
            .join(AXE_CORE)
            .join("axe.min.js");
        let rules = std::fs::read_to_string(&file).map_err(|error| {
            Failed(format!(
                "{} cannot be read ({error}); tests/e2e/axe-core.sh brings it",
                file.display()
            ))
        })?;
        let script = format!(
            "{rules}; return axe.run(document, {{ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }})
                .then(found => found.violations.map(rule => rule.id + ': ' + rule.help + ' ' +
                    rule.nodes.map(node => node.target.join(' ') + ' ' + node.failureSummary.replace(/\\s+/g, ' ')).join('; ')))"
        );
        let found = self.run(&script).await?;
        let lines = found
            .as_array()
            .ok_or_else(|| Failed(format!("axe-core answered {found}")))?;
        Ok(lines
            .iter()
            .map(|line| line.as_str().unwrap_or_default().to_owned())
            .collect())
    }

    /// Presses keys where the focus is, as somebody does who uses no mouse.
    ///
    /// # Errors
    /// When nothing has the focus or takes them.
    pub async fn press(&self, keys: &str) -> Result<()> {
        let focused = self
            .client
            .active_element()
            .await
            .map_err(|error| Failed(format!("nothing has the focus: {error}")))?;
        focused
            .send_keys(keys)
            .await
            .map_err(|error| Failed(format!("the keys are not taken: {error}")))
    }

    /// Photographs the page into `target/screenshots/<name>.png`.
    ///
    /// # Errors
    /// When the browser or the disk refuses.
    pub async fn photograph(&self, name: &str) -> Result<PathBuf> {
        let file = workspace()
            .join("target/screenshots")
            .join(format!("{name}.png"));
        let cannot = |error: &dyn fmt::Display| {
            Failed(format!("{} cannot be made: {error}", file.display()))
        };
        let picture = self
            .client
            .screenshot()
            .await
            .map_err(|error| cannot(&error))?;
        std::fs::create_dir_all(workspace().join("target/screenshots"))
            .map_err(|error| cannot(&error))?;
        std::fs::write(&file, picture).map_err(|error| cannot(&error))?;
        Ok(file)
    }

    /// Waits for anything else.
    ///
    /// # Errors
    /// When it does not come within half a minute; the error holds what the page shows.
    pub async fn until<T>(
        &self,
        what: &str,
        mut probe: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = probe().await {
                return Ok(value);
            }
            if Instant::now() >= end {
                let url = self.url().await.unwrap_or_default();
                return Err(Failed(format!(
                    "waited in vain for {what}; {url} shows:\n{}",
                    self.text().await
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Closes the window.
    pub async fn close(self) {
        // The browser ends with its guard anyhow.
        let _ = self.client.close().await;
    }
}
