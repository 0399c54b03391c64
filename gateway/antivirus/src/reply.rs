//! Reads one answer of clamd. Anything but the exact word for clean is not clean.
//!
//! It does not read from a socket.

use crate::{Kind, Outcome, Unavailable, Unscannable};

/// The longest answer that is read; clamd's own are far shorter.
pub(crate) const LONGEST: usize = 4096;

/// How many characters of an unknown answer are kept for the journal.
const SHOWN: usize = 200;

/// clamd's words when it is short of something itself; any other error concerns the body.
const SHORTAGES: [&str; 6] = [
    "memory",
    "temporary",
    "open file",
    "Can't write",
    "Can't create",
    "file descriptor",
];

/// Takes the answer apart, as it came from the socket up to and including its terminator.
///
/// clamd ends an answer to a `z` command with NUL, but its time-out with a newline. Without a terminator the answer was
/// cut off, and nothing cut off may mean clean.
pub(crate) fn parse(raw: &[u8]) -> Outcome {
    let (text, whole) = match raw {
        [] => return Outcome::Unavailable(Unavailable::NoAnswer),
        [text @ .., 0] => (text, true),
        [text @ .., b'\n'] => (text, false),
        _ => return Outcome::Unavailable(Unavailable::NoAnswer),
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return unknown(&String::from_utf8_lossy(text));
    };
    if text == "COMMAND READ TIMED OUT" {
        return Outcome::Unavailable(Unavailable::GaveUp);
    }
    if !whole {
        return unknown(text);
    }
    // Sent before clamd knows what it is scanning, hence without the prefix.
    if text == "INSTREAM size limit exceeded. ERROR" {
        return Outcome::Unscannable(Unscannable::TooLarge);
    }
    if let Some(message) = text.strip_suffix(" ERROR") {
        return error(strip_subject(message).unwrap_or(message));
    }
    match strip_subject(text) {
        Some("OK") => Outcome::Clean,
        Some(found) => match found.strip_suffix(" FOUND") {
            Some(name) if !name.is_empty() => alert(name),
            _ => unknown(text),
        },
        None => unknown(text),
    }
}

/// Removes `stream: ` or `fd[7]: `, the only two things we ever ask about.
fn strip_subject(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix("stream: ") {
        return Some(rest);
    }
    let (number, rest) = text.strip_prefix("fd[")?.split_once("]: ")?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    digits.then_some(rest)
}

fn alert(name: &str) -> Outcome {
    if name.starts_with("Heuristics.Limits.Exceeded") {
        Outcome::Unscannable(Unscannable::LimitExceeded(name.to_owned()))
    } else if name.starts_with("Heuristics.Encrypted.") {
        Outcome::Unscannable(Unscannable::Encrypted(name.to_owned()))
    } else if let Some(kind) = Kind::of_alert(name) {
        Outcome::Forbidden(kind)
    } else {
        Outcome::Infected(name.to_owned())
    }
}

fn error(message: &str) -> Outcome {
    let message = shown(message);
    if SHORTAGES.iter().any(|shortage| message.contains(shortage)) {
        Outcome::Unavailable(Unavailable::Exhausted(message))
    } else {
        Outcome::Unscannable(Unscannable::Unreadable(message))
    }
}

fn unknown(text: &str) -> Outcome {
    Outcome::Unavailable(Unavailable::Answer(shown(text)))
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_two_exact_answers_for_clean_are_clean() {
        assert_eq!(parse(b"stream: OK\0"), Outcome::Clean);
        assert_eq!(parse(b"fd[12]: OK\0"), Outcome::Clean);
    }

    #[test]
    fn nearly_clean_is_not_clean() {
        for reply in [
            &b""[..],
            b"\0",
            b"OK\0",
            b"stream: OK",
            b"stream: OK\n",
            b"stream: ok\0",
            b"stream: OK \0",
            b" stream: OK\0",
            b"stream: OK FOUND\0",
            b"stream: OK ERROR\0",
            b"stream: NOT OK\0",
            b"stream: OK\0\0",
            b"fd[]: OK\0",
            b"fd[-1]: OK\0",
            b"fd[1x]: OK\0",
            b"1: stream: OK\0",
            b"/etc/passwd: OK\0",
            b"stream: \xff OK\0",
            b"PONG\0",
            b"UNKNOWN COMMAND\0",
        ] {
            assert_ne!(parse(reply), Outcome::Clean, "{reply:?}");
        }
    }

    #[test]
    fn a_found_signature_is_infected_by_its_name() {
        let infected = |name: &str| Outcome::Infected(name.to_owned());
        assert_eq!(
            parse(b"stream: Some.Name-1 FOUND\0"),
            infected("Some.Name-1")
        );
        assert_eq!(parse(b"fd[9]: OK FOUND\0"), infected("OK"));
        assert_eq!(parse(b"fd[9]: A B: OK FOUND\0"), infected("A B: OK"));
    }

    #[test]
    fn limits_and_encryption_are_unscannable_and_no_virus() {
        let limits = "Heuristics.Limits.Exceeded.MaxRecursion";
        assert_eq!(
            parse(format!("fd[9]: {limits} FOUND\0").as_bytes()),
            Outcome::Unscannable(Unscannable::LimitExceeded(limits.to_owned()))
        );
        assert_eq!(
            parse(b"stream: Heuristics.Encrypted.Zip FOUND\0"),
            Outcome::Unscannable(Unscannable::Encrypted(
                "Heuristics.Encrypted.Zip".to_owned()
            ))
        );
        assert_eq!(
            parse(b"INSTREAM size limit exceeded. ERROR\0"),
            Outcome::Unscannable(Unscannable::TooLarge)
        );
    }

    #[test]
    fn our_policy_and_macros_are_forbidden_and_no_virus() {
        assert_eq!(
            parse(b"fd[9]: Heuristics.Renraku.Policy.WindowsProgram.PE.UNOFFICIAL FOUND\0"),
            Outcome::Forbidden(Kind::WindowsProgram)
        );
        assert_eq!(
            parse(b"stream: Heuristics.OLE2.ContainsMacros.VBA FOUND\0"),
            Outcome::Forbidden(Kind::Macro)
        );
        // A name of that family which nobody knows still stops the body.
        assert!(matches!(
            parse(b"stream: Heuristics.Renraku.Policy.New.Kind FOUND\0"),
            Outcome::Infected(_)
        ));
    }

    #[test]
    fn errors_of_the_body_and_of_the_scanner_are_told_apart() {
        assert_eq!(
            parse(b"stream: Bad format or broken data ERROR\0"),
            Outcome::Unscannable(Unscannable::Unreadable(
                "Bad format or broken data".to_owned()
            ))
        );
        assert_eq!(
            parse(b"stream: Can't allocate memory ERROR\0"),
            Outcome::Unavailable(Unavailable::Exhausted("Can't allocate memory".to_owned()))
        );
    }

    #[test]
    fn a_timeout_with_a_newline_and_an_empty_answer_are_unavailable() {
        assert_eq!(
            parse(b"COMMAND READ TIMED OUT\n"),
            Outcome::Unavailable(Unavailable::GaveUp)
        );
        assert_eq!(parse(b""), Outcome::Unavailable(Unavailable::NoAnswer));
        assert_eq!(
            parse(b"stream: O"),
            Outcome::Unavailable(Unavailable::NoAnswer)
        );
    }

    #[test]
    fn an_endless_answer_is_not_kept() {
        let mut reply = vec![b'x'; LONGEST];
        reply.push(0);
        assert_eq!(
            parse(&reply),
            Outcome::Unavailable(Unavailable::Answer("x".repeat(SHOWN)))
        );
    }

    proptest! {
        #[test]
        fn no_other_bytes_are_clean(
            reply in proptest::collection::vec(
                prop_oneof![any::<u8>(), prop::sample::select(b"stream: OK\0\nfd[]0123456789".to_vec())],
                0..24,
            )
        ) {
            let text = String::from_utf8_lossy(&reply).into_owned();
            let digits = text.strip_prefix("fd[").and_then(|rest| rest.strip_suffix("]: OK\0"));
            let exact = text == "stream: OK\0"
                || digits.is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
            prop_assert_eq!(parse(&reply) == Outcome::Clean, exact);
        }
    }
}
