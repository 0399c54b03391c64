//! A box through a power cut, and in the hands of somebody who steals or changes its disk.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};

use test_harness::appliance::Appliance;
use test_harness::appliance::disk::{flip, partition};
use test_harness::wait;

use super::stage::Stage;
use super::{IN_THE_FIRST_BLOCK, READY, RESTARTS, SOON, START};

#[test]
fn a_box_survives_a_power_cut_and_nobody_gets_far_with_its_disk() {
    let stage = Stage::new();
    let mut appliance = stage.box_from_the_factory("factory");
    stage.provision(&appliance);

    let portal = appliance.portal_url();
    wait::until("the portal through the box", SOON, || {
        stage.reaches(&portal).then_some(())
    })
    .unwrap();

    // The plug is pulled; everything is still there, and nobody types anything.
    appliance.cut_power();
    appliance.switch_on(stage.city.port()).unwrap();
    appliance.wait_for(&[READY], START).unwrap();
    wait::until("the portal after the power cut", SOON, || {
        stage.reaches(&portal).then_some(())
    })
    .unwrap();

    a_disk_in_another_machine_opens_nothing(&stage, &mut appliance);
    a_changed_root_is_noticed(&stage, &mut appliance);
    a_kernel_that_we_did_not_sign_does_not_start(&stage, &mut appliance);
}

/// The manager takes the box out of service: there is a record, and the next start is one from the factory, with another key.
#[test]
fn a_box_that_left_service_begins_anew_and_has_it_in_writing() {
    let stage = Stage::new();
    let mut appliance = stage.box_from_the_factory("left-service");
    stage.provision(&appliance);
    let portal = appliance.portal_url();
    wait::until("the portal through the box", SOON, || {
        stage.reaches(&portal).then_some(())
    })
    .unwrap();
    let key = stage.recovery_key(&appliance);
    let (status, page) = stage.press(
        &appliance,
        "leaving/start",
        &["reason=disposed", "word=消去する"],
    );
    assert_eq!(status, 303, "{page}");
    let leaving = format!("{}leaving", appliance.console_url());
    wait::until("the record", SOON, || {
        stage
            .visit(&[&leaving])
            .1
            .contains("装置の廃棄（第28条）")
            .then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", stage.visit(&[&leaving]).1));
    let (_, page) = stage.visit(&[&leaving]);
    assert!(page.contains("市に届け出て失効させました"), "{page}");
    appliance.cut_power();
    assert!(appliance.key_opens_var(key.as_bytes()).unwrap());

    appliance.switch_on(stage.city.port()).unwrap();
    appliance.wait_for(&[READY], START).unwrap();
    let setup = format!("{}setup", appliance.console_url());
    wait::until("the setup page", SOON, || {
        let page = stage.visit(&["--insecure", &setup]).1;
        page.contains("電子証明書取得用番号").then_some(())
    })
    .unwrap();
    let page = stage.visit(&["--insecure", &leaving]).1;
    assert!(!page.contains("第28条"), "{page}");
    appliance.cut_power();
    assert!(!appliance.key_opens_var(key.as_bytes()).unwrap());
}

/// The disk is stolen, or the TPM was cleared: `/var` stays closed and the box does not start.
fn a_disk_in_another_machine_opens_nothing(stage: &Stage, appliance: &mut Appliance) {
    appliance.cut_power();
    let mut thief = appliance.stolen_disk("thief").unwrap();
    thief.switch_on(stage.city.port()).unwrap();
    let seen = thief
        .wait_for(&["Failed to start systemd-cryptsetup@var", READY], START)
        .unwrap();
    assert_eq!(seen, 0, "{}", thief.screen());
    thief.wait_for(&[RESTARTS], SOON).unwrap();
    thief.cut_power();
}

/// One bit of the root file system is another: dm-verity stops the machine.
fn a_changed_root_is_noticed(stage: &Stage, appliance: &mut Appliance) {
    let place = partition(&appliance.disk(), "renraku-root-a")
        .unwrap()
        .start
        + IN_THE_FIRST_BLOCK;
    let before = flip(&appliance.disk(), place).unwrap();
    appliance.switch_on(stage.city.port()).unwrap();
    let seen = appliance.wait_for(&["is corrupted", READY], START).unwrap();
    assert_eq!(seen, 0, "{}", appliance.screen());
    appliance.cut_power();
    assert_ne!(before, flip(&appliance.disk(), place).unwrap());
}

/// The command line in the kernel's file is another: its signature no longer holds, and the firmware does not start it.
fn a_kernel_that_we_did_not_sign_does_not_start(stage: &Stage, appliance: &mut Appliance) {
    let disk = fs::read(appliance.disk()).unwrap();
    let needle = b"systemd.import_credentials=no";
    let at = disk
        .windows(needle.len())
        .position(|window| window == needle)
        .unwrap();
    drop(disk);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(appliance.disk())
        .unwrap();
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(b"systemd.import_credentials=on").unwrap();
    file.sync_all().unwrap();
    appliance.switch_on(stage.city.port()).unwrap();
    let seen = appliance
        .wait_for(&["Access denied", "Security Violation", READY], START)
        .unwrap();
    assert_ne!(seen, 2, "{}", appliance.screen());
    appliance.cut_power();
}
