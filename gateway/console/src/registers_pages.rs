//! The pages of the registers: removable media and paper (第28条), training (第23条), declarations. For the manager alone.

use std::sync::Arc;

use askama::Template;
use gateway_policy::Timestamp;
use gateway_policy::calendar::Date;

use crate::compliance::printed;
use crate::console::{Console, Verb, get, method};
use crate::devices_pages::{posted, status};
use crate::form::Fields;
use crate::moment::{day, iso, minute, whole_day};
use crate::pages::Frame;
use crate::registers::{
    DeclarationState, DeclarationTopic, MadeDeclaration, Medium, MediumKind, MediumState, Method,
    NewMedium, Recorded, Register,
};
use crate::registers_forms as forms;
use crate::response::{Fault, Page, file, see_other};
use crate::{ConsoleRequest, Message, RegistersDesk};

/// The form of a review names every medium twice; two thousand of them fit.
const LARGEST_FORM: usize = 256 * 1024;

type DeskRef<'a> = &'a Arc<dyn RegistersDesk>;

#[derive(Template)]
#[template(path = "registers.html")]
struct RegistersPage<'a> {
    frame: Frame<'a>,
    media: Summary,
    trainings: Summary,
    declarations: Summary,
}

/// One register on the overview.
struct Summary {
    text: String,
    due: Option<String>,
    late: bool,
}

#[derive(Template)]
#[template(path = "media.html")]
struct MediaPage<'a> {
    frame: Frame<'a>,
    reviewed: Option<String>,
    review_by: Option<String>,
    late: bool,
    media: Vec<MediumView>,
    ended: Vec<MediumView>,
}

#[derive(Template)]
#[template(path = "medium_new.html")]
struct NewMediumPage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    form: Fields,
    kinds: [MediumKind; 7],
}

#[derive(Template)]
#[template(path = "medium.html")]
struct MediumPage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    medium: MediumView,
    events: Vec<EventView>,
    methods: [Method; 4],
    today: String,
}

#[derive(Template)]
#[template(path = "media_review.html")]
struct ReviewPage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    media: Vec<MediumView>,
    form: Fields,
}

#[derive(Template)]
#[template(path = "media_print.html")]
struct PrintPage<'a> {
    frame: Frame<'a>,
    made: String,
    reviewed: Option<String>,
    media: Vec<MediumView>,
    ended: Vec<MediumView>,
}

#[derive(Template)]
#[template(path = "training.html")]
struct TrainingPage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    form: Fields,
    today: String,
    due: Option<String>,
    late: bool,
    held: Vec<HeldView>,
}

struct HeldView {
    day: String,
    topic: String,
    participants: u32,
    by: String,
}

#[derive(Template)]
#[template(path = "declarations.html")]
struct DeclarationsPage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    topics: Vec<TopicView>,
    made: Vec<MadeView>,
}

struct TopicView {
    topic: DeclarationTopic,
    declared: Option<String>,
    until: Option<String>,
    late: bool,
}

struct MadeView {
    at: String,
    topic: &'static str,
    by: String,
    remark: String,
    until: String,
}

struct EventView {
    at: String,
    by: String,
    what: String,
}

struct MediumView {
    number: u64,
    what: NewMedium,
    kind: &'static str,
    state: Shown,
    /// The class of the badge.
    class: &'static str,
    label: &'static str,
    text: String,
    since: String,
    seen: Option<String>,
}

/// What the medium's page offers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Kept,
    Lent,
    Missing,
    Ended,
}

impl MediumView {
    fn new(medium: Medium, today: Date) -> Self {
        let (state, class, label, text) = match &medium.state {
            MediumState::Kept => (Shown::Kept, "green", "保管中", medium.what.place.clone()),
            MediumState::Lent { to, place, due } => {
                let late = due.is_some_and(|due| due < today);
                let until = due.map(|due| format!("、{}返却予定", whole_day(due)));
                (
                    Shown::Lent,
                    if late { "red" } else { "amber" },
                    if late { "返却遅れ" } else { "貸出中" },
                    format!("{to}（{place}{}）", until.unwrap_or_default()),
                )
            }
            MediumState::Missing => (
                Shown::Missing,
                "red",
                "所在不明",
                "すぐに探し、見つからないときは市に報告してください（規約第24条）".to_owned(),
            ),
            MediumState::Disposed { method, witness } => (
                Shown::Ended,
                "off",
                "廃棄済み",
                format!("{}（立会人 {witness}）", method.label()),
            ),
            MediumState::WrittenOff { report } => {
                (Shown::Ended, "off", "紛失", format!("報告：{report}"))
            }
        };
        Self {
            number: medium.number,
            kind: medium.what.kind.label(),
            what: medium.what,
            state,
            class,
            label,
            text,
            since: day(medium.since),
            seen: medium.seen.map(day),
        }
    }

    fn is(&self, state: &str) -> bool {
        match state {
            "kept" => self.state == Shown::Kept,
            "lent" => self.state == Shown::Lent,
            "missing" => self.state == Shown::Missing,
            _ => self.state == Shown::Ended,
        }
    }
}

impl Console {
    pub(crate) async fn register_pages(
        &self,
        request: &ConsoleRequest,
        path: &str,
    ) -> Result<Page, Fault> {
        let desk = &self.desks.registers.clone().ok_or(Fault::NotFound)?;
        self.manager(request)?;
        if request.body.len() > LARGEST_FORM {
            return Err(Fault::TooLarge);
        }
        match path {
            "/registers" => self.registers_page(get(request)?, desk).await,
            "/media" => self.media_page(get(request)?, desk).await,
            "/media/print" => self.media_print(get(request)?, desk).await,
            "/media/media.csv" => csv(get(request)?, desk, Register::Media).await,
            "/training/training.csv" => csv(get(request)?, desk, Register::Trainings).await,
            "/declarations/declarations.csv" => {
                csv(get(request)?, desk, Register::Declarations).await
            }
            "/media/new" => match method(request, "GET, HEAD, POST")? {
                Verb::Read => self.new_medium_page(request, None, Fields::empty()).await,
                Verb::Post => self.enter_medium(request, desk).await,
            },
            "/media/review" => match method(request, "GET, HEAD, POST")? {
                Verb::Read => self.review_page(request, desk, None, Fields::empty()).await,
                Verb::Post => self.review(request, desk).await,
            },
            "/training" => match method(request, "GET, HEAD, POST")? {
                Verb::Read => {
                    self.training_page(request, desk, None, Fields::empty())
                        .await
                }
                Verb::Post => self.record_training(request, desk).await,
            },
            "/declarations" => match method(request, "GET, HEAD, POST")? {
                Verb::Read => self.declarations_page(request, desk, None).await,
                Verb::Post => self.declare(posted(request)?, desk).await,
            },
            _ => {
                let number = path.strip_prefix("/media/").and_then(|n| n.parse().ok());
                let number = number.ok_or(Fault::NotFound)?;
                match method(request, "GET, HEAD, POST")? {
                    Verb::Read => self.medium_page(request, desk, number, None).await,
                    Verb::Post => self.change_medium(posted(request)?, desk, number).await,
                }
            }
        }
    }

    /// A staff member's name, as the store of notes knows it; the user id of one who has left.
    async fn name_of(&self, user: String) -> String {
        let known = match self.desk.store() {
            Some(store) => store.staff(&user).await.ok().flatten(),
            None => None,
        };
        known.map_or(user, |staff| staff.display_name.reveal().to_owned())
    }

    fn today(&self) -> Date {
        Date::in_japan(self.desk.now())
    }

    async fn registers_page(
        &self,
        request: &ConsoleRequest,
        desk: DeskRef<'_>,
    ) -> Result<Page, Fault> {
        let now = self.desk.now();
        let media = desk.media().await.map_err(Fault::Desk)?;
        let trainings = desk.trainings().await.map_err(Fault::Desk)?;
        let declarations = desk.declarations().await.map_err(Fault::Desk)?;
        let in_use = media
            .media
            .iter()
            .filter(|medium| !has_ended(&medium.state))
            .count();
        let last = trainings.held.first().map_or_else(
            || "まだ記録がありません".to_owned(),
            |held| format!("最後の研修 {}", whole_day(held.training.day)),
        );
        let first_due = declarations
            .topics
            .iter()
            .map(|topic| topic.until)
            .collect::<Option<Vec<_>>>()
            .and_then(|untils| untils.into_iter().min());
        let page = RegistersPage {
            frame: self.frame("台帳", "registers", request).await,
            media: summary(format!("登録中の媒体 {in_use}件"), media.review_by, now),
            trainings: summary(last, trainings.due, now),
            declarations: summary(format!("{}項目", declarations.topics.len()), first_due, now),
        };
        self.page(&page)
    }

    async fn media_page(&self, request: &ConsoleRequest, desk: DeskRef<'_>) -> Result<Page, Fault> {
        let now = self.desk.now();
        let all = desk.media().await.map_err(Fault::Desk)?;
        let (media, ended) = self.split(all.media);
        let page = MediaPage {
            frame: self.frame("媒体台帳", "registers", request).await,
            reviewed: all.reviewed.map(day),
            review_by: all.review_by.map(day),
            late: all.review_by.is_none_or(|by| by <= now),
            media,
            ended,
        };
        self.page(&page)
    }

    async fn media_print(
        &self,
        request: &ConsoleRequest,
        desk: DeskRef<'_>,
    ) -> Result<Page, Fault> {
        let all = desk.media().await.map_err(Fault::Desk)?;
        let (media, ended) = self.split(all.media);
        let page = PrintPage {
            frame: self.frame("媒体台帳（印刷用）", "registers", request).await,
            made: printed(self.desk.now()),
            reviewed: all.reviewed.map(day),
            media,
            ended,
        };
        self.page(&page)
    }

    fn split(&self, media: Vec<Medium>) -> (Vec<MediumView>, Vec<MediumView>) {
        let today = self.today();
        media
            .into_iter()
            .map(|medium| MediumView::new(medium, today))
            .partition(|medium| medium.state != Shown::Ended)
    }

    async fn new_medium_page(
        &self,
        request: &ConsoleRequest,
        failure: Option<Message>,
        form: Fields,
    ) -> Result<Page, Fault> {
        let page = NewMediumPage {
            frame: self.frame("媒体の登録", "registers", request).await,
            failure,
            form,
            kinds: MediumKind::ALL,
        };
        self.form_page(status(&page.failure), &page)
    }

    async fn enter_medium(
        &self,
        request: &ConsoleRequest,
        desk: DeskRef<'_>,
    ) -> Result<Page, Fault> {
        let manager = self.manager(request)?;
        let fields = Fields::read(&request.body).ok_or(Fault::BadRequest)?;
        let entered = match forms::medium(&fields) {
            Ok(medium) => desk.enter_medium(medium, manager).await,
            Err(told) => Err(told),
        };
        match entered {
            Ok(number) => see_other(&format!("/media/{number}")),
            Err(failure) => self.new_medium_page(request, Some(failure), fields).await,
        }
    }

    async fn medium_page(
        &self,
        request: &ConsoleRequest,
        desk: DeskRef<'_>,
        number: u64,
        failure: Option<Message>,
    ) -> Result<Page, Fault> {
        let found = desk.medium(number).await.map_err(Fault::Desk)?;
        let found = found.ok_or(Fault::NotFound)?;
        let mut events = Vec::with_capacity(found.events.len());
        for Recorded { at, by, what } in found.events.into_iter().rev() {
            events.push(EventView {
                at: minute(at),
                by: self.name_of(by).await,
                what,
            });
        }
        let page = MediumPage {
            frame: self.frame("媒体の記録", "registers", request).await,
            failure,
            medium: MediumView::new(found.medium, self.today()),
            events,
            methods: Method::ALL,
            today: iso(self.today()),
        };
        self.form_page(status(&page.failure), &page)
    }

    async fn change_medium(
        &self,
        request: &ConsoleRequest,
        desk: DeskRef<'_>,
        number: u64,
    ) -> Result<Page, Fault> {
        let manager = self.manager(request)?;
        let fields = Fields::read(&request.body).ok_or(Fault::BadRequest)?;
        let changed = match forms::change(&fields)? {
            Ok(change) => desk.change_medium(number, change, manager).await,
            Err(told) => Err(told),
        };
        match changed {
            Ok(()) => see_other(&format!("/media/{number}")),
            Err(failure) => self.medium_page(request, desk, number, Some(failure)).await,
        }
    }

    async fn review_page(
        &self,
        request: &ConsoleRequest,
        desk: DeskRef<'_>,
        failure: Option<Message>,
        form: Fields,
    ) -> Result<Page, Fault> {
        let all = desk.media().await.map_err(Fault::Desk)?;
        let page = ReviewPage {
            frame: self.frame("媒体台帳の点検", "registers", request).await,
            failure,
            media: self.split(all.media).0,
            form,
        };
        self.form_page(status(&page.failure), &page)
    }

    async fn review(&self, request: &ConsoleRequest, desk: DeskRef<'_>) -> Result<Page, Fault> {
        let manager = self.manager(request)?;
        let fields = Fields::read(&request.body).ok_or(Fault::BadRequest)?;
        let reviewed = match forms::review(&fields)? {
            Ok((seen, missing)) => desk.review_media(seen, missing, manager).await,
            Err(told) => Err(told),
        };
        match reviewed {
            Ok(()) => see_other("/media"),
            Err(failure) => self.review_page(request, desk, Some(failure), fields).await,
        }
    }

    async fn training_page(
        &self,
        request: &ConsoleRequest,
        desk: DeskRef<'_>,
        failure: Option<Message>,
        form: Fields,
    ) -> Result<Page, Fault> {
        let now = self.desk.now();
        let all = desk.trainings().await.map_err(Fault::Desk)?;
        let mut held = Vec::with_capacity(all.held.len());
        for one in all.held {
            held.push(HeldView {
                day: whole_day(one.training.day),
                topic: one.training.topic,
                participants: one.training.participants,
                by: self.name_of(one.by).await,
            });
        }
        let page = TrainingPage {
            frame: self.frame("セキュリティ研修", "registers", request).await,
            failure,
            form,
            today: iso(self.today()),
            due: all.due.map(day),
            late: all.due.is_none_or(|due| due <= now),
            held,
        };
        self.form_page(status(&page.failure), &page)
    }

    async fn record_training(
        &self,
        request: &ConsoleRequest,
        desk: DeskRef<'_>,
    ) -> Result<Page, Fault> {
        let manager = self.manager(request)?;
        let fields = Fields::read(&request.body).ok_or(Fault::BadRequest)?;
        let recorded = match forms::training(&fields) {
            Ok(training) => desk.record_training(training, manager).await,
            Err(told) => Err(told),
        };
        match recorded {
            Ok(()) => see_other("/training"),
            Err(failure) => {
                self.training_page(request, desk, Some(failure), fields)
                    .await
            }
        }
    }

    async fn declarations_page(
        &self,
        request: &ConsoleRequest,
        desk: DeskRef<'_>,
        failure: Option<Message>,
    ) -> Result<Page, Fault> {
        let now = self.desk.now();
        let all = desk.declarations().await.map_err(Fault::Desk)?;
        let mut made = Vec::with_capacity(all.made.len());
        for one in all.made {
            let by = self.name_of(one.by.clone()).await;
            made.push(made_view(one, by));
        }
        let page = DeclarationsPage {
            frame: self.frame("申告", "registers", request).await,
            failure,
            topics: all
                .topics
                .into_iter()
                .map(|state| topic_view(state, now))
                .collect(),
            made,
        };
        self.form_page(status(&page.failure), &page)
    }

    async fn declare(&self, request: &ConsoleRequest, desk: DeskRef<'_>) -> Result<Page, Fault> {
        let manager = self.manager(request)?;
        let fields = Fields::read(&request.body).ok_or(Fault::BadRequest)?;
        let topic = forms::topic(&fields)?;
        let remark = fields.value("remark").to_owned();
        match desk.declare(topic, remark, manager).await {
            Ok(()) => see_other("/declarations"),
            Err(failure) => self.declarations_page(request, desk, Some(failure)).await,
        }
    }
}

async fn csv(_: &ConsoleRequest, desk: DeskRef<'_>, register: Register) -> Result<Page, Fault> {
    let content = desk.export(register).await.map_err(Fault::Desk)?;
    let name = match register {
        Register::Media => "media.csv",
        Register::Trainings => "training.csv",
        Register::Declarations => "declarations.csv",
    };
    file(name, "text/csv; charset=utf-8; header=present", content)
}

const fn has_ended(state: &MediumState) -> bool {
    matches!(
        state,
        MediumState::Disposed { .. } | MediumState::WrittenOff { .. }
    )
}

fn summary(text: String, due: Option<Timestamp>, now: Timestamp) -> Summary {
    Summary {
        text,
        due: due.map(day),
        late: due.is_none_or(|due| due <= now),
    }
}

fn topic_view(state: DeclarationState, now: Timestamp) -> TopicView {
    TopicView {
        topic: state.topic,
        declared: state.declared.map(day),
        until: state.until.map(day),
        late: state.until.is_none_or(|until| until <= now),
    }
}

fn made_view(made: MadeDeclaration, by: String) -> MadeView {
    MadeView {
        at: day(made.at),
        topic: made.topic.label(),
        by,
        remark: made.remark,
        until: day(made.until),
    }
}
