//! What the gate's refusals say to the person who meets them: one sentence for each rule, and the one next step.
//! Does not decide anything, and does not tell more than staff may know: which certificate trouble it is, the manager's page tells.

use gateway_policy::{Check, Effect, Refusal, Rule};

/// The sentence for a cause: what is stopped follows from the effect.
macro_rules! stopped {
    ($files_only:expr, $cause:literal) => {
        if $files_only {
            concat!(
                $cause,
                "ため、ファイルの送受信だけを止めています。文字の閲覧と書き込みは続けられます。"
            )
        } else {
            concat!($cause, "ため、連絡帳への接続を止めています。")
        }
    };
}

const SEE_MANAGER_PAGE: &str =
    "事業所管理者に、ゲートウェイの管理ページの「次にすること」を確認するよう伝えてください。";
const REGISTER: &str =
    "下の「この端末を登録する」を開き、表示される番号を事業所管理者に伝えてください。";
const CALL_CITY: &str =
    "事業所管理者が市の担当課に連絡してください。保存された最近の記録は読めます。";
const REPORT_AGAIN: &str = "直ったことは、次の点検結果が届くと自動で確かめます。20分たっても変わらないときは、事業所管理者に伝えてください。";

/// What happened, and what to do now.
pub(crate) const fn words(refusal: &Refusal) -> (&'static str, &'static str) {
    let files_only = matches!(refusal.effect, Effect::Restrict);
    match refusal.rule {
        Rule::Suspended if files_only => (
            "この事業所の利用状況を市にまだ確かめられていないため、ファイルの送受信だけを一時的に止めています。",
            "市とつながりしだい自動で元に戻ります。少し待ってから、もう一度お試しください。",
        ),
        Rule::Suspended => (
            "市がこの事業所の利用を停止しているため（利用規約第35条）、連絡帳への接続を止めています。",
            "事業所管理者から市の担当課に問い合わせてください。市が停止を解くと、自動で元に戻ります。",
        ),
        Rule::Cert => (
            "この事業所の電子証明書が使えない状態のため、連絡帳への接続を止めています。",
            "事業所管理者に、ゲートウェイの管理ページの「電子証明書」で理由と手順を確認するよう伝えてください。",
        ),
        Rule::SnapshotStale => (
            "ゲートウェイの自己点検が止まり、安全を確かめられないため、連絡帳への接続を止めています。",
            "数分待っても変わらないときは、事業所管理者がゲートウェイの電源を入れ直してください。",
        ),
        Rule::Device => (
            "この端末（パソコン・タブレット）は、事業所の端末として登録されていないため（利用規約第29条）、連絡帳につながりません。",
            REGISTER,
        ),
        Rule::DeviceRevoked => (
            "この端末（パソコン・タブレット）は、事業所管理者が利用を止めているため（利用規約第29条）、連絡帳につながりません。",
            "使い続ける端末であれば、事業所管理者に利用の再開を依頼してください。",
        ),
        Rule::Check(check) => (
            of_check(check, files_only),
            next_of_check(check, files_only),
        ),
    }
}

/// Where on the box's own pages the next action is done: the name below the reserved path, and the link's label.
pub(crate) const fn place(refusal: &Refusal) -> (&'static str, &'static str) {
    match refusal.rule {
        Rule::Device | Rule::DeviceRevoked => ("pairing", "この端末を登録する"),
        rule if matches!(refusal.effect, Effect::Block) && rule.yields_to_break_glass() => (
            "break-glass",
            "支援対象者のためにいま必要なとき：非常時の解除",
        ),
        _ => ("home", "ゲートウェイの状態を見る"),
    }
}

const fn of_check(check: Check, files_only: bool) -> &'static str {
    match check {
        Check::AvAlive => {
            stopped!(
                files_only,
                "ウイルス検査が働いていることを確かめられない（利用規約第27条）"
            )
        }
        Check::AvDb => stopped!(
            files_only,
            "ゲートウェイのウイルス定義が古くなっている（利用規約第27条）"
        ),
        Check::AvSelf => stopped!(
            files_only,
            "ウイルス検査の自己点検に失敗した（利用規約第27条）"
        ),
        Check::AvConf => stopped!(
            files_only,
            "ウイルス検査の設定が出荷時と違う（利用規約第27条）"
        ),
        Check::Boot => stopped!(
            files_only,
            "ゲートウェイのソフトウェアが改ざんされていないことを確かめられない"
        ),
        Check::Upd => stopped!(files_only, "ゲートウェイの更新が長く行われていない"),
        Check::Sbom => stopped!(
            files_only,
            "ゲートウェイのソフトウェア一覧が一致しない（利用規約第26条）"
        ),
        Check::UsbBox => stopped!(
            files_only,
            "ゲートウェイにUSB機器がつながれた（利用規約第28条）"
        ),
        Check::Clock => stopped!(files_only, "ゲートウェイの時計が正しいことを確かめられない"),
        Check::Log => stopped!(files_only, "ゲートウェイの記録に異常がある"),
        Check::PcAv => stopped!(
            files_only,
            "このパソコンのウイルス対策が働いていない（利用規約第27条）"
        ),
        Check::PcSig => stopped!(
            files_only,
            "このパソコンのウイルス定義が古い（利用規約第27条）"
        ),
        Check::PcOs => stopped!(
            files_only,
            "このパソコンの基本ソフト（Windowsなど）の更新が足りない"
        ),
        Check::PcSw => stopped!(
            files_only,
            "このパソコンに使ってはいけないソフトがある（利用規約第26条）"
        ),
        Check::PcLock => stopped!(
            files_only,
            "このパソコンの画面が自動でロックされない（利用規約第25条）"
        ),
        Check::PcOn => stopped!(
            files_only,
            "このパソコンの電源が退勤後も入ったままである（利用規約第25条）"
        ),
        Check::PcUsb => stopped!(
            files_only,
            "このパソコンで台帳にない媒体が使われた（利用規約第28条）"
        ),
        Check::PcEnc => stopped!(
            files_only,
            "このパソコンのディスクが暗号化されていない（利用規約第28条）"
        ),
        Check::PcRpt => stopped!(files_only, "このパソコンの点検結果が届いていない"),
        Check::Media => stopped!(
            files_only,
            "媒体台帳の点検期限が過ぎている（利用規約第28条）"
        ),
        Check::Decl => stopped!(files_only, "端末の点検の申告が古い（利用規約第28条）"),
        Check::Training => stopped!(files_only, "年1回の研修の記録がない（利用規約第23条）"),
    }
}

const fn next_of_check(check: Check, files_only: bool) -> &'static str {
    match check {
        Check::AvAlive | Check::AvSelf if files_only => {
            "自動で復旧を試みています。15分たっても変わらないときは、事業所管理者に、ゲートウェイの管理ページの「次にすること」を確認するよう伝えてください。"
        }
        Check::AvAlive | Check::AvSelf => {
            "事業所管理者に、ゲートウェイの管理ページの「次にすること」を確認するよう伝えてください。検査が戻ると、自動で元に戻ります。"
        }
        Check::Clock => {
            "市とつながりしだい自動で確かめます。変わらないときは、事業所管理者が市の担当課に連絡してください。"
        }
        Check::AvDb | Check::AvConf | Check::Boot | Check::Upd | Check::Sbom | Check::Log => {
            CALL_CITY
        }
        Check::UsbBox => "ゲートウェイのUSB端子から機器を抜き、事業所管理者に伝えてください。",
        Check::PcAv => {
            "このパソコンの「ウイルスと脅威の防止」を開き、有効にしてください。直ると自動で元に戻ります。"
        }
        Check::PcSig => {
            "このパソコンのウイルス対策ソフトを開き、定義を更新してください。直ると自動で元に戻ります。"
        }
        Check::PcOs => {
            "このパソコンの「設定」から更新プログラムを実行し、再起動してください。直ると自動で元に戻ります。"
        }
        Check::PcRpt => {
            "このパソコンを再起動し、10分待ってください。変わらないときは、事業所管理者に伝えてください。"
        }
        Check::PcOn => REPORT_AGAIN,
        Check::PcSw
        | Check::PcLock
        | Check::PcUsb
        | Check::PcEnc
        | Check::Media
        | Check::Decl
        | Check::Training => SEE_MANAGER_PAGE,
    }
}

#[cfg(test)]
mod tests {
    use gateway_policy::Timestamp;

    use super::*;

    fn refusal(rule: Rule, effect: Effect) -> Refusal {
        Refusal {
            rule,
            article: rule.article(),
            effect,
            since: Timestamp(0),
            deadline: None,
        }
    }

    #[test]
    fn every_rule_tells_staff_something_of_its_own() {
        let mut said = Vec::new();
        for rule in Rule::ALL {
            let (happened, next) = words(&refusal(rule, Effect::Block));
            assert!(happened.ends_with('。') && next.ends_with('。'));
            said.push(happened);
        }
        said.sort_unstable();
        said.dedup();
        assert_eq!(said.len(), Rule::ALL.len());
    }

    #[test]
    fn an_article_is_cited_only_where_the_rule_rests_on_it() {
        for rule in Rule::ALL {
            for effect in [Effect::Restrict, Effect::Block] {
                let refusal = refusal(rule, effect);
                let cited = words(&refusal)
                    .0
                    .split("利用規約第")
                    .nth(1)
                    .and_then(|rest| rest.split('条').next());
                if let Some(cited) = cited {
                    assert_eq!(cited.parse().ok(), rule.article());
                }
            }
        }
    }
}
