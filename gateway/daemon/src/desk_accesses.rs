//! Who looked at whose stored notes, for the manager's page: read back from the log, with names as far as the manager may know
//! them. Looking is recorded first.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use gateway_accesslog::{Access, End, Entry, Peer, What, read_back};
use gateway_console::{
    AccessesDesk, Answer, Look, LookedAt, Looks, Message, Named, Question, Visit,
};
use gateway_notes::{Personal, Store};

use crate::accesses::Accesses;
use crate::certificates::chain;
use crate::desk_report::Names;
use crate::stored_notes::StoredNotes;

/// Rows on one page.
const MOST: usize = 500;

/// See the module.
pub(crate) struct AccessPages {
    pub(crate) accesses: Arc<Accesses>,
    pub(crate) notes: Arc<StoredNotes>,
    pub(crate) names: Names,
}

impl fmt::Debug for AccessPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessPages(..)")
    }
}

impl AccessesDesk for AccessPages {
    fn looks(&self, visit: Visit, question: Question) -> Answer<'_, Result<Looks, Message>> {
        Box::pin(async move {
            let user = visit.staff.user.clone();
            let store = self.notes.store().ok_or_else(not_now)?;
            let store = store.witnessed(Arc::new(self.accesses.witness_of_log(visit)));
            // Recorded with this; what is not recorded is not shown.
            let persons = store.persons_for(&user).await.map_err(|error| {
                tracing::warn!(event = "accesses", error = %chain(&error), "the log of accesses is not shown");
                not_now()
            })?;
            let persons: HashMap<String, Personal> = persons
                .into_iter()
                .map(|person| (person.id, person.display_name))
                .collect();
            let book = self.accesses.book().ok_or_else(not_now)?;
            let range = (question.from, question.to);
            let reading = tokio::task::spawn_blocking(move || {
                let fits = |asked: &Option<String>, found: Option<&str>| {
                    asked.as_deref().is_none_or(|asked| found == Some(asked))
                };
                read_back(book.dir(), book.key(), range, MOST, |access: &Access| {
                    fits(&question.user, Some(&access.user))
                        && fits(&question.person, access.person.as_deref())
                })
            });
            let back = reading.await.map_err(|_| not_now())?.map_err(|error| {
                tracing::warn!(event = "accesses", error = %chain(&error), "the log of accesses cannot be read");
                not_now()
            })?;
            let mut staff = HashMap::new();
            let mut rows = Vec::with_capacity(back.entries.len());
            for entry in back.entries {
                rows.push(self.row(entry, &store, &mut staff, &persons).await);
            }
            Ok(Looks {
                rows,
                unreadable: back.unreadable,
                more: back.more,
            })
        })
    }
}

impl AccessPages {
    async fn row(
        &self,
        entry: Entry,
        store: &Store,
        staff: &mut HashMap<String, Option<String>>,
        persons: &HashMap<String, Personal>,
    ) -> Look {
        let Access {
            user,
            person,
            what,
            shown,
            device,
            peer,
            outage,
        } = entry.access;
        if !staff.contains_key(&user) {
            let known = store.staff(&user).await.ok().flatten();
            let name = known.map(|known| known.display_name.reveal().to_owned());
            staff.insert(user.clone(), name);
        }
        let name = staff.get(&user).cloned().flatten().map(Personal::new);
        Look {
            at: entry.at,
            user: Named { id: user, name },
            person: person.map(|id| Named {
                name: persons
                    .get(&id)
                    .map(|name| Personal::new(name.reveal().to_owned())),
                id,
            }),
            what: looked_at(what),
            shown,
            device: device.map(|device| (device, (self.names)(device))),
            place: match peer {
                Peer::Box => "この装置",
                Peer::Lan => "登録のない端末",
                Peer::Other => "登録のない端末（事業所の外の番号）",
            },
            outage,
            lasted: entry
                .lasted
                .map(|(seconds, end)| (seconds, end == End::Idle)),
        }
    }
}

const fn looked_at(what: What) -> LookedAt {
    match what {
        What::List => LookedAt::List,
        What::Notes => LookedAt::Notes,
        What::Note => LookedAt::Note,
        What::Search => LookedAt::Search,
        What::Attachment => LookedAt::Attachment,
        What::Print => LookedAt::Print,
        What::Log => LookedAt::Log,
    }
}

fn not_now() -> Message {
    Message {
        sentence: "閲覧の記録をいま表示できません。".to_owned(),
        next_step:
            "数分たってから開き直してください。続くときは、下の問い合わせ先に知らせてください。"
                .to_owned(),
        code: "ACCESSES-NOT-NOW".to_owned(),
    }
}
