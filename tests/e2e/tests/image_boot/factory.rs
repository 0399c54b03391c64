//! A box from the factory to a working day, through a power cut, and in the hands of somebody who changes its disk.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};

use test_harness::appliance::Appliance;
use test_harness::appliance::disk::{flip, partition};
use test_harness::clamd::eicar;
use test_harness::wait;

use super::stage::Stage;
use super::{IN_THE_FIRST_BLOCK, READY, RESTARTS, SOON, START};

#[test]
fn a_box_from_the_factory_is_provisioned_relays_scans_and_survives_a_power_cut() {
    let stage = Stage::new();
    let mut appliance = stage.box_from_the_factory("factory");
    let screen = appliance.screen();
    assert!(screen.contains("Enrolling secure boot keys"), "{screen}");

    stage.provision(&appliance);

    // The staff's: the portal, a sign-in, and an upload that never reaches the city.
    let portal = appliance.portal_url();
    wait::until("the portal through the box", SOON, || {
        stage.reaches(&portal).then_some(())
    })
    .unwrap();
    let sign_in = |portal: &str| {
        let users = stage.city.described()["users"].as_array().unwrap().clone();
        let ours = &stage.city.described()["numbers"][0]["facility"];
        let user = users
            .iter()
            .find(|user| &user["facility"] == ours && user["role"] == "staff")
            .unwrap()
            .clone();
        let field = |name: &str| format!("{name}={}", user[name].as_str().unwrap());
        stage
            .visit(&[
                "--location",
                "--header",
                &format!("Origin: {}", portal.trim_end_matches('/')),
                "--data-urlencode",
                &field("user_id"),
                "--data-urlencode",
                &field("password"),
                &format!("{portal}staff/login"),
            ])
            .0
    };
    wait::until("a sign-in through the box", SOON, || {
        (sign_in(&portal) == 200).then_some(())
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

    // What the box says of its own start.
    for check in ["BOOT", "USB-BOX", "AV-ALIVE", "AV-DB", "AV-CONF"] {
        wait::until(
            &format!("the city to hear that {check} is ok"),
            SOON,
            || (stage.reported(check)? == "ok").then_some(()),
        )
        .unwrap();
    }

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
