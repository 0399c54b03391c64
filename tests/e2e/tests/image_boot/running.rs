//! What runs, what may do what, and what listens, on a box that works: compared with a list.

use std::collections::BTreeSet;

use test_harness::appliance::{self, Appliance};
use test_harness::{binaries, wait};

use super::root::named;
use super::stage::Stage;
use super::{READY, SOON, START};

#[test]
fn on_a_box_that_works_runs_and_listens_what_the_list_says() {
    let stage = Stage::new();
    let mut appliance = Appliance::new("observed", &appliance::trial().join("observed")).unwrap();
    appliance.switch_on(stage.city.port()).unwrap();
    appliance.wait_for(&[READY], START).unwrap();
    stage.provision(&appliance);
    let portal = appliance.portal_url();
    wait::until("the portal through the box", SOON, || {
        stage.reaches(&portal).then_some(())
    })
    .unwrap();
    // Told twice from now on: the first may have begun before.
    let told = appliance.screen().matches(END).count();
    appliance.wait_for_times(END, told + 2, SOON).unwrap();
    let found = observed(&appliance.screen());
    appliance.cut_power();
    let list = binaries::workspace().join("image/system/running.txt");
    assert_eq!(found, named(&list));
}

const END: &str = "observer: end";

/// What was told last.
fn observed(screen: &str) -> BTreeSet<String> {
    let whole = screen.rsplit_once(END).unwrap().0;
    whole
        .rsplit_once("observer: begin")
        .unwrap()
        .1
        .lines()
        .filter_map(|line| line.split_once("observer: "))
        .map(|(_, what)| what.trim_end().to_owned())
        .collect()
}
