//! `gatewayctl notes`: how far the store of recent notes has got, in numbers only.

use serde_json::Value;

use crate::moment::shown;
use crate::table::aligned;
use crate::{Ask, Failed, socket};

/// # Errors
/// When gatewayd does not answer.
pub(crate) fn run(ask: &Ask) -> Result<u8, Failed> {
    let notes = socket::ask(&ask.socket, "notes")?;
    if ask.json {
        println!("{notes:#}");
    } else {
        print!("{}", page(&notes));
    }
    Ok(0)
}

fn waits_for(id: &str) -> &'static str {
    match id {
        "offline" => "市の連絡帳と連絡の受け取り",
        "scanner" => "ウイルス検査",
        "disk" => "ディスクの空き容量",
        "no-store" => "保存領域の準備",
        _ => "不明",
    }
}

fn page(notes: &Value) -> String {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let files = &notes["attachments"];
    let level = if notes["caught_up"] == true {
        "市と同じ内容です".to_owned()
    } else {
        format!(
            "受け取り中、または市につながっていません（前回 {}）",
            shown(notes["caught_up_at"].as_i64())
        )
    };
    let mut rows = vec![
        vec!["連絡の受け取り".to_owned(), level],
        vec![
            "　起動後に受け取った数".to_owned(),
            format!("{}件", number(&notes["received"])),
        ],
        vec![
            "保存した連絡".to_owned(),
            format!(
                "{}名・{}件",
                number(&notes["persons"]),
                number(&notes["notes"])
            ),
        ],
        vec![
            "添付".to_owned(),
            format!("{}／{}件", number(&files["done"]), number(&files["total"])),
        ],
        vec![
            "　保存できないもの".to_owned(),
            format!("{}件", number(&files["refused"])),
        ],
        vec![
            "　保存しないもの".to_owned(),
            format!("{}件", number(&files["not_kept"])),
        ],
        vec![
            "使っている容量".to_owned(),
            format!("{}KB", number(&notes["bytes"]).div_ceil(1000)),
        ],
    ];
    if number(&files["unseen"]) > 0 {
        rows.push(vec![
            "　検査し直すもの".to_owned(),
            format!(
                "{}件（ウイルス定義が新しくなりました）",
                number(&files["unseen"])
            ),
        ]);
    }
    if let Some(id) = files["waits_for"].as_str() {
        rows.push(vec![
            "添付が待っているもの".to_owned(),
            waits_for(id).to_owned(),
        ]);
    }
    if !notes["rebuilding"].is_null() {
        rows.push(vec![
            "作り直し".to_owned(),
            format!(
                "{}件まで受け取りました（終わるまで、これまでの保存分を読めます）",
                number(&notes["rebuilding"]["notes"])
            ),
        ]);
    }
    if notes["key_root"]["renewal_due"].as_bool() == Some(true) {
        rows.push(vec![
            "鍵の更新".to_owned(),
            "待っています（支援が終わった方や削除された記録の鍵は消去済み。TPMの元の鍵は更新前です）".to_owned(),
        ]);
    }
    if !notes["disk_full_since"].is_null() {
        rows.push(vec![
            "空き容量の不足".to_owned(),
            format!(
                "{}から（新しい連絡を保存できません）",
                shown(notes["disk_full_since"].as_i64())
            ),
        ]);
    }
    aligned(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_and_what_is_waited_for_are_shown() {
        let page = page(&json!({
            "caught_up": true, "received": 70, "persons": 6, "notes": 60, "bytes": 123_456,
            "attachments": { "done": 3, "total": 9, "refused": 1, "not_kept": 2, "unseen": 4, "waits_for": "scanner" },
            "disk_full_since": 0,
            "rebuilding": { "notes": 12 },
            "key_root": { "generation": 3, "renewal_due": true },
        }));
        assert!(
            page.contains("12件まで") && page.contains("鍵の更新"),
            "{page}"
        );
        assert!(
            page.contains("3／9件") && page.contains("4件（ウイルス定義"),
            "{page}"
        );
        assert!(page.contains("ウイルス検査"), "{page}");
        assert!(page.contains("1970-01-01 09:00から"), "{page}");
    }

    #[test]
    fn a_box_without_a_store_is_shown_as_such() {
        let page = page(&json!({ "open": false, "caught_up": false, "attachments": {} }));
        assert!(page.contains("0名・0件"), "{page}");
    }
}
