//! What was read, kept in one form, so that its digest means the same on every box. Does not interpret it.

use aws_lc_rs::digest;
use gateway_policy::{Check, Observation, Observed, Source, Timestamp};

/// Lines `name=value` in the order in which they were read.
#[derive(Debug, Default)]
pub(crate) struct Raw(String);

impl Raw {
    /// Notes one value; `None` is what could not be read.
    pub(crate) fn note(&mut self, name: &str, value: Option<&str>) {
        self.0.push_str(name);
        self.0.push('=');
        // A line break in a value must not look like another line.
        for character in value.unwrap_or("?").chars() {
            match character {
                '\n' => self.0.push_str("\\n"),
                '\\' => self.0.push_str("\\\\"),
                other => self.0.push(other),
            }
        }
        self.0.push('\n');
    }

    /// The finished piece of evidence.
    pub(crate) fn observed(
        self,
        check: Check,
        observation: Observation,
        at: Timestamp,
    ) -> Observed {
        let mut digest = [0; 32];
        digest.copy_from_slice(digest::digest(&digest::SHA256, self.0.as_bytes()).as_ref());
        Observed {
            check,
            observation,
            at,
            source: Source::Measured,
            digest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_values_never_read_like_one() {
        let mut one = Raw::default();
        one.note("a", Some("x\nb=y"));
        let mut two = Raw::default();
        two.note("a", Some("x"));
        two.note("b", Some("y"));
        let seal = |raw: Raw| {
            raw.observed(Check::Boot, Observation::Pass, Timestamp(0))
                .digest
        };
        assert_ne!(seal(one), seal(two));
    }
}
