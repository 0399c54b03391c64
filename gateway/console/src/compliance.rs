//! What the checks come to, article by article, and the one thing to do about them. Judges nothing: effects and deadlines
//! come with the lines.

use std::borrow::Cow;
use std::collections::BTreeMap;

use gateway_policy::{Effect, Timestamp};

use crate::Admission;
use crate::checks::{self, Fixer};
use crate::moment::{day, minute, remaining};
use crate::report::{About, Line, Mark, Report};
use crate::words::{Headline, Light};

/// The articles in their order; what rests on none of them comes last.
const ARTICLES: [(Option<u8>, &str); 7] = [
    (Some(23), "セキュリティ研修"),
    (Some(25), "端末の使い方"),
    (Some(26), "ソフトウェア"),
    (Some(27), "ウイルス対策"),
    (Some(28), "媒体と紙"),
    (Some(29), "端末の管理"),
    (None, "装置と端末の保守"),
];

/// Lines of devices in good order are counted, not listed, from this many on.
const LISTED: usize = 12;

/// One article on the home page and in the report.
pub(crate) struct Group {
    pub(crate) article: Option<u8>,
    pub(crate) name: &'static str,
    pub(crate) mark: Mark,
    pub(crate) sentence: String,
    pub(crate) lines: Vec<LineView>,
    /// Further lines, all in good order.
    pub(crate) more: usize,
}

impl Group {
    pub(crate) fn title(&self) -> String {
        self.article.map_or_else(
            || "ガイドライン".to_owned(),
            |article| format!("第{article}条"),
        )
    }
}

/// One line of evidence, in words.
pub(crate) struct LineView {
    pub(crate) name: &'static str,
    pub(crate) about: String,
    pub(crate) mark: Mark,
    pub(crate) text: String,
    pub(crate) source: &'static str,
    pub(crate) since: String,
    pub(crate) looked: String,
    pub(crate) deadline: Option<String>,
    pub(crate) link: Option<(String, &'static str)>,
}

impl LineView {
    pub(crate) fn new(line: &Line, now: Timestamp) -> Self {
        let words = checks::words(line.check);
        let text = match (&line.detail, line.mark) {
            (Some(detail), _) => detail.clone(),
            (None, Mark::Pass) => "問題ありません。".to_owned(),
            (None, Mark::NotApplicable) => "対象ではありません。".to_owned(),
            (None, Mark::Unknown) => "まだ確かめられていません。".to_owned(),
            (None, Mark::Warn | Mark::Fail) => words.trouble.to_owned(),
        };
        Self {
            name: words.name,
            about: about(&line.about),
            mark: line.mark,
            text: match line.waived_until {
                Some(until) => {
                    let why = line.waived_for.as_deref().unwrap_or("市が認めました");
                    format!("{text}（{}まで例外：{why}）", minute(until))
                }
                None => text,
            },
            source: checks::source(line.source),
            since: minute(line.since),
            looked: line.looked.map_or_else(|| "なし".to_owned(), minute),
            // What is in order has no deadline: it is looked at again before it grows old.
            deadline: line
                .mark
                .is_trouble()
                .then(|| deadline(line, now))
                .flatten(),
            link: line.mark.is_trouble().then(|| line.place()).flatten(),
        }
    }
}

fn about(about: &About) -> String {
    match about {
        About::Box => "この装置".to_owned(),
        About::Facility => "事業所".to_owned(),
        About::Device { name, .. } => name.clone(),
    }
}

/// What comes when, if nobody acts.
fn deadline(line: &Line, now: Timestamp) -> Option<String> {
    let (effect, at) = line.next?;
    Some(format!(
        "{}（{}）から{}",
        minute(at),
        remaining(now.age(at)),
        checks::effect(effect)
    ))
}

/// What the register of devices adds: how many there are, and whether others are kept out.
#[derive(Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) devices: usize,
    /// What a device without a certificate may see.
    pub(crate) others: Admission,
}

/// Every article with its lines, the worst first.
pub(crate) fn groups(report: &Report, kept: Option<Kept>, now: Timestamp) -> Vec<Group> {
    let mut of: BTreeMap<Option<u8>, Vec<&Line>> = BTreeMap::new();
    for line in &report.lines {
        let article = line.check.article();
        of.entry(article).or_default().push(line);
    }
    ARTICLES
        .into_iter()
        .map(|(article, name)| {
            group(
                article,
                name,
                of.remove(&article).unwrap_or_default(),
                kept,
                now,
            )
        })
        .collect()
}

fn group(
    article: Option<u8>,
    name: &'static str,
    mut lines: Vec<&Line>,
    kept: Option<Kept>,
    now: Timestamp,
) -> Group {
    lines.sort_by_key(|line| std::cmp::Reverse((line.effect, line.mark)));
    let of_lines = lines.first().map_or(Mark::NotApplicable, |line| line.mark);
    let (mark, own) = match (article, kept) {
        (Some(29), Some(kept)) => {
            let (mark, sentence) = of_register(kept);
            (of_lines.max(mark), Some(sentence))
        }
        (Some(25), _) if lines.is_empty() => (
            Mark::Pass,
            Some("プログラムやマクロ付き文書の受け渡しは、この装置が止めています。".to_owned()),
        ),
        _ => (of_lines, None),
    };
    let troubled = lines.iter().filter(|line| line.mark.is_trouble()).count();
    let sentence = match (own, lines.first()) {
        (Some(sentence), _) if troubled == 0 => sentence,
        (_, Some(worst)) if troubled > 0 => trouble(worst, troubled),
        (_, Some(_)) => "問題ありません。".to_owned(),
        (_, None) => "点検する項目はありません。".to_owned(),
    };
    let listed = lines.len().min(troubled.max(LISTED));
    Group {
        article,
        name,
        mark,
        sentence,
        more: lines.len() - listed,
        lines: lines[..listed]
            .iter()
            .map(|line| LineView::new(line, now))
            .collect(),
    }
}

fn of_register(kept: Kept) -> (Mark, String) {
    let Kept { devices, others } = kept;
    match others {
        Admission::Unknown | Admission::Revoked => (
            Mark::Pass,
            format!("登録した端末（{devices}台）だけが連絡帳につながります。"),
        ),
        Admission::Tolerated | Admission::Registered { .. } => (
            Mark::Warn,
            format!("登録は{devices}台です。登録していない端末も、いまは連絡帳につながります。"),
        ),
    }
}

fn trouble(worst: &Line, troubled: usize) -> String {
    let words = checks::words(worst.check);
    let what = if worst.mark == Mark::Unknown {
        match worst.about {
            About::Facility => format!("{}がまだ記録されていません。", words.name),
            About::Box | About::Device { .. } => {
                format!("{}をまだ確かめられていません。", words.name)
            }
        }
    } else {
        words.trouble.to_owned()
    };
    let whose = match &worst.about {
        About::Device { name, .. } => format!("{name}：{what}"),
        About::Box | About::Facility => what,
    };
    if troubled > 1 {
        format!("{whose}ほか{}件", troubled - 1)
    } else {
        whose
    }
}

/// The one thing to do about the checks: what weighs most now, of these what weighs more next, of these what comes first.
/// What only the box or the city can put right is not for staff before it restricts them.
pub(crate) fn to_do(report: &Report, manager: bool, now: Timestamp) -> Option<Headline> {
    let for_them = |line: &&Line| {
        let by_the_city = checks::words(line.check).fixer == Fixer::City;
        // What the box or the city has yet to find out is no work for anybody here either.
        let not_yet = line.about == About::Box && line.mark == Mark::Unknown;
        let theirs = !not_yet && (manager || !by_the_city);
        line.mark.is_trouble() && (theirs || line.effect >= Effect::Restrict)
    };
    let worst = report.lines.iter().filter(for_them).min_by_key(|line| {
        let next = line.next;
        (
            std::cmp::Reverse(line.effect),
            std::cmp::Reverse(line.mark),
            std::cmp::Reverse(next.map(|(effect, _)| effect)),
            next.map_or(i64::MAX, |(_, at)| at.0),
            line.check,
        )
    })?;
    let words = checks::words(worst.check);
    let trouble = trouble(worst, 1);
    let sentence = match worst.check.article() {
        Some(article) => format!("{}（規約第{article}条）。", trouble.trim_end_matches('。')),
        None => trouble,
    };
    let (next, link) = if worst.mark == Mark::Unknown && worst.about == About::Box {
        let call = "装置が自動で確かめます。1時間たっても変わらないときは、下の問い合わせ先に電話してください。";
        (Cow::Borrowed(call), None)
    } else if manager || words.fixer == Fixer::City {
        let link = worst.place().filter(|_| manager);
        (
            Cow::Borrowed(words.action),
            link.map(|(address, label)| (Cow::Owned(address), label)),
        )
    } else {
        (
            Cow::Borrowed("この画面を事業所管理者に見せてください。"),
            None,
        )
    };
    Some(Headline {
        light: if worst.effect == Effect::Block {
            Light::Red
        } else {
            Light::Amber
        },
        sentence,
        next,
        link,
        deadline: deadline(worst, now),
    })
}

/// A moment for the head of a printed page.
pub(crate) fn printed(at: Timestamp) -> String {
    let moment = minute(at);
    let clock = moment.rsplit('）').next().unwrap_or_default();
    format!("{} {clock}", day(at))
}

/// The month of a report: 2026年11月
pub(crate) fn month(at: Timestamp) -> String {
    let whole = day(at);
    whole
        .split_once('月')
        .map_or(whole.clone(), |(month, _)| format!("{month}月"))
}
