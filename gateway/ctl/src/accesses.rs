//! `gatewayctl accesses`: how often stored notes were looked at, by day. Who, whose and what stays with the box.

use serde_json::Value;

use crate::table::aligned;
use crate::{Ask, Failed, socket};

/// # Errors
/// When gatewayd does not answer.
pub(crate) fn run(ask: &Ask) -> Result<u8, Failed> {
    let accesses = socket::ask(&ask.socket, "accesses")?;
    if ask.json {
        println!("{accesses:#}");
    } else {
        print!("{}", page(&accesses));
    }
    Ok(0)
}

fn page(accesses: &Value) -> String {
    if accesses["open"] != true {
        return "閲覧の記録はまだ開いていません。保存した連絡は表示されません。\n".to_owned();
    }
    let days: Vec<Vec<String>> = accesses["days"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(day, count)| vec![day.clone(), format!("{count}件")])
        .collect();
    if days.is_empty() {
        return "この31日間、保存した連絡は見られていません。\n".to_owned();
    }
    aligned(&days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn days_and_counts_are_shown_and_nothing_else() {
        let accesses = json!({ "open": true, "days": { "2026-11-21": 12, "2026-11-22": 3 } });
        assert_eq!(page(&accesses), "2026-11-21  12件\n2026-11-22  3件\n");
        assert!(page(&json!({ "open": true, "days": {} })).contains("見られていません"));
        assert!(page(&json!({ "open": false })).contains("まだ開いていません"));
    }
}
