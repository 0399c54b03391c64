use super::*;
use crate::secret::sha256;

const NOW: Timestamp = Timestamp(1_800_000_000);

fn open() -> (tempfile::TempDir, Database) {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(directory.path()).unwrap();
    (directory, database)
}

fn approved(name: &Name, hardware: Option<Tag>) -> Approved<'_> {
    Approved {
        name,
        kind: Kind::Windows,
        manager: false,
        hardware,
        by: "m-1",
        at: NOW,
        same_as: None,
    }
}

fn certificate(number: u8, not_after: Timestamp) -> Registered {
    Registered {
        fingerprint: sha256(&[number]),
        origin: Origin::Box,
        not_before: NOW,
        not_after,
    }
}

fn name() -> Name {
    Name::parse("事務室1").unwrap()
}

#[test]
fn forgotten_hardware_comes_back_under_its_old_pseudonym() {
    let (_directory, mut database) = open();
    let hardware = sha256(b"uuid");
    let name = name();
    let id = database
        .register(&approved(&name, Some(hardware)), |_, _| Ok(()))
        .unwrap();
    database
        .revoke(id, RevokedFor::Forgotten, NOW.plus(1))
        .unwrap();
    assert!(database.devices().unwrap().is_empty());
    assert_eq!(database.devices_ever().unwrap().len(), 1);
    assert_eq!(
        database
            .register(&approved(&name, Some(hardware)), |_, _| Ok(()))
            .unwrap(),
        id
    );
    assert_eq!(database.device(id).unwrap().unwrap().revoked, None);
}

#[test]
fn hardware_that_shows_itself_only_when_it_reports_is_found_again_too() {
    let (_directory, mut database) = open();
    let (hardware, name) = (sha256(b"uuid"), name());
    let old = database
        .register(&approved(&name, Some(hardware)), |_, _| Ok(()))
        .unwrap();
    database.revoke(old, RevokedFor::Forgotten, NOW).unwrap();
    let new = database
        .register(&approved(&name, None), |_, _| Ok(()))
        .unwrap();
    assert_ne!(new, old);
    database
        .add_certificate(new, &certificate(1, NOW.plus(100)))
        .unwrap();
    assert_eq!(database.pin(new, &hardware, |_, _| Ok(())).unwrap(), old);
    assert_eq!(database.owner_of(&sha256(&[1])).unwrap(), Some(old));
    assert!(database.device(new).unwrap().is_none());
}

#[test]
fn hardware_of_a_device_in_use_and_other_hardware_than_before_are_refused() {
    let (_directory, mut database) = open();
    let name = name();
    let first = database
        .register(&approved(&name, Some(sha256(b"a"))), |_, _| Ok(()))
        .unwrap();
    let second = database
        .register(&approved(&name, None), |_, _| Ok(()))
        .unwrap();
    assert!(matches!(
        database.pin(second, &sha256(b"a"), |_, _| Ok(())),
        Err(Error::Taken(_))
    ));
    assert_eq!(
        database.pin(second, &sha256(b"b"), |_, _| Ok(())).unwrap(),
        second
    );
    assert!(matches!(
        database.pin(second, &sha256(b"c"), |_, _| Ok(())),
        Err(Error::Unfit(_))
    ));
    assert_eq!(
        database.pin(first, &sha256(b"a"), |_, _| Ok(())).unwrap(),
        first
    );
}

#[test]
fn a_device_that_the_manager_cut_off_does_not_come_back_by_pairing() {
    let (_directory, mut database) = open();
    let (hardware, name) = (sha256(b"uuid"), name());
    let id = database
        .register(&approved(&name, Some(hardware)), |_, _| Ok(()))
        .unwrap();
    database.revoke(id, RevokedFor::Manager, NOW).unwrap();
    assert!(matches!(
        database.register(&approved(&name, Some(hardware)), |_, _| Ok(())),
        Err(Error::Unfit(_))
    ));
    database.reactivate(id).unwrap();
    assert_eq!(
        database
            .register(&approved(&name, Some(hardware)), |_, _| Ok(()))
            .unwrap(),
        id
    );
    assert!(matches!(
        database.reactivate(DeviceId([9; 16])),
        Err(Error::NoSuchDevice)
    ));
}

#[test]
fn a_certificate_belongs_to_one_device_and_only_the_newest_few_are_known() {
    let (_directory, mut database) = open();
    let name = name();
    let id = database
        .register(&approved(&name, None), |_, _| Ok(()))
        .unwrap();
    let other = database
        .register(&approved(&name, None), |_, _| Ok(()))
        .unwrap();
    for number in 0..6 {
        let ends = NOW.plus(i64::from(number));
        database
            .add_certificate(id, &certificate(number, ends))
            .unwrap();
    }
    assert_eq!(database.identities().unwrap().len(), MOST_CERTIFICATES);
    assert_eq!(database.owner_of(&sha256(&[5])).unwrap(), Some(id));
    assert_eq!(database.owner_of(&sha256(&[0])).unwrap(), None);
    assert!(matches!(
        database.add_certificate(other, &certificate(5, NOW)),
        Err(Error::Taken(_))
    ));
}

#[test]
fn a_full_register_gives_up_what_was_forgotten_and_nothing_else() {
    let (_directory, mut database) = open();
    let name = name();
    let first = database
        .register(&approved(&name, None), |_, _| Ok(()))
        .unwrap();
    for _ in 1..MOST_DEVICES {
        database
            .register(&approved(&name, None), |_, _| Ok(()))
            .unwrap();
    }
    assert!(matches!(
        database.register(&approved(&name, None), |_, _| Ok(())),
        Err(Error::Full)
    ));
    database.revoke(first, RevokedFor::Manager, NOW).unwrap();
    assert!(matches!(
        database.register(&approved(&name, None), |_, _| Ok(())),
        Err(Error::Full)
    ));
    database.revoke(first, RevokedFor::Forgotten, NOW).unwrap();
    database
        .register(&approved(&name, None), |_, _| Ok(()))
        .unwrap();
    assert!(database.device(first).unwrap().is_none());
}

#[test]
fn what_was_written_is_there_after_a_crash() {
    let (directory, mut database) = open();
    let name = name();
    let id = database
        .register(&approved(&name, None), |_, _| Ok(()))
        .unwrap();
    database.revoke(id, RevokedFor::Manager, NOW).unwrap();
    // No close: the next opening finds the log as a power cut leaves it.
    std::mem::forget(database);
    let database = Database::open(directory.path()).unwrap();
    let device = database.device(id).unwrap().unwrap();
    assert_eq!(device.revoked, Some((NOW, RevokedFor::Manager)));
}
