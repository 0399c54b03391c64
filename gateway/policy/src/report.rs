//! How the checks stand, one row for each, by article. For `gatewayctl report`, the monthly page and the city.
//! Holds no personal data and no raw evidence: ids, states, moments, and the digest of what was measured.

use serde::Serialize;

use crate::{
    Check, DeviceId, Effect, Entry, Evidence, Finding, Missing, Rule, Snapshot, Source, State,
    Subject, SubjectKind, Timestamp, hex,
};

/// How everything stands at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// When it was put together, by the box's clock, in Unix seconds.
    pub made: Timestamp,
    /// The version of the policy in force; 0 is the built-in one.
    pub policy_version: u64,
    /// Until when an emergency is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub break_glass_until: Option<Timestamp>,
    /// Facts, then the box, the facility, each device; within them in the order of [`Check::ALL`].
    pub rows: Vec<Row>,
}

/// One check of one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The rule's id.
    pub rule: &'static str,
    /// Articles of the terms of use under which it is shown.
    pub articles: &'static [u8],
    /// The article that demands it, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basis_article: Option<u8>,
    /// The place in the ministry's guideline, where no article demands it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basis_guideline: Option<&'static str>,
    /// `box`, `facility` or `device`.
    pub subject: &'static str,
    /// The device's pseudonym.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// How it stands.
    pub mark: Mark,
    /// The state behind the mark ([`State::id`]).
    pub state: &'static str,
    /// What it does to traffic.
    pub effect: Effect,
    /// Since when it stands so.
    pub since: Timestamp,
    /// When a harder effect sets in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Who says so; a declaration is not a measurement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// When it was measured last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<Timestamp>,
    /// SHA-256 of the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// How a check stands, in the five words of an auditor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Mark {
    /// As it should be.
    #[serde(rename = "PASS")]
    Pass,
    /// It does not concern this subject.
    #[serde(rename = "NOT APPLICABLE")]
    NotApplicable,
    /// Not as it should be, and time is left; or excepted.
    #[serde(rename = "WARN")]
    Warn,
    /// Nothing is known. Never counts as a pass.
    #[serde(rename = "UNKNOWN")]
    Unknown,
    /// Not as it should be.
    #[serde(rename = "FAIL")]
    Fail,
}

impl Mark {
    /// The mark of a check in this state that does this to traffic.
    #[must_use]
    pub const fn of(state: State, effect: Effect) -> Self {
        match (state, effect) {
            (State::Compliant, Effect::Allow) => Self::Pass,
            (State::NotApplicable, Effect::Allow) => Self::NotApplicable,
            (State::Unknown(_), _) => Self::Unknown,
            (State::Waived, _) | (State::Grace, Effect::Allow | Effect::Warn) => Self::Warn,
            // Only a check that never does more than warn ends here: it is not kept, and care goes on.
            (State::Failing | State::Grace | State::Compliant | State::NotApplicable, _) => {
                Self::Fail
            }
        }
    }
}

/// The articles under which a check is shown. Wider than [`Check::article`]: patches and boot integrity stand beside
/// the software of Article 26 for the reader's sake, with their true basis named in the row.
#[must_use]
pub const fn shown_under(check: Check) -> &'static [u8] {
    match check {
        Check::PcLock | Check::PcOn => &[25],
        Check::Boot | Check::Upd | Check::Sbom | Check::PcOs | Check::PcSw => &[26],
        Check::AvAlive
        | Check::AvDb
        | Check::AvSelf
        | Check::AvConf
        | Check::PcAv
        | Check::PcSig => &[27],
        Check::UsbBox | Check::PcUsb | Check::PcEnc | Check::Media => &[28],
        Check::Decl => &[28, 29],
        Check::PcRpt => &[25, 26, 27, 28],
        Check::Training => &[23],
        Check::Clock | Check::Log => &[],
    }
}

impl Report {
    /// The rows of one article.
    pub fn article(&self, number: u8) -> impl Iterator<Item = &Row> {
        self.rows
            .iter()
            .filter(move |row| row.articles.contains(&number))
    }

    /// The worst mark of an article; `None` where nothing is checked for it.
    #[must_use]
    pub fn mark(&self, article: u8) -> Option<Mark> {
        self.article(article).map(|row| row.mark).max()
    }
}

/// How everything stands at `now`.
#[must_use]
pub fn report(snapshot: &Snapshot, now: Timestamp) -> Report {
    let mut rows = facts(snapshot, now);
    let mut add = |subject, entry: Option<&Entry>, check| {
        rows.extend(entry.map(|entry| row(snapshot, subject, check, entry, now)));
    };
    for check in Check::ALL {
        match check.subject() {
            SubjectKind::Box => add(Subject::Box, snapshot.own(check), check),
            SubjectKind::Facility => add(Subject::Facility, snapshot.own(check), check),
            SubjectKind::Device => {}
        }
    }
    for device in snapshot.devices() {
        for check in Check::ALL {
            add(Subject::Device(device.id), device.check(check), check);
        }
    }
    Report {
        made: now,
        policy_version: snapshot.policy().version,
        break_glass_until: snapshot.break_glass(now),
        rows,
    }
}

fn row(snapshot: &Snapshot, subject: Subject, check: Check, entry: &Entry, now: Timestamp) -> Row {
    let time = snapshot.time(now);
    let by_clock = |at: Timestamp| at.plus(time.age(now));
    let mut effect = entry.effect(time);
    if check.subject() == SubjectKind::Facility {
        effect = effect.min(Effect::Warn);
    }
    let (name, device) = match subject {
        Subject::Box => ("box", None),
        Subject::Facility => ("facility", None),
        Subject::Device(id) => ("device", Some(id)),
    };
    let evidence = entry.evidence();
    let state = entry.state(time);
    Row {
        rule: check.id(),
        articles: shown_under(check),
        basis_article: check.article(),
        basis_guideline: check.guideline(),
        subject: name,
        device,
        mark: Mark::of(state, effect),
        state: state.id(),
        effect,
        since: by_clock(entry.since(time)),
        deadline: entry.deadline(time).map(by_clock),
        source: evidence.map(|(_, source, _)| source),
        measured: evidence.map(|(at, _, _)| by_clock(at)),
        digest: evidence.map(|(_, _, digest)| hex::encode(&digest)),
    }
}

/// Certificate, standing and the gathering of evidence: no checks of Articles 25 to 28, but they stop traffic too.
fn facts(snapshot: &Snapshot, now: Timestamp) -> Vec<Row> {
    let certificate = matches!(snapshot.certificate, Evidence::Unknown { .. });
    let standing = matches!(snapshot.standing, Evidence::Unknown { .. });
    [
        (Rule::Suspended, &[35][..], standing),
        (Rule::Cert, &[6][..], certificate),
        (Rule::SnapshotStale, &[][..], false),
    ]
    .into_iter()
    .map(|(rule, articles, unknown)| {
        let Finding {
            effect,
            since,
            deadline,
        } = rule.judge(snapshot, now);
        let state = match effect {
            _ if unknown => State::Unknown(Missing::Never),
            Effect::Allow => State::Compliant,
            Effect::Warn => State::Grace,
            Effect::Restrict | Effect::Block => State::Failing,
        };
        Row {
            rule: rule.id(),
            articles,
            basis_article: rule.article(),
            basis_guideline: None,
            subject: "box",
            device: None,
            mark: Mark::of(state, effect),
            state: state.id(),
            effect,
            since,
            deadline,
            source: Some(Source::Measured),
            measured: (!unknown).then_some(snapshot.taken),
            digest: None,
        }
    })
    .collect()
}
