//! The report: five marks, honest bases, stable ids, nothing personal.

use gateway_policy::report::{Mark, report, shown_under};
use gateway_policy::{Check, Grade, Snapshot};

use crate::stand::{DAY, NOW, PC, fail, good, snapshot, tell, well, well_but};

#[test]
fn a_box_in_order_passes_every_article() {
    let report = report(&good(), NOW);
    for article in [6, 23, 25, 26, 27, 28, 29, 35] {
        assert_eq!(report.mark(article), Some(Mark::Pass), "{article}");
    }
    assert_eq!(report.mark(12), None);
    assert_eq!(report.rows.len(), 3 + Check::ALL.len());
}

#[test]
fn what_is_not_known_is_never_a_pass() {
    let report = report(&Snapshot::nothing_known(NOW), NOW);
    let checks = report
        .rows
        .iter()
        .filter(|row| Check::parse(row.rule).is_some());
    for row in checks {
        assert_eq!(row.mark, Mark::Unknown, "{}", row.rule);
        assert_eq!((row.measured, &row.digest), (None, &None));
    }
}

#[test]
fn marks_follow_states() {
    let mut ledger = well_but(NOW, &[Check::PcEnc]);
    let unconcerned = gateway_policy::Observation::NotApplicable;
    tell(&mut ledger, Check::PcEnc, unconcerned, NOW);
    tell(&mut ledger, Check::PcAv, fail(Grade::Major), NOW);
    tell(&mut ledger, Check::PcOn, fail(Grade::Major), NOW);
    let mark = |check: Check, later| {
        let now = NOW.plus(later);
        let report = report(&snapshot(&ledger, now), now);
        let row = report.rows.iter().find(|row| row.rule == check.id());
        row.unwrap().mark
    };
    assert_eq!(mark(Check::PcEnc, 0), Mark::NotApplicable);
    assert_eq!(mark(Check::PcAv, 0), Mark::Warn);
    assert_eq!(mark(Check::PcAv, DAY), Mark::Fail);
    assert_eq!(mark(Check::PcOn, 0), Mark::Fail);
    assert_eq!(mark(Check::PcRpt, DAY), Mark::Unknown);
}

#[test]
fn the_words_of_the_json_are_stable() {
    let mut ledger = well(NOW);
    tell(&mut ledger, Check::PcAv, fail(Grade::Major), NOW);
    let report = report(&snapshot(&ledger, NOW), NOW);
    let json = serde_json::to_value(&report).unwrap();
    let row = json["rows"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["rule"] == "PC-AV")
        .unwrap();
    assert_eq!(
        *row,
        serde_json::json!({
            "rule": "PC-AV",
            "articles": [27],
            "basis_article": 27,
            "subject": "device",
            "device": PC.to_string(),
            "mark": "WARN",
            "state": "grace",
            "effect": "warn",
            "since": NOW.0,
            "deadline": NOW.0 + 1800,
            "source": "agent",
            "measured": NOW.0,
            "digest": "01".repeat(32),
        })
    );
}

#[test]
fn a_check_names_the_article_it_rests_on_or_the_guideline_and_never_both() {
    for check in Check::ALL {
        assert!(
            check.article().is_none() || check.guideline().is_none(),
            "{check:?}"
        );
        if let Some(article) = check.article() {
            assert!(shown_under(check).contains(&article), "{check:?}");
        }
    }
}
