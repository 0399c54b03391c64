//! From a USB stick onto the disk of a machine that nobody has used, and not onto one that somebody has.

use test_harness::appliance::Appliance;
use test_harness::wait;

use super::stage::Stage;
use super::{READY, SOON, START};

#[test]
fn the_installer_puts_the_box_on_a_blank_disk_and_asks_before_it_erases_one() {
    let stage = Stage::new();
    let mut appliance = Appliance::blank("installed", &stage.release).unwrap();
    appliance.switch_on_from_stick(stage.city.port()).unwrap();
    appliance.wait_until_off(START).unwrap();
    let screen = appliance.screen();
    assert!(screen.contains("install: done"), "{screen}");

    // The stick is out: a box from the factory.
    appliance.switch_on(stage.city.port()).unwrap();
    appliance.wait_for(&[READY], START).unwrap();
    let screen = appliance.screen();
    assert!(screen.contains("Enrolling secure boot keys"), "{screen}");
    let setup = format!("{}setup", appliance.console_url());
    wait::until("the setup page", SOON, || {
        let page = stage.visit(&["--insecure", &setup]).1;
        page.contains("電子証明書取得用番号").then_some(())
    })
    .unwrap();
    appliance.cut_power();

    // The stick once more: what is there now is not erased unless somebody says so, also not under Secure Boot.
    let kernels = appliance.kernels().unwrap();
    appliance.switch_on_from_stick(stage.city.port()).unwrap();
    appliance.wait_for(&["IS NOT EMPTY"], START).unwrap();
    appliance.cut_power();
    assert_eq!(appliance.kernels().unwrap(), kernels);
    appliance.switch_on(stage.city.port()).unwrap();
    appliance.wait_for(&[READY], START).unwrap();
    appliance.cut_power();
}
