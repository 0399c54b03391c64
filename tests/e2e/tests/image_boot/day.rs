//! A box from the factory to a working day and on to the next release: in every run of the tests.

use std::fs;
use std::path::Path;
use std::time::Duration;

use test_harness::appliance::{self, Appliance};
use test_harness::binaries;
use test_harness::clamd::eicar;
use test_harness::wait;

use super::root::named;
use super::stage::Stage;
use super::{NEXT, RESTARTS, SOON};

#[test]
fn a_box_from_the_factory_is_provisioned_relays_scans_and_moves_to_the_next_release() {
    let stage = Stage::new();
    let mut appliance = stage.box_from_the_factory("day");
    let screen = appliance.screen();
    assert!(screen.contains("Enrolling secure boot keys"), "{screen}");
    stage.provision(&appliance);
    staff_work(&stage, &appliance);
    // What the box says of its own start, in its first slot.
    for check in ["BOOT", "USB-BOX", "AV-ALIVE", "AV-DB", "AV-CONF"] {
        stage.hears_that_all_is_well(check, &appliance);
    }
    runs(&stage, &appliance, "0.1.0", "a", &stage.release);
    let key = stage.recovery_key(&appliance);

    let next = appliance::trial().join("next");
    stage.publish(NEXT, &next);
    appliance
        .wait_for(&[RESTARTS], Duration::from_secs(900))
        .unwrap();
    // What runs is the newest, with the root hash and the bill of materials that were signed.
    for check in ["UPD", "SBOM", "BOOT"] {
        stage.hears_that_all_is_well(check, &appliance);
    }
    runs(&stage, &appliance, NEXT, "b", &next);
    let portal = appliance.portal_url();
    wait::until("the portal through the new release", SOON, || {
        stage.reaches(&portal).then_some(())
    })
    .unwrap();
    // The firmware's partition has the new kernel without a counter: it was found good. (The old one was, before.)
    appliance
        .wait_for_times("Finished gateway-health.service", 2, SOON)
        .unwrap();
    appliance.cut_power();
    // What is in the facility's safe opens the disk, and what is like it does not.
    assert!(appliance.key_opens_var(key.as_bytes()).unwrap());
    assert!(!appliance.key_opens_var(&key.as_bytes()[1..]).unwrap());
    let begun = appliance.begun().unwrap();
    assert!(begun.contains("tcp 10.0.2.100:443"), "{begun:?}");
    let list = binaries::workspace().join("image/system/connections.txt");
    let allowed = named(&list);
    let more: Vec<&String> = begun.difference(&allowed).collect();
    assert!(more.is_empty(), "not on the list: {more:?}");
    assert_eq!(
        appliance.kernels().unwrap(),
        ["renraku-gateway_0.1.0_a.efi", "renraku-gateway_0.2.0_b.efi"]
    );
}

/// The portal, a sign-in, and an upload that never reaches the city.
fn staff_work(stage: &Stage, appliance: &Appliance) {
    let portal = appliance.portal_url();
    wait::until("the portal through the box", SOON, || {
        stage.reaches(&portal).then_some(())
    })
    .unwrap();
    wait::until("a sign-in through the box", SOON, || {
        (stage.sign_in(&portal, "staff") == 200).then_some(())
    })
    .unwrap();
    let infected = stage.folder.path().join("infected.txt");
    fs::write(&infected, eicar()).unwrap();
    let (status, page) = stage.visit(&[
        "--data-binary",
        &format!("@{}", infected.display()),
        &format!("{portal}staff/login"),
    ]);
    assert_eq!(status, 403, "{page}");
}

/// What the city has heard about what runs: version, slot, and the root hash that the kernel was started with.
fn runs(stage: &Stage, appliance: &Appliance, version: &str, slot: &str, release: &Path) {
    let root_hash = fs::read_to_string(release.join("root-hash")).unwrap();
    let expected = [version, slot, root_hash.trim()].map(str::to_owned);
    wait::until(&format!("the city to hear of {version}"), SOON, || {
        let report = stage.newest_report()?;
        let told = ["version", "slot", "root_hash"]
            .map(|key| report[key].as_str().unwrap_or_default().to_owned());
        (told == expected).then_some(())
    })
    .unwrap_or_else(|error| {
        panic!(
            "{error}\n{:?}\n{}",
            stage.newest_report(),
            appliance.screen()
        )
    });
}
