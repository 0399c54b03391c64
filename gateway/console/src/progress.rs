//! How far storing has got, in words for the home page. Counts nothing itself.

use crate::Progress;
use crate::moment::minute;

/// What follows the number of stored persons and notes; numbers only where `counted`: for the manager.
pub(crate) fn in_words(progress: &Progress, counted: bool) -> String {
    let mut words = String::new();
    if counted && progress.attachments_total > 0 {
        words.push_str(&format!(
            "・添付{}／{}件",
            progress.attachments_done, progress.attachments_total
        ));
    }
    if counted && progress.attachments_refused > 0 {
        words.push_str(&format!(
            "（うち{}件は保存できない添付です）",
            progress.attachments_refused
        ));
    }
    if !progress.caught_up && progress.received > 0 {
        if counted {
            words.push_str(&format!("（受け取り中：{}件）", progress.received));
        } else {
            words.push_str("（受け取り中）");
        }
    }
    if let Some(notes) = progress.rebuilding {
        words.push_str(&rebuilding(notes, counted));
    }
    if counted && progress.attachments_unseen > 0 {
        words.push_str(&format!(
            "。添付{}件を、新しいウイルス定義で検査し直しています",
            progress.attachments_unseen
        ));
    }
    if progress.waits_for_scanner {
        words.push_str("。添付の保存は、ウイルス検査が使えるまで待っています");
    }
    if let Some(since) = progress.disk_full {
        words.push_str(&format!(
            "。{}から装置の空き容量が足りず、新しい連絡を保存できません。連絡帳はそのまま使えます",
            minute(since)
        ));
    }
    words
}

/// That another store is filled, and what that means for whoever reads; the number for the manager.
fn rebuilding(notes: u64, counted: bool) -> String {
    let got = if counted {
        format!("（{notes}件まで受け取りました）")
    } else {
        String::new()
    };
    format!("。保存の作り直しをしています{got}。終わるまで、これまでの保存分を読めます")
}

/// For those who read the notes; empty when there is nothing to say.
pub(crate) fn for_readers(received: Option<u64>, counted: bool) -> String {
    match received {
        Some(notes) => {
            rebuilding(notes, counted)
                .trim_start_matches('。')
                .to_owned()
                + "。"
        }
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_policy::Timestamp;

    #[test]
    fn what_is_in_order_is_short_and_what_is_not_is_said() {
        assert_eq!(in_words(&Progress::default(), true), "");
        let level = Progress {
            caught_up: true,
            received: 9,
            attachments_done: 3,
            attachments_total: 3,
            ..Progress::default()
        };
        assert_eq!(in_words(&level, true), "・添付3／3件");
        assert_eq!(in_words(&level, false), "");
        let rebuilt = Progress {
            rebuilding: Some(12),
            ..level
        };
        assert!(in_words(&rebuilt, true).contains("12件まで"));
        let told = in_words(&rebuilt, false);
        assert!(told.contains("作り直し") && !told.contains("12"), "{told}");
        assert_eq!(for_readers(None, true), "");
        assert!(for_readers(Some(12), true).starts_with("保存の作り直し"));
        assert!(!for_readers(Some(12), false).contains("12"));
        let full = Progress {
            disk_full: Some(Timestamp(0)),
            waits_for_scanner: true,
            ..level
        };
        let words = in_words(&full, false);
        assert!(words.contains("空き容量") && words.contains("ウイルス検査"));
    }
}
