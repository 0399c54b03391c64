//! Two staff members of one facility and one of another run the same script side by side: nothing shows one what only another
//! may read.
//!
//! The pages are in `script.rs`, one line each. What is compared: every answer with what its reader may know; what is out of
//! reach with what does not exist, byte for byte; everything before with everything after something was written that is none
//! of one's business. The test also compares the wrong people, and must then find what it is looking for.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

mod compare;
mod script;
mod timing;
mod town;

use std::collections::BTreeMap;

use compare::{Plain, may_be_kept, shows};
use script::{ADDED, How, SCRIPT};
use town::{Person, Thing, Town};

/// Everything that is wrong, so that one run shows all of it.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, who: &Person<'_>, what: &str, finding: impl std::fmt::Display) {
        self.0.push(format!("{} at {what}: {finding}", who.user));
    }

    #[track_caller]
    fn none(self, when: &str) {
        assert!(self.0.is_empty(), "{when}:\n{}", self.0.join("\n"));
    }
}

/// The marks of everything that somebody may not see.
fn marks(forbidden: &[&Thing]) -> Vec<String> {
    forbidden
        .iter()
        .flat_map(|thing| thing.marks.clone())
        .collect()
}

/// Runs the whole script as one person, about everything there is and about nothing, and holds each answer against what that
/// person may know. `added` are the ways of asking that are tried.
fn run(town: &Town, who: &Person<'_>, forbidden: &[&Thing], added: &[&[&str]]) -> Findings {
    let mut findings = Findings::default();
    let secret = marks(forbidden);
    let own = who.reads[0];
    let missing = Thing::missing();
    for page in SCRIPT {
        let ways: &[&[&str]] = if page.how == How::Get { added } else { &[&[]] };
        for way in ways {
            let nothing = Plain::of(&page.run(who, &missing, own, way));
            for thing in town.things.values() {
                if !page.about && thing.person != own {
                    continue;
                }
                let answer = page.run(who, thing, own, way);
                let what = format!("{} {way:?}", page.path_for(thing, own));
                for shown in shows(&answer, &secret, &asked(page.path, thing)) {
                    findings.add(who, &what, format_args!("shows «{shown}»"));
                }
                if !page.path.starts_with("notebook:")
                    && let Some(kept) = may_be_kept(&answer)
                {
                    findings.add(who, &what, kept);
                }
                let out_of_reach = forbidden.iter().any(|one| one.person == thing.person);
                // Without the city, what the notebook answers depends on the moment and on nothing that was asked for.
                let nowhere = added.len() < ADDED.len() && page.path.starts_with("notebook:");
                if page.about && out_of_reach && !nowhere {
                    let there = without_asked(Plain::of(&answer), page.path, thing);
                    let not_there = without_asked(nothing.clone(), page.path, &missing);
                    if let Some(differs) = there.differs(&not_there) {
                        findings.add(who, &what, format_args!("is not like nothing: {differs}"));
                    }
                }
            }
        }
    }
    findings
}

/// What the request itself says; to read it in the answer tells nobody anything.
fn asked(path: &str, thing: &Thing) -> String {
    let mut asked = String::new();
    for (placeholder, value) in [
        ("{person}", &thing.person),
        ("{note}", &thing.note),
        ("{attachment}", &thing.attachment),
    ] {
        if path.contains(placeholder) {
            asked.push_str(value);
            asked.push('\n');
        }
    }
    if path == "/search" {
        asked.push_str(&thing.word);
    }
    asked
}

/// What the request said is blanked where an answer repeats it: it differs with what was asked for, for everybody.
fn without_asked(mut plain: Plain, path: &str, thing: &Thing) -> Plain {
    for word in [&thing.person, &thing.word, &thing.note, &thing.attachment] {
        plain.body = plain.body.replace(word.as_str(), "～");
        for (_, value) in &mut plain.header {
            *value = value.replace(word.as_str(), "～");
        }
    }
    // Only these repeat it, so everywhere else the length is the same to the byte.
    if path == "/search" || path.starts_with("/accesses") {
        plain.header.retain(|(name, _)| name != "content-length");
    }
    plain
}

/// Every general page and every page of one's own, as they are now.
fn everything(who: &Person<'_>, town: &Town) -> BTreeMap<String, Plain> {
    let mut all = BTreeMap::new();
    for page in SCRIPT {
        if page.path.starts_with("notebook:") || page.path.starts_with("/left") {
            continue;
        }
        for id in who.reads {
            let thing = &town.things[*id];
            let answer = page.run(who, thing, id, &[]);
            all.insert(
                page.path_for(thing, id) + page_fields(&page.how),
                Plain::of(&answer),
            );
            if !page.about {
                break;
            }
        }
    }
    all
}

const fn page_fields(how: &How) -> &'static str {
    match how {
        How::Get => "",
        How::Post(_) => " (sent)",
    }
}

#[test]
fn nobody_sees_what_only_another_may_read() {
    let mut town = Town::start();
    let cursors = {
        let people = ["sakura-02", "sakura-03", "midori-01"].map(|user| town.person(user));
        for person in &people {
            town.until_filled(person);
        }
        cursors(&town)
    };
    for (person, cursor) in cursors {
        town.things.get_mut(&person).unwrap().cursor = cursor;
    }
    let town = town;
    let people = ["sakura-02", "sakura-03", "midori-01"].map(|user| town.person(user));
    for person in &people {
        each_sees_all_of_ones_own(&town, person);
        run(&town, person, &town.forbidden(person), ADDED).none("online");
    }
    the_comparison_finds_a_leak(&town, &people);
    what_others_write_changes_nothing(&town, &people[0]);
    cookies_of_another_open_nothing(&town, &people);
    timing::out_of_reach_takes_as_long_as_nothing(&people[0], &town);

    town.facility.city.fail("down").unwrap();
    for person in &people {
        person.until("/notes", |page| page.says("つながりません"));
        each_sees_all_of_ones_own(&town, person);
        run(&town, person, &town.forbidden(person), &[&[], &["--head"]]).none("in an outage");
    }
    town.facility.city.recover().unwrap();
}

/// A place in each person's notes, as a page of a reader of theirs names it; made like the store makes them where a person has
/// only one page.
fn cursors(town: &Town) -> Vec<(String, String)> {
    town.things
        .keys()
        .enumerate()
        .map(|(number, person)| {
            let cursor = format!("17637000{number:02}.{}", format!("{number:02x}").repeat(32));
            (person.clone(), cursor)
        })
        .collect()
}

/// Without this, a box that shows nobody anything would pass.
fn each_sees_all_of_ones_own(town: &Town, person: &Person<'_>) {
    let list = person.open("/notes");
    for (id, thing) in &town.things {
        let mine = person.reads.contains(&id.as_str());
        assert_eq!(
            list.says(&format!("/notes/{id}")),
            mine,
            "{} {id}",
            person.user
        );
        let page = person.open(&format!("/notes/{id}"));
        assert_eq!(page.says(&thing.word), mine, "{} {id}", person.user);
        assert_eq!(page.status, if mine { 200 } else { 404 });
        if mine {
            assert_eq!(
                person
                    .open(&format!("/notes/{id}/note/{}", thing.note))
                    .status,
                200
            );
            assert!(
                person
                    .open(&format!("/notes/{id}/print?days=30"))
                    .says(&thing.word)
            );
            let file = person.open(&format!("/notes/attachment/{}", thing.attachment));
            assert!(file.says(&thing.word), "{} {}", person.user, file.status);
            assert!(file.field("cache-control").contains("no-store"));
        }
    }
}

/// The same comparison with the wrong person's permissions must fail, at each kind of page that shows notes.
fn the_comparison_finds_a_leak(town: &Town, people: &[Person<'_>; 3]) {
    let [one, another, _] = people;
    let planted = run(town, one, &town.forbidden(another), &[&[]]);
    for page in [
        "/notes ",
        "/notes/p-1002 ",
        "/notes/p-1002/note/",
        "/notes/p-1004/print",
        "/search",
    ] {
        let found = planted
            .0
            .iter()
            .any(|finding| finding.contains(&format!(" at {page}")) && finding.contains("shows"));
        assert!(
            found,
            "the leak at {page} is not found:\n{}",
            planted.0.join("\n")
        );
    }
    let unlike = planted
        .0
        .iter()
        .any(|finding| finding.contains("is not like nothing"));
    assert!(unlike, "what is there looks like what is not");
}

/// Somebody writes about, reads and marks a person that this one may not read: no page of this one's changes.
fn what_others_write_changes_nothing(town: &Town, me: &Person<'_>) {
    let before = everything(me, town);
    let other = town.person_called("sakura-03", "another-browser");
    for number in 0..3 {
        let text = format!("あとから書いたこと {number}");
        town.note("p-1003", "sakura-01", &text, Some("あとから.txt"));
    }
    let theirs = other.until("/notes/p-1003", |page| page.says("あとから書いたこと 2"));
    marks_as_read(&other, "p-1003", &theirs.body);
    // Also of a person whom both may read: what one has read is nobody else's.
    marks_as_read(&other, "p-1001", &other.open("/notes/p-1001").body);
    let after = everything(me, town);
    let differing: Vec<String> = before
        .iter()
        .filter_map(|(path, was)| {
            let differs = after[path].differs(was)?;
            Some(format!("{path}: {differs}"))
        })
        .collect();
    assert!(
        differing.is_empty(),
        "what is none of {}'s business shows:\n{}",
        me.user,
        differing.join("\n")
    );
    // And the comparison notices what is: a note about somebody whom both may read.
    town.note("p-1001", "sakura-01", "ふたりとも読めること", None);
    me.until("/notes/p-1001", |page| page.says("ふたりとも読めること"));
    let then = everything(me, town);
    assert!(
        before["/notes/p-1001"]
            .differs(&then["/notes/p-1001"])
            .is_some()
    );
    assert!(before["/notes"].differs(&then["/notes"]).is_some());
}

/// Sends the form by which a page of notes is marked as read.
fn marks_as_read(who: &Person<'_>, person: &str, page: &str) {
    let Some((_, rest)) = page.split_once("name=\"upto\" value=\"") else {
        panic!(
            "{} has nothing to mark as read at {person}: {page}",
            who.user
        );
    };
    let upto = rest.split('"').next().unwrap_or_default();
    // All notes of the box are counted together: a number would tell what is written about others.
    assert!(upto.len() > 30 && upto.parse::<i64>().is_err(), "{upto}");
    let origin = format!(
        "Origin: {}",
        who.gateway.console_url().trim_end_matches('/')
    );
    let (url, upto) = (
        who.url(&format!("/notes/{person}/read")),
        format!("upto={upto}"),
    );
    let sent = who
        .visitor
        .send(&["--header", &origin, "--data", &upto, &url]);
    assert_eq!(sent.status, 303, "{}", sent.body);
}

/// A box's cookie is good at that box, for that session's user; at another box it is a made-up one.
fn cookies_of_another_open_nothing(town: &Town, people: &[Person<'_>; 3]) {
    let [one, _, elsewhere] = people;
    let made_up = "A".repeat(43);
    let own = one.session(town, "sakura-02");
    let theirs = elsewhere.session(town, "midori-01");
    let bare = gateway_e2e::visiting::Visitor::new(&town.facility, "bare");
    let with = |person: &Person<'_>, cookie: &str, path: &str| {
        let header = format!("Cookie: __Host-box={cookie}");
        bare.send(&[
            "--header",
            &header,
            "--header",
            "Accept: text/html",
            &person.url(path),
        ])
    };
    assert!(
        with(one, &own, "/notes").says("/notes/p-1004"),
        "the cookie itself is good"
    );
    for path in [
        "/notes",
        "/notes/p-1001",
        "/notes/p-1005",
        "/search",
        "/",
        "/notices",
        "/accesses",
    ] {
        for (at, stolen) in [(one, &theirs), (elsewhere, &own)] {
            let swapped = Plain::of(&with(at, stolen, path));
            let nobody = Plain::of(&with(at, &made_up, path));
            assert_eq!(
                swapped.differs(&nobody),
                None,
                "{path} at {}'s box",
                at.user
            );
        }
    }
}
