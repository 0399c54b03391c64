//! A repository on a disk, handed out by somebody who misbehaves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gateway_tuf::{Body, Fetching, Pieces, Transport, TransportError};

/// How a file comes.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// These bytes instead.
    Instead(Vec<u8>),
    /// Never ends.
    Endless,
    /// One byte, a pause, one byte.
    Slowly(Duration),
    /// Never begins.
    Silent,
    /// Breaks after so many bytes, each time.
    Breaks(usize),
    /// Is not there.
    Missing,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Offer {
    directory: PathBuf,
    ways: Mutex<BTreeMap<String, Way>>,
    /// Whether it serves parts of a target.
    pub(crate) ranges: bool,
    /// Bytes of targets handed out.
    pub(crate) handed_out: AtomicU64,
    /// Files asked for.
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Offer {
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            ways: Mutex::default(),
            ranges: true,
            handed_out: AtomicU64::new(0),
            asked: Mutex::default(),
        }
    }

    pub(crate) fn with(self, file: &str, way: Way) -> Self {
        self.ways.lock().unwrap().insert(file.to_owned(), way);
        self
    }

    fn body(&self, kind: &str, name: &str, from: u64) -> Option<Body> {
        self.asked.lock().unwrap().push(name.to_owned());
        let way = self.ways.lock().unwrap().get(name).cloned();
        let from = if self.ranges { from } else { 0 };
        let whole = match &way {
            Some(Way::Instead(bytes)) => bytes.clone(),
            Some(Way::Missing) => return None,
            Some(Way::Endless | Way::Silent) => Vec::new(),
            _ => std::fs::read(self.directory.join(kind).join(name)).ok()?,
        };
        let mut rest = whole[usize::try_from(from).unwrap().min(whole.len())..].to_vec();
        let broken = matches!(way, Some(Way::Breaks(after)) if after < rest.len());
        if let Some(Way::Breaks(after)) = way {
            rest.truncate(after);
        }
        if kind == "targets" {
            self.handed_out
                .fetch_add(rest.len() as u64, Ordering::Relaxed);
        }
        Some(Body {
            starts_at: from,
            total: None,
            pieces: Box::new(Rest { rest, way, broken }),
        })
    }
}

impl Transport for Offer {
    fn metadata<'a>(&'a self, name: &'a str) -> Fetching<'a, Option<Body>> {
        Box::pin(async move { Ok(self.body("metadata", name, 0)) })
    }

    fn target<'a>(&'a self, path: &'a str, from: u64) -> Fetching<'a, Option<Body>> {
        Box::pin(async move { Ok(self.body("targets", path, from)) })
    }
}

struct Rest {
    rest: Vec<u8>,
    way: Option<Way>,
    broken: bool,
}

impl Pieces for Rest {
    fn next(&mut self) -> Fetching<'_, Option<Bytes>> {
        Box::pin(async {
            match &self.way {
                Some(Way::Endless) => return Ok(Some(Bytes::from(vec![b' '; 64 * 1024]))),
                Some(Way::Silent) => std::future::pending().await,
                Some(Way::Slowly(pause)) => tokio::time::sleep(*pause).await,
                _ => {}
            }
            if self.rest.is_empty() {
                if self.broken {
                    return Err(TransportError::Other("the line broke".into()));
                }
                return Ok(None);
            }
            let count = match self.way {
                Some(Way::Slowly(_)) => 1,
                _ => self.rest.len().min(16 * 1024),
            };
            Ok(Some(Bytes::from(
                self.rest.drain(..count).collect::<Vec<_>>(),
            )))
        })
    }
}
