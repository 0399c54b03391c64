//! What is said to the person whose body was stopped. Never the content, and not the name of what was found: that is for the
//! journal, which the support code leads to.

use super::stopped::{Cause, Direction, Stopped, Why};

/// The type of the problem, the title, what happened, and what to do now.
pub(crate) const fn of(
    stopped: &Stopped,
) -> (&'static str, &'static str, &'static str, &'static str) {
    match (stopped.why, stopped.direction) {
        (Why::Infected, Direction::Upload) => (
            "infected",
            "ウイルスが見つかりました",
            "送ろうとした内容からウイルスなどが見つかったため、送信を止めました（利用規約第27条）。何も送られていません。",
            "そのファイルを開かず、この端末の使用をやめて、事業所管理者に伝えてください。",
        ),
        (Why::Infected, Direction::Download) => (
            "infected",
            "ウイルスが見つかりました",
            "受け取ろうとした内容からウイルスなどが見つかったため、受信を止めました（利用規約第27条）。この端末には届いていません。",
            "事業所管理者に伝えてください。管理者は市の窓口に、サポートコードを添えて知らせてください。",
        ),
        (Why::Forbidden(_), _) => (
            "forbidden-kind",
            "実行形式のファイルは送受信できません（第25条）",
            "プログラム、スクリプト、マクロを含む文書などは、利用規約第25条により送受信できません。送受信を止めました。",
            "文書や画像など、実行されない形式にしてください。業務に必要なときは事業所管理者に相談してください。",
        ),
        (Why::Unscannable(Cause::Encrypted), _) => (
            "unscannable",
            "検査できないファイル",
            "暗号化（パスワード付き）のため中身を検査できず、送受信を止めました（利用規約第27条）。",
            "パスワードを外したファイルを使ってください。",
        ),
        (Why::Unscannable(_), Direction::Upload) => (
            "unscannable",
            "検査できないファイル",
            "送ろうとした内容は、ウイルス検査で中身を確かめられない形式です。送信を止めました（利用規約第27条）。何も送られていません。",
            "ファイルを保存し直すか、圧縮せずに、もう一度送ってください。",
        ),
        (Why::Unscannable(_), Direction::Download) => (
            "unscannable",
            "検査できないファイル",
            "受け取ろうとした内容は、ウイルス検査で中身を確かめられない形式です。受信を止めました（利用規約第27条）。",
            "事業所管理者に伝えてください。送った相手に、別の形式で送り直してもらってください。",
        ),
        (Why::TooLarge, Direction::Upload) => (
            "body-too-large",
            "送信するデータが大きすぎます",
            "ウイルス検査ができる大きさを超えています。何も送られていません。",
            "ファイルを小さくするか、分けて送ってください。",
        ),
        (Why::TooLarge, Direction::Download) => (
            "unscannable",
            "検査できないファイル",
            "ファイルが大きすぎて、ウイルス検査ができません。受信を止めました（利用規約第27条）。",
            "送った相手に、ファイルを小さくするか、分けて送り直してもらってください。",
        ),
        (Why::Unavailable(_), _) => (
            "scanner-unavailable",
            "ウイルス検査ができません",
            "ウイルス検査が応答しないため、送受信を止めました（利用規約第27条）。入力した内容は送られていません。",
            "自動で復旧を試みています。少し待ってから、もう一度操作してください。",
        ),
        (Why::NoRoom, _) => (
            "busy",
            "混み合っています",
            "検査を待つファイルが多く、いまは受け付けられません。入力した内容は送られていません。",
            "少し待ってから、もう一度操作してください。",
        ),
    }
}
