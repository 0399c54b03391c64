//! What becomes of a body, from what the scanner and the sniffer say of it. Does not scan and does not read bodies.
//!
//! The gate has judged the request; this judges what it carries. A malware verdict refuses always: no policy and no
//! emergency is asked.

use crate::{Downloads, Effect, TEXT_SECONDS, Timestamp, Verdict};

/// The largest text that may pass unscanned from a browser, in bytes.
pub const TEXT_UPLOAD_BYTES: u64 = 64 * 1024;
/// The largest text that may pass unscanned from the city, in bytes.
pub const TEXT_DOWNLOAD_BYTES: u64 = 1024 * 1024;

/// What the scanner says of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScanOutcome {
    /// Nothing was found by the database in use now.
    Clean,
    /// A signature was found.
    Infected,
    /// It cannot be looked into: encrypted, or beyond a limit (「検査できないファイル」).
    Unscannable,
    /// There was no answer: the scanner is down, hung or overloaded.
    Unavailable,
}

/// What a body is, by its bytes and not by its name (第25条).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyKind {
    /// UTF-8 text, JSON or a form, the whole of it read and found to be so.
    Text,
    /// A program for any system.
    Executable,
    /// A script.
    Script,
    /// An office document with macros.
    Macro,
    /// Any other: pages, pictures, documents.
    Other,
}

/// Which way a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From a browser to the city.
    Upload,
    /// From the city to a browser.
    Download,
}

/// One body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    /// Which way it goes.
    pub direction: Direction,
    /// What it is.
    pub kind: BodyKind,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub digest: &'a [u8; 32],
    /// The same bytes were found clean by the database that was loaded last.
    pub known_clean: bool,
    /// When the scanner last caught its canary, if ever ([`crate::Entry::proof`] of AV-ALIVE).
    pub scanner_proof: Option<Timestamp>,
}

/// Why a body was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ContentRefusal {
    /// A signature was found (FOUND). Never lowered by anything.
    #[error("malware was found")]
    Infected,
    /// It cannot be looked into.
    #[error("the file cannot be scanned")]
    Unscannable,
    /// It could not be scanned now.
    #[error("the file could not be scanned now")]
    Unavailable,
    /// Its kind is held back.
    #[error("files of this kind are not passed")]
    Kind(BodyKind),
}

impl ContentRefusal {
    /// The id in journal entries and pages. Never changes.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Infected => "FOUND",
            Self::Unscannable => "UNSCANNABLE",
            Self::Unavailable => "UNSCANNED",
            Self::Kind(_) => "KIND",
        }
    }

    /// The article it rests on.
    #[must_use]
    pub const fn article(self) -> Option<u8> {
        match self {
            Self::Infected | Self::Unscannable | Self::Unavailable => Some(27),
            Self::Kind(_) => Some(25),
        }
    }
}

/// How a body may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Scanned.
    Scanned,
    /// Not scanned now, but the same bytes were clean before; to be written down.
    KnownClean,
    /// Not scanned: short text while the scanner recovers; to be written down.
    UnscannedText,
}

/// Decides about one body of a request that the gate has let through with `verdict`.
///
/// # Errors
/// [`ContentRefusal`], the first that applies: malware before everything else.
pub fn judge(
    body: &Body<'_>,
    outcome: ScanOutcome,
    verdict: &Verdict,
    downloads: &Downloads,
    now: Timestamp,
) -> Result<Pass, ContentRefusal> {
    let kind_passes = downloads.pass(body.kind, body.digest);
    match outcome {
        ScanOutcome::Infected => Err(ContentRefusal::Infected),
        ScanOutcome::Unscannable => Err(ContentRefusal::Unscannable),
        _ if !kind_passes => Err(ContentRefusal::Kind(body.kind)),
        ScanOutcome::Clean => Ok(Pass::Scanned),
        ScanOutcome::Unavailable => unscanned(body, verdict, downloads, now),
    }
}

/// The sole exception (§1.5 of the compliance research): while a scanner that worked a quarter of an hour ago recovers,
/// or in a declared emergency, short text and bytes that were clean before pass.
fn unscanned(
    body: &Body<'_>,
    verdict: &Verdict,
    downloads: &Downloads,
    now: Timestamp,
) -> Result<Pass, ContentRefusal> {
    let window = downloads.text_seconds.clamp(0, TEXT_SECONDS);
    let recovering = body
        .scanner_proof
        .is_some_and(|proof| (-60..window).contains(&proof.age(now)));
    let emergency = window > 0 && verdict.break_glass.is_some_and(|until| now < until);
    if verdict.effect == Effect::Block || !(recovering || emergency) {
        return Err(ContentRefusal::Unavailable);
    }
    if body.known_clean {
        return Ok(Pass::KnownClean);
    }
    let short = match body.direction {
        Direction::Upload => TEXT_UPLOAD_BYTES,
        Direction::Download => TEXT_DOWNLOAD_BYTES,
    };
    if body.kind == BodyKind::Text && body.bytes <= short {
        Ok(Pass::UnscannedText)
    } else {
        Err(ContentRefusal::Unavailable)
    }
}

impl Downloads {
    /// Whether files of this kind, or this one, may pass.
    #[must_use]
    pub fn pass(&self, kind: BodyKind, digest: &[u8; 32]) -> bool {
        let permitted = match kind {
            BodyKind::Text | BodyKind::Other => true,
            BodyKind::Executable => self.executables,
            BodyKind::Script => self.scripts,
            BodyKind::Macro => self.macros,
        };
        permitted || self.listed.binary_search(digest).is_ok()
    }
}
