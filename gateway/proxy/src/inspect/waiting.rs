//! For the person who waits on a large file: a page that says how far it is, and the file once it is found clean.
//!
//! It does not inspect and holds no more files than allowed; whoever comes without a place waits without a page. A file is
//! given to the one it was fetched for: the same device, the same session.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, Response, header, response::Parts};

use super::{download, fingerprint::Fingerprint, held::Whole};
use crate::{body::Reply, config::RESERVED_PREFIX, connection::Connection, error::Failure, pages};

/// Below [`RESERVED_PREFIX`].
const FOLDER: &str = "downloads/";
/// How often the page asks again, in seconds.
const AGAIN: u8 = 2;

type Id = [u8; 16];

/// Whom a file was fetched for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    node: Arc<str>,
    session: Session,
}

#[derive(Clone, PartialEq, Eq)]
enum Session {
    Staff(Box<str>),
    Cookies(Option<Fingerprint>),
}

impl Owner {
    /// The device, and the staff member if the city has named one, else the cookies.
    pub(crate) fn of(connection: &Connection, staff: Option<&str>, headers: &HeaderMap) -> Self {
        let key = &connection.worker.shared.inspection.inspector().key;
        let cookies = || {
            headers
                .get(header::COOKIE)
                .map(|value| key.of(value.as_bytes()))
        };
        Self {
            node: Arc::clone(&connection.node),
            session: staff.map_or_else(
                || Session::Cookies(cookies()),
                |user| Session::Staff(user.into()),
            ),
        }
    }
}

/// All downloads that somebody waits for.
pub(crate) struct Downloads {
    entries: Mutex<HashMap<Id, Arc<Entry>>>,
    limit: usize,
    kept: Duration,
}

type Done = Result<(Parts, Arc<Whole>), Failure>;

struct Entry {
    owner: Owner,
    arrived: Arc<AtomicU64>,
    total: Option<u64>,
    done: OnceLock<(Instant, Done)>,
}

/// How a wait ended.
pub(crate) enum Ended {
    /// Before it became long.
    InTime(Result<(Parts, Whole), Failure>),
    /// With a page; the work goes on.
    Later(Response<Reply>),
}

impl Downloads {
    pub(crate) fn new(limit: usize, kept: Duration) -> Self {
        Self {
            entries: Mutex::default(),
            limit,
            kept,
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Id, Arc<Entry>>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| match entry.done.get() {
            Some((at, _)) => at.elapsed() < self.kept,
            // Nobody else holds it: its work has been dropped.
            None => Arc::strong_count(entry) > 1,
        });
        entries
    }

    /// Waits for `work` as long as a person waits without asking, then answers with a page and goes on without them.
    pub(super) async fn while_it_lasts(
        &self,
        mut work: download::Work,
        owner: Owner,
        arrived: Arc<AtomicU64>,
        total: Option<u64>,
        patience: Duration,
    ) -> Ended {
        if let Ok(done) = tokio::time::timeout(patience, &mut work).await {
            return Ended::InTime(done);
        }
        let entry = Arc::new(Entry {
            owner,
            arrived,
            total,
            done: OnceLock::new(),
        });
        let Some(id) = self.enter(&entry) else {
            return Ended::InTime(work.await);
        };
        let page = progress(&entry, id);
        tokio::spawn(async move {
            let done = work.await.map(|(head, whole)| (head, Arc::new(whole)));
            let _ = entry.done.set((Instant::now(), done));
        });
        Ended::Later(page)
    }

    fn enter(&self, entry: &Arc<Entry>) -> Option<Id> {
        let mut id = [0; 16];
        SystemRandom::new().fill(&mut id).ok()?;
        let mut entries = self.entries();
        if entries.len() >= self.limit {
            return None;
        }
        entries.insert(id, Arc::clone(entry));
        Some(id)
    }
}

/// Whether a path asks for a download that was waited for.
pub(crate) fn is_waiting_path(path: &str) -> bool {
    path.strip_prefix(RESERVED_PREFIX)
        .is_some_and(|rest| rest.starts_with(FOLDER))
}

/// Answers for a download that was waited for: the file, its failure, or how far it is.
pub(crate) fn fetch(
    connection: &Connection,
    owner: &Owner,
    path: &str,
) -> Result<Response<Reply>, Failure> {
    let downloads = &connection.worker.shared.inspection.inspector().waiting;
    let entry = path
        .strip_prefix(RESERVED_PREFIX)
        .and_then(|rest| rest.strip_prefix(FOLDER))
        .and_then(|id| URL_SAFE_NO_PAD.decode(id).ok())
        .and_then(|id| Id::try_from(id).ok())
        .and_then(|id| Some((id, downloads.entries().get(&id).cloned()?)));
    // One answer for all that is not there for the one who asks.
    let Some((id, entry)) = entry.filter(|(_, entry)| entry.owner == *owner) else {
        return Ok(pages::gone());
    };
    match entry.done.get() {
        None => Ok(progress(&entry, id)),
        Some((_, Err(failure))) => Err(failure.clone()),
        Some((_, Ok((head, whole)))) => {
            let mut copy = Response::new(()).into_parts().0;
            copy.status = head.status;
            copy.headers.clone_from(&head.headers);
            Ok(download::answer(copy, Arc::clone(whole), None))
        }
    }
}

fn progress(entry: &Entry, id: Id) -> Response<Reply> {
    let path = format!("{RESERVED_PREFIX}{FOLDER}{}", URL_SAFE_NO_PAD.encode(id));
    let arrived = entry.arrived.load(Ordering::Relaxed);
    let mut response = pages::progress(&path, arrived, entry.total);
    if let Ok(value) = HeaderValue::try_from(format!("{AGAIN}; url={path}")) {
        response.headers_mut().insert(header::REFRESH, value);
    }
    response
}
