//! Registers as CSV: RFC 4180, UTF-8 with byte order mark, and no cell that a spreadsheet takes for a formula.

use std::collections::BTreeMap;

use crate::database::Row;
use crate::event::Event;
use crate::text::{iso, moment};
use crate::{Change, NewMedium, Register};

/// The whole register, one line for each entry of its history.
pub(crate) fn write(register: Register, events: &[(Row, Event)]) -> String {
    let mut table = Table::default();
    match register {
        Register::Media => media(&mut table, events),
        Register::Trainings => trainings(&mut table, events),
        Register::Declarations => declarations(&mut table, events),
    }
    table.0
}

fn media(table: &mut Table, events: &[(Row, Event)]) {
    table.line(&[
        "日時",
        "記録者",
        "媒体番号",
        "種類",
        "表示",
        "用途",
        "責任者",
        "保管場所",
        "記録",
        "貸出先",
        "持出先",
        "返却予定日",
        "廃棄方法",
        "立会人",
    ]);
    let mut known: BTreeMap<u64, NewMedium> = BTreeMap::new();
    for (row, event) in events {
        let (at, by) = (moment(row.at), row.by.as_str());
        match event {
            Event::Enter { medium, what } => {
                known.insert(*medium, what.clone());
                let rest = ["登録", "", "", "", "", ""];
                medium_line(table, &at, by, *medium, what, &rest);
            }
            Event::Change { medium, change } => {
                let Some(what) = known.get_mut(medium) else {
                    continue;
                };
                if let Change::Move { owner, place } = change {
                    what.owner.clone_from(owner);
                    what.place.clone_from(place);
                }
                changed(table, &at, by, *medium, what, change);
            }
            Event::Review { seen, missing } => {
                for (numbers, found) in [(seen, "点検：あり"), (missing, "点検：なし")] {
                    for number in numbers {
                        if let Some(what) = known.get(number) {
                            let rest = [found, "", "", "", "", ""];
                            medium_line(table, &at, by, *number, what, &rest);
                        }
                    }
                }
                if seen.is_empty() && missing.is_empty() {
                    let nothing = "点検：取り扱う媒体なし";
                    table.line(&[&at, by, "", "", "", "", "", "", nothing, "", "", "", "", ""]);
                }
            }
            Event::Train { .. } | Event::Declare { .. } => {}
        }
    }
}

fn changed(table: &mut Table, at: &str, by: &str, medium: u64, what: &NewMedium, change: &Change) {
    let rest: [&str; 6] = match change {
        Change::Lend { to, place, due } => {
            let due = due.map(iso).unwrap_or_default();
            let rest = ["貸出", to, place, &due, "", ""];
            return medium_line(table, at, by, medium, what, &rest);
        }
        Change::Return => ["返却", "", "", "", "", ""],
        Change::Move { .. } => ["変更", "", "", "", "", ""],
        Change::Lose => ["所在不明", "", "", "", "", ""],
        Change::Found => ["発見", "", "", "", "", ""],
        Change::Dispose { method, witness } => ["廃棄", "", "", "", method.label_ja(), witness],
        Change::WriteOff { .. } => {
            let sentence = change.sentence_ja();
            let rest = [sentence.as_str(), "", "", "", "", ""];
            return medium_line(table, at, by, medium, what, &rest);
        }
    };
    medium_line(table, at, by, medium, what, &rest);
}

fn medium_line(
    table: &mut Table,
    at: &str,
    by: &str,
    medium: u64,
    what: &NewMedium,
    rest: &[&str; 6],
) {
    let number = medium.to_string();
    let mut cells = vec![
        at,
        by,
        &number,
        what.kind.label_ja(),
        &what.label,
        &what.purpose,
        &what.owner,
        &what.place,
    ];
    cells.extend(rest);
    table.line(&cells);
}

fn trainings(table: &mut Table, events: &[(Row, Event)]) {
    table.line(&["実施日", "内容", "参加人数", "記録日時", "記録者"]);
    for (row, event) in events {
        if let Event::Train { training } = event {
            table.line(&[
                &iso(training.day),
                &training.topic,
                &training.participants.to_string(),
                &moment(row.at),
                &row.by,
            ]);
        }
    }
}

fn declarations(table: &mut Table, events: &[(Row, Event)]) {
    table.line(&["申告日時", "申告者", "項目", "備考"]);
    for (row, event) in events {
        if let Event::Declare { topic, remark } = event {
            table.line(&[&moment(row.at), &row.by, topic.label_ja(), remark]);
        }
    }
}

struct Table(String);

impl Default for Table {
    fn default() -> Self {
        Self("\u{feff}".to_owned())
    }
}

impl Table {
    fn line(&mut self, cells: &[&str]) {
        for (n, cell) in cells.iter().enumerate() {
            if n > 0 {
                self.0.push(',');
            }
            self.0.push('"');
            if begins_a_formula(cell) {
                self.0.push('\'');
            }
            self.0.push_str(&cell.replace('"', "\"\""));
            self.0.push('"');
        }
        self.0.push_str("\r\n");
    }
}

/// Characters that make a spreadsheet compute a cell, full-width forms included, which a Japanese Excel takes for the same
/// (OWASP, CSV Injection). An apostrophe before it makes it a text.
fn begins_a_formula(cell: &str) -> bool {
    cell.starts_with([
        '=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠', '|', '%',
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_never_formulas() {
        let mut table = Table::default();
        table.line(&["a\"b", "=1+1", "＠SUM", "普通,の", ""]);
        assert_eq!(
            table.0,
            "\u{feff}\"a\"\"b\",\"'=1+1\",\"'＠SUM\",\"普通,の\",\"\"\r\n"
        );
    }
}
