//! Reads TOML tables so that *every* fault is reported at once, each with its key and line.
//!
//! serde stops at the first fault. Here a faulty key is noted, taken out, and the table read again, until what is
//! left is sound; the value is given only if nothing was noted. This module knows no table's meaning.

use std::fmt;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, ValueDeserializer};

/// One thing wrong in the configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Line in the file, counted from 1; 0 when the fault has no place (a missing table).
    pub(crate) line: usize,
    /// The key, with its table: `listen.https`.
    pub(crate) key: String,
    /// What is wrong with it.
    pub(crate) what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.key, self.what),
            line => write!(f, "line {line}: {}: {}", self.key, self.what),
        }
    }
}

/// A TOML document being read table by table.
pub(crate) struct Document<'i> {
    text: &'i str,
    tables: DeTable<'i>,
    /// Everything found wrong so far.
    pub(crate) faults: Vec<Fault>,
}

impl<'i> Document<'i> {
    /// Parses `text`; faults of syntax are noted and the rest is still read.
    #[must_use]
    pub(crate) fn parse(text: &'i str) -> Self {
        let (tables, errors) = DeTable::parse_recoverable(text);
        let mut document = Self {
            text,
            tables: tables.into_inner(),
            faults: Vec::new(),
        };
        for error in errors {
            let line = document.line(error.span().map_or(0, |span| span.start));
            document.faults.push(Fault {
                line,
                key: "syntax".to_owned(),
                what: error.message().to_owned(),
            });
        }
        document
    }

    /// Takes the table `name` out of the document. A missing table is read as an empty one, so that its defaults apply
    /// and its required keys are named.
    pub(crate) fn table<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.take(name);
        match value.map(Spanned::into_inner) {
            None => self.read(name, DeTable::new()),
            Some(DeValue::Table(table)) => self.read(name, table),
            Some(_) => {
                self.faults.push(Fault {
                    line: 0,
                    key: name.to_owned(),
                    what: "must be a table".to_owned(),
                });
                None
            }
        }
    }

    /// Takes the array of tables `[[name]]` out of the document.
    pub(crate) fn tables<T: DeserializeOwned>(&mut self, name: &str) -> Vec<T> {
        match self.take(name).map(Spanned::into_inner) {
            None => Vec::new(),
            Some(DeValue::Array(array)) => array
                .into_iter()
                .enumerate()
                .filter_map(|(index, item)| match item.into_inner() {
                    DeValue::Table(table) => self.read(&format!("{name}[{index}]"), table),
                    _ => None,
                })
                .collect(),
            Some(_) => {
                self.faults.push(Fault {
                    line: 0,
                    key: name.to_owned(),
                    what: "must be written as [[…]]".to_owned(),
                });
                Vec::new()
            }
        }
    }

    /// Takes one top-level value.
    pub(crate) fn value<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let Some(value) = self.take(name) else {
            self.faults.push(Fault {
                line: 0,
                key: name.to_owned(),
                what: "is missing".to_owned(),
            });
            return None;
        };
        let start = value.span().start;
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => Some(value),
            Err(error) => {
                let line = self.line(start);
                self.faults.push(Fault {
                    line,
                    key: name.to_owned(),
                    what: error.message().to_owned(),
                });
                None
            }
        }
    }

    /// Ends reading: whatever was not taken is unknown to this program and therefore a fault.
    #[must_use]
    pub(crate) fn finish(mut self) -> Vec<Fault> {
        let unknown: Vec<_> = self
            .tables
            .iter()
            .map(|(key, _)| (key.get_ref().to_string(), key.span().start))
            .collect();
        for (key, start) in unknown {
            let line = self.line(start);
            self.faults.push(Fault {
                line,
                key,
                what: "is not known".to_owned(),
            });
        }
        self.faults.sort_by_key(|fault| fault.line);
        self.faults
    }

    /// Notes a fault of meaning (found after the types were right) at a key of a table.
    pub(crate) fn note(&mut self, key: &str, what: impl Into<String>) {
        self.faults.push(Fault {
            line: self.line_of_key(key),
            key: key.to_owned(),
            what: what.into(),
        });
    }

    fn take(&mut self, name: &str) -> Option<Spanned<DeValue<'i>>> {
        let key = self
            .tables
            .keys()
            .find(|key| key.get_ref().as_ref() == name)?
            .clone();
        self.tables.remove(&key)
    }

    fn read<T: DeserializeOwned>(&mut self, name: &str, mut table: DeTable<'i>) -> Option<T> {
        let mut sound = true;
        loop {
            let attempt = Deserializer::from(Spanned::new(0..0, table.clone()));
            let error = match T::deserialize(attempt) {
                Ok(value) => return sound.then_some(value),
                Err(error) => error,
            };
            let at = error.span().unwrap_or(0..0);
            let culprit = table
                .iter()
                .find(|(key, value)| {
                    !at.is_empty() && (overlaps(&key.span(), &at) || overlaps(&value.span(), &at))
                })
                .map(|(key, _)| key.clone());
            match culprit {
                Some(key) => {
                    let (line, key_name) = (
                        self.line(key.span().start),
                        format!("{name}.{}", key.get_ref()),
                    );
                    self.faults.push(Fault {
                        line,
                        key: key_name,
                        what: error.message().to_owned(),
                    });
                    table.remove(&key);
                    sound = false;
                }
                // A missing key has no place. After a key was taken out it may be missing for that reason only.
                None if sound => {
                    self.faults.push(Fault {
                        line: 0,
                        key: name.to_owned(),
                        what: error.message().to_owned(),
                    });
                    return None;
                }
                None => return None,
            }
        }
    }

    fn line(&self, offset: usize) -> usize {
        1 + self
            .text
            .as_bytes()
            .iter()
            .take(offset)
            .filter(|byte| **byte == b'\n')
            .count()
    }

    /// The line of `table.key`, found in the text; 0 when it is not written there (a default).
    fn line_of_key(&self, dotted: &str) -> usize {
        let (table, key) = dotted.rsplit_once('.').unwrap_or(("", dotted));
        let (table, index) = match table.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse().unwrap_or(0)),
            None => (table, 0),
        };
        let mut inside = table.is_empty();
        let mut seen = 0;
        for (number, line) in self.text.lines().enumerate() {
            let line = line.trim();
            if line.starts_with('[') {
                let header = line.trim_matches(|c| c == '[' || c == ']');
                inside = header == table && seen == index;
                seen += usize::from(header == table);
            } else if inside
                && line
                    .split('=')
                    .next()
                    .is_some_and(|name| name.trim() == key)
            {
                return number + 1;
            }
        }
        0
    }
}

fn overlaps(a: &std::ops::Range<usize>, b: &std::ops::Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        port: u16,
        #[serde(default)]
        name: String,
    }

    #[test]
    fn a_sound_table_is_given_as_it_is_written() {
        let mut document = Document::parse("[one]\nport = 5\nname = \"a\"\n");
        assert_eq!(
            document.table::<Sample>("one"),
            Some(Sample {
                port: 5,
                name: "a".to_owned()
            })
        );
        assert!(document.finish().is_empty());
    }

    #[test]
    fn every_fault_is_reported_together_with_key_and_line() {
        let text = "[one]\nport = \"x\"\nnmae = 1\n\n[two]\nport = 1\nname = 7\n[three]\n";
        let mut document = Document::parse(text);
        assert!(document.table::<Sample>("one").is_none());
        assert!(document.table::<Sample>("two").is_none());
        let faults = document.finish();
        let places: Vec<_> = faults
            .iter()
            .map(|fault| (fault.line, fault.key.as_str()))
            .collect();
        assert_eq!(
            places,
            [
                (2, "one.port"),
                (3, "one.nmae"),
                (7, "two.name"),
                (8, "three")
            ]
        );
    }

    #[test]
    fn a_missing_required_key_is_named() {
        let mut document = Document::parse("[one]\nname = \"a\"\n");
        assert!(document.table::<Sample>("one").is_none());
        assert!(
            document
                .finish()
                .iter()
                .any(|fault| fault.what.contains("port"))
        );
    }

    #[test]
    fn a_fault_of_meaning_finds_its_line() {
        let mut document = Document::parse("top = 1\n[[site]]\nport = 1\n[[site]]\nport = 2\n");
        document.note("site[1].port", "is taken");
        assert_eq!(document.faults[0].line, 5);
    }

    #[test]
    fn broken_syntax_is_a_fault_and_not_a_panic() {
        for text in ["[", "a = ", "=\n[x]\n=", "[[a]]\n[a]\n"] {
            assert!(!Document::parse(text).finish().is_empty(), "{text:?}");
        }
    }
}
