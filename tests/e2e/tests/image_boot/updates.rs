//! Back by itself from a release that is bad or was damaged, and through a power cut to one that is good.

use std::fs;
use std::time::{Duration, Instant};

use test_harness::appliance::disk::{flip, partition};
use test_harness::appliance::{self, Appliance};
use test_harness::wait;

use super::stage::Stage;
use super::{FACTORY, IN_THE_FIRST_BLOCK, NEXT, READY, RESTARTS, SOON, START};

/// Three releases, signed and bad, one after the other: each is started once, and the box comes back by itself.
#[test]
fn a_release_that_panics_does_not_start_or_is_not_well_is_left_again() {
    let stage = Stage::new();
    let mut appliance = stage.box_from_the_factory("left");
    stage.provision(&appliance);
    let bad = [
        ("panics", "0.2.1", "Kernel panic"),
        (
            "does-not-start",
            "0.2.2",
            "Welcome to Facility gateway 0.2.2",
        ),
        ("is-not-well", "0.2.3", "Welcome to Facility gateway 0.2.3"),
    ];
    for (times, (name, version, seen)) in bad.into_iter().enumerate() {
        stage.publish(version, &appliance::trial().join(name));
        appliance
            .wait_for_times(seen, 1, Duration::from_secs(900))
            .unwrap();
        appliance
            .wait_for_times(FACTORY, times + 2, START + SOON)
            .unwrap();
        appliance
            .wait_for_times("Finished gateway-health.service", times + 2, START)
            .unwrap();
    }
    let portal = appliance.portal_url();
    wait::until("the portal through the old release", SOON, || {
        stage.reaches(&portal).then_some(())
    })
    .unwrap();
    appliance.cut_power();
    let kernels = appliance.kernels().unwrap();
    assert_eq!(kernels[0], "renraku-gateway_0.1.0_a.efi");
    assert_eq!(kernels[1..], ["renraku-gateway_0.2.3_b+0-1.efi"]);
}

/// The new slot and its kernel were right when they were written, and are not when the box starts: the old one starts, unattended.
#[test]
fn whatever_became_of_the_new_slot_the_old_one_starts() {
    let stage = Stage::new();
    let mut appliance = Appliance::new("damaged", &stage.release).unwrap();
    appliance.switch_on_once(stage.city.port()).unwrap();
    // The keys were enrolled, and the firmware starts anew with them.
    appliance.wait_until_off(START).unwrap();
    appliance.switch_on_once(stage.city.port()).unwrap();
    appliance.wait_for(&[READY], START).unwrap();
    stage.provision(&appliance);
    stage.publish(NEXT, &appliance::trial().join("next"));
    appliance.wait_until_off(Duration::from_secs(900)).unwrap();
    let new = "renraku-gateway_0.2.0_b+1-0.efi";
    assert_eq!(
        appliance.kernels().unwrap(),
        ["renraku-gateway_0.1.0_a.efi", new]
    );
    let kernel = appliance.kernel(new).unwrap();
    appliance.keep().unwrap();
    let half = &kernel[..kernel.len() / 2];
    let foreign = appliance.signed_by_somebody_else(&kernel).unwrap();
    let other = fs::read(appliance::trial().join("is-not-well/release/uki-b.efi")).unwrap();
    let kernels: [(&str, &[u8]); 3] = [
        ("a kernel of which half is there", half),
        ("a kernel that somebody else has signed", &foreign),
        ("a kernel with another root hash", &other),
    ];
    for (what, content) in kernels {
        appliance.put_back().unwrap();
        appliance.replace_kernel(new, content).unwrap();
        the_old_one_starts(&stage, &mut appliance, what);
    }
    appliance.put_back().unwrap();
    let root = partition(&appliance.disk(), "renraku-root-b").unwrap();
    flip(&appliance.disk(), root.start + IN_THE_FIRST_BLOCK).unwrap();
    the_old_one_starts(&stage, &mut appliance, "a root with one changed bit");
}

fn the_old_one_starts(stage: &Stage, appliance: &mut Appliance, what: &str) {
    appliance.switch_on(stage.city.port()).unwrap();
    let seen = appliance
        .wait_for(&[READY], START + SOON)
        .map(|_| appliance.screen());
    let screen = seen.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(screen.contains(FACTORY), "{what}: {screen}");
    assert!(
        !screen.contains("Welcome to Facility gateway 0.2.0"),
        "{what}: {screen}"
    );
    let portal = appliance.portal_url();
    wait::until(what, SOON, || stage.reaches(&portal).then_some(())).unwrap();
    appliance.cut_power();
    println!("{what}: the old release starts");
}

/// The plug is pulled during a real update, as often as `POWER_CUTS` says (five minutes each): at moments spread over the time that
/// the first one takes. Each time the box starts again and ends with the new release, with nobody's help.
#[test]
fn a_box_whose_plug_is_pulled_during_an_update_comes_to_the_new_release_by_itself() {
    let cuts: u32 = std::env::var("POWER_CUTS").map_or(1, |cuts| cuts.parse().unwrap());
    let stage = Stage::new();
    let mut appliance = stage.box_from_the_factory("cut");
    stage.provision(&appliance);
    let portal = appliance.portal_url();
    wait::until("the portal", SOON, || stage.reaches(&portal).then_some(())).unwrap();
    appliance.cut_power();
    appliance.keep().unwrap();
    stage.publish(NEXT, &appliance::trial().join("next"));
    appliance.switch_on(stage.city.port()).unwrap();
    appliance.wait_for(&[READY], START).unwrap();
    let begin = Instant::now();
    appliance
        .wait_for(&[RESTARTS], Duration::from_secs(900))
        .unwrap();
    let whole = begin.elapsed();
    appliance.cut_power();
    for cut in 1..=cuts {
        appliance.put_back().unwrap();
        appliance.switch_on(stage.city.port()).unwrap();
        appliance.wait_for(&[READY], START).unwrap();
        let moment = whole * cut / (cuts + 1);
        std::thread::sleep(moment);
        appliance.cut_power();
        let kernels = appliance.kernels().unwrap();
        appliance.switch_on(stage.city.port()).unwrap();
        let new = format!("Welcome to Facility gateway {NEXT}");
        appliance
            .wait_for(&[&new], Duration::from_secs(1_200))
            .unwrap_or_else(|error| panic!("cut {cut} after {moment:?}, {kernels:?}: {error}"));
        let judged = "Finished gateway-health.service";
        let before = appliance.screen().matches(judged).count();
        appliance.wait_for_times(judged, before + 1, START).unwrap();
        println!("cut {cut} of {cuts} after {moment:?}: {kernels:?}; the new release runs");
        appliance.cut_power();
    }
    println!("{cuts} power cuts during an update: 0 unbootable, 0 downgraded");
}
