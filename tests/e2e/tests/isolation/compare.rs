//! Holds answers against what their reader may know, and against each other. Asks nobody.

use gateway_e2e::visiting::Answer;

/// An answer in which everything is blanked that differs each time: support codes, the page's own name, the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) status: u16,
    pub(crate) header: Vec<(String, String)>,
    pub(crate) body: String,
}

/// Fields that are of the moment or the connection.
const OF_THE_MOMENT: [&str; 4] = ["date", "keep-alive", "connection", "alt-svc"];

impl Plain {
    pub(crate) fn of(answer: &Answer) -> Self {
        let mut header: Vec<_> = answer
            .header
            .iter()
            .filter(|(name, _)| !OF_THE_MOMENT.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), blanked(value)))
            .collect();
        header.sort();
        Self {
            status: answer.status,
            header,
            // Asked for the head alone, curl shows it where the body would be.
            body: answer
                .body
                .lines()
                .filter(|line| !line.starts_with("date: "))
                .map(|line| blanked(line) + "\n")
                .collect(),
        }
    }

    /// The first place where two answers differ.
    pub(crate) fn differs(&self, other: &Self) -> Option<String> {
        if self.status != other.status {
            return Some(format!("status {} and {}", self.status, other.status));
        }
        if self.header != other.header {
            let only = |one: &[(String, String)], than: &[(String, String)]| {
                one.iter()
                    .filter(|field| !than.contains(field))
                    .map(|(name, value)| format!("{name}: {value}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            return Some(format!(
                "header [{}] and [{}]",
                only(&self.header, &other.header),
                only(&other.header, &self.header)
            ));
        }
        let mut lines = self.body.lines().zip(other.body.lines());
        if let Some((one, another)) = lines.find(|(one, another)| one != another) {
            return Some(format!("«{one}» and «{another}»"));
        }
        let length = |plain: &Self| plain.body.lines().count();
        (self.body != other.body).then(|| format!("{} and {} lines", length(self), length(other)))
    }
}

/// Codes, names of pages and sealed searches have a fixed length; they are blanked digit by digit, so that lengths still count.
fn blanked(text: &str) -> String {
    let mut out = text.to_owned();
    for opening in [
        "受付番号",
        "サポートコード",
        "data-view=\"",
        "name=\"upto\" value=\"",
        "?s=",
        "support_code\":\"",
    ] {
        out = blank_after(&out, opening, |letter| {
            letter.is_ascii_alphanumeric() || "-_".contains(letter)
        });
    }
    clock_times(&out)
}

/// Blanks the first run of such letters after each `opening`.
fn blank_after(text: &str, opening: &str, fits: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(opening) {
        let (before, after) = rest.split_at(at + opening.len());
        out.push_str(before);
        // Words and tags may stand between the label and the code.
        let from = if opening.ends_with(['"', '=']) {
            0
        } else {
            let code = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit();
            after.find(code).filter(|at| *at < 40).unwrap_or(0)
        };
        let (between, code) = after.split_at(from);
        out.push_str(between);
        let length = code.find(|letter| !fits(letter)).unwrap_or(code.len());
        out.extend(std::iter::repeat_n('*', length));
        let end = from + length;
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

/// Times of the day: `8:25` and `08:25:01` become `*:*`, and so do counts of seconds that a page has been up.
fn clock_times(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let letters: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < letters.len() {
        let digits = letters[at..]
            .iter()
            .take_while(|one| one.is_ascii_digit())
            .count();
        let is_time = (1..=2).contains(&digits)
            && letters.get(at + digits) == Some(&':')
            && letters
                .get(at + digits + 1)
                .is_some_and(char::is_ascii_digit)
            && letters
                .get(at + digits + 2)
                .is_some_and(char::is_ascii_digit);
        if is_time {
            out.push_str("*:*");
            at += digits + 3;
            continue;
        }
        let step = digits.max(1);
        out.extend(&letters[at..(at + step).min(letters.len())]);
        at += step;
    }
    out
}

/// Which of these marks an answer shows, anywhere in it. What was asked for is no mark: who types a word knows it.
pub(crate) fn shows<'a>(answer: &Answer, marks: &'a [String], asked: &str) -> Vec<&'a str> {
    let mut all = answer.body.clone();
    for (name, value) in &answer.header {
        all.push_str(&format!("\n{name}: {value}"));
    }
    marks
        .iter()
        .filter(|mark| !asked.contains(mark.as_str()) && all.contains(mark.as_str()))
        .map(String::as_str)
        .collect()
}

/// What is wrong with how an answer may be kept by browsers and caches.
pub(crate) fn may_be_kept(answer: &Answer) -> Option<String> {
    let control = answer.field("cache-control");
    (answer.status != 0 && !control.contains("no-store"))
        .then(|| format!("cache-control: {control:?}"))
}
