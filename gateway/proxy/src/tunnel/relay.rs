//! Carries the messages of a WebSocket both ways, each judged before its first byte goes on. What is said keeps its order;
//! a side that does not listen stops the other.
//!
//! A message is the unit: what is cut into several messages is judged in pieces. Control frames pass as they are.

use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use gateway_policy::Asked;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::side::{Ear, Io, Mouth, Sounds, side};
use crate::{
    connection::{Busy, Connection},
    drain::Phase,
    incoming::Leaving,
    inspect::{Direction, Stopped, Why},
    live::Ended,
    messages::{
        assembly::{Message, Said},
        frame::{Opcode, Sender, Violation},
    },
    record,
};

/// How long the two sides may take to hear the last word.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long a side that has said Close is waited for.
const CLOSING: Duration = Duration::from_secs(10);

/// Why a WebSocket is ended by the box.
#[derive(Debug)]
pub(super) enum Ending {
    /// A transport broke: so does the other.
    Broken,
    /// The side that spoke broke the protocol.
    Violation(Violation),
    /// A message may not be passed on.
    Stopped(Stopped),
    /// The gate has turned, or the device is cut off.
    Ended(Ended),
    /// There is no memory for a message.
    NoRoom,
    /// Nothing is said any more.
    Silent,
    /// The data path ends.
    Draining,
}

impl From<io::Error> for Ending {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

impl Ending {
    /// What client and site are told (RFC 6455 section 7.4.1), if `speaker` was to blame; `None` if there is nothing to say.
    fn codes(&self, speaker: Sender) -> Option<(u16, u16)> {
        let both = |code| Some((code, code));
        match self {
            Self::Broken => None,
            Self::Violation(violation) => Some(blame(violation.code(), speaker)),
            Self::Stopped(stopped) => match stopped.why {
                Why::TooLarge => Some(blame(Violation::TooLarge.code(), speaker)),
                Why::Unavailable(_) | Why::NoRoom => both(1013),
                Why::Infected | Why::Forbidden(_) | Why::Unscannable(_) => both(1008),
            },
            Self::NoRoom => both(1013),
            Self::Ended(_) => Some((1008, 1001)),
            Self::Silent | Self::Draining => both(1001),
        }
    }

    /// What a person may be shown.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Stopped(stopped) => match stopped.why {
                Why::Infected => "ウイルスが見つかりました",
                Why::Forbidden(_) => "送受信できない種類のファイルです",
                Why::Unscannable(_) => "検査できない内容です",
                Why::Unavailable(_) => "ウイルス検査が止まっています",
                Why::TooLarge | Why::NoRoom => "",
            },
            Self::Ended(_) => "ゲートウェイが接続を止めました",
            _ => "",
        }
    }

    fn record(&self) {
        match self {
            Self::Stopped(stopped) => record::message_stopped("websocket", stopped),
            Self::Ended(why) => record::ended("websocket", *why),
            Self::Violation(violation) => {
                tracing::info!(target: "renraku::request", %violation, "a WebSocket broke its protocol");
            }
            Self::NoRoom => {
                tracing::warn!(target: "renraku::content", outcome = "no-memory", "a WebSocket message finds no memory");
            }
            Self::Broken | Self::Silent | Self::Draining => {}
        }
    }
}

/// The code for the one to blame; the other learns that it is over, and that it was not its fault.
const fn blame(code: u16, speaker: Sender) -> (u16, u16) {
    match speaker {
        Sender::Client => (code, 1001),
        Sender::Server => (1011, code),
    }
}

/// Carries messages until a side ends or something speaks against it.
pub(super) async fn relay(
    connection: Arc<Connection>,
    asked: Asked,
    client: Leaving,
    site: OnUpgrade,
) {
    // In HTTP/2 the stream is part of a connection that must not count as idle meanwhile.
    let _busy = Busy::new(&connection);
    let mut watch = connection.watch(asked);
    let site = async {
        let site = site.await.map_err(io::Error::other)?;
        Ok(Box::new(TokioIo::new(site)) as Io)
    };
    let Ok((client, site)) = futures_util::future::try_join(client, site).await else {
        return;
    };
    let shared = &connection.worker.shared;
    let limits = &shared.config.limits;
    let sounds = Sounds::new();
    let open = |io, sender| {
        let room = shared.inspection.inspector().message_room();
        side(io, sender, limits, room, &sounds)
    };
    let (mut client_ear, mut client_mouth) = open(client, Sender::Client);
    let (mut site_ear, mut site_mouth) = open(site, Sender::Server);

    let passage = |direction| Passage {
        connection: &connection,
        asked,
        direction,
    };
    let (up, down) = (passage(Direction::Upload), passage(Direction::Download));
    let up = up.run(&mut client_ear, &mut site_mouth, Sender::Client);
    let down = down.run(&mut site_ear, &mut client_mouth, Sender::Server);
    let (speaker, ending) = tokio::select! {
        both = futures_util::future::try_join(up, down) => match both {
            Ok(((), ())) => return,
            Err(ended) => ended,
        },
        why = watch.ended() => (Sender::Client, Ending::Ended(why)),
        () = sounds.silent_for(limits.tunnel_idle) => (Sender::Client, Ending::Silent),
        () = shared.drain.reached(Phase::Draining) => (Sender::Client, Ending::Draining),
    };
    ending.record();
    if let Ending::Stopped(stopped) = &ending {
        shared.inspection.stopped(stopped, connection.device);
    }
    let Some((to_client, to_site)) = ending.codes(speaker) else {
        return;
    };
    let last_words = async {
        let to_client = client_mouth.close(to_client, ending.reason());
        let to_site = site_mouth.close(to_site, ending.reason());
        let _ = futures_util::future::join(to_client, to_site).await;
        futures_util::future::join(client_ear.linger(), site_ear.linger()).await;
    };
    let _ = tokio::time::timeout(FAREWELL, last_words).await;
}

/// One direction.
struct Passage<'a> {
    connection: &'a Connection,
    asked: Asked,
    direction: Direction,
}

impl Passage<'_> {
    /// Passes on what `speaker` says until its transport ends.
    async fn run(
        &self,
        ear: &mut Ear,
        mouth: &mut Mouth,
        speaker: Sender,
    ) -> Result<(), (Sender, Ending)> {
        let passed = self.pass_all(ear, mouth).await;
        passed.map_err(|ending| (speaker, ending))
    }

    async fn pass_all(&self, ear: &mut Ear, mouth: &mut Mouth) -> Result<(), Ending> {
        while let Some(said) = ear.hear().await? {
            match said {
                Said::Message(message) => {
                    self.pass(message, mouth).await?;
                    let inspection = &self.connection.worker.shared.inspection;
                    ear.forget(inspection.inspector().message_room());
                }
                Said::Ping(payload) => mouth.control(Opcode::Ping, &payload).await?,
                Said::Pong(payload) => mouth.control(Opcode::Pong, &payload).await?,
                Said::Close(payload) => {
                    mouth.control(Opcode::Close, &payload).await?;
                    // What follows is nothing; the transport's end is left.
                    let end = tokio::time::timeout(CLOSING, ear.linger()).await;
                    end.map_err(|_| Ending::Silent)?;
                    break;
                }
            }
        }
        Ok(mouth.end().await?)
    }

    /// Judges one message, as any request, and says it.
    async fn pass(&self, message: Message, mouth: &mut Mouth) -> Result<(), Ending> {
        let shared = &self.connection.worker.shared;
        let asked = Asked {
            writes: self.direction == Direction::Upload,
            // Whoever may not transfer files may still read and write (compliance: restrict); and a file is not text.
            transfers_file: !message.text,
            ..self.asked
        };
        let permit = shared
            .judge(&asked, self.connection.device)
            .map_err(|refusal| Ending::Ended(Ended::Refused(refusal)))?;
        let payload = Bytes::from(message.payload);
        let judged = shared
            .inspection
            .inspector()
            .message(permit, payload.clone(), self.direction);
        // Boxed, because most of the time nothing is said.
        Box::pin(judged).await.map_err(Ending::Stopped)?;
        mouth
            .message(message.text, BytesMut::from(payload), message.longest_frame)
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_into_a_close_frame() {
        use crate::messages::frame::LONGEST_CONTROL;
        for why in [Why::Infected, Why::Unavailable("gone"), Why::TooLarge] {
            let ending = Ending::Stopped(Stopped::new(Direction::Upload, why));
            assert!(ending.reason().len() <= LONGEST_CONTROL - 2);
        }
        assert!(Ending::Ended(Ended::Cut).reason().len() <= LONGEST_CONTROL - 2);
    }

    #[test]
    fn only_the_one_to_blame_is_blamed() {
        let too_large = Ending::Violation(Violation::TooLarge);
        assert_eq!(too_large.codes(Sender::Client), Some((1009, 1001)));
        assert_eq!(too_large.codes(Sender::Server), Some((1011, 1009)));
    }
}
