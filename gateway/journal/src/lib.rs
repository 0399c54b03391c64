//! Hands every `tracing` event to the journal with its fields intact, or to standard error where there is no journal.
//!
//! Crates log `event = "<kind>"`; this crate knows the `MESSAGE_ID` of each kind, so that `journalctl -x` finds the
//! catalog text (`systemd/catalog/renraku-gateway.catalog`). It does not decide what may be logged: personal data and
//! secrets are kept out by their types, which have no readable `Debug` or `Display`.

use std::fmt;

use systemd_journal_logger::JournalLog;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

/// Event kinds and their journal message ids. The catalog holds a text for each; a test compares the two.
const MESSAGE_IDS: &[(&str, &str)] = &[
    ("ready", "6d1f0c3a5b7e4a0f9c1d2e3f40516273"),
    ("draining", "0b5a5c0a8f8d4b43b8b8d2d2e6f1a7c4"),
    ("config-fault", "f3a1b5c27d0e4c55a1a4f0e9d8c7b6a5"),
    ("not-started", "7d41c09e5b3a4f8896e2a1d05c7b3f14"),
    ("decision", "2c9e8d7b6a5f4e3d8c1b0a9f8e7d6c5b"),
    ("upstream-failure", "7a6b5c4d3e2f41908a7b6c5d4e3f2a1b"),
    ("tpm-key-lost", "c1d2e3f4a5b64788990a1b2c3d4e5f60"),
    ("tpm-unavailable", "d4c3b2a190f84e7d8c6b5a4938271605"),
    ("tpm-rebuilt", "5e4d3c2b1a0f49e8b7c6d5e4f3a2b1c0"),
    ("certificate-ready", "8f7e6d5c4b3a42918f7e6d5c4b3a2190"),
    ("certificate-renewed", "91a2b3c4d5e64f708192a3b4c5d6e7f8"),
    ("certificate-expiring", "a0b1c2d3e4f54a6b8c7d9e0f1a2b3c4d"),
    ("certificate-revoked", "b9a8c7d6e5f44b3a9c2d1e0f2b3c4d5e"),
    ("provisioning", "e7d6c5b4a3924f1e8d0c9b8a7f6e5d4c"),
    ("feed", "3f2e1d0c9b8a47f6e5d4c3b2a1908f7e"),
    ("store", "4a5b6c7d8e9f40a1b2c3d4e5f6a7b8c9"),
    ("store-rebuilt", "1c2d3e4f5a6b47c8d9e0f1a2b3c4d5e6"),
    ("antivirus", "d0e1f2a3b4c54d6e8f7a9b0c1d2e3f4a"),
    ("antivirus-database", "9b1e6d3c4f2a4c7d8e5f0a1b2c3d4e5f"),
    (
        "antivirus-database-refused",
        "3c5d7e9f1a2b4d6c8e0f1a3b5c7d9e1f",
    ),
    ("posture", "6b7c8d9eaf0b41c2d3e4f5a6b7c8d9e0"),
    ("signed-channel", "58d1a7c2e94f4b0e8c3d6f1a2b7e9054"),
    ("signed-channel-refused", "e2b64f0d17c84a5fb9d2c6e8a1357f90"),
    ("signed-channel-away", "0f9c3e7ab5d2461887e4d1c2f6a3b958"),
    ("audit-broken", "e57da05168925fa8d788b16ca745920d"),
    ("audit-unwritable", "d3dff8af168e46964e9a05f3fb85b6a5"),
    ("audit-written-again", "bd7d9c70258ad3655835a773f2e7acbc"),
    ("audit-unsigned", "e3cd5f90d5835b59ad3457d617911336"),
    ("audit-refused", "a62b848ad9138d39c692b8bc1638d9e6"),
    ("audit-key", "9208feff5e7c08d0ab36aa693b209dd1"),
    ("status-report", "33b6127ae4d1453e7d64e0ce081a815b"),
    ("control", "06c2d42e34208ecdee1fd02b2f0c14d6"),
    ("device-register", "c4676f3f0ee842be8448d38688184ac9"),
    ("device-authority", "d342566158e64039946a04d5fe346015"),
    ("device-pairing", "fa47c528f87a47729a38560d57c231ca"),
    ("device-registered", "5bef5d38819b48ee8bb16a2de369971c"),
    ("device-revoked", "b1c64fc4c908412b8c80918961f23d6f"),
    ("device-reactivated", "2db1ee334d0340e6ac4b1b5cbd27c448"),
    ("device-certificate", "e021ffbb04ea4d18a61fae17d8fa99f2"),
    ("device-agent", "ab0b023aa7ec44c0a04a43130abcaa27"),
    ("device-hardware", "cd98b5aaae514c608d8be96c56fa741c"),
    ("device-refused", "89be248fefb34d5fbbe7c545118f6335"),
    ("update", "0c7d3b5e9f614c2ab8d1e6f7a3905c48"),
    ("update-installed", "6e1fa94c02b74d5a9d3c8b7f5e2a1064"),
    ("update-good", "a7c52e8d1b3f4906be4d9f8062c1753a"),
    ("update-went-back", "f19d6b3a7c5e4820916fd4c3b8a2e075"),
    ("update-unwell", "3da8f5c71e9b4d6287a0c4e9f1b6d253"),
    ("update-refused", "b84e2f7a6d0c4915a3e7f8d1c5b9206e"),
    ("factory-reset", "5f3c8d2e7a914b06bd5e1c9a4f7082d6"),
];

/// The `MESSAGE_ID` of an event kind.
#[must_use]
fn message_id(kind: &str) -> Option<&'static str> {
    MESSAGE_IDS
        .iter()
        .find_map(|(name, id)| (*name == kind).then_some(*id))
}

/// The event kind of what names only a target: the data path logs decisions and failures so.
fn kind_of_target(target: &str) -> Option<&'static str> {
    match target {
        "renraku::decision" => Some("decision"),
        "renraku::upstream" => Some("upstream-failure"),
        _ => None,
    }
}

/// Starts logging for this process, whose entries carry `identifier`: the journal when standard error is connected to it, readable
/// lines otherwise.
///
/// `RENRAKU_LOG` filters like `RUST_LOG` (default `info`).
///
/// # Panics
/// When this process has started logging before.
pub fn start(identifier: &str) {
    let filter = EnvFilter::try_from_env("RENRAKU_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let journal = systemd_journal_logger::connected_to_journal()
        .then(|| JournalLog::empty().ok())
        .flatten();
    match journal {
        Some(journal) => registry
            .with(JournalLayer {
                journal: journal.with_syslog_identifier(identifier.to_owned()),
            })
            .init(),
        None => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(std::io::stderr)
                    .with_ansi(false),
            )
            .init(),
    }
}

struct JournalLayer {
    journal: JournalLog,
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let kind = fields
            .kind
            .as_deref()
            .or_else(|| kind_of_target(metadata.target()));
        if let Some(id) = kind.and_then(message_id) {
            fields.rest.push(("MESSAGE_ID".to_owned(), id.to_owned()));
        }
        let level = match *metadata.level() {
            Level::ERROR => log::Level::Error,
            Level::WARN => log::Level::Warn,
            Level::INFO => log::Level::Info,
            Level::DEBUG => log::Level::Debug,
            Level::TRACE => log::Level::Trace,
        };
        log::Log::log(
            &self.journal,
            &log::Record::builder()
                .level(level)
                .target(metadata.target())
                .module_path(metadata.module_path())
                .file(metadata.file())
                .line(metadata.line())
                .key_values(&fields)
                .args(format_args!("{}", fields.message))
                .build(),
        );
    }
}

/// An event's fields; journal names get the prefix `RENRAKU_` so that they collide with nobody's.
#[derive(Default)]
struct Fields {
    message: String,
    kind: Option<String>,
    rest: Vec<(String, String)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => {
                if name == "event" {
                    self.kind = Some(value.clone());
                }
                self.rest.push((
                    format!("RENRAKU_{}", name.to_uppercase().replace(['.', '-'], "_")),
                    value,
                ));
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

impl log::kv::Source for Fields {
    fn visit<'kvs>(
        &'kvs self,
        visitor: &mut dyn log::kv::VisitSource<'kvs>,
    ) -> Result<(), log::kv::Error> {
        for (name, value) in &self.rest {
            visitor.visit_pair(
                log::kv::Key::from_str(name),
                log::kv::Value::from(value.as_str()),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_id_is_a_distinct_128_bit_number() {
        let mut ids: Vec<_> = MESSAGE_IDS.iter().map(|(_, id)| *id).collect();
        for id in &ids {
            assert_eq!(id.len(), 32);
            assert!(u128::from_str_radix(id, 16).is_ok());
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), MESSAGE_IDS.len());
    }

    #[test]
    fn decisions_and_failures_of_the_data_path_have_a_message_id() {
        for target in ["renraku::decision", "renraku::upstream"] {
            assert!(kind_of_target(target).and_then(message_id).is_some());
        }
    }

    #[test]
    fn an_event_keeps_its_fields_and_its_kind() {
        let seen = Capture::default();
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(seen.clone()),
            || {
                tracing::info!(event = "ready", support_code = "ABCD", "listening");
            },
        );
        let fields = seen
            .0
            .lock()
            .unwrap()
            .take()
            .expect("the layer saw the event");
        assert_eq!(fields.message, "listening");
        assert_eq!(fields.kind.as_deref(), Some("ready"));
        assert!(
            fields
                .rest
                .contains(&("RENRAKU_SUPPORT_CODE".to_owned(), "ABCD".to_owned()))
        );
    }

    #[derive(Clone, Default)]
    struct Capture(std::sync::Arc<std::sync::Mutex<Option<Fields>>>);

    impl<S: Subscriber> Layer<S> for Capture {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            *self.0.lock().unwrap() = Some(fields);
        }
    }
}
