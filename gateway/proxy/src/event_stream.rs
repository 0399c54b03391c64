//! An event stream on its way to a browser: each event is judged, as it came and as its reader will understand it, before a
//! byte of it is passed on. One that may not pass ends the stream.
//!
//! It does not decide what is an event stream; the step *scan download* does.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, stream};
use gateway_policy::{Asked, DeviceId};
use http_body::Frame;
use http_body_util::BodyExt;

use crate::{
    body::{Reply, ReplyError},
    connection::Connection,
    inspect::{Direction, Room, Stopped, Why},
    live::Ended,
    messages::events::{Event, Events},
    record,
    worker::Shared,
};

/// An event up to this size is not counted in the memory for bodies.
const UNCOUNTED: usize = 16 * 1024;

/// The frames of an inspected event stream.
pub(crate) type Inspected = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, ReplyError>> + Send>>;

/// Inspects the body of an event stream that `asked` was let through for.
pub(crate) fn inspected(body: Reply, connection: &Connection, asked: Asked) -> Reply {
    let shared = Arc::clone(&connection.worker.shared);
    let passing = Passing {
        body,
        events: Events::new(shared.config.limits.event_bytes),
        room: shared.inspection.inspector().message_room(),
        judge: Judge {
            asked,
            device: connection.device,
            shared,
        },
    };
    Reply::events(Box::pin(stream::unfold(Some(passing), |passing| async {
        passing?.next().await
    })))
}

struct Passing {
    body: Reply,
    events: Events,
    room: Room,
    judge: Judge,
}

/// Each event is judged as a request would be that asked for it alone.
struct Judge {
    asked: Asked,
    device: Option<DeviceId>,
    shared: Arc<Shared>,
}

/// Why an event does not pass.
enum Ending {
    Stopped(Stopped),
    Ended(Ended),
}

type Step = (Result<Frame<Bytes>, ReplyError>, Option<Passing>);

impl Passing {
    /// The next event that may pass, and what follows; nothing follows an error.
    async fn next(mut self) -> Option<Step> {
        let next = self.next_event().await;
        let event = match next {
            Ok(event) => event?,
            Err(error) => return Some((Err(error), None)),
        };
        let judged = self.judge.event(&event).await;
        self.room = self.judge.shared.inspection.inspector().message_room();
        match judged {
            Ok(()) => Some((Ok(Frame::data(event.raw)), Some(self))),
            Err(ending) => {
                match ending {
                    Ending::Stopped(stopped) => {
                        record::message_stopped("event", &stopped);
                        let inspection = &self.judge.shared.inspection;
                        inspection.stopped(&stopped, self.judge.device);
                    }
                    Ending::Ended(why) => record::ended("event-stream", why),
                }
                Some((Err(ReplyError::Stopped), None))
            }
        }
    }

    async fn next_event(&mut self) -> Result<Option<Event>, ReplyError> {
        loop {
            match self.events.next_event() {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(_) => return Err(stop(Why::TooLarge)),
            }
            let held = self.events.held();
            if held > UNCOUNTED && self.room.hold(held as u64).await.is_err() {
                return Err(stop(Why::NoRoom));
            }
            match self.body.frame().await {
                None => return Ok(self.events.end()),
                // Trailers mean nothing to a reader of events.
                Some(frame) => {
                    if let Some(data) = frame?.data_ref() {
                        self.events.push(data);
                    }
                }
            }
        }
    }
}

impl Judge {
    async fn event(&self, event: &Event) -> Result<(), Ending> {
        self.bytes(&event.raw).await?;
        if !event.data.is_empty() {
            self.bytes(&event.data).await?;
        }
        Ok(())
    }

    async fn bytes(&self, bytes: &Bytes) -> Result<(), Ending> {
        let permit = self
            .shared
            .judge(&self.asked, self.device)
            .map_err(|refusal| Ending::Ended(Ended::Refused(refusal)))?;
        let inspector = self.shared.inspection.inspector();
        inspector
            .message(permit, bytes.clone(), Direction::Download)
            .await
            .map_err(Ending::Stopped)
    }
}

fn stop(why: Why) -> ReplyError {
    record::message_stopped("event", &Stopped::new(Direction::Download, why));
    ReplyError::Stopped
}
