//! Which system runs, from the kernel's command line and the image's own name.
//!
//! Both are covered by signatures: the command line by the kernel's, the name by the root hash in it. It measures nothing else.

use std::path::Path;

use crate::UpdateError;
use crate::config::Config;
use crate::hex;
use crate::slot::{Slot, check_version};
use crate::state::System;
use crate::uki::Starts;

/// The `IMAGE_ID` of our image (os-release(5)).
const IMAGE_ID: &str = "renraku-gateway";

/// Recognises what runs.
///
/// # Errors
/// [`UpdateError::Running`] when it is no image of ours, or not in one of the configured slots.
pub fn recognise(config: &Config) -> Result<System, UpdateError> {
    let text = |below: &str| std::fs::read_to_string(config.system.join(below));
    let line = text("proc/cmdline").map_err(|_| UpdateError::Running("no command line"))?;
    let starts = Starts::of(&line).map_err(|_| UpdateError::Running("no verified root"))?;
    if hex::digest(&starts.root_hash).is_none() {
        return Err(UpdateError::Running("no root hash"));
    }
    let of_it = |slot: &Slot| {
        config.partitions_of(*slot).both() == [starts.data.clone(), starts.hash.clone()]
    };
    let slot = Slot::ALL.into_iter().find(of_it);
    let name = text("etc/os-release").or_else(|_| text("usr/lib/os-release"));
    let name = name.map_err(|_| UpdateError::Running("no os-release"))?;
    let version = assignment(&name, "IMAGE_VERSION")
        .filter(|version| check_version(version))
        .filter(|_| assignment(&name, "IMAGE_ID") == Some(IMAGE_ID));
    Ok(System {
        version: version
            .ok_or(UpdateError::Running("not our image"))?
            .to_owned(),
        root_hash: starts.root_hash,
        slot: slot.ok_or(UpdateError::Running("not one of the slots"))?,
    })
}

/// The id by which the box has its place in the waves.
///
/// # Errors
/// [`UpdateError::Running`].
pub fn box_id(path: &Path) -> Result<String, UpdateError> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let id = text.trim();
    if id.is_empty() || id.len() > 128 {
        return Err(UpdateError::Running("no id of the box"));
    }
    Ok(id.to_owned())
}

/// The value of `NAME=value` or `NAME="value"` (os-release(5); our values need no escapes).
fn assignment<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let value = line.trim().strip_prefix(name)?.strip_prefix('=')?;
        Some(value.trim_matches(['"', '\'']))
    })
}
