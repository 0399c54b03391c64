//! What `gateway-update` says to people, in Japanese, and what it writes to the journal. It decides nothing.

use gateway_policy::Timestamp;
use gateway_policy::calendar::Date;
use gateway_updater::UpdateError;
use gateway_updater::decide::Reason;
use gateway_updater::health::Missing;
use gateway_updater::install::Judged;
use gateway_updater::state::{Phase, Why};
use gateway_updater::work::{Checked, Status};
use serde_json::{Value, json};

/// An error with its causes, for the journal.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// A refusal with its support code.
pub(crate) fn refusal(error: &UpdateError) -> String {
    format!("{}（サポートコード: {}）", error.sentence(), error.id())
}

/// A moment in Japan's time.
fn moment(at: Timestamp) -> String {
    let date = Date::in_japan(at);
    let seconds = at.0 - date.midnight_in_japan().0;
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}",
        date.year,
        date.month,
        date.day,
        seconds / 3600,
        seconds / 60 % 60
    )
}

const fn reason_id(reason: Reason) -> &'static str {
    match reason {
        Reason::Wave => "UPD-WAVE",
        Reason::Window => "UPD-WINDOW",
        Reason::Trial => "UPD-TRIAL",
    }
}

/// What a check came to.
pub(crate) fn checked(checked: &Checked) -> String {
    match checked {
        Checked::Nothing => "配信された更新はまだありません。".to_owned(),
        Checked::Level => "最新の版が動いています。".to_owned(),
        Checked::Waits(reason, until) => {
            let what = match reason {
                Reason::Wave => "この機器の順番を待っています",
                Reason::Window => "更新してよい時間帯を待っています",
                Reason::Trial => "新しい版の判定を待っています",
            };
            match until {
                Some(at) => format!("{what}（{}から）。", moment(*at)),
                None => format!("{what}。"),
            }
        }
        Checked::Restarts(system, _) => {
            format!("版 {} に更新するため、再起動します。", system.version)
        }
        Checked::Installed(system, _, until) => match until {
            Some(at) => format!(
                "版 {} を入れました。{}以降に再起動して切り替えます。",
                system.version,
                moment(*at)
            ),
            None => format!(
                "版 {} を入れました。次の再起動で切り替わります。",
                system.version
            ),
        },
    }
}

/// The journal's line for a check.
pub(crate) fn tell_checked(checked: &Checked) {
    match checked {
        Checked::Nothing | Checked::Level => {
            tracing::info!(event = "update", reason = "UPD-LEVEL", "nothing to update");
        }
        Checked::Waits(reason, until) => {
            let (reason, until) = (reason_id(*reason), until.map(|at| at.0));
            tracing::info!(event = "update", reason, until, "an update waits");
        }
        Checked::Restarts(system, origin) => {
            let origin = origin.unwrap_or_default();
            tracing::info!(
                event = "update-installed",
                reason = "UPD-RESTART",
                version = system.version,
                root_hash = system.root_hash,
                kept = origin.kept,
                copied = origin.copied,
                fetched = origin.fetched,
                "installed; the box restarts"
            );
        }
        Checked::Installed(system, origin, _) => tracing::info!(
            event = "update-installed",
            reason = "UPD-INSTALLED",
            version = system.version,
            root_hash = system.root_hash,
            kept = origin.kept,
            copied = origin.copied,
            fetched = origin.fetched,
            "installed; the restart waits"
        ),
    }
}

/// A verdict.
pub(crate) fn judged(judged: Judged, missing: Option<Missing>) -> String {
    let code = missing.map_or("UPD-HEALTH", Missing::id);
    match judged {
        Judged::Good => "正しく動いています。".to_owned(),
        Judged::GoBack => format!(
            "新しい版が正しく動かないため、前の版に戻します。操作は要りません（サポートコード: {code}）"
        ),
        Judged::Unwell => format!(
            "正しく動いていません。保守の担当者へ連絡してください（サポートコード: {code}）"
        ),
    }
}

/// The journal's line for a verdict.
pub(crate) fn tell_judged(judged: Judged, missing: Option<Missing>) {
    let reason = missing.map_or("UPD-GOOD", Missing::id);
    match judged {
        Judged::Good => tracing::info!(event = "update-good", reason, "what runs is good"),
        Judged::GoBack => {
            tracing::error!(
                event = "update-went-back",
                reason,
                "a new version is not good; going back"
            );
        }
        Judged::Unwell => tracing::error!(event = "update-unwell", reason, "what runs is not well"),
    }
}

/// What `retry` did.
pub(crate) const fn retried(was: bool) -> &'static str {
    if was {
        "次の確認で、失敗した版をもう一度試します。"
    } else {
        "失敗した版はありません。"
    }
}

const fn phase(phase: &Phase) -> (&'static str, &'static str) {
    match phase {
        Phase::Idle => ("idle", "更新中ではありません"),
        Phase::Fetching(_) => ("fetching", "取り込み中"),
        Phase::Written(_) => ("written", "再起動を待っています"),
        Phase::Trying(_) => ("trying", "試しています"),
        Phase::Healthy(_) => ("healthy", "正しく動いたことを記録しています"),
    }
}

/// How things stand, for people.
pub(crate) fn status(status: &Status) -> String {
    let (running, state) = (&status.running, &status.state);
    let mut lines = vec![format!(
        "動いている版: {}（スロット{}、{}）",
        running.version,
        running.slot.letter(),
        running.root_hash
    )];
    let under_way = state
        .candidate()
        .map_or(String::new(), |it| format!("（版 {}）", it.system.version));
    lines.push(format!("更新: {}{under_way}", phase(state.phase()).1));
    let floor = state.floor().unwrap_or("–");
    lines.push(format!("これより古い版は入れない: {floor}"));
    if let Some(good) = state.good() {
        lines.push(format!(
            "最後に正しく動いた更新: {}（{}）",
            good.system.version,
            moment(Timestamp(good.at))
        ));
    }
    if let Some(failed) = state.failed() {
        let why = match failed.why {
            Why::NoVerdict => "起動しなかったか、判定の前に電源が切れました",
            Why::Unhealthy => "起動しましたが、正しく動きませんでした",
        };
        lines.push(format!(
            "失敗した版: {}（{why}、{}）。もう一度試すには gateway-update retry",
            failed.version,
            moment(Timestamp(failed.at))
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// How things stand, for programs.
pub(crate) fn status_json(status: &Status) -> Value {
    let state = &status.state;
    json!({
        "running": status.running,
        "phase": phase(state.phase()).0,
        "candidate": state.candidate().map(|it| &it.system),
        "floor": state.floor(),
        "good": state.good(),
        "failed": state.failed(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_in_japans_time() {
        assert_eq!(moment(Timestamp(1_796_090_400)), "2026-12-01 11:00");
    }

    #[test]
    fn a_refusal_carries_its_support_code() {
        let text = refusal(&UpdateError::Busy);
        assert!(text.ends_with("（サポートコード: UPD-BUSY）"), "{text}");
    }
}
