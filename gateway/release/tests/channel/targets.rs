//! Large targets: checked while they come, continued where they broke.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use gateway_tuf::{Store, Trusted};

use crate::offer::{Offer, Way};
use crate::town::{NOON, Town, now};

const SIZE: usize = 300_000;

fn database() -> Vec<u8> {
    (0..SIZE).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

fn town() -> (Town, String) {
    let town = Town::new();
    town.publish_antivirus(9, &database(), NOON);
    let folder = town.repository.directory().join("targets/antivirus/9");
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap();
    let name = format!("antivirus/9/{}", file.file_name().into_string().unwrap());
    (town, name)
}

async fn trusted(town: &Town, offer: &Arc<Offer>) -> Trusted {
    let store = Store::open(&town.folder.path().join("box")).unwrap();
    let client = town.client(store, Arc::clone(offer) as _);
    client.refresh(now()).await.unwrap()
}

#[tokio::test]
async fn a_broken_transfer_is_continued_where_it_broke() {
    let (town, file) = town();
    let offer = Offer::new(town.repository.directory()).with(&file, Way::Breaks(100_000));
    let offer = Arc::new(offer);
    let mut trusted = trusted(&town, &offer).await;
    let target = trusted.target("antivirus/9/daily.cud").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("daily.cud");
    trusted.fetch(&target, &to).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), database());
    // Not one byte came twice.
    assert_eq!(offer.handed_out.load(Ordering::Relaxed), SIZE as u64);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    // And it does not come again.
    trusted.fetch(&target, &to).await.unwrap();
    assert_eq!(offer.handed_out.load(Ordering::Relaxed), SIZE as u64);
}

#[tokio::test]
async fn what_came_before_a_restart_does_not_come_again() {
    let (town, file) = town();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("daily.cud");
    std::fs::write(folder.path().join("daily.cud.part"), &database()[..250_000]).unwrap();
    let offer = Arc::new(Offer::new(town.repository.directory()));
    let mut trusted = trusted(&town, &offer).await;
    let target = trusted.target("antivirus/9/daily.cud").await.unwrap();
    trusted.fetch(&target, &to).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), database());
    assert_eq!(offer.handed_out.load(Ordering::Relaxed), 50_000, "{file}");
}

#[tokio::test]
async fn a_part_that_was_damaged_is_thrown_away_once() {
    let (town, _) = town();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("daily.cud");
    std::fs::write(folder.path().join("daily.cud.part"), vec![0; 250_000]).unwrap();
    let offer = Arc::new(Offer::new(town.repository.directory()));
    let mut trusted = trusted(&town, &offer).await;
    let target = trusted.target("antivirus/9/daily.cud").await.unwrap();
    trusted.fetch(&target, &to).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), database());
}

#[tokio::test]
async fn a_server_without_ranges_begins_anew() {
    let (town, _) = town();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("daily.cud");
    std::fs::write(folder.path().join("daily.cud.part"), &database()[..250_000]).unwrap();
    let mut offer = Offer::new(town.repository.directory());
    offer.ranges = false;
    let offer = Arc::new(offer);
    let mut trusted = trusted(&town, &offer).await;
    let target = trusted.target("antivirus/9/daily.cud").await.unwrap();
    trusted.fetch(&target, &to).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), database());
}

#[tokio::test]
async fn another_content_another_length_no_end_and_no_hurry_are_refused_each_by_name() {
    let (town, file) = town();
    let mut other = database();
    other[SIZE / 2] ^= 1;
    let pause = std::time::Duration::from_millis(30);
    for (way, id) in [
        (Way::Instead(other), "TUF-HASH"),
        (Way::Instead(database()[..SIZE - 1].to_vec()), "TUF-LENGTH"),
        (Way::Endless, "TUF-ENDLESS"),
        (Way::Slowly(pause), "TUF-SLOW"),
        (Way::Missing, "TUF-FILE"),
    ] {
        let offer = Offer::new(town.repository.directory()).with(&file, way);
        let offer = Arc::new(offer);
        let mut trusted = trusted(&town, &offer).await;
        let target = trusted.target("antivirus/9/daily.cud").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("daily.cud");
        let refused = trusted.fetch(&target, &to).await.unwrap_err();
        assert_eq!(refused.id(), id);
        assert!(!to.exists(), "{id}");
        let in_memory = trusted.read(&target, SIZE as u64).await.unwrap_err();
        assert_eq!(in_memory.id(), id);
    }
}

#[tokio::test]
async fn more_than_the_reader_can_use_is_not_fetched() {
    let (town, _) = town();
    let offer = Arc::new(Offer::new(town.repository.directory()));
    let mut trusted = trusted(&town, &offer).await;
    let target = trusted.target("antivirus/9/daily.cud").await.unwrap();
    assert_eq!(
        trusted.read(&target, 1000).await.unwrap_err().id(),
        "TUF-ENDLESS"
    );
    assert_eq!(offer.handed_out.load(Ordering::Relaxed), 0);
}
