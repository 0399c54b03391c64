//! Updates that go well, that fail and come back, and that wait.

use gateway_policy::Timestamp;
use gateway_release::{SoftwareRelease, Wave};
use gateway_updater::decide::Reason;
use gateway_updater::install::Judged;
use gateway_updater::slot::Slot;
use gateway_updater::work::{self, Checked};

use crate::appliance::Appliance;
use crate::town::{NOON, rfc3339};

#[tokio::test]
async fn an_update_from_a_medium_goes_all_the_way_and_only_then_the_floor_rises() {
    let it = Appliance::new().await;
    assert_eq!(it.check().await.unwrap(), Checked::Nothing);
    let new = it.made("1.2");
    it.publish(&new);
    let Checked::Restarts(system, Some(origin)) = it.check().await.unwrap() else {
        panic!("not installed");
    };
    assert_eq!(system, new.system(Slot::B));
    // One block of the image and the hash tree have changed.
    assert_eq!(origin.copied, 3 * 65_536);
    // A medium is read in pieces of 256 KiB, so that more comes than is taken; never what was before the first changed block.
    assert!(origin.fetched <= (new.root.len() - 65_536 + new.verity.len()) as u64);
    assert!(it.restarted());
    assert!(it.partition(Slot::B).starts_with(&new.root));
    let named = ["renraku-gateway_1.1_a.efi", "renraku-gateway_1.2_b+1-0.efi"];
    assert_eq!(it.kernels(), named);
    let floor = || {
        work::status(&it.config())
            .unwrap()
            .state
            .floor()
            .map(str::to_owned)
    };
    assert_eq!(floor().unwrap(), "1.1");
    it.boots(&new, Slot::B);
    assert_eq!(floor().unwrap(), "1.1");
    assert_eq!(it.judge(true).await.unwrap(), Judged::Good);
    assert_eq!(floor().unwrap(), "1.2");
    let named = ["renraku-gateway_1.1_a.efi", "renraku-gateway_1.2_b.efi"];
    assert_eq!(it.kernels(), named);
    let good = work::status(&it.config()).unwrap().state.good().cloned();
    assert_eq!(good.unwrap().system, new.system(Slot::B));
    assert_eq!(it.check().await.unwrap(), Checked::Level);
    assert!(!it.restarted());
    // And back into slot a with the next one.
    let next = it.made("1.3");
    it.publish(&next);
    assert!(matches!(it.check().await.unwrap(), Checked::Restarts(..)));
    it.boots(&next, Slot::A);
    assert_eq!(it.judge(true).await.unwrap(), Judged::Good);
    assert_eq!(floor().unwrap(), "1.3");
}

#[tokio::test]
async fn a_version_that_is_not_good_goes_back_and_is_tried_again_only_when_told() {
    let it = Appliance::new().await;
    let new = it.made("1.2");
    it.publish(&new);
    it.check().await.unwrap();
    assert!(it.restarted());
    it.boots(&new, Slot::B);
    assert_eq!(it.judge(false).await.unwrap(), Judged::GoBack);
    assert!(it.restarted());
    it.runs(&it.old, Slot::A);
    assert_eq!(it.check().await.unwrap_err().id(), "UPD-FAILED");
    assert!(work::retry(&it.config()).unwrap());
    assert!(matches!(it.check().await.unwrap(), Checked::Restarts(..)));
}

#[tokio::test]
async fn a_version_whose_judge_died_is_judged_before_the_next_look_for_a_release() {
    let it = Appliance::new().await;
    let clock = || Timestamp(it.now);
    assert_eq!(
        work::overdue_verdict(&it.config(), &clock).await.unwrap(),
        None
    );
    let new = it.made("1.2");
    it.publish(&new);
    it.check().await.unwrap();
    assert!(it.restarted());
    assert_eq!(
        work::overdue_verdict(&it.config(), &clock).await.unwrap(),
        None
    );
    it.boots(&new, Slot::B);
    // gatewayd does not answer.
    let verdict = work::overdue_verdict(&it.config(), &clock).await.unwrap();
    let (judged, missing) = verdict.unwrap();
    assert_eq!(judged, Judged::GoBack);
    assert_eq!(missing.unwrap().id(), "UPD-HEALTH-GATEWAY");
    assert!(it.restarted());
    it.runs(&it.old, Slot::A);
    assert_eq!(
        work::overdue_verdict(&it.config(), &clock).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn a_version_that_never_came_up_has_failed() {
    let it = Appliance::new().await;
    let new = it.made("1.2");
    it.publish(&new);
    it.check().await.unwrap();
    it.boots(&new, Slot::B);
    // It panics; the boot loader starts the old one.
    it.runs(&it.old, Slot::A);
    assert_eq!(it.judge(true).await.unwrap(), Judged::Good);
    assert_eq!(it.check().await.unwrap_err().id(), "UPD-FAILED");
    // A newer one is installed without anybody's word.
    it.publish(&it.made("1.3"));
    assert!(matches!(it.check().await.unwrap(), Checked::Restarts(..)));
}

#[tokio::test]
async fn a_box_waits_for_its_wave_and_for_its_window() {
    let mut it = Appliance::new().await;
    let new = it.made("1.2");
    let later = NOON + 7200;
    let described = SoftwareRelease {
        schedule: vec![Wave {
            not_before: rfc3339(later),
            per_mille: 1000,
        }],
        ..Appliance::described(&new)
    };
    it.publish_as(&new, &described);
    let before = it.disk();
    let waits = Checked::Waits(Reason::Wave, Some(Timestamp(later)));
    assert_eq!(it.check().await.unwrap(), waits);
    it.now = later;
    let mut config = it.config();
    // Noon in UTC is nine in the evening in Japan.
    config.window = Some(
        serde_json::from_str(r#"{"days":["sun","mon"],"from":"02:00","until":"04:00"}"#).unwrap(),
    );
    let checked = it.check_with(&config).await.unwrap();
    assert!(
        matches!(checked, Checked::Waits(Reason::Window, Some(_))),
        "{checked:?}"
    );
    assert_eq!(it.disk(), before);
    it.now = NOON + 5 * 3600 + 1800;
    assert!(matches!(
        it.check_with(&config).await.unwrap(),
        Checked::Restarts(..)
    ));
}

#[tokio::test]
async fn a_window_that_closed_while_it_was_written_is_asked_again_before_the_restart() {
    use std::sync::atomic::{AtomicI64, Ordering};
    let it = Appliance::new().await;
    it.publish(&it.made("1.2"));
    let mut config = it.config();
    config.window = Some(
        serde_json::from_str(r#"{"days":["sun","mon"],"from":"02:00","until":"04:00"}"#).unwrap(),
    );
    // The first look at the clock is within the window, the later ones are not.
    let clock = AtomicI64::new(NOON + 5 * 3600 + 1800);
    let now = || Timestamp(clock.fetch_add(6 * 3600, Ordering::Relaxed));
    let medium = it.town.repository.directory().to_owned();
    let checked = work::check(&config, Some(&medium), &now).await.unwrap();
    assert!(
        matches!(checked, Checked::Installed(_, _, Some(_))),
        "{checked:?}"
    );
    assert!(!it.restarted());
    // In the next window nothing is written any more.
    let written = it.disk();
    clock.store(NOON + 5 * 3600 + 1900, Ordering::Relaxed);
    let checked = work::check(&config, Some(&medium), &now).await.unwrap();
    assert!(matches!(checked, Checked::Restarts(_, None)), "{checked:?}");
    assert!(it.restarted());
    assert_eq!(it.disk(), written);
}

#[tokio::test]
async fn a_release_that_is_taken_back_before_the_restart_is_not_started() {
    let it = Appliance::new().await;
    let new = it.made("1.2");
    it.publish(&new);
    it.check().await.unwrap();
    assert!(it.restarted());
    // The restart has not come yet; the city names the old release again.
    it.publish(&it.old);
    assert_eq!(it.check().await.unwrap(), Checked::Level);
    assert_eq!(it.kernels(), ["renraku-gateway_1.1_a.efi"]);
    assert!(!it.restarted());
    // And changes its mind: nothing has to come again.
    it.publish(&new);
    let Checked::Restarts(_, Some(origin)) = it.check().await.unwrap() else {
        panic!("not installed");
    };
    assert_eq!((origin.copied, origin.fetched), (0, 0));
    // Put off to a later wave, it goes too.
    let again = it.made("1.3");
    it.publish(&again);
    it.check().await.unwrap();
    let described = SoftwareRelease {
        schedule: vec![Wave {
            not_before: rfc3339(NOON + 864_000),
            per_mille: 1000,
        }],
        ..Appliance::described(&it.made("1.4"))
    };
    it.publish_as(&it.made("1.4"), &described);
    assert!(matches!(
        it.check().await.unwrap(),
        Checked::Waits(Reason::Wave, Some(_))
    ));
    assert_eq!(it.kernels(), ["renraku-gateway_1.1_a.efi"]);
}

#[tokio::test]
async fn two_updaters_do_not_work_at_once() {
    let it = Appliance::new().await;
    let (_machine, _lock, _) = work::open(&it.config(), Timestamp(it.now)).unwrap();
    assert_eq!(it.check().await.unwrap_err().id(), "UPD-BUSY");
}
