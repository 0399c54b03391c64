//! What the gate's refusals say to the person who meets them: one sentence for each rule, and the one next step.
//! Does not decide anything, and does not tell more than staff may know: which certificate trouble it is, the manager's page tells.

use gateway_policy::{Effect, Refusal, Rule};

/// What happened, and what to do now.
pub(crate) const fn words(refusal: &Refusal) -> (&'static str, &'static str) {
    let files_only = matches!(refusal.effect, Effect::Restrict);
    match (refusal.rule, files_only) {
        (Rule::Suspended, false) => (
            "市がこの事業所の利用を停止しているため（利用規約第35条）、連絡帳への接続を止めています。",
            "事業所管理者から市の担当課に問い合わせてください。市が停止を解くと、自動で元に戻ります。",
        ),
        (Rule::Suspended, true) => (
            "この事業所の利用状況を市にまだ確かめられていないため、ファイルの送受信だけを一時的に止めています。",
            "市とつながりしだい自動で元に戻ります。少し待ってから、もう一度お試しください。",
        ),
        (Rule::Cert, _) => (
            "この事業所の電子証明書が使えない状態のため、連絡帳への接続を止めています。",
            "事業所管理者に、ゲートウェイの管理ページの「電子証明書」で理由と手順を確認するよう伝えてください。",
        ),
        (Rule::SnapshotStale, _) => (
            "ゲートウェイの自己点検が止まり、安全を確かめられないため、連絡帳への接続を止めています。",
            "数分待っても変わらないときは、事業所管理者がゲートウェイの電源を入れ直してください。",
        ),
        (Rule::AvAlive, true) => (
            "ウイルス検査が働いていることを確かめられないため（利用規約第27条）、ファイルの送受信だけを止めています。文字の閲覧と書き込みは続けられます。",
            "自動で復旧を試みています。15分たっても変わらないときは、事業所管理者に、ゲートウェイの管理ページの「次にすること」を確認するよう伝えてください。",
        ),
        (Rule::AvAlive, false) => (
            "ウイルス検査が働いていることを確かめられないため（利用規約第27条）、連絡帳への接続を止めています。",
            "事業所管理者に、ゲートウェイの管理ページの「次にすること」を確認するよう伝えてください。検査が戻ると、自動で元に戻ります。",
        ),
        (Rule::Clock, _) => (
            "ゲートウェイの時計が正しいことを確かめられないため、ファイルの送受信だけを一時的に止めています。",
            "市とつながりしだい自動で確かめます。変わらないときは、事業所管理者が市の担当課に連絡してください。",
        ),
    }
}

#[cfg(test)]
mod tests {
    use gateway_policy::Timestamp;

    use super::*;

    #[test]
    fn every_rule_tells_staff_something_of_its_own() {
        let mut said = Vec::new();
        for rule in Rule::ALL {
            let refusal = Refusal {
                rule,
                article: rule.article(),
                effect: Effect::Block,
                since: Timestamp(0),
            };
            let (happened, next) = words(&refusal);
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
                let refusal = Refusal {
                    rule,
                    article: rule.article(),
                    effect,
                    since: Timestamp(0),
                };
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
