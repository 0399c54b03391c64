//! Two hundred ordinary office files of many kinds.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::BOTH;
use crate::office::{Office, PERSON, office};
use crate::two_hundred::{File, two_hundred};

/// As many as a note may have.
const IN_ONE_NOTE: usize = 5;

/// Fetches files over one connection, as a browser does; their bytes, in the order of their ids.
fn fetch_all(office: &Office, ids: &[String], protocol: &str) -> Vec<Vec<u8>> {
    let folder = office.facility.directory().join("fetched");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let mut list = String::new();
    for id in ids {
        let (url, file) = (office.place(id), folder.join(id));
        let _ = write!(
            list,
            "url = {url:?}\noutput = {:?}\n",
            file.display().to_string()
        );
    }
    let list = office.file("list", list.as_bytes()).display().to_string();
    let answer =
        office
            .visitor
            .send(&[protocol, "--write-out", "%{http_code} ", "--config", &list]);
    let all_are_there = "200 ".repeat(ids.len());
    assert_eq!(answer.body, all_are_there, "{protocol}");
    let read = |id: &String| std::fs::read(folder.join(id)).unwrap();
    ids.iter().map(read).collect()
}

#[test]
fn two_hundred_office_files_leave_as_they_are() {
    let office = office();
    let files = two_hundred(0);
    assert_eq!(files.len(), 200);
    let before = office.counted();
    for (number, note) in files.chunks(IN_ONE_NOTE).enumerate() {
        let parts: Vec<String> = note
            .iter()
            .enumerate()
            .map(
                |(
                    place,
                    File {
                        name,
                        media_type,
                        body,
                    },
                )| {
                    let name = format!("{:03}{name}", number * IN_ONE_NOTE + place);
                    let path = office.file(&name, body);
                    format!("{};type={media_type}", path.display())
                },
            )
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let answer = office.attach(&parts, &[BOTH[number % 2]]);
        assert_eq!(answer.status, 303, "{parts:?} {answer:?}");
    }
    let after = office.counted();
    assert_eq!(
        (after.posts, after.files),
        (before.posts + 40, before.files + 200)
    );

    // What the city holds is what was sent, byte for byte.
    let kept = office
        .visitor
        .ask(&format!("{}api/persons/{PERSON}/notes", office.staff()));
    let kept: Value = serde_json::from_str(&kept.body).unwrap();
    let attachments = kept["notes"].as_array().unwrap().iter();
    let ids: BTreeMap<&str, &str> = attachments
        .flat_map(|note| note["attachments"].as_array().unwrap())
        .map(|file| (file["name"].as_str().unwrap(), file["id"].as_str().unwrap()))
        .collect();
    let folder = office.facility.city.directory().join("attachments");
    for (number, File { name, body, .. }) in files.iter().enumerate() {
        let name = format!("{number:03}{name}");
        let at_the_city = std::fs::read(folder.join(ids[name.as_str()])).unwrap();
        assert!(at_the_city == *body, "{name} has changed");
    }
}

#[test]
fn two_hundred_office_files_come_as_they_are() {
    let office = office();
    // Others than those that left, so that each is looked at and none is known from before.
    let files = two_hundred(1);
    let mut ids = Vec::new();
    for note in files.chunks(IN_ONE_NOTE) {
        let note: Vec<_> = note
            .iter()
            .map(|file| (file.name.as_str(), file.media_type, file.body.as_slice()))
            .collect();
        ids.extend(office.receive(&note).1);
    }
    for (half, protocol) in BOTH.into_iter().enumerate() {
        let of_half = half * 100..(half + 1) * 100;
        let came = fetch_all(&office, &ids[of_half.clone()], protocol);
        for (file, body) in files[of_half].iter().zip(came) {
            assert!(body == file.body, "{} has changed", file.name);
        }
    }
}
