//! Tells the city how the box is: checks, the newest audit checkpoint, incidents, emergencies declared. Takes its countersignature back to the log.
//!
//! What leaves here is ids, states, times and digests; devices by their pseudonyms. It judges nothing.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gateway_audit::Receipt;
use gateway_city::api::GatewayApi;
use gateway_city::backoff::{Backoff, Random, system_random};
use gateway_city::{CityError, Endpoint, Timeouts};
use gateway_policy::report::{self, Mark, Row};
use gateway_policy::{Effect, Emergency, Snapshot, Timestamp};
use gateway_posture::Image;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::audit::{Audit, Incidents, Newest, Waiting};
use crate::break_glass::Notices;
use crate::certificates::{Certificates, chain};
use crate::desk_break_glass::reason_from;
use crate::posture::{self, Posture};

/// Until the next report, when the city names no interval.
const INTERVAL: Duration = Duration::from_secs(900);
/// What the city may name.
const SHORTEST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// Reports because of something critical are at least so far apart.
const APART: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(300);
/// Checks that one report may hold; more devices than that are told of in turn by none.
const MOST_CHECKS: usize = 1000;

/// See the module.
pub(crate) struct Reporting {
    pub(crate) audit: Arc<Audit>,
    pub(crate) posture: Arc<Posture>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) endpoint: Endpoint,
    /// Of which emergencies it has been told.
    pub(crate) notices: Arc<Notices>,
    /// What happened of which it has not been told.
    pub(crate) incidents: Arc<Incidents>,
    /// The city's roots, for its countersignatures.
    pub(crate) roots: Vec<CertificateDer<'static>>,
}

/// The city's answer to a report.
#[derive(Debug, Deserialize)]
struct Answer {
    next_report_seconds: Option<u64>,
    audit: Option<Word>,
}

/// What it says of the checkpoint.
#[derive(Debug, Deserialize)]
struct Word {
    accepted: bool,
    time: Option<i64>,
    countersignature: Option<String>,
    certificates: Option<Vec<String>>,
    reason: Option<String>,
}

impl Reporting {
    /// Reports whenever there is a certificate to show.
    pub(crate) async fn run(self) {
        let mut tls = self.certificates.city_tls();
        loop {
            let Some(config) = tls.borrow_and_update().clone() else {
                if tls.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            };
            let (configs, watched) = watch::channel(config);
            let api = GatewayApi::new(self.endpoint.clone(), watched, Timeouts::default());
            tokio::select! {
                () = self.report(&api) => {}
                () = pass_on(&mut tls, &configs) => {}
            }
        }
    }

    async fn report(&self, api: &GatewayApi) {
        let mut random = system_random();
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        let mut newest = self.audit.newest();
        let mut told_failure = String::new();
        // Critical entries that the last checkpoint shown to the city covers.
        let mut told = 0;
        // A moment for the first checkpoint: it is being made while this begins.
        let _ = tokio::time::timeout(FIRST_RETRY, more_than(&mut newest, 0)).await;
        loop {
            let shown = newest.borrow().clone().filter(of_facility);
            let pause = match self.send(api, shown.as_ref()).await {
                Ok(interval) => {
                    backoff.reset();
                    told = shown.map_or(told, |shown| shown.critical);
                    told_failure.clear();
                    self.tell_of_emergencies(api).await;
                    // A tenth more or less, so that the boxes of a city do not all come at once.
                    interval.mul_f64(0.9 + 0.2 * random())
                }
                Err(error) => {
                    self.after_failure(&error, &mut backoff, &mut random, &mut told_failure)
                        .await
                }
            };
            let again = Instant::now() + pause;
            let soon = Instant::now() + APART.min(pause);
            let reachable = told_failure.is_empty();
            self.wait(api, more_than(&mut newest, told), (again, soon), reachable)
                .await;
        }
    }

    /// Until the next report is due, or soon when `more` tells that something critical has a checkpoint. Incidents go out meanwhile.
    async fn wait(
        &self,
        api: &GatewayApi,
        more: impl Future<Output = ()>,
        (again, soon): (Instant, Instant),
        reachable: bool,
    ) {
        let mut urgent = pin!(async {
            tokio::time::sleep_until(soon).await;
            more.await;
        });
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(again) => return,
                // While the city does not answer, back-off alone decides.
                () = &mut urgent, if reachable => return,
                told = self.incidents.next(), if reachable => self.tell(api, told).await,
            }
        }
    }

    /// Sends one incident until the city has it; each try has the same key and body, also after a restart.
    async fn tell(&self, api: &GatewayApi, told: Waiting) {
        let body = incident(&told).to_string();
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        let mut random = system_random();
        let mut said = String::new();
        loop {
            match api
                .post_incident(&told.key, Bytes::from(body.clone()))
                .await
            {
                Ok(_) => {
                    let (incidents, key) = (Arc::clone(&self.incidents), told.key);
                    let _ = tokio::task::spawn_blocking(move || incidents.has_arrived(&key)).await;
                    tracing::info!(
                        event = "status-report",
                        what = told.kind,
                        "the city has been told of an incident"
                    );
                    return;
                }
                Err(error) => {
                    let pause = self
                        .after_failure(&error, &mut backoff, &mut random, &mut said)
                        .await;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// The line is there: the city learns which emergencies were declared meanwhile, each once. What cannot be told now is
    /// told after the next report.
    async fn tell_of_emergencies(&self, api: &GatewayApi) {
        let record = self.posture.emergencies();
        let now = posture::now();
        let ahead = self.posture.snapshot().time(now).age(now);
        for emergency in self.notices.untold(record.emergencies()) {
            let body = emergency_notice(&emergency, ahead).to_string();
            if let Err(error) = api.post_incident(&key_of(&body), Bytes::from(body)).await {
                tracing::warn!(event = "status-report", error = %chain(&error), "the city could not be told of an emergency; trying on");
                return;
            }
            tracing::info!(
                event = "status-report",
                number = emergency.number,
                "the city has been told of an emergency"
            );
            let notices = Arc::clone(&self.notices);
            let _ = tokio::task::spawn_blocking(move || notices.was_told(&emergency)).await;
        }
    }

    async fn after_failure(
        &self,
        error: &CityError,
        backoff: &mut Backoff,
        random: &mut Random,
        told: &mut String,
    ) -> Duration {
        let text = chain(error);
        if *told != text {
            tracing::warn!(event = "status-report", error = %text, "the city could not be told how the box is; trying on");
            *told = text;
        }
        let retry_after = match error {
            CityError::Refused { retry_after, .. } => *retry_after,
            CityError::Revoked { .. } => {
                self.certificates.revoked().await;
                Some(LONGEST)
            }
            _ => None,
        };
        backoff.delay(random(), retry_after)
    }

    /// One report. Answers how long until the next.
    async fn send(&self, api: &GatewayApi, newest: Option<&Newest>) -> Result<Duration, CityError> {
        let report = status(
            self.posture.version(),
            self.posture.image(),
            &self.posture.snapshot(),
            newest,
            posture::now(),
        );
        let body = report.to_string();
        let answer = api.post_status(&key_of(&body), Bytes::from(body)).await?;
        let Ok(answer) = serde_json::from_slice::<Answer>(&answer) else {
            tracing::warn!(
                event = "status-report",
                "the city's answer to a report cannot be read"
            );
            return Ok(INTERVAL);
        };
        if let (Some(newest), Some(word)) = (newest, answer.audit) {
            self.hear(newest, word).await;
        }
        let interval = answer
            .next_report_seconds
            .map_or(INTERVAL, Duration::from_secs);
        Ok(interval.clamp(SHORTEST, LONGEST))
    }

    /// Takes the city's word on a checkpoint to the log.
    async fn hear(&self, newest: &Newest, word: Word) {
        if !word.accepted {
            let reason = word.reason.as_deref().map_or("unknown", known_reason);
            self.audit.refused(true, newest.sequence, reason);
            return;
        }
        let Some(receipt) = receipt(word) else {
            tracing::warn!(
                event = "status-report",
                "the city's countersignature cannot be read"
            );
            return;
        };
        if let Err(error) = receipt.check(&newest.signed, &self.roots) {
            tracing::error!(event = "audit-refused", check = "LOG", error = %chain(&error), "a countersignature is not the city's");
            return;
        }
        self.audit.refused(false, newest.sequence, "");
        match self
            .audit
            .sink
            .store_receipt(newest.sequence, receipt)
            .await
        {
            // The same checkpoint may be reported twice; its first countersignature stays.
            Ok(Ok(()) | Err(gateway_audit::LogError::NotOurs)) => {}
            Ok(Err(error)) => {
                tracing::error!(event = "audit-unwritable", error = %chain(&error), "a countersignature could not be kept")
            }
            Err(error) => {
                tracing::error!(event = "audit-unwritable", %error, "a countersignature could not be kept")
            }
        }
    }
}

/// The city takes checkpoints of a box that has a certificate.
const fn of_facility(newest: &Newest) -> bool {
    !newest.facility.is_empty()
}

/// Ready when there is a checkpoint for the city that covers more critical entries than `told`. Counted, because the one made for
/// such an entry may be replaced before anybody looks, by one that was made for another reason.
async fn more_than(newest: &mut watch::Receiver<Option<Newest>>, told: u64) {
    let more = |newest: &Option<Newest>| {
        newest
            .as_ref()
            .is_some_and(|newest| of_facility(newest) && newest.critical > told)
    };
    if newest.wait_for(more).await.is_err() {
        std::future::pending().await
    }
}

/// Renewed certificates go on with the same connection; ends when there is none any more.
async fn pass_on(
    tls: &mut watch::Receiver<Option<Arc<ClientConfig>>>,
    configs: &watch::Sender<Arc<ClientConfig>>,
) {
    while tls.changed().await.is_ok() {
        match tls.borrow_and_update().clone() {
            Some(next) => drop(configs.send_replace(next)),
            None => return,
        }
    }
    std::future::pending().await
}

/// The city's reasons; anything else it might say is not written to the journal.
fn known_reason(reason: &str) -> &'static str {
    [
        "signature",
        "other-facility",
        "other-log",
        "other-key",
        "smaller-count",
        "different-head",
    ]
    .into_iter()
    .find(|known| *known == reason)
    .unwrap_or("unknown")
}

fn receipt(word: Word) -> Option<Receipt> {
    let decode = |text: &String| STANDARD.decode(text).ok();
    Some(Receipt {
        at: Timestamp(word.time?),
        signature: decode(&word.countersignature?)?,
        chain: word
            .certificates?
            .iter()
            .map(decode)
            .collect::<Option<_>>()?,
    })
}

/// The same body has the same key: sent twice, it is one report.
fn key_of(body: &str) -> String {
    gateway_audit::Digest::of(&[body.as_bytes()]).to_string()[..32].to_owned()
}

fn status(
    version: &str,
    image: Option<&Image>,
    snapshot: &Snapshot,
    newest: Option<&Newest>,
    now: Timestamp,
) -> Value {
    let rows = report::report(snapshot, now).rows;
    let checks: Vec<Value> = rows.iter().take(MOST_CHECKS).map(line).collect();
    let mut report = json!({
        "version": version,
        "slot": image.and_then(|image| image.slot.as_deref()).unwrap_or("none"),
        "checks": checks,
    });
    if let Some(root_hash) = image.and_then(|image| image.root_hash.as_deref()) {
        report["root_hash"] = root_hash.into();
    }
    if let Some(newest) = newest {
        report["checkpoint"] = json!({
            "checkpoint": STANDARD.encode(&newest.signed.checkpoint),
            "signature": STANDARD.encode(&newest.signed.signature),
            "key": STANDARD.encode(&newest.key),
        });
    }
    report
}

fn line(row: &Row) -> Value {
    let mut line = json!({
        "id": row.rule,
        "state": word(row),
        "since": written(row.since),
    });
    if let Some(device) = row.device {
        line["device"] = device.to_string().into();
    }
    if let Some(digest) = &row.digest {
        line["evidence"] = digest.as_str().into();
    }
    line
}

/// What the interface calls the state: what it does to traffic, or why it does nothing.
const fn word(row: &Row) -> &'static str {
    match (row.effect, row.mark) {
        (Effect::Block, _) => "block",
        (Effect::Restrict, _) => "restrict",
        (_, Mark::Unknown) => "unknown",
        (Effect::Warn, _) => "warn",
        (Effect::Allow, Mark::NotApplicable) => "not_applicable",
        (Effect::Allow, Mark::Pass) => "ok",
        (Effect::Allow, Mark::Warn | Mark::Fail) => "grace",
    }
}

fn incident(told: &Waiting) -> Value {
    let summary = match told.kind.as_str() {
        "malware" => "検査で見つかったため、転送せずに止めました。",
        "tampering" => "監査記録が変更されていました。元の記録は別に保管しています。",
        "lost-device" => "登録した端末を紛失したと届け出がありました。",
        "misuse" => "不正な利用の疑いがあります。",
        _ => "機器からの連絡です。",
    };
    let mut report = json!({
        "id": format!("AUDIT-{}", told.key.get(..16).unwrap_or_default()),
        "kind": told.kind,
        "at": written(Timestamp(told.at)),
        "summary": summary,
    });
    for (member, value) in [
        ("evidence", &told.evidence),
        ("signature", &told.signature),
        ("direction", &told.direction),
    ] {
        if let Some(value) = value {
            report[member] = value.as_str().into();
        }
    }
    report
}

/// What the city is told of an emergency that was declared here. `ahead`: what is added to the ledger's time to have the
/// clock's, in seconds.
fn emergency_notice(emergency: &Emergency, ahead: i64) -> Value {
    let reason = reason_from(emergency.reason).label();
    let by = if emergency.by_code {
        "金庫のコード"
    } else {
        "管理者の暗証番号"
    };
    let until = written(emergency.until.plus(ahead));
    json!({
        "id": format!("BREAK-GLASS-{}-{}", emergency.number, emergency.until.0),
        "kind": "break-glass",
        "at": written(emergency.opened.plus(ahead)),
        "summary": format!("非常時の解除が行われました（理由：{reason}、方法：{by}、期限：{until}）。"),
    })
}

fn written(at: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp(at.0)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .format(&Rfc3339)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_holds_ids_states_times_and_digests_and_nothing_else() {
        let now = Timestamp(1_795_000_000);
        let report = status("0.2.0", None, &Snapshot::nothing_known(now), None, now);
        assert_eq!(report["slot"], "none");
        let checks = report["checks"].as_array().unwrap();
        assert!(checks.len() > 10);
        for check in checks {
            for (name, value) in check.as_object().unwrap() {
                assert!(
                    ["id", "state", "since", "evidence", "device"].contains(&name.as_str()),
                    "{name}"
                );
                assert!(value.as_str().unwrap().is_ascii());
            }
        }
        assert_eq!(key_of("a"), key_of("a"));
        assert_ne!(key_of("a"), key_of("b"));
    }

    #[test]
    fn a_report_names_what_runs_as_it_was_started() {
        let now = Timestamp(1_795_000_000);
        let image = Image {
            version: "0.2.0".to_owned(),
            root_hash: Some("5a".repeat(32)),
            slot: Some("b".to_owned()),
        };
        let nothing = Snapshot::nothing_known(now);
        let report = status(&image.version, Some(&image), &nothing, None, now);
        assert_eq!(report["version"], "0.2.0");
        assert_eq!(report["slot"], "b");
        assert_eq!(report["root_hash"], "5a".repeat(32));
    }

    #[tokio::test]
    async fn a_checkpoint_of_something_critical_is_due_also_when_another_has_replaced_it() {
        let made = |facility: &str, critical| {
            Some(Newest {
                signed: gateway_audit::SignedCheckpoint {
                    checkpoint: Vec::new(),
                    signature: Vec::new(),
                },
                sequence: 1,
                facility: facility.to_owned(),
                key: Vec::new(),
                critical,
            })
        };
        let (sender, mut newest) = watch::channel(made("", 3));
        let mut is_due = async |told| {
            let more = more_than(&mut newest, told);
            tokio::time::timeout(Duration::ZERO, more).await.is_ok()
        };
        assert!(!is_due(2).await, "the box has no certificate yet");
        // For the certificate, and nobody looked at the one before.
        sender.send_replace(made("tkh-1001", 3));
        assert!(is_due(2).await);
        assert!(!is_due(3).await);
        // For something critical; then the hourly one, before anybody looked.
        sender.send_replace(made("tkh-1001", 4));
        sender.send_replace(made("tkh-1001", 4));
        assert!(is_due(3).await);
        assert!(!is_due(4).await);
    }

    #[test]
    fn half_a_countersignature_is_none() {
        let word = |text: &str| receipt(serde_json::from_str(text).unwrap());
        assert!(
            word(r#"{"accepted":true,"time":5,"countersignature":"AAAA","certificates":["AAAA"]}"#)
                .is_some()
        );
        for half in [
            r#"{"accepted":true,"time":5,"countersignature":"AAAA"}"#,
            r#"{"accepted":true,"countersignature":"AAAA","certificates":["AAAA"]}"#,
            r#"{"accepted":true,"time":5,"countersignature":"?","certificates":[]}"#,
        ] {
            assert!(word(half).is_none(), "{half}");
        }
    }
}
