//! `gatewayctl status`.

use serde_json::Value;

use crate::moment::shown;
use crate::table::aligned;
use crate::{Ask, Failed, socket};

/// # Errors
/// When gatewayd does not answer.
pub(crate) fn run(ask: &Ask) -> Result<u8, Failed> {
    let status = socket::ask(&ask.socket, "status")?;
    if ask.json {
        println!("{status:#}");
    } else {
        print!("{}", page(&status));
    }
    Ok(0)
}

/// What an effect does, in one sentence.
fn effect(id: &str) -> &'static str {
    match id {
        "allow" => "すべて利用できます",
        "warn" => "利用できます（注意があります）",
        "restrict" => "閲覧と文字の入力だけができます（ファイルは送受信できません）",
        "block" => "中継していません",
        _ => "不明",
    }
}

fn page(status: &Value) -> String {
    let text = |value: &Value| match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let time = |value: &Value| shown(value.as_i64());
    let audit = &status["audit"];
    let mut rows = vec![
        vec!["版".to_owned(), text(&status["version"])],
        vec!["事業所".to_owned(), text(&status["facility"])],
        vec![
            "電子証明書の期限".to_owned(),
            time(&status["certificate_until"]),
        ],
        vec![
            "判定".to_owned(),
            format!(
                "{}（{}、{}から）",
                effect(status["effect"].as_str().unwrap_or_default()),
                text(&status["rule"]),
                time(&status["since"])
            ),
        ],
        vec!["登録した端末".to_owned(), text(&status["devices"])],
        vec![
            "市のポリシーの版".to_owned(),
            text(&status["policy_version"]),
        ],
    ];
    if !status["break_glass_until"].is_null() {
        rows.push(vec![
            "緊急利用".to_owned(),
            format!("{}まで", time(&status["break_glass_until"])),
        ]);
    }
    rows.push(vec![
        "監査記録".to_owned(),
        format!("{}件", text(&audit["entries"])),
    ]);
    rows.push(vec![
        "　署名".to_owned(),
        time(&audit["checkpoint"]["time"]),
    ]);
    rows.push(vec!["　市の確認".to_owned(), time(&audit["acknowledged"])]);
    for (member, label) in [
        ("broken_since", "　改ざんの疑い"),
        ("unwritable_since", "　書き込み不可"),
    ] {
        if !audit[member].is_null() {
            rows.push(vec![
                label.to_owned(),
                format!("{}から", time(&audit[member])),
            ]);
        }
    }
    aligned(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_box_without_certificate_and_log_is_shown_as_such() {
        let page = page(
            &json!({ "version": "0.1.0", "effect": "block", "rule": "CERT", "since": 0, "audit": null }),
        );
        assert!(page.contains("事業所"), "{page}");
        assert!(
            page.contains("中継していません（CERT、1970-01-01 09:00から）"),
            "{page}"
        );
    }
}
