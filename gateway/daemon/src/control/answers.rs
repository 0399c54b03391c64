//! What the control socket answers, from the newest snapshot. Ids, states, times and digests; devices by their pseudonyms.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gateway_accesslog::count_by_day;
use gateway_policy::calendar::Date;
use gateway_policy::report::{self, Report};
use gateway_policy::{Check, Gate, Rule, Timestamp};
use serde_json::{Value, json};

use crate::accesses::Accesses;
use crate::audit::Audit;
use crate::certificates::Certificates;
use crate::posture::{self, Posture};
use crate::progress::Progress;

/// Accesses are counted so far back, in seconds.
const COUNTED: i64 = 31 * 86_400;

/// Everything that is asked for.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) posture: Arc<Posture>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) accesses: Arc<Accesses>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) progress: Arc<Progress>,
}

impl Answers {
    /// How the box is, in a few lines.
    pub(crate) async fn status(&self) -> Value {
        let now = posture::now();
        let snapshot = self.posture.snapshot();
        let verdict = Gate::new().box_verdict(&snapshot, now);
        let identity = self.certificates.identity().await;
        let audit = self.audit.status.borrow().clone();
        json!({
            "time": now.0,
            "version": env!("CARGO_PKG_VERSION"),
            "facility": identity.as_ref().map(|identity| identity.facility_id.clone()),
            "certificate_until": identity.as_ref().map(|identity| identity.not_after.unix_timestamp()),
            "effect": verdict.effect.id(),
            "rule": verdict.rule.map_or("OK", Rule::id),
            "since": verdict.since.0,
            "devices": snapshot.devices().iter().filter(|device| device.revoked.is_none()).count(),
            "break_glass_until": snapshot.break_glass(now).map(|until| until.0),
            "policy_version": snapshot.policy().version,
            "audit": audit.map(|audit| json!({
                "log": audit.log,
                "entries": audit.written.0,
                "checkpoint": audit.checkpoint.map(|checkpoint| json!({ "sequence": checkpoint.sequence, "entries": checkpoint.count, "time": checkpoint.at.0 })),
                "acknowledged": audit.acknowledged.map(|at| at.0),
                "broken_since": audit.broken.map(|at| at.0),
                "unwritable_since": audit.unwritable.map(|at| at.0),
                "lost": audit.lost,
            })),
        })
    }

    /// What makes a new system a good one, for `gateway-update health`, which decides.
    pub(crate) async fn health(&self) -> Value {
        // What was measured before this start says nothing about the release that runs now.
        let scanner = self.posture.is_proved_since_the_start(Check::AvAlive);
        let city = if self.progress.is_caught_up() {
            "reached"
        } else if gateway_posture::System::new("/").has_link() {
            "away"
        } else {
            "no-link"
        };
        json!({
            "provisioned": self.certificates.identity().await.is_some(),
            "city": city,
            "scanner": scanner,
            "store": self.progress.notes.store().is_some(),
        })
    }

    /// Accesses to stored notes by day, and nothing else of them; `null` while the log is not open.
    pub(crate) async fn accesses(&self) -> Value {
        let Some(book) = self.accesses.book() else {
            return json!({ "open": false, "days": {} });
        };
        let now = posture::now();
        let counting = tokio::task::spawn_blocking(move || {
            count_by_day(book.dir(), now.plus(-COUNTED), now.plus(1))
        });
        match counting.await {
            Ok(Ok(days)) => {
                let days: BTreeMap<String, u64> = days
                    .into_iter()
                    .map(|(day, count)| (written(day), count))
                    .collect();
                json!({ "open": true, "days": days })
            }
            _ => json!({ "open": false, "days": {} }),
        }
    }

    /// Every check of every subject, and what each article comes to.
    pub(crate) async fn report(&self) -> Value {
        let report = report::report(&self.posture.snapshot(), posture::now());
        let articles: Vec<Value> = articles(&report)
            .into_iter()
            .map(|article| json!({ "article": article, "mark": report.mark(article) }))
            .collect();
        let identity = self.certificates.identity().await;
        let mut value = serde_json::to_value(&report).unwrap_or_default();
        value["facility"] = identity.map(|identity| identity.facility_id).into();
        value["articles"] = articles.into();
        value
    }
}

/// A day, counted from 1970 in Japan's time.
fn written(day: i64) -> String {
    let date = Date::in_japan(Timestamp(day * 86_400 - 9 * 3600));
    format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)
}

/// The articles that something was looked at for.
fn articles(report: &Report) -> BTreeSet<u8> {
    report
        .rows
        .iter()
        .flat_map(|row| row.articles.iter().copied())
        .collect()
}
