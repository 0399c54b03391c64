//! A newer database of the scanner: what can be read is looked at again, longest ago first, and withdrawn when something is
//! found.

use gateway_notes::{Change, Judgement, Refusal, Standing, Store};

use crate::stand::*;

/// The sizes of what is to be looked at again, in its order: they tell the files apart.
async fn again(store: &Store) -> Vec<u64> {
    let found = store.attachments_to_look_at_again(16).await.unwrap();
    found.iter().map(|unjudged| unjudged.size).collect()
}

/// Looks at the first again, and says this of it.
async fn look(store: &Store, judgement: Judgement) {
    let first = store.attachments_to_look_at_again(1).await.unwrap();
    let attempt = first[0].attempt;
    assert!(store.judge_attachment(attempt, judgement).await.unwrap());
}

async fn unseen(store: &Store) -> u64 {
    store.attachment_counts(NOW).await.unwrap().unseen
}

#[tokio::test]
async fn what_a_newer_database_has_not_seen_is_looked_at_again_once_and_longest_ago_first() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 11), ("b", 12), ("c", 13)]).await;
    store.scanner_has("one").await.unwrap();
    fetch(&store, Judgement::Readable).await;
    assert!(again(&store).await.is_empty(), "this one has seen them");
    store.scanner_has("one").await.unwrap();
    assert!(again(&store).await.is_empty(), "it is still the same");
    store.scanner_has("two").await.unwrap();
    assert_eq!(again(&store).await, [11, 12, 13], "the newest notes first");
    look(&store, Judgement::Readable).await;
    assert_eq!(
        (again(&store).await, unseen(&store).await),
        (vec![12, 13], 2)
    );
    // The next database comes before this one has seen all.
    store.scanner_has("three").await.unwrap();
    assert_eq!(again(&store).await, [12, 13, 11]);
    look(&store, Judgement::Readable).await;
    // A restart forgets nothing of it.
    store.close().await;
    let store = open(directory.path());
    assert_eq!(again(&store).await, [13, 11]);
    store.scanner_has("three").await.unwrap();
    assert_eq!(again(&store).await, [13, 11]);
    look(&store, Judgement::Readable).await;
    look(&store, Judgement::Readable).await;
    assert_eq!((again(&store).await, unseen(&store).await), (vec![], 0));
    // An older one in its place has not seen what that one passed.
    store.scanner_has("two").await.unwrap();
    assert_eq!(again(&store).await.len(), 3);
}

#[tokio::test]
async fn what_is_found_later_is_withdrawn_erased_and_stays_withdrawn() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 3 * CHUNK), ("b", 12)]).await;
    store.scanner_has("one").await.unwrap();
    fetch(&store, Judgement::Readable).await;
    let reading = store.attachment("s", "a").await.unwrap().unwrap();
    assert!(reading.piece(0).await.unwrap().is_some());
    store.scanner_has("two").await.unwrap();
    look(&store, Judgement::Refused(Refusal::Infected)).await;
    let withdrawn = Standing::Refused(Refusal::Withdrawn);
    assert_eq!(standing(&store, "a").await, withdrawn);
    assert!(reading.piece(CHUNK as u64).await.unwrap().is_none());
    drop(reading);
    assert!(read(&store, "s", "a").await.is_none());
    assert_eq!(files(directory.path()).len(), 1);
    let counts = store.attachment_counts(NOW).await.unwrap();
    assert_eq!((counts.total, counts.done, counts.refused), (2, 2, 1));
    assert!(read(&store, "s", "b").await.is_some());
    // Not fetched again, whatever the city repeats, and after a restart.
    let again = note("note of a", "p", NOW, vec![file("a", 3 * CHUNK)]);
    apply(&store, vec![again]).await;
    store.close().await;
    let store = open(directory.path());
    assert_eq!(standing(&store, "a").await, withdrawn);
    assert!(store.wanted_attachments(NOW, 4).await.unwrap().is_empty());
    // What is refused for another reason at the second look is refused for that reason.
    look(&store, Judgement::Refused(Refusal::Unscannable)).await;
    assert_eq!(
        standing(&store, "b").await,
        Standing::Refused(Refusal::Unscannable)
    );
}

#[tokio::test]
async fn a_store_filled_anew_knows_what_was_withdrawn_and_what_is_to_be_looked_at_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 11), ("b", 12), ("c", 13)]).await;
    store.scanner_has("one").await.unwrap();
    fetch(&store, Judgement::Readable).await;
    store.scanner_has("two").await.unwrap();
    look(&store, Judgement::Refused(Refusal::Infected)).await;
    look(&store, Judgement::Readable).await;
    store.begin_rebuild().await.unwrap();
    let mut changes = vec![staff("s"), staff("t"), person("p", &["s"])];
    for (age, (id, size)) in (0_i64..).zip([("a", 11), ("b", 12), ("c", 13)]) {
        let name = format!("note of {id}");
        changes.push(note(&name, "p", NOW - age * 60, vec![file(id, size)]));
    }
    changes.push(Change::CaughtUp);
    apply(&store, changes).await;
    assert!(store.wanted_attachments(NOW, 4).await.unwrap().is_empty());
    let withdrawn = Standing::Refused(Refusal::Withdrawn);
    assert_eq!(standing(&store, "a").await, withdrawn);
    assert_eq!(again(&store).await, [13]);
}
