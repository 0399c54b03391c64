//! The script that everybody runs: one line for each page, and what is done with it. A new page gets a line here.

use gateway_e2e::visiting::Answer;

use crate::town::{Person, Thing};

/// What is done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Opened, with GET, HEAD and whatever else a browser or an attacker adds.
    Get,
    /// A form is sent; its fields.
    Post(&'static str),
}

/// A page. In its address, `{person}`, `{note}`, `{attachment}`, `{cursor}` and `{word}` stand for somebody's; `{own}` for a
/// person that whoever runs the script may read.
pub(crate) struct Page {
    pub(crate) path: &'static str,
    pub(crate) how: How,
    /// It is about somebody: out of reach, it must be the page of somebody who does not exist.
    pub(crate) about: bool,
}

const fn general(path: &'static str) -> Page {
    Page {
        path,
        how: How::Get,
        about: false,
    }
}

const fn about(path: &'static str) -> Page {
    Page {
        path,
        how: How::Get,
        about: true,
    }
}

const fn form(path: &'static str, fields: &'static str) -> Page {
    Page {
        path,
        how: How::Post(fields),
        about: true,
    }
}

/// Every page.
pub(crate) const SCRIPT: &[Page] = &[
    general("/"),
    general("/notes"),
    general("/notices"),
    general("/search"),
    general("/setup"),
    general("/certificates"),
    general("/pairing"),
    general("/pin"),
    general("/sign-in"),
    // For managers only.
    general("/devices"),
    general("/registers"),
    general("/report"),
    general("/break-glass"),
    general("/exceptions"),
    general("/accesses"),
    about("/accesses?person={person}"),
    // Of one person.
    about("/notes/{person}"),
    about("/notes/{person}?before={cursor}"),
    about("/notes/{person}/note/{note}"),
    about("/notes/{own}/note/{note}"),
    about("/notes/{person}/print"),
    about("/notes/{person}/print?days=30"),
    about("/notes/{person}/draft"),
    about("/notes/attachment/{attachment}"),
    form("/notes/{person}/read", "upto=1"),
    // A search that was made elsewhere, and one by a word that is in somebody's notes only.
    about("/search?s={cursor}"),
    form("/search", "q={word}"),
    // A page of another session is left.
    form("/left", "0000000000000000"),
    // Pages that are not there.
    about("/notes/{person}/nothing"),
    about("/persons/{person}"),
    // The notebook, relayed.
    about("notebook:staff/persons/{person}"),
    about("notebook:staff/attachments/{attachment}"),
    about("notebook:staff/api/persons/{person}/notes"),
];

/// What a browser or an attacker adds to a request.
pub(crate) const ADDED: &[&[&str]] = &[
    &[],
    &["--head"],
    &["--header", "Range: bytes=0-9"],
    &["--header", "If-None-Match: *"],
    // As its readers got it.
    &["--header", "If-None-Match: \"{etag}\""],
    &[
        "--header",
        "If-Range: \"{etag}\"",
        "--header",
        "Range: bytes=0-3",
    ],
    &[
        "--header",
        "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT",
    ],
    &["--header", "If-Range: \"x\"", "--header", "Range: bytes=1-"],
    &["--header", "Accept: application/json"],
];

impl Page {
    pub(crate) fn path_for(&self, thing: &Thing, own: &str) -> String {
        fill(self.path, thing, own)
    }

    /// Runs this line about somebody.
    pub(crate) fn run(&self, as_: &Person<'_>, thing: &Thing, own: &str, added: &[&str]) -> Answer {
        let url = as_.url(&self.path_for(thing, own));
        match self.how {
            How::Get => {
                let added: Vec<String> = added.iter().map(|word| fill(word, thing, own)).collect();
                let mut arguments = vec!["--header", "Accept: text/html"];
                arguments.extend(added.iter().map(String::as_str));
                arguments.push(&url);
                as_.visitor.send(&arguments)
            }
            How::Post(fields) => {
                let origin = format!(
                    "Origin: {}",
                    as_.gateway.console_url().trim_end_matches('/')
                );
                let fields = fill(fields, thing, own);
                let mut arguments = vec!["--header", &origin, "--data", &fields];
                // What a search finds is behind its redirect.
                if self.path == "/search" {
                    arguments.push("--location");
                }
                arguments.push(&url);
                as_.visitor.send(&arguments)
            }
        }
    }
}

fn fill(text: &str, thing: &Thing, own: &str) -> String {
    text.replace("{person}", &thing.person)
        .replace("{note}", &thing.note)
        .replace("{attachment}", &thing.attachment)
        .replace("{cursor}", &thing.cursor)
        .replace("{word}", &thing.word)
        .replace("{etag}", &thing.etag)
        .replace("{own}", own)
}
