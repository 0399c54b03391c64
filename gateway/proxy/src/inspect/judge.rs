//! Is this body clean? The one question of both steps: the cache, the scanner, the city's policy, in this order.
//!
//! It does not collect bodies and does not answer clients.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gateway_antivirus::{Kind, Outcome, SealedBody, Unavailable};
use gateway_policy::{
    Area, Check, Policy, Timestamp,
    content::{self, Body, BodyKind, ScanOutcome},
};

use super::{
    Inspector, Terms,
    fingerprint::Fingerprint,
    gather::Gathered,
    held::{Storage, Whole},
    kind::{self, Kinds},
    reading::Reading,
    room::Room,
    stopped::{Cause, Direction, Stopped, Why},
    together::Turn,
    views::{self, Inside, Opaque},
};

/// How long a scan may take while the scanner is known not to answer.
const BRIEF: Duration = Duration::from_secs(2);
/// How often a silent scanner is asked whether it is back.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// What may become larger than this is taken apart on another thread.
const ASIDE: u64 = 1024 * 1024;
/// So many times its size becomes of an ordinary page when it is unpacked, at most.
const ORDINARY: u64 = 20;
/// And what even the most repetitive page is allowed at once.
const PAGE: u64 = 1024 * 1024;

impl Inspector {
    /// Judges a collected body. `named` is what its name claims it to be.
    pub(super) async fn judge(
        &self,
        gathered: Gathered,
        reading: &Reading,
        named: Kinds,
        direction: Direction,
        terms: Terms,
    ) -> Result<Whole, Stopped> {
        let Gathered { whole, fingerprint } = gathered;
        let database = *self.database.borrow();
        if let Some(kinds) = self.clean.get(fingerprint, database) {
            let kinds = kinds.and(named);
            if kinds != Kinds::NONE {
                let decided = self.decide(kinds, &whole, direction, terms);
                decided.map_err(|stopped| stopped.of(|| sha256(&whole)))?;
            }
            return Ok(whole);
        }
        if whole.length == 0 {
            return Ok(whole);
        }
        // Boxed: what is seldom must not make every request's future larger.
        let asked = (fingerprint, database);
        let examining = self.examine_once(whole, asked, reading, direction, terms);
        let (whole, kinds) = Box::pin(examining).await?;
        let decided = self.decide(kinds.and(named), &whole, direction, terms);
        decided.map_err(|stopped| stopped.of(|| sha256(&whole)))?;
        Ok(whole)
    }

    /// Asks the city's policy about what a clean body turned out to be (第25条).
    fn decide(
        &self,
        kinds: Kinds,
        whole: &Whole,
        direction: Direction,
        terms: Terms,
    ) -> Result<(), Stopped> {
        if kinds == Kinds::NONE {
            return Ok(());
        }
        let (policy, now) = self.policy();
        let digest = if policy.downloads.listed.is_empty() {
            [0; 32]
        } else {
            sha256(whole)
        };
        for kind in kinds.iter() {
            let body = Body {
                direction: direction.in_policy(),
                kind: body_kind(kind),
                bytes: whole.length,
                digest: &digest,
                known_clean: true,
                scanner_proof: None,
            };
            content::judge(
                &body,
                ScanOutcome::Clean,
                &terms.verdict,
                &policy.downloads,
                now,
            )
            .map_err(|_| Stopped::new(direction, Why::Forbidden(kind)))?;
        }
        Ok(())
    }

    /// Asks the policy whether a body may pass although the scanner does not answer.
    fn passes_unscanned(
        &self,
        whole: &Whole,
        text: bool,
        known_clean: bool,
        direction: Direction,
        terms: Terms,
    ) -> bool {
        let (policy, now) = self.policy();
        let body = Body {
            direction: direction.in_policy(),
            kind: if text {
                BodyKind::Text
            } else {
                BodyKind::Other
            },
            bytes: whole.length,
            digest: &[0; 32],
            known_clean,
            scanner_proof: self.scanner_proof(),
        };
        let judged = content::judge(
            &body,
            ScanOutcome::Unavailable,
            &terms.verdict,
            &policy.downloads,
            now,
        );
        // The public portal is open to everybody whatever the verdict (第17条): its pages pass beyond the window too.
        let public = terms.area == Area::Public
            && direction == Direction::Download
            && text
            && whole.length <= content::TEXT_DOWNLOAD_BYTES;
        judged.is_ok() || public
    }

    fn policy(&self) -> (Arc<Policy>, Timestamp) {
        match self.evidence.get() {
            Some((snapshot, clock)) => (Arc::clone(snapshot.load().policy()), clock()),
            None => (Arc::new(Policy::built_in()), Timestamp(0)),
        }
    }

    /// When the scanner last caught its canary.
    fn scanner_proof(&self) -> Option<Timestamp> {
        let (snapshot, _) = self.evidence.get()?;
        snapshot.load().own(Check::AvAlive)?.proof()
    }

    /// Judges a body that is not known, unless another who asks about the same body is doing so already.
    async fn examine_once(
        &self,
        whole: Whole,
        (fingerprint, database): (Fingerprint, u64),
        reading: &Reading,
        direction: Direction,
        terms: Terms,
    ) -> Result<(Whole, Kinds), Stopped> {
        let question = (fingerprint, database, direction == Direction::Upload);
        let under_way = match self.scans.turn(question).await {
            Turn::Mine(under_way) => under_way,
            Turn::Found(found) => return found.map(|kinds| (whole, kinds)),
        };
        let examining = self.examine(whole, fingerprint, reading, direction, terms);
        let examined = examining.await;
        under_way.end(match &examined {
            // Not what passed although the scanner does not answer: that is for each to be decided.
            Ok(_) => self.clean.get(fingerprint, database).map(Ok),
            Err(stopped) => matches!(stopped.why, Why::Infected | Why::Unscannable(_))
                .then(|| Err(stopped.clone())),
        });
        examined
    }

    /// Judges a body that is not known: clean, and of these kinds.
    async fn examine(
        &self,
        whole: Whole,
        fingerprint: Fingerprint,
        reading: &Reading,
        direction: Direction,
        terms: Terms,
    ) -> Result<(Whole, Kinds), Stopped> {
        let stop = |why: Why| Stopped::new(direction, why);
        let start = whole.start(kind::ENOUGH).map_err(|_| stop(Why::NoRoom))?;
        let mut room = self.room();
        let inside = if views::is_worth_opening(reading, &start) {
            let opened = self.open(&whole, reading, &mut room).await;
            opened.map_err(|why| stop(why).of(|| sha256(&whole)))?
        } else {
            Inside::default()
        };
        let whole = seal(whole).map_err(|_| stop(Why::NoRoom))?;
        let kinds = Kinds::from(kind::of_content(&start));
        let found = self.found(
            &whole,
            (kinds, inside),
            fingerprint,
            reading,
            direction,
            terms,
        );
        match found.await {
            Ok(kinds) => Ok((whole, kinds)),
            // Only now: what passes is never hashed for this.
            Err(stopped) => Err(stopped.of(|| sha256(&whole))),
        }
    }

    /// What the scanner finds in a sealed body and in what is inside it.
    async fn found(
        &self,
        whole: &Whole,
        (mut kinds, inside): (Kinds, Inside),
        fingerprint: Fingerprint,
        reading: &Reading,
        direction: Direction,
        terms: Terms,
    ) -> Result<Kinds, Stopped> {
        let stop = |why: Why| Stopped::new(direction, why);
        let began = Instant::now();
        let database = *self.database.borrow();
        let Storage::Sealed(sealed) = &whole.storage else {
            return Err(stop(Why::NoRoom));
        };
        match self.scan(sealed).await {
            Outcome::Clean => {}
            Outcome::Forbidden(kind) => kinds = kinds.with(kind),
            Outcome::Unavailable(why) => {
                // What a form holds is text if all its values are, as their receiver sees them.
                let form = reading.form && inside.views.iter().all(|view| is_text(view));
                let text = (inside.views.is_empty() || form)
                    && !reading.gzip
                    && reading.boundary.is_none()
                    && kinds == Kinds::NONE
                    && whole.length <= content::TEXT_DOWNLOAD_BYTES
                    && whole.contiguous().is_ok_and(|body| is_text(&body));
                let known = self.clean.before(fingerprint, database);
                if !self.passes_unscanned(whole, text, known.is_some(), direction, terms) {
                    return Err(stop(why.into()));
                }
                tracing::info!(target: "renraku::content", outcome = "unscanned", ?direction, bytes = whole.length, text, known = known.is_some(), check = "AV-ALIVE", article = 27, "a body passed while the scanner does not answer");
                return Ok(kinds.and(known.unwrap_or_default()));
            }
            other => {
                return Err(self
                    .narrowed(stopped(other, direction), &inside.views)
                    .await);
            }
        }
        kinds = kinds.and(inside.kinds);
        for view in &inside.views {
            kinds = kinds.and(self.view(view, database, direction).await?);
        }
        self.clean.insert(fingerprint, database, kinds);
        tracing::debug!(
            target: "renraku::content",
            outcome = "clean",
            ?direction,
            bytes = whole.length,
            inside = inside.views.len(),
            micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        );
        Ok(kinds)
    }

    /// Takes a body apart in memory that is counted. What is compressed is first given as much as ordinary pages need, and
    /// only then all that is allowed: a few bytes must not claim megabytes.
    async fn open(&self, whole: &Whole, reading: &Reading, room: &mut Room) -> Result<Inside, Why> {
        let body = whole.contiguous().map_err(|_| Why::NoRoom)?;
        let largest = self.scanner.largest();
        let ordinary = whole.length.saturating_mul(ORDINARY).max(PAGE).min(largest);
        let bounds = if reading.gzip {
            [ordinary, largest]
        } else {
            [whole.length, largest]
        };
        for bound in bounds {
            room.hold(bound * 2).await.map_err(|_| Why::NoRoom)?;
            match opened(body.clone(), reading, bound).await? {
                Err(Opaque::TooLarge) if bound < largest => {}
                inside => return Ok(inside?),
            }
        }
        Err(Why::Unscannable(Cause::UnpackedSize))
    }

    /// Judges one body inside another.
    async fn view(
        &self,
        view: &Bytes,
        database: u64,
        direction: Direction,
    ) -> Result<Kinds, Stopped> {
        let fingerprint = self.key.of(view);
        if let Some(kinds) = self.clean.get(fingerprint, database) {
            return Ok(kinds);
        }
        let sealed =
            SealedBody::from_bytes(view).map_err(|_| Stopped::new(direction, Why::NoRoom))?;
        let mut kinds = Kinds::from(kind::of_content(view));
        match self.scan(&sealed).await {
            Outcome::Clean => {}
            Outcome::Forbidden(kind) => kinds = kinds.with(kind),
            other => return Err(stopped(other, direction).of(|| sha256_of(view))),
        }
        // A view in JSON of its own is opened where it is found; as a body it would be opened anew.
        if !views::is_worth_opening(&Reading::default(), view) {
            self.clean.insert(fingerprint, database, kinds);
        }
        Ok(kinds)
    }

    /// Of a form in which something was found, the file that it was found in: a form has another digest each time.
    async fn narrowed(&self, stopped: Stopped, views: &[Bytes]) -> Stopped {
        if stopped.why != Why::Infected {
            return stopped;
        }
        for view in views {
            if let Ok(sealed) = SealedBody::from_bytes(view)
                && matches!(self.scan(&sealed).await, Outcome::Infected(_))
            {
                return stopped.of(|| sha256_of(view));
            }
        }
        stopped
    }

    /// Asks the scanner; if it does not answer, waits for it and asks once more. While it is known not to answer, whoever
    /// comes next waits only briefly: they would all wait in vain.
    async fn scan(&self, body: &SealedBody) -> Outcome {
        let was_silent = self.silent.load(Ordering::Relaxed);
        let scan = self.scanner.scan(body);
        let first = if was_silent {
            let scan = tokio::time::timeout(BRIEF, scan).await;
            scan.unwrap_or(Outcome::Unavailable(Unavailable::TimedOut))
        } else {
            scan.await
        };
        let Outcome::Unavailable(_) = first else {
            self.silent.store(false, Ordering::Relaxed);
            return first;
        };
        self.trouble.notify_one();
        let wait = if was_silent {
            BRIEF
        } else {
            self.limits.scanner_wait
        };
        let back =
            tokio::time::timeout(wait.min(self.limits.scanner_wait), self.until_it_answers());
        let second = match back.await {
            Ok(()) => self.scanner.scan(body).await,
            Err(_) => first,
        };
        let silent = matches!(second, Outcome::Unavailable(_));
        self.silent.store(silent, Ordering::Relaxed);
        second
    }

    async fn until_it_answers(&self) {
        loop {
            tokio::time::sleep(ASK_AGAIN).await;
            if self.scanner.ping().await.is_ok() {
                return;
            }
        }
    }
}

/// Opens a body, on another thread if that may take long.
async fn opened(body: Bytes, reading: &Reading, bound: u64) -> Result<Result<Inside, Opaque>, Why> {
    if bound <= ASIDE {
        return Ok(views::open(body, reading, bound));
    }
    let reading = reading.clone();
    tokio::task::spawn_blocking(move || views::open(body, &reading, bound))
        .await
        .map_err(|_| Why::NoRoom)
}

fn stopped(outcome: Outcome, direction: Direction) -> Stopped {
    match outcome {
        Outcome::Infected(signature) => Stopped::infected(direction, signature),
        Outcome::Forbidden(kind) => Stopped::new(direction, Why::Forbidden(kind)),
        Outcome::Unscannable(why) => Stopped::new(direction, why.into()),
        Outcome::Unavailable(why) => Stopped::new(direction, why.into()),
        // Not reached: whoever asks has taken the clean ones out. Were it, nothing would pass.
        Outcome::Clean => Stopped::new(direction, Why::Unscannable(Cause::Unreadable)),
    }
}

/// Puts a body where the scanner can read it and nobody can change it. What was scanned is then what goes on.
fn seal(whole: Whole) -> Result<Whole, gateway_antivirus::BodyError> {
    let mut body = match &whole.storage {
        Storage::Sealed(_) => return Ok(whole),
        _ => gateway_antivirus::Body::new(whole.length)?,
    };
    match &whole.storage {
        Storage::One(bytes) => body.append(bytes)?,
        Storage::Pieces(pieces) => {
            for piece in pieces {
                body.append(piece)?;
            }
        }
        Storage::Nothing | Storage::Sealed(_) => {}
    }
    Ok(Whole {
        storage: Storage::Sealed(body.seal()?),
        ..whole
    })
}

/// Documents that may be written in letters alone.
const DOCUMENTS: [&[u8]; 3] = [b"%PDF-", b"{\\rtf", b"%!PS"];

/// UTF-8 without control characters, and not a document in disguise.
fn is_text(body: &[u8]) -> bool {
    let control = |byte: &u8| *byte < b' ' && !b"\t\n\r\x0c".contains(byte) || *byte == 0x7f;
    !DOCUMENTS.iter().any(|magic| body.starts_with(magic))
        && !body.iter().any(control)
        && std::str::from_utf8(body).is_ok()
}

/// By which the city lists single files that pass, and by which one that was stopped is known again.
fn sha256(whole: &Whole) -> [u8; 32] {
    whole.contiguous().map_or([0; 32], |body| sha256_of(&body))
}

fn sha256_of(body: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    digest.copy_from_slice(sum.as_ref());
    digest
}

/// The city's policy knows fewer kinds than the scanner.
pub(super) const fn body_kind(kind: Kind) -> BodyKind {
    match kind {
        Kind::WindowsProgram
        | Kind::LinuxProgram
        | Kind::MacProgram
        | Kind::Java
        | Kind::Android
        | Kind::Shortcut
        | Kind::Installer => BodyKind::Executable,
        Kind::Script => BodyKind::Script,
        Kind::Macro => BodyKind::Macro,
    }
}
