//! The one error of the harness: what could not be started or driven, and why.
//!
//! It does not classify: nobody recovers from it, a person reads it.

use std::fmt;
use std::path::Path;

/// Shorthand for results of the harness.
pub type Result<T> = std::result::Result<T, Error>;

/// What could not be done, with the end of the process's output where there is one.
pub struct Error {
    what: String,
    output: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Says what could not be done.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            output: None,
            source: None,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds the last lines of a process's output file, if there are any.
    #[must_use]
    pub fn with_output_of(mut self, file: &Path) -> Self {
        let text = std::fs::read(file)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default();
        self.output = Some(tail(&text, 40));
        self
    }
}

/// The last `lines` lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

// Tests unwrap: their panic message is the Debug form, so it has to tell everything.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.full())
    }
}

impl Error {
    /// Everything known, over several lines: the message, each cause, the output's end.
    pub fn full(&self) -> String {
        let mut text = self.what.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(&format!("\n  because: {error}"));
            cause = error.source();
        }
        if let Some(output) = self.output.as_deref().filter(|output| !output.is_empty()) {
            text.push_str("\n  its output ended with:\n");
            for line in output.lines() {
                text.push_str("  | ");
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}
