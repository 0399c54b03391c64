//! docs/compliance.md says of every check what the code does.

use gateway_policy::{Authority, Check, Effect, Ladder, Part, SubjectKind, Wait, built_in};

const DOCUMENT: &str = include_str!("../../../../docs/compliance.md");

fn wait(wait: Wait) -> Option<String> {
    match wait {
        Wait::Never => None,
        Wait::Seconds(0) => Some("now".into()),
        Wait::Seconds(s) if s % 86_400 == 0 => Some(format!("{} d", s / 86_400)),
        Wait::Seconds(s) if s % 3600 == 0 => Some(format!("{} h", s / 3600)),
        Wait::Seconds(s) => Some(format!("{} min", s / 60)),
        Wait::BusinessDays(days) => Some(format!("{days} working days")),
    }
}

fn ladder(ladder: &Ladder) -> String {
    let rungs = [
        ("w", Effect::Warn),
        ("r", Effect::Restrict),
        ("b", Effect::Block),
    ];
    let said: Vec<String> = rungs
        .into_iter()
        .filter_map(|(letter, effect)| Some(format!("{letter} {}", wait(ladder.rung(effect))?)))
        .collect();
    if said.is_empty() {
        "–".into()
    } else {
        said.join(", ")
    }
}

/// Which ladders a measurement of this check ever uses.
fn used(check: Check, part: Part) -> bool {
    let dated = [
        Check::AvDb,
        Check::PcSig,
        Check::Clock,
        Check::Log,
        Check::Media,
        Check::Decl,
        Check::Training,
    ];
    let graded = [Check::UsbBox, Check::Log, Check::PcSw, Check::PcUsb];
    match part {
        Part::Dated => dated.contains(&check),
        Part::Minor => graded.contains(&check),
        Part::Major => check.subject() != SubjectKind::Facility,
        Part::Stale | Part::Unknown => true,
    }
}

fn row(check: Check) -> String {
    let cell = |part| {
        if used(check, part) {
            ladder(built_in(check).part(part))
        } else {
            "–".into()
        }
    };
    let basis = match (check.article(), check.guideline()) {
        (Some(article), _) => format!("第{article}条"),
        (None, Some(guideline)) => guideline.into(),
        (None, None) => "–".into(),
    };
    let may = |by: Authority, name: &str| {
        by.may_waive(check)
            .map(|s| format!("{name} {} d", s / 86_400))
    };
    let waivers: Vec<String> = [
        may(Authority::City, "city"),
        may(Authority::Manager, "manager"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let waivers = if waivers.is_empty() {
        "nobody".into()
    } else {
        waivers.join(", ")
    };
    format!(
        "| {} | {basis} | {} | {} | {} | {} | {} | {waivers} |",
        check.id(),
        cell(Part::Dated),
        cell(Part::Minor),
        cell(Part::Major),
        cell(Part::Stale),
        cell(Part::Unknown),
    )
}

#[test]
fn the_table_in_the_documentation_is_the_table_in_the_code() {
    let table = Check::ALL.map(row).join("\n");
    assert!(
        DOCUMENT.contains(&table),
        "docs/compliance.md should say:\n{table}"
    );
}
