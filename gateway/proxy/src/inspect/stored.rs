//! A file that the box keeps for the time when the city cannot be reached, judged like one on its way to a browser.
//!
//! One thing is stricter: what has not been scanned is not kept, whatever the hour. It does not scan.

use gateway_antivirus::{Outcome, SealedBody};
use gateway_policy::{
    Policy, Timestamp, Verdict,
    content::{self, Body, BodyKind, ContentRefusal, Direction, Pass, ScanOutcome},
};

use super::judge::body_kind;
use super::kind::{self, Kinds};

/// Judges a whole file by what the scanner said of it, its first bytes, and the end of its name (`exe`).
///
/// # Errors
/// [`ContentRefusal::Unavailable`] when it has not been scanned: ask again later. Every other is for good.
pub fn judge_stored(
    file: &SealedBody,
    outcome: &Outcome,
    (extension, digest): (&str, &[u8; 32]),
    (policy, verdict): (&Policy, &Verdict),
    now: Timestamp,
) -> Result<(), ContentRefusal> {
    let mut start = vec![0; kind::ENOUGH];
    let read = file
        .read_at(&mut start, 0)
        .map_err(|_| ContentRefusal::Unavailable)?;
    start.truncate(read);
    let mut kinds = Kinds::from(kind::of_content(&start)).and(Kinds::from(kind::of_name(
        format!("x.{extension}").as_bytes(),
    )));
    let outcome = match outcome {
        Outcome::Clean => ScanOutcome::Clean,
        Outcome::Forbidden(kind) => {
            kinds = kinds.with(*kind);
            ScanOutcome::Clean
        }
        Outcome::Infected(_) => ScanOutcome::Infected,
        Outcome::Unscannable(_) => ScanOutcome::Unscannable,
        Outcome::Unavailable(_) => return Err(ContentRefusal::Unavailable),
    };
    let body_kinds = kinds
        .iter()
        .map(body_kind)
        .chain(std::iter::once(BodyKind::Other));
    for kind in body_kinds {
        let body = Body {
            direction: Direction::Download,
            kind,
            bytes: file.len(),
            digest,
            known_clean: false,
            scanner_proof: None,
        };
        match content::judge(&body, outcome, verdict, &policy.downloads, now)? {
            Pass::Scanned => {}
            Pass::KnownClean | Pass::UnscannedText => return Err(ContentRefusal::Unavailable),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_antivirus::{Kind, Unavailable, Unscannable};
    use gateway_policy::Effect;

    fn judged(bytes: &[u8], outcome: &Outcome, extension: &str) -> Result<(), ContentRefusal> {
        let verdict = Verdict {
            effect: Effect::Allow,
            rule: None,
            since: Timestamp(0),
            deadline: None,
            // Not even in an emergency.
            break_glass: Some(Timestamp(i64::MAX)),
        };
        judge_stored(
            &SealedBody::from_bytes(bytes).unwrap(),
            outcome,
            (extension, &[0; 32]),
            (&Policy::built_in(), &verdict),
            Timestamp(1_800_000_000),
        )
    }

    #[test]
    fn only_what_was_scanned_and_is_of_no_forbidden_kind_is_kept() {
        assert_eq!(judged(b"%PDF-1.4", &Outcome::Clean, "pdf"), Ok(()));
        assert_eq!(judged(b"", &Outcome::Clean, "txt"), Ok(()));
        let silent = Outcome::Unavailable(Unavailable::TimedOut);
        assert_eq!(
            judged(b"short text", &silent, "txt"),
            Err(ContentRefusal::Unavailable)
        );
        let found = Outcome::Infected("Eicar".into());
        assert_eq!(judged(b"x", &found, "pdf"), Err(ContentRefusal::Infected));
        let sealed = Outcome::Unscannable(Unscannable::TooLarge);
        assert_eq!(
            judged(b"x", &sealed, "pdf"),
            Err(ContentRefusal::Unscannable)
        );
    }

    #[test]
    fn a_program_is_known_by_its_content_its_name_and_by_the_scanner() {
        for (bytes, outcome, extension) in [
            (&b"\x7fELF and so on"[..], Outcome::Clean, "pdf"),
            (b"harmless", Outcome::Clean, "exe"),
            (b"PK", Outcome::Forbidden(Kind::WindowsProgram), "zip"),
        ] {
            assert_eq!(
                judged(bytes, &outcome, extension),
                Err(ContentRefusal::Kind(BodyKind::Executable)),
                "{extension}"
            );
        }
    }
}
