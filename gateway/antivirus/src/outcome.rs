//! The five answers a scan can have, kept apart so that none can be mistaken for another.
//!
//! It does not say what a person is told.

use std::io;

use crate::Kind;

/// What became of one scan. Only [`Outcome::Clean`] lets a body pass.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// clamd looked at all of it and found nothing.
    Clean,
    /// clamd found something; the name of the signature.
    Infected(String),
    /// No malware, but a kind of file that is not passed on unless the policy permits it; here, or in an archive in it.
    Forbidden(Kind),
    /// clamd works, but could not look at all of this body. Asking again gives the same answer.
    Unscannable(Unscannable),
    /// clamd could not be asked. Asking again later may help.
    Unavailable(Unavailable),
}

/// Why a body cannot be scanned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unscannable {
    /// It is larger than what the scanner takes.
    #[error("the body is larger than the scanner takes")]
    TooLarge,
    /// A limit inside was exceeded: nesting, number of files, unpacked size, time. The name of clamd's alert.
    #[error("a limit of the scanner was exceeded: {0}")]
    LimitExceeded(String),
    /// It is encrypted, whole or in part. The name of clamd's alert.
    #[error("the body is encrypted: {0}")]
    Encrypted(String),
    /// clamd reported an error about this body; its words, without the ending `ERROR`.
    #[error("the scanner could not read the body: {0}")]
    Unreadable(String),
}

/// Why clamd could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Nobody listens on its socket, or we may not connect.
    #[error("the scanner's socket cannot be reached ({0})")]
    Connect(io::ErrorKind),
    /// The connection broke while the body was sent.
    #[error("the body could not be handed to the scanner ({0})")]
    Send(io::ErrorKind),
    /// The connection broke while the answer was awaited.
    #[error("the scanner's answer could not be read ({0})")]
    Receive(io::ErrorKind),
    /// clamd closed the connection without a whole answer: it was killed in the middle of the scan.
    #[error("the scanner closed the connection without an answer")]
    NoAnswer,
    /// No answer within the time allowed: it hangs, or is overloaded.
    #[error("the scanner did not answer in time")]
    TimedOut,
    /// It called the body clean, and the EICAR test file too: it answers without looking.
    #[error("the scanner answers without looking")]
    Blind,
    /// As many scans as allowed are running already, and none ended in time.
    #[error("too many scans are running")]
    Busy,
    /// clamd is short of something: memory, disk, descriptors. Its words.
    #[error("the scanner is short of something: {0}")]
    Exhausted(String),
    /// clamd waited too long for the body.
    #[error("the scanner gave up waiting for the body")]
    GaveUp,
    /// An answer that is none of the known ones; at most its first 200 characters.
    #[error("the scanner gave an unknown answer: {0:?}")]
    Answer(String),
}
