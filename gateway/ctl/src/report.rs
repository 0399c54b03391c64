//! `gatewayctl report`: what each article of the terms of use comes to, with the evidence.

use serde_json::{Value, json};

use crate::moment::shown;
use crate::table::aligned;
use crate::{Ask, Failed, socket};

/// # Errors
/// When gatewayd does not answer.
pub(crate) fn run(ask: &Ask, article: Option<u8>) -> Result<u8, Failed> {
    let mut report = socket::ask(&ask.socket, "report")?;
    if let Some(article) = article {
        keep(&mut report, article);
    }
    if ask.json {
        println!("{report:#}");
    } else {
        print!("{}", page(&report));
    }
    Ok(code(&report))
}

/// Leaves only one article.
fn keep(report: &mut Value, article: u8) {
    let empty = Vec::new();
    let rows = report["rows"].as_array().unwrap_or(&empty);
    let of_it = |row: &&Value| {
        let mut articles = row["articles"].as_array().into_iter().flatten();
        articles.any(|number| *number == article)
    };
    let rows: Vec<Value> = rows.iter().filter(of_it).cloned().collect();
    let articles = report["articles"].as_array().unwrap_or(&empty);
    let articles: Vec<Value> = articles
        .iter()
        .filter(|line| line["article"] == article)
        .cloned()
        .collect();
    report["rows"] = json!(rows);
    report["articles"] = json!(articles);
}

fn rows(report: &Value) -> impl Iterator<Item = &Value> {
    report["rows"].as_array().into_iter().flatten()
}

/// 1 when something fails, 3 when nothing fails and something is unknown.
fn code(report: &Value) -> u8 {
    let is = |mark: &str| rows(report).any(|row| row["mark"] == mark);
    match (is("FAIL"), is("UNKNOWN")) {
        (true, _) => 1,
        (false, true) => 3,
        (false, false) => 0,
    }
}

fn page(report: &Value) -> String {
    let mut out = format!(
        "利用規約の点検結果　{}　事業所 {}　ポリシー 第{}版\n",
        shown(report["made"].as_i64()),
        report["facility"].as_str().unwrap_or("–"),
        report["policy_version"]
    );
    if let Some(until) = report["break_glass_until"].as_i64() {
        out += &format!("緊急利用中（{}まで）\n", shown(Some(until)));
    }
    out.push('\n');
    let mut articles = vec![header(&["条", "結果"])];
    for line in report["articles"].as_array().into_iter().flatten() {
        articles.push(vec![
            format!("第{}条", line["article"]),
            mark(&line["mark"]),
        ]);
    }
    out += &aligned(&articles);
    out.push('\n');
    let mut table = vec![header(&[
        "条",
        "点検",
        "対象",
        "結果",
        "状態",
        "いつから",
        "期限",
        "根拠",
        "測定",
    ])];
    table.extend(rows(report).map(cells));
    out += &aligned(&table);
    out
}

fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn cells(row: &Value) -> Vec<String> {
    let articles: Vec<String> = row["articles"]
        .as_array()
        .into_iter()
        .flatten()
        .map(ToString::to_string)
        .collect();
    let digest = row["digest"]
        .as_str()
        .map(|digest| &digest[..digest.len().min(12)]);
    let source = match row["source"].as_str() {
        Some("measured") => "測定",
        Some("agent") => "osquery",
        Some("script") => "スクリプト",
        Some("declared") => "申告",
        _ => "–",
    };
    // Shown under an article that does not demand it itself: then what does is named beside it.
    let articles = match (
        row["basis_article"].as_u64(),
        row["basis_guideline"].as_str(),
    ) {
        (None, Some(guideline)) => vec![format!("{}（指針 {guideline}）", articles.join(","))],
        _ => articles,
    };
    vec![
        if articles.is_empty() {
            "–".to_owned()
        } else {
            articles.join(",")
        },
        row["rule"].as_str().unwrap_or("–").to_owned(),
        subject(row),
        mark(&row["mark"]),
        state(row["state"].as_str().unwrap_or_default()).to_owned(),
        shown(row["since"].as_i64()),
        shown(row["deadline"].as_i64()),
        digest.map_or_else(|| source.to_owned(), |digest| format!("{source} {digest}")),
        shown(row["measured"].as_i64()),
    ]
}

fn subject(row: &Value) -> String {
    match (row["subject"].as_str(), row["device"].as_str()) {
        (Some("box"), _) => "機器".to_owned(),
        (Some("facility"), _) => "事業所".to_owned(),
        (_, Some(device)) => format!("端末 {}", &device[..device.len().min(8)]),
        _ => "–".to_owned(),
    }
}

/// The international word and the Japanese one.
fn mark(mark: &Value) -> String {
    match mark.as_str() {
        Some("PASS") => "PASS 適合".to_owned(),
        Some("WARN") => "WARN 注意".to_owned(),
        Some("FAIL") => "FAIL 不適合".to_owned(),
        Some("UNKNOWN") => "UNKNOWN 不明".to_owned(),
        Some("NOT APPLICABLE") => "NOT APPLICABLE 対象外".to_owned(),
        _ => "–".to_owned(),
    }
}

fn state(id: &str) -> &'static str {
    match id {
        "compliant" => "適合",
        "grace" => "猶予中",
        "failing" => "不適合",
        "unknown-never" => "未測定",
        "unknown-stale" => "測定が古い",
        "unknown-error" => "測定できない",
        "not-applicable" => "対象外",
        "waived" => "適用除外",
        _ => "–",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(marks: &[(&str, u8)]) -> Value {
        let rows: Vec<Value> = marks
            .iter()
            .map(|(mark, article)| {
                json!({ "rule": "AV-ALIVE", "articles": [article], "subject": "box", "mark": mark, "state": "compliant",
                        "effect": "allow", "since": 0, "source": "measured", "digest": "ab".repeat(32) })
            })
            .collect();
        json!({ "made": 0, "facility": "tkh-1001", "policy_version": 0, "rows": rows, "articles": [] })
    }

    #[test]
    fn the_exit_code_tells_failure_from_ignorance_from_order() {
        assert_eq!(
            code(&report(&[
                ("PASS", 27),
                ("WARN", 27),
                ("NOT APPLICABLE", 26)
            ])),
            0
        );
        assert_eq!(code(&report(&[("PASS", 27), ("UNKNOWN", 26)])), 3);
        assert_eq!(code(&report(&[("UNKNOWN", 27), ("FAIL", 26)])), 1);
    }

    #[test]
    fn one_article_leaves_out_the_rows_and_the_failures_of_others() {
        let mut both = report(&[("PASS", 27), ("FAIL", 26)]);
        keep(&mut both, 27);
        assert_eq!(rows(&both).count(), 1);
        assert_eq!(code(&both), 0);
    }

    #[test]
    fn what_an_article_does_not_demand_itself_names_what_does() {
        let mut one = report(&[("PASS", 26)]);
        one["rows"][0]["basis_guideline"] = json!("システム運用編 8");
        assert!(
            page(&one).contains("26（指針 システム運用編 8）"),
            "{}",
            page(&one)
        );
    }

    #[test]
    fn the_page_says_evidence_and_since_when() {
        let page = page(&report(&[("FAIL", 27)]));
        assert!(
            page.contains("FAIL 不適合") && page.contains("測定 abababababab"),
            "{page}"
        );
        assert!(page.contains("1970-01-01 09:00"), "{page}");
    }
}
