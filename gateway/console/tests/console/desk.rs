use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gateway_console::{
    Answer, BoxStatus, Certificate, Config, Console, ConsoleRequest, Desk, Entry, Link, Message,
    Provenance, SessionId, SetupStatus, Staff, ViewId, Visit,
};
use gateway_notes::{
    Attachment, Change, Event, Limits, NotRecorded, Personal, Reading, Role, RootsInMemory, Store,
    Witness,
};
use gateway_policy::{
    BOX_CHECKS, Certificate as Held, Check, DeviceId, Evidence, FACILITY_CHECKS, Gate, Grade,
    Ledger, Observation, Observed, Snapshot, Source, Standing, Subject, Timestamp,
};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};

/// 2026年11月24日（火）8:25 in Japan.
pub(crate) const NOW: Timestamp = Timestamp(1_795_476_300);
pub(crate) const DAY: i64 = 86_400;

pub(crate) const BOX: &str = "box.takahagi.localhost:8443";
pub(crate) const NOTEBOOK: &str = "renraku.takahagi.localhost:8443";

/// What a test arranges, and what the pages asked for.
pub(crate) struct Arranged {
    pub(crate) now: Timestamp,
    pub(crate) snapshot: Snapshot,
    pub(crate) line: Link,
    pub(crate) city: Link,
    pub(crate) setup: SetupStatus,
    pub(crate) store: Option<Store>,
    pub(crate) setup_code: Option<String>,
    pub(crate) answer: Result<(), Message>,
    pub(crate) entered: Vec<(String, String)>,
    pub(crate) imported: Vec<(Bytes, String)>,
    /// What was recorded of reading, in order.
    pub(crate) looked: Vec<String>,
    /// Nothing more can be recorded.
    pub(crate) record_full: bool,
}

#[derive(Clone)]
pub(crate) struct TestDesk(pub(crate) Arc<Mutex<Arranged>>);

impl TestDesk {
    pub(crate) fn arrange(&self, change: impl FnOnce(&mut Arranged)) {
        change(&mut self.0.lock().unwrap());
    }
}

impl Desk for TestDesk {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap().now
    }

    fn status(&self) -> Answer<'_, BoxStatus> {
        let arranged = self.0.lock().unwrap();
        let status = BoxStatus {
            snapshot: arranged.snapshot.clone(),
            verdict: Gate::new().box_verdict(&arranged.snapshot, arranged.now),
            line: arranged.line,
            city: arranged.city,
        };
        Box::pin(async move { status })
    }

    fn setup(&self) -> Answer<'_, SetupStatus> {
        let setup = self.0.lock().unwrap().setup.clone();
        Box::pin(async move { setup })
    }

    fn provision(&self, number: Entry, access_code: Entry) -> Answer<'_, Result<(), Message>> {
        let mut arranged = self.0.lock().unwrap();
        arranged
            .entered
            .push((number.as_str().into(), access_code.as_str().into()));
        let answer = arranged.answer.clone();
        Box::pin(async move { answer })
    }

    fn import(&self, file: Bytes, passphrase: Entry) -> Answer<'_, Result<(), Message>> {
        let mut arranged = self.0.lock().unwrap();
        arranged.imported.push((file, passphrase.as_str().into()));
        let answer = arranged.answer.clone();
        Box::pin(async move { answer })
    }

    fn is_setup_code(&self, code: Entry) -> Answer<'_, bool> {
        let right = self.0.lock().unwrap().setup_code.as_deref() == Some(code.as_str());
        Box::pin(async move { right })
    }

    fn store(&self) -> Option<Store> {
        self.0.lock().unwrap().store.clone()
    }

    fn reading(&self, visit: Visit) -> Option<Store> {
        let user = visit.staff.user.clone();
        let witness = Noted(self.clone(), user, visit.view);
        Some(self.store()?.witnessed(Arc::new(witness)))
    }

    fn moves_on(&self, _: SessionId) {
        self.0.lock().unwrap().looked.push("moves on".to_owned());
    }

    fn left(&self, _: SessionId, view: ViewId) {
        let line = format!("left {view}");
        self.0.lock().unwrap().looked.push(line);
    }
}

/// Writes down what the pages read.
struct Noted(TestDesk, String, ViewId);

impl Witness for Noted {
    fn recorded(
        &self,
        reading: Reading,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send + '_>> {
        let mut arranged = self.0.0.lock().unwrap();
        let (what, user, view) = (reading.what, &self.1, self.2);
        let line = format!("{user} {what:?} {:?} {view}", reading.person);
        arranged.looked.push(line);
        let answer = if arranged.record_full {
            Err(NotRecorded)
        } else {
            Ok(())
        };
        Box::pin(async move { answer })
    }
}

fn known<T>(value: T) -> Evidence<T> {
    Evidence::Known { value, at: NOW }
}

/// A box that works.
pub(crate) fn good() -> Snapshot {
    all_but(None, |_| ())
}

/// A box on which one check was never measured.
pub(crate) fn never_measured(check: Check) -> Snapshot {
    all_but(Some(check), |_| ())
}

/// A box whose check has begun to fail now, a minute after it last passed.
pub(crate) fn failing(check: Check) -> Snapshot {
    all_but(None, |ledger| {
        let observation = Observation::Fail {
            grade: Grade::Major,
            since: None,
        };
        ledger.observe(Subject::Box, measured(check, observation, NOW), NOW);
    })
}

fn measured(check: Check, observation: Observation, at: Timestamp) -> Observed {
    Observed {
        check,
        observation,
        at,
        source: Source::Measured,
        digest: [0; 32],
    }
}

fn all_but(left_out: Option<Check>, then: impl FnOnce(&mut Ledger)) -> Snapshot {
    let a_minute_ago = NOW.plus(-60);
    let mut ledger = Ledger::new(a_minute_ago);
    let own = BOX_CHECKS.map(|check| (Subject::Box, check));
    let facility = FACILITY_CHECKS.map(|check| (Subject::Facility, check));
    for (subject, check) in own.into_iter().chain(facility) {
        if Some(check) != left_out {
            let pass = measured(check, Observation::Pass, a_minute_ago);
            ledger.observe(subject, pass, a_minute_ago);
        }
    }
    then(&mut ledger);
    let certificate = known(Held::Held {
        not_before: NOW.plus(-30 * DAY),
        not_after: NOW.plus(335 * DAY),
    });
    ledger.snapshot(NOW, certificate, known(Standing::Active))
}

pub(crate) fn certificate(provenance: Provenance) -> Certificate {
    Certificate {
        label: "main".into(),
        state: "準備完了".into(),
        usable: true,
        holder: "訪問看護ステーションさくら".into(),
        facility_id: "F-0812".into(),
        serial: "3f9a0c55e1b7".into(),
        provenance,
        not_before: NOW.plus(-30 * DAY),
        not_after: NOW.plus(335 * DAY),
        warning: None,
    }
}

/// A console over a box that works and has no store yet.
pub(crate) fn console() -> (Console, TestDesk) {
    let desk = TestDesk(Arc::new(Mutex::new(Arranged {
        now: NOW,
        snapshot: good(),
        line: Link::Up,
        city: Link::Up,
        setup: SetupStatus {
            ready: true,
            certificates: vec![certificate(Provenance::Generated)],
            ..SetupStatus::default()
        },
        store: None,
        setup_code: None,
        answer: Ok(()),
        entered: Vec::new(),
        imported: Vec::new(),
        looked: Vec::new(),
        record_full: false,
    })));
    let config = Config {
        console_host: "box.takahagi.localhost".into(),
        notebook_host: "renraku.takahagi.localhost".into(),
        support_office: "高萩市 高齢福祉課 地域包括支援グループ".into(),
        support_phone: "0293-22-0080（内線626・617）".into(),
    };
    (Console::new(Arc::new(desk.clone()), config).unwrap(), desk)
}

/// A console with some persons and notes: `sato` reads both persons, `suzuki` the second.
pub(crate) async fn console_with_notes() -> (Console, TestDesk, tempfile::TempDir) {
    let (console, desk) = console();
    let directory = tempfile::tempdir().unwrap();
    let roots = Arc::new(RootsInMemory::default());
    let (store, _) = Store::open(directory.path(), roots, Limits::default()).unwrap();
    let mut changes = vec![
        Change::Facility {
            id: "F-0812".into(),
            name: "さくら".into(),
            suspended: false,
        },
        staff("sato", "佐藤 花子", Role::Staff, false),
        staff("suzuki", "鈴木 一郎", Role::Staff, false),
        staff("kanri", "管理 太郎", Role::Manager, false),
        person("p-1", "山田 ハナ", &["sato"]),
        person("p/2 ?", "田中 <b>茂</b>", &["sato", "suzuki"]),
    ];
    let texts = [
        (
            "訪問看護師",
            "訪問しました。血圧 128/76、体温 36.4。\n夜間の咳は減ったとのこと。\n次回は金曜の10時です。",
        ),
        (
            "ケアマネジャー",
            "ご家族から、週末のショートステイの希望がありました。空きを確認して折り返します。",
        ),
        (
            "薬剤師",
            "処方が変わりました。新しい薬は夕食後です。<script>alert(1)</script>",
        ),
        (
            "主治医",
            "レントゲンの結果を添付します。肺炎の所見はありません。経過をみてください。",
        ),
    ];
    for (n, (role, text)) in texts.into_iter().enumerate() {
        let n = i64::try_from(n).unwrap();
        changes.push(Change::Note {
            id: format!("n-{n}"),
            person: "p-1".into(),
            author: "sato".into(),
            author_name: Personal::new(
                ["佐藤 花子", "高橋 誠", "渡辺 薫", "中村 洋"][usize::try_from(n).unwrap()],
            ),
            role: role.into(),
            time: NOW.0 - (4 - n) * 9 * 3600,
            text: Personal::new(text),
            attachments: if n == 3 {
                vec![Attachment {
                    name: Personal::new("胸部X線_20261123.jpg"),
                    ..Attachment::default()
                }]
            } else {
                vec![]
            },
            signature: (n == 3).then(|| "signature".into()),
        });
    }
    changes.push(notice("public", "年末年始の問い合わせについて", false));
    changes.push(notice("members", "研修会（12月4日）のご案内", true));
    changes.push(Change::CaughtUp);
    apply(&store, changes).await;
    desk.arrange(|arranged| arranged.store = Some(store));
    (console, desk, directory)
}

pub(crate) fn staff(id: &str, name: &str, role: Role, suspended: bool) -> Change {
    Change::Staff {
        id: id.into(),
        display_name: Personal::new(name),
        role,
        suspended,
    }
}

pub(crate) fn person(id: &str, name: &str, readers: &[&str]) -> Change {
    Change::Person {
        id: id.into(),
        display_name: Personal::new(name),
        readers: readers.iter().map(|&reader| reader.to_owned()).collect(),
        support_ended: false,
    }
}

fn notice(id: &str, title: &str, members_only: bool) -> Change {
    Change::Notice {
        id: id.into(),
        title: title.into(),
        text: "12月29日から1月3日まで、電話での問い合わせはお休みします。\n急ぎのときは各医療機関に直接連絡してください。".into(),
        members_only,
        until: None,
    }
}

pub(crate) async fn apply(store: &Store, changes: Vec<Change>) {
    let position = store.position().await.unwrap();
    let start: u64 = position.as_deref().map_or(0, |id| id.parse().unwrap());
    let events = (start + 1..)
        .zip(changes)
        .map(|(id, change)| Event {
            id: id.to_string(),
            change,
        })
        .collect();
    store.apply(position, events, NOW.0 - 600).await.unwrap();
}

/// A request in the making.
pub(crate) struct Request(ConsoleRequest);

pub(crate) fn get(host: &str, target: &str) -> Request {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    Request(ConsoleRequest {
        method: Method::GET,
        path: path.into(),
        query,
        host: host.into(),
        headers: http::HeaderMap::new(),
        body: Bytes::new(),
        peer: IpAddr::from([192, 0, 2, 7]),
        staff: None,
        device: None,
        view: ViewId::default(),
    })
}

/// As one of our own pages sends it.
pub(crate) fn post(target: &str, body: impl Into<Bytes>) -> Request {
    let mut request = get(BOX, target);
    request.0.method = Method::POST;
    request.0.body = body.into();
    request.header("sec-fetch-site", "same-origin")
}

impl Request {
    pub(crate) fn host(mut self, host: &str) -> Self {
        self.0.host = host.into();
        self
    }

    pub(crate) fn method(mut self, method: Method) -> Self {
        self.0.method = method;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap();
        self.0.headers.insert(HeaderName::from_static(name), value);
        self
    }

    pub(crate) fn without(mut self, name: &'static str) -> Self {
        self.0.headers.remove(name);
        self
    }

    pub(crate) fn cookie(self, cookie: &str) -> Self {
        self.header("cookie", cookie)
    }

    pub(crate) fn staff(mut self, user: &str, role: Role) -> Self {
        self.0.staff = Some(Staff {
            user: user.into(),
            role,
            until: NOW.plus(3600),
        });
        self
    }

    pub(crate) fn device(mut self, device: DeviceId) -> Self {
        self.0.device = Some(device);
        self
    }

    pub(crate) async fn ask(self, console: &Console) -> Page {
        Page(console.respond(self.0).await)
    }
}

/// An answer, with short ways to what is checked most.
pub(crate) struct Page(pub(crate) Response<Bytes>);

impl Page {
    pub(crate) fn status(&self) -> StatusCode {
        self.0.status()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.0.body()).unwrap()
    }

    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.0
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap())
            .unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn shows(&self, text: &str) -> &Self {
        assert!(
            self.text().contains(text),
            "{text} is not in:\n{}",
            self.body()
        );
        self
    }

    #[track_caller]
    pub(crate) fn hides(&self, text: &str) -> &Self {
        assert!(
            !self.text().contains(text),
            "{text} is in:\n{}",
            self.body()
        );
        self
    }

    /// Without the style sheet.
    pub(crate) fn body(&self) -> &str {
        self.text()
            .split_once("<body>")
            .map_or(self.text(), |(_, body)| body)
    }
}

/// Goes the whole way from the notebook; the cookie as the browser sends it back.
pub(crate) async fn signed_in(
    console: &Console,
    user: &str,
    role: Role,
    device: impl Into<Option<DeviceId>>,
) -> String {
    let device = device.into();
    let from = |mut request: Request| {
        request.0.device = device;
        request
    };
    let notebook = get(NOTEBOOK, "/.well-known/renraku-gateway/notes").staff(user, role);
    let handed = from(notebook).ask(console).await;
    assert_eq!(handed.status(), StatusCode::SEE_OTHER);
    let location = handed.header(header::LOCATION).to_owned();
    let target = location
        .strip_prefix("https://box.takahagi.localhost:8443")
        .unwrap();
    let opened = from(get(BOX, target)).ask(console).await;
    assert_eq!(
        (opened.status(), opened.header(header::LOCATION)),
        (StatusCode::SEE_OTHER, "/notes")
    );
    let cookie = opened.header(header::SET_COOKIE);
    cookie.split(';').next().unwrap().to_owned()
}
