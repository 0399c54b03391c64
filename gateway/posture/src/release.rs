//! UPD and SBOM: what runs, beside what the signed channel says about it. Does not fetch or verify the channel.

use std::cmp::Ordering;

use gateway_policy::version::compare;
use gateway_policy::{Check, Grade, Missing, Observation, Observed, Timestamp};

use crate::System;
use crate::evidence::Raw;

/// Where the image keeps its bill of materials (CycloneDX).
const BILL: &str = "usr/share/renraku-gateway/sbom.cdx.json";

/// One release, as a verified document of the signed channel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its version, as in `IMAGE_VERSION`.
    pub version: String,
    /// When it was published for this box.
    pub published: Timestamp,
    /// The root hash of its image, lower-case hexadecimal.
    pub root_hash: Option<String>,
    /// SHA-256 of its bill of materials, lower-case hexadecimal.
    pub bill_of_materials: Option<String>,
}

/// Measures whether the newest release runs. `newest` is `None` while the channel has not told.
#[must_use]
pub fn update(system: &System, newest: Option<&Release>, at: Timestamp) -> Observed {
    let mut raw = Raw::default();
    let image = system.image();
    raw.note(
        "running",
        image.as_ref().map(|image| image.version.as_str()),
    );
    raw.note("newest", newest.map(|newest| newest.version.as_str()));
    let observation = match (&image, newest) {
        (None, _) => Observation::Unknown(Missing::Never),
        (Some(_), None) => Observation::Unknown(Missing::Error),
        (Some(image), Some(newest)) => match compare(&image.version, &newest.version) {
            Ordering::Equal => Observation::Pass,
            Ordering::Less => Observation::Fail {
                grade: Grade::Major,
                since: Some(newest.published),
            },
            // Nobody published what runs here.
            Ordering::Greater => Observation::Unknown(Missing::Error),
        },
    };
    raw.observed(Check::Upd, observation, at)
}

/// Measures whether the bill of materials on the box is that of the release which runs. `running` is the channel's word about
/// that version; `None` when it has none.
#[must_use]
pub fn bill_of_materials(system: &System, running: Option<&Release>, at: Timestamp) -> Observed {
    let mut raw = Raw::default();
    let Some(image) = system.image() else {
        raw.note("running", None);
        return raw.observed(Check::Sbom, Observation::Unknown(Missing::Never), at);
    };
    raw.note("running", Some(&image.version));
    let expected = running
        .filter(|release| release.version == image.version)
        .and_then(|release| release.bill_of_materials.as_deref());
    let found = system.sha256(BILL).ok();
    let hash = image.root_hash;
    let expected_hash = running.and_then(|release| release.root_hash.as_deref());
    raw.note("expected", expected);
    raw.note("found", found.as_deref());
    raw.note("expected-root-hash", expected_hash);
    raw.note("root-hash", hash.as_deref());
    let mismatch =
        matches!((expected_hash, &hash), (Some(expected), Some(found)) if expected != found);
    let observation = match (expected, found) {
        (Some(expected), Some(found)) if expected == found && !mismatch => Observation::Pass,
        (Some(_), Some(_)) => Observation::Fail {
            grade: Grade::Major,
            since: None,
        },
        // Our image always has one: a missing file is as wrong as another one.
        (Some(_), None) => Observation::Fail {
            grade: Grade::Major,
            since: None,
        },
        (None, _) => Observation::Unknown(Missing::Error),
    };
    raw.observed(Check::Sbom, observation, at)
}
