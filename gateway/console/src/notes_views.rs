//! The reader's pages as askama templates, and how notes and attachments are put into words. Asks nobody.
//!
//! No page's title names a person: titles end up in the history of a PC that many share.

use askama::Template;
use gateway_notes::{
    FoundNote, NotKept, Part, PersonSummary, Personal, Refusal, Standing, StoredNote,
    UNREAD_COUNTED,
};
use gateway_policy::Timestamp;
use gateway_policy::calendar::Date;

use crate::moment::{clock, date, full_date, minute};
use crate::pages::{Banner, Frame, Time};
use crate::reader::encode;
use crate::shown::{ForReader, People};

#[derive(Template)]
#[template(path = "persons.html")]
pub(crate) struct Persons<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) banner: Banner,
    pub(crate) persons: People,
}

pub(crate) struct PersonView {
    /// The id, percent-encoded for a path.
    pub(crate) path: String,
    pub(crate) name: Personal,
    /// How many notes are unread, in words; `None` when none is.
    pub(crate) unread: Option<String>,
    pub(crate) newest: Option<Time>,
}

impl From<PersonSummary> for PersonView {
    fn from(person: PersonSummary) -> Self {
        Self {
            path: encode(&person.id),
            name: person.display_name,
            unread: unread(person.unread),
            newest: person.newest.map(Into::into),
        }
    }
}

impl PersonView {
    /// For all readers: how much is unread is put in for each.
    pub(crate) fn of_nothing_unread(person: &PersonSummary) -> Self {
        Self {
            path: encode(&person.id),
            name: Personal::new(person.display_name.reveal()),
            unread: None,
            newest: person.newest.map(Into::into),
        }
    }
}

/// 未読 3件
pub(crate) fn unread(count: u64) -> Option<String> {
    match count {
        0 => None,
        UNREAD_COUNTED.. => Some(format!("未読 {UNREAD_COUNTED}件以上")),
        some => Some(format!("未読 {some}件")),
    }
}

#[derive(Template)]
#[template(path = "notes.html")]
pub(crate) struct Notes<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) banner: Banner,
    pub(crate) name: &'a str,
    pub(crate) days: ForReader,
    pub(crate) unread: Option<String>,
    /// What is sent when everything is marked as read: the number of the newest note shown or not, sealed.
    pub(crate) upto: String,
    /// The address of the next page.
    pub(crate) older: Option<String>,
    pub(crate) first_page: bool,
    pub(crate) path: String,
}

/// The notes of one day.
pub(crate) struct Day<'a> {
    pub(crate) heading: String,
    pub(crate) notes: Vec<NoteView<'a>>,
}

#[derive(Template)]
#[template(path = "note.html")]
pub(crate) struct OneNote<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) banner: Banner,
    pub(crate) name: Personal,
    pub(crate) day: Day<'a>,
    pub(crate) path: String,
}

#[derive(Template)]
#[template(path = "notes_print.html")]
pub(crate) struct Print<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) banner: Banner,
    pub(crate) name: Personal,
    pub(crate) days: Vec<Day<'a>>,
    pub(crate) path: String,
    /// How many days back.
    pub(crate) span: i64,
    pub(crate) spans: [i64; 3],
    /// There are more notes than are printed at once.
    pub(crate) more: bool,
    pub(crate) printed: String,
}

#[derive(Template)]
#[template(path = "draft.html")]
pub(crate) struct Draft<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) banner: Banner,
    pub(crate) name: Personal,
    pub(crate) path: String,
    /// What tells this session's drafts from those of the one before.
    pub(crate) session: String,
    pub(crate) keeper: &'static str,
}

#[derive(Template)]
#[template(path = "search.html")]
pub(crate) struct Search<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) banner: Banner,
    pub(crate) words: &'a str,
    /// `None` before anything was searched for.
    pub(crate) results: Option<Results>,
}

impl Search<'_> {
    fn words(&self) -> &str {
        self.words
    }
}

impl Persons<'_> {
    /// In the form for searching: nothing yet.
    const fn words(&self) -> &'static str {
        ""
    }
}

pub(crate) struct Results {
    /// What came of it, in one sentence.
    pub(crate) sentence: String,
    /// What can be done about it.
    pub(crate) advice: Option<&'static str>,
    pub(crate) persons: Vec<PersonView>,
    pub(crate) notes: Vec<ResultView>,
}

pub(crate) struct ResultView {
    pub(crate) path: String,
    pub(crate) name: Personal,
    pub(crate) author: Personal,
    pub(crate) role: String,
    pub(crate) time: Time,
    pub(crate) excerpt: Vec<Part>,
    /// Those with a hit in their name.
    pub(crate) attachments: Vec<Vec<Part>>,
}

impl From<FoundNote> for ResultView {
    fn from(found: FoundNote) -> Self {
        let hit = |name: &Vec<Part>| name.iter().any(|part| part.hit);
        Self {
            path: note_path(&encode(&found.person), &found.note.id),
            name: found.display_name,
            author: found.note.author_name,
            role: found.note.role,
            time: found.note.time.into(),
            excerpt: found.excerpt,
            attachments: found.attachments.into_iter().filter(hit).collect(),
        }
    }
}

pub(crate) struct NoteView<'a> {
    pub(crate) path: String,
    pub(crate) author: &'a Personal,
    pub(crate) role: &'a str,
    /// 8:25
    pub(crate) clock: String,
    pub(crate) time: Time,
    pub(crate) fetched: String,
    pub(crate) text: &'a Personal,
    pub(crate) attachments: Vec<AttachmentView<'a>>,
    pub(crate) signed: bool,
    pub(crate) unread: bool,
}

pub(crate) struct AttachmentView<'a> {
    pub(crate) name: &'a Personal,
    /// Where it can be opened, if it can.
    pub(crate) path: Option<String>,
    /// Kind and size, or why it cannot be opened here.
    pub(crate) state: String,
}

/// The address of one note's page.
pub(crate) fn note_path(person: &str, note: &str) -> String {
    format!("/notes/{person}/note/{}", encode(note))
}

/// How days are called.
#[derive(Clone, Copy)]
pub(crate) enum Days {
    /// Seen from this moment: 今日, 昨日.
    From(Timestamp),
    /// With the year, because it is read at another time.
    InFull,
}

/// Notes by day, in the order given. `standings` are those of all their attachments, in the same order; where they are
/// missing, nothing is said to be here.
pub(crate) fn days<'a>(
    person: &str,
    notes: &'a [StoredNote],
    read_upto: i64,
    standings: &[Standing],
    called: Days,
) -> Vec<Day<'a>> {
    let mut standings = standings.iter();
    let mut days: Vec<(Date, Day<'a>)> = Vec::new();
    // Most were fetched together.
    let mut fetched: Option<(i64, String)> = None;
    for note in notes {
        let at = Timestamp(note.time);
        let words = match fetched.take_if(|(at, _)| *at == note.fetched) {
            Some((_, words)) => words,
            None => minute(Timestamp(note.fetched)),
        };
        fetched = Some((note.fetched, words.clone()));
        let view = view(person, note, words, read_upto, &mut standings);
        let of = Date::in_japan(at);
        match days.last_mut() {
            Some((last, day)) if *last == of => day.notes.push(view),
            _ => days.push((
                of,
                Day {
                    heading: match called {
                        Days::From(now) => heading(at, now),
                        Days::InFull => full_date(at),
                    },
                    notes: vec![view],
                },
            )),
        }
    }
    days.into_iter().map(|(_, day)| day).collect()
}

/// 今日　11月24日（火）; the year where it is not this one.
fn heading(at: Timestamp, now: Timestamp) -> String {
    const DAY: i64 = 86_400;
    let of = Date::in_japan(at);
    if of == Date::in_japan(now) {
        return format!("今日　{}", date(at));
    }
    if of == Date::in_japan(now.plus(-DAY)) {
        return format!("昨日　{}", date(at));
    }
    if of.year == Date::in_japan(now).year {
        date(at)
    } else {
        full_date(at)
    }
}

fn view<'a, 's>(
    person: &str,
    note: &'a StoredNote,
    fetched: String,
    read_upto: i64,
    standings: &mut impl Iterator<Item = &'s Standing>,
) -> NoteView<'a> {
    let attachments = note.attachments.iter().map(|attachment| {
        let standing = standings.next();
        let readable = standing == Some(&Standing::Readable);
        AttachmentView {
            path: readable.then(|| format!("/notes/attachment/{}", encode(&attachment.id))),
            state: match standing {
                Some(Standing::Readable) => {
                    format!(
                        "{}、{}",
                        kind(&attachment.media_type),
                        size(attachment.size)
                    )
                }
                Some(standing) => why_not(*standing).to_owned(),
                None => "連絡帳で開けます".to_owned(),
            },
            name: &attachment.name,
        }
    });
    NoteView {
        attachments: attachments.collect(),
        path: note_path(person, &note.id),
        author: &note.author_name,
        role: &note.role,
        clock: clock(Timestamp(note.time)),
        time: note.time.into(),
        fetched,
        text: &note.text,
        signed: note.signature.is_some(),
        unread: note.number > read_upto,
    }
}

/// Why an attachment cannot be opened here, and where it can.
const fn why_not(standing: Standing) -> &'static str {
    match standing {
        Standing::Readable => "",
        Standing::Coming => "取得中です。まだ開けません",
        Standing::NotKept(NotKept::Off | NotKept::MediaType) => {
            "この装置には保存しない種類です。連絡帳で開いてください"
        }
        Standing::NotKept(NotKept::TooLarge) => {
            "大きいため、この装置には保存していません。連絡帳で開いてください"
        }
        Standing::NotKept(NotKept::TooOld) => {
            "古い添付のため、この装置には保存していません。連絡帳で開いてください"
        }
        Standing::NotKept(NotKept::NoRoom) => {
            "空きがないため、この装置には保存していません。連絡帳で開いてください"
        }
        Standing::Refused(Refusal::Infected) => "ウイルスが見つかったため、開けません",
        Standing::Refused(Refusal::Withdrawn) => {
            "取り下げました：あとから新しいウイルス定義でウイルスが見つかったため、開けません"
        }
        Standing::Refused(Refusal::Unscannable) => "検査できないファイルのため、ここでは開けません",
        Standing::Refused(Refusal::Kind) => {
            "止めている種類のファイルのため、開けません（規約第25条）"
        }
        Standing::Refused(Refusal::WrongContent) => {
            "届いた内容が市の知らせと違うため、ここでは開けません"
        }
        Standing::Refused(Refusal::Absent) => "この装置にはありません。連絡帳で開いてください",
    }
}

/// A media type in one word.
fn kind(media_type: &str) -> &'static str {
    match media_type.split_once('/') {
        Some(("image", _)) => "画像",
        Some(("video", _)) => "動画",
        Some(("audio", _)) => "音声",
        Some(("application", "pdf")) => "PDF",
        Some(("text", _)) => "文書",
        _ => "ファイル",
    }
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes}バイト"),
        1024..1_048_576 => format!("{}KB", bytes.div_ceil(1024)),
        _ => format!(
            "{}.{}MB",
            bytes / 1_048_576,
            bytes % 1_048_576 * 10 / 1_048_576
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_476_300);

    #[test]
    fn days_are_called_as_people_call_them() {
        for (at, called) in [
            (NOW, "今日　11月24日（火）"),
            // 8:25 in Japan: eight and a half hours ago is the same day, nine is not.
            (NOW.plus(-30_000), "今日　11月24日（火）"),
            (NOW.plus(-32_400), "昨日　11月23日（月）"),
            (NOW.plus(-2 * 86_400), "11月22日（日）"),
            (NOW.plus(-330 * 86_400), "2025年12月29日（月）"),
        ] {
            assert_eq!(heading(at, NOW), called);
        }
    }

    #[test]
    fn sizes_are_in_the_unit_that_fits() {
        for (bytes, shown) in [
            (0, "0バイト"),
            (1023, "1023バイト"),
            (1024, "1KB"),
            (1025, "2KB"),
            (1_048_576, "1.0MB"),
            (26_214_400, "25.0MB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn unread_notes_are_counted_up_to_a_hundred() {
        assert_eq!(unread(0), None);
        assert_eq!(unread(3).unwrap(), "未読 3件");
        assert_eq!(unread(100).unwrap(), "未読 100件以上");
    }
}
