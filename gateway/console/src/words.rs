//! The sentences of the home page: how the box stands, and the one next action. Decides nothing.

use std::borrow::Cow;

use gateway_policy::{
    Certificate, Check, Effect, Evidence, Remedy, Rule, State, Subject, Timestamp, Verdict,
};

use crate::moment::{day, minute};
use crate::report::{Channel, Engine, Machinery, Refusal};
use crate::{BoxStatus, Link};

/// One lamp of the traffic light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Light {
    Green,
    Amber,
    Red,
    /// Nothing is known yet.
    Off,
}

impl Light {
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Amber => "amber",
            Self::Red => "red",
            Self::Off => "off",
        }
    }

    /// Said beside the lamp, because not everybody sees its colour.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Green => "正常",
            Self::Amber => "注意",
            Self::Red => "停止中",
            Self::Off => "確認中",
        }
    }
}

/// The top of the home page.
#[derive(Debug)]
pub(crate) struct Headline {
    pub(crate) light: Light,
    pub(crate) sentence: String,
    pub(crate) next: Cow<'static, str>,
    /// Where the next action is done, if on one of our pages: address and label.
    pub(crate) link: Option<(Cow<'static, str>, &'static str)>,
    /// When it gets worse if nobody acts, and how.
    pub(crate) deadline: Option<String>,
}

impl Headline {
    const fn new(
        light: Light,
        sentence: String,
        next: &'static str,
        link: Option<(&'static str, &'static str)>,
    ) -> Self {
        Self {
            light,
            sentence,
            next: Cow::Borrowed(next),
            link: match link {
                Some((address, label)) => Some((Cow::Borrowed(address), label)),
                None => None,
            },
            deadline: None,
        }
    }
}

const CALL: &str = "下の問い合わせ先に電話してください。";
const WAIT_OR_RESTART: &str =
    "自動で復旧を試みています。15分たっても変わらないときは、装置の電源を入れ直してください。";
const READ_STORED: (&str, &str) = ("/notes", "保存した連絡を読む");

/// The one sentence and the one next action.
pub(crate) fn headline(ready: bool, status: &BoxStatus) -> Headline {
    // A certificate that came to its end has a sentence of its own.
    let came_to_its_end = status.verdict.rule == Some(Rule::Cert)
        && matches!(status.snapshot.certificate, Evidence::Known { value, .. } if value != Certificate::Absent);
    if !ready && !came_to_its_end {
        return Headline::new(
            Light::Amber,
            "この装置の初期設定がまだ済んでいません。".into(),
            "市から届いた番号とアクセスコードを用意して、初期設定を始めてください。",
            Some(("/setup", "初期設定を始める")),
        );
    }
    match (shown(status), status.city) {
        (Some((rule, since)), _) => of_rule(rule, since, status),
        _ if matches!(status.line, Link::Down { .. }) => Headline::new(
            Light::Amber,
            "インターネットにつながらないため、連絡帳を開けません。".into(),
            "回線の機器（ルーター）の電源とケーブルを確かめてください。つながるまで、保存した連絡を読めます。",
            Some(READ_STORED),
        ),
        (_, Link::Down { since }) => Headline::new(
            Light::Amber,
            format!("{}から、市の連絡帳につながりません。", minute(since)),
            "つながるまで、保存した連絡を読めます。急ぎの連絡は電話でしてください。",
            Some(READ_STORED),
        ),
        _ => Headline::new(
            Light::Green,
            "連絡帳をいつもどおり利用できます。".into(),
            "いま、することはありません。",
            None,
        ),
    }
}

/// The rule to speak of. What only the city can set right, or could merely not be found out about the box, is not shown
/// to staff before it restricts them; the manager's report shows it.
fn shown(status: &BoxStatus) -> Option<(Rule, Timestamp)> {
    let Verdict {
        effect,
        rule,
        since,
        ..
    } = status.verdict;
    match effect {
        Effect::Allow => None,
        Effect::Restrict | Effect::Block => rule.map(|rule| (rule, since)),
        Effect::Warn => Rule::ALL.into_iter().find_map(|rule| {
            let finding = rule.judge(&status.snapshot, status.snapshot.taken);
            (finding.effect == Effect::Warn && is_for_staff(rule, status))
                .then_some((rule, finding.since))
        }),
    }
}

fn is_for_staff(rule: Rule, status: &BoxStatus) -> bool {
    let Rule::Check(check) = rule else {
        return true;
    };
    let time = status.snapshot.time(status.snapshot.taken);
    let state = status
        .snapshot
        .entry(Subject::Box, check)
        .map(|entry| entry.state(time));
    check.remedy() != Remedy::City && state.is_some_and(|state| !matches!(state, State::Unknown(_)))
}

fn of_rule(rule: Rule, since: Timestamp, status: &BoxStatus) -> Headline {
    let effect = status.verdict.effect;
    let (sentence, next) = match rule {
        Rule::Check(Check::AvAlive) => (scanner(effect), WAIT_OR_RESTART),
        Rule::Check(Check::Clock) => (
            "装置の時計が正しいか確認できないため、ファイルの送受信を止めています。".into(),
            "インターネットにつながると自動で直ります。回線の機器の電源とケーブルを確かめてください。",
        ),
        Rule::Check(check) => (of_check(check, effect), next_of_check(check)),
        Rule::Cert => certificate(status, effect),
        Rule::Suspended => standing(effect, since),
        Rule::SnapshotStale => (
            "装置の自己点検が止まっているため、連絡帳への接続を止めています。".into(),
            "装置の電源を入れ直してください。",
        ),
        // Not of the box but of the device that looks at this page.
        Rule::Device => (
            "この端末は、事業所の端末として登録されていません（規約第29条）。".into(),
            "登録のページで番号を出し、事業所管理者に伝えてください。",
        ),
        Rule::DeviceRevoked => (
            "この端末の利用は、事業所管理者が止めています（規約第29条）。".into(),
            "事業所管理者に登録し直しを依頼してください。",
        ),
    };
    let light = if effect == Effect::Block {
        Light::Red
    } else {
        Light::Amber
    };
    let link = match (rule, effect) {
        (Rule::Cert, Effect::Block) => Some(("/setup", "初期設定を開く")),
        (_, Effect::Block) => Some(READ_STORED),
        _ => None,
    };
    Headline::new(light, sentence, next, link)
}

/// A check other than those with a sentence of their own: the cause, then what it stops.
fn of_check(check: Check, effect: Effect) -> String {
    let cause = match check {
        Check::AvAlive => "ウイルス検査が止まっている",
        Check::AvDb => "装置のウイルス定義が古い（規約第27条）",
        Check::AvSelf => "ウイルス検査の自己点検に失敗した（規約第27条）",
        Check::AvConf => "ウイルス検査の設定が出荷時と違う（規約第27条）",
        Check::Boot => "装置が改ざんされていないことを確かめられない",
        Check::Upd => "装置の更新が行われていない",
        Check::Sbom => "装置のソフトウェア一覧が一致しない（規約第26条）",
        Check::UsbBox => "装置にUSB機器がつながれた（規約第28条）",
        Check::Clock => "装置の時計が正しいか確認できない",
        Check::Log => "装置の記録に異常がある",
        Check::PcAv => "パソコンのウイルス対策が働いていない（規約第27条）",
        Check::PcSig => "パソコンのウイルス定義が古い（規約第27条）",
        Check::PcOs => "パソコンの基本ソフトの更新が足りない",
        Check::PcSw => "パソコンに使ってはいけないソフトがある（規約第26条）",
        Check::PcLock => "パソコンの画面が自動でロックされない（規約第25条）",
        Check::PcOn => "パソコンの電源が退勤後も入っている（規約第25条）",
        Check::PcUsb => "パソコンで台帳にない媒体が使われた（規約第28条）",
        Check::PcEnc => "パソコンのディスクが暗号化されていない（規約第28条）",
        Check::PcRpt => "パソコンの点検結果が届いていない",
        Check::Media => "媒体台帳の点検期限が過ぎている（規約第28条）",
        Check::Decl => "端末の点検の申告が古い（規約第28条）",
        Check::Training => "年1回の研修の記録がない（規約第23条）",
    };
    match effect {
        Effect::Allow | Effect::Warn => format!("{cause}状態です。連絡帳は使えます。"),
        Effect::Restrict => {
            format!("{cause}ため、ファイルの送受信を止めています。文字の連絡は使えます。")
        }
        Effect::Block => format!("{cause}ため、連絡帳への接続を止めています。"),
    }
}

const fn next_of_check(check: Check) -> &'static str {
    match check {
        Check::UsbBox => {
            "装置のUSB端子から機器を抜いてください。心当たりがないときは、下の問い合わせ先に電話してください。"
        }
        _ => match check.remedy() {
            Remedy::Itself => WAIT_OR_RESTART,
            Remedy::City => CALL,
            Remedy::Staff => "該当するパソコンの画面に出ている手順で直してください。",
            Remedy::Manager => "事業所管理者が点検のページで内容を確かめ、直してください。",
        },
    }
}

fn scanner(effect: Effect) -> String {
    match effect {
        Effect::Block => "ウイルス検査が止まっているため、連絡帳への接続を止めています（規約第27条）。",
        _ => "ウイルス検査が止まっているため、ファイルの送受信を止めています（規約第27条）。文字の連絡は使えます。",
    }
    .into()
}

fn certificate(status: &BoxStatus, effect: Effect) -> (String, &'static str) {
    let Evidence::Known { value, .. } = status.snapshot.certificate else {
        return (
            "電子証明書の状態を確認しています。".into(),
            "1分ほど待ってから、この画面を開き直してください。",
        );
    };
    match value {
        Certificate::Held { not_after, .. } if effect == Effect::Warn => (
            format!(
                "電子証明書の更新がまだできていません（期限 {}）。",
                day(not_after)
            ),
            "装置が自動で更新を試みます。この表示が3日続くときは、下の問い合わせ先に電話してください。",
        ),
        Certificate::Held { not_after, .. } => (
            format!(
                "電子証明書の期限（{}）の外にあるため、連絡帳につながりません。",
                day(not_after)
            ),
            "市に電話して新しい電子証明書取得用番号を受け取り、初期設定をやり直してください。",
        ),
        Certificate::Absent => (
            "電子証明書がないため、連絡帳につながりません。".into(),
            "市から届いた番号とアクセスコードで、初期設定をしてください。",
        ),
        Certificate::Revoked { .. } => (
            "電子証明書が失効しているため、連絡帳につながりません。".into(),
            "市に電話して新しい電子証明書取得用番号を受け取り、初期設定をやり直してください。",
        ),
        Certificate::KeyLost { .. } => (
            "電子証明書の鍵が装置から失われたため、連絡帳につながりません。".into(),
            "市に電話して新しい電子証明書取得用番号を受け取り、初期設定をやり直してください。",
        ),
    }
}

fn standing(effect: Effect, since: Timestamp) -> (String, &'static str) {
    match effect {
        Effect::Block => (
            "この事業所の利用は、市により停止されています（規約第35条）。".into(),
            CALL,
        ),
        Effect::Restrict => (
            "市からの連絡をまだ受け取れていないため、ファイルの送受信を止めています。".into(),
            "ふつうは数分で終わります。続くときは、回線の機器の電源とケーブルを確かめてください。",
        ),
        _ => (
            format!("{}から、市からの連絡が届いていません。", minute(since)),
            "回線の機器の電源とケーブルを確かめてください。",
        ),
    }
}

/// What to do about something on the signed channel that was refused.
pub(crate) fn refused_channel(refused: &Refusal) -> Headline {
    Headline {
        light: Light::Amber,
        sentence: refused.sentence.clone(),
        next: Cow::Owned(format!(
            "下の問い合わせ先に電話し、コード {} を伝えてください。それまでは、いまの基準と定義で点検を続けます。",
            refused.code
        )),
        link: None,
        deadline: None,
    }
}

/// One row of the home page.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) light: Light,
    /// Said beside the text: the light's own word, or a better one.
    pub(crate) label: &'static str,
    pub(crate) text: String,
}

impl Row {
    const fn new(name: &'static str, light: Light, text: String) -> Self {
        Self {
            name,
            light,
            label: light.label(),
            text,
        }
    }

    fn labelled(self, light: Light, label: &'static str) -> Self {
        if self.light == light {
            Self { label, ..self }
        } else {
            self
        }
    }
}

pub(crate) fn rows(status: &BoxStatus, now: Timestamp) -> Vec<Row> {
    vec![
        link("インターネット回線", status.line),
        link("市の連絡帳", status.city),
        antivirus(status, now),
        certificate_row(status, now),
    ]
}

fn link(name: &'static str, link: Link) -> Row {
    let (light, text) = match link {
        Link::Up => (Light::Green, "つながっています".into()),
        Link::Down { since } => (Light::Red, format!("{}からつながりません", minute(since))),
        Link::Unknown => (Light::Off, "まだ確かめていません".into()),
    };
    Row::new(name, light, text).labelled(Light::Red, "不通")
}

fn antivirus(status: &BoxStatus, now: Timestamp) -> Row {
    let time = status.snapshot.time(now);
    let proof = |at: Timestamp| minute(at.plus(time.age(now)));
    let seen = status.snapshot.own(Check::AvAlive);
    let (light, text) = match seen.and_then(|entry| Some((entry, entry.proof()?))) {
        None => (Light::Off, "まだ確かめていません".into()),
        Some((entry, at)) if entry.state(time) == State::Compliant => (
            Light::Green,
            format!("{}に、検査できることを確かめました", proof(at)),
        ),
        Some((entry, at)) => {
            let light = match entry.effect(time) {
                Effect::Block => Light::Red,
                _ => Light::Amber,
            };
            (
                light,
                format!("{}を最後に、検査を確かめられません", proof(at)),
            )
        }
    };
    Row::new("ウイルス検査", light, text)
}

fn certificate_row(status: &BoxStatus, now: Timestamp) -> Row {
    let light = match Rule::Cert.judge(&status.snapshot, now).effect {
        Effect::Allow => Light::Green,
        Effect::Warn | Effect::Restrict => Light::Amber,
        Effect::Block => Light::Red,
    };
    let (light, text) = match status.snapshot.certificate {
        Evidence::Unknown { .. } => (Light::Off, "まだ確かめていません".into()),
        Evidence::Known { value, .. } => match value {
            Certificate::Absent => (light, "ありません".into()),
            Certificate::Held { not_after, .. } => (light, format!("{}まで有効", day(not_after))),
            Certificate::Revoked { .. } => (light, "失効しています".into()),
            Certificate::KeyLost { .. } => (light, "鍵が失われました".into()),
        },
    };
    Row::new("電子証明書", light, text).labelled(Light::Red, "無効")
}

/// The rows of what keeps itself up to date.
pub(crate) fn machinery(machinery: &Machinery, now: Timestamp) -> Vec<Row> {
    let mut rows = Vec::new();
    if let Some(engine) = &machinery.antivirus {
        rows.push(engine_row(engine, now));
    }
    if let Some(channel) = &machinery.channel {
        rows.push(channel_row(channel));
    }
    rows
}

/// A database older than this is shown in amber; how old it may be is judged by the check AV-DB.
const DATABASE_OLD: i64 = 26 * 3600;

fn engine_row(engine: &Engine, now: Timestamp) -> Row {
    let mut parts = Vec::new();
    if let Some(version) = &engine.version {
        parts.push(version.clone());
    }
    match (&engine.database, engine.built) {
        (Some(name), Some(built)) => parts.push(format!("定義 {name}（{}作成）", minute(built))),
        (Some(name), None) => parts.push(format!("定義 {name}")),
        (None, Some(built)) => parts.push(format!("{}作成の定義", minute(built))),
        (None, None) => parts.push("定義の日付はまだ確かめていません".to_owned()),
    }
    if let Some(at) = engine.canary {
        parts.push(format!("検査の確認 {}", minute(at)));
    }
    if let Some(at) = engine.self_test {
        parts.push(format!("自己点検 {}", minute(at)));
    }
    let light = match engine.built {
        Some(built) if built.age(now) < DATABASE_OLD => Light::Green,
        Some(_) => Light::Amber,
        None => Light::Off,
    };
    Row::new("ウイルス定義", light, parts.join("、"))
}

fn channel_row(channel: &Channel) -> Row {
    let mut parts = vec![format!("版 {}", channel.running)];
    if let Some(waiting) = &channel.waiting {
        parts.push(format!("{waiting}に夜間に更新します"));
    }
    parts.push(channel.policy.map_or_else(
        || "市の点検基準はまだ届いていません（内蔵の基準で点検中）".to_owned(),
        |version| format!("市の点検基準 第{version}版"),
    ));
    let light = match (&channel.refused, channel.checked) {
        (Some(why), _) => {
            parts.push(format!("{}（{}）", why.sentence, why.code));
            Light::Amber
        }
        (None, Some(at)) => {
            parts.push(format!("{}に市の配布を確認", minute(at)));
            Light::Green
        }
        (None, None) => Light::Off,
    };
    Row::new("更新と基準", light, parts.join("、"))
}
