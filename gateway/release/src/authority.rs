//! Whose signatures count: read from a root or from the delegations, and counted as a box counts them.
//!
//! It changes nothing but what `rotate` asks for.

use gateway_tuf::form::signatures;
use serde_json::Value;

use crate::{ReleaseError, Role, Signed};

/// Whose signatures count for a role.
pub(crate) struct Authority {
    pub(crate) keys: Value,
    pub(crate) ids: Vec<String>,
    pub(crate) threshold: usize,
}

pub(crate) fn malformed(role: Role) -> ReleaseError {
    ReleaseError::Malformed(format!("{}.json", role.name()))
}

/// The entry of a role in a root, or in the delegations of a targets file.
pub(crate) fn entry_of(block: &mut Value, role: Role) -> Option<&mut Value> {
    if role.is_delegated() {
        let roles = block["roles"].as_array_mut()?;
        roles.iter_mut().find(|entry| entry["name"] == role.name())
    } else {
        block["roles"].get_mut(role.name())
    }
}

pub(crate) fn authority_in(parent: &Signed, role: Role) -> Result<Authority, ReleaseError> {
    let mut block = if role.is_delegated() {
        parent.signed["delegations"].clone()
    } else {
        parent.signed.clone()
    };
    let keys = block["keys"].clone();
    let entry = entry_of(&mut block, role).ok_or_else(|| malformed(role))?;
    let ids = entry["keyids"].as_array().into_iter().flatten();
    let ids = ids.filter_map(Value::as_str).map(str::to_owned).collect();
    let threshold = entry["threshold"].as_u64().unwrap_or_default();
    let threshold = usize::try_from(threshold).unwrap_or(usize::MAX);
    Ok(Authority {
        keys,
        ids,
        threshold,
    })
}

/// Keys that no role names any more.
pub(crate) fn forget_unused_keys(block: &mut Value) {
    let roles = match &block["roles"] {
        Value::Object(roles) => roles.values().cloned().collect(),
        Value::Array(roles) => roles.clone(),
        _ => Vec::new(),
    };
    let used: Vec<Value> = roles
        .iter()
        .filter_map(|role| role["keyids"].as_array())
        .flatten()
        .cloned()
        .collect();
    if let Some(keys) = block["keys"].as_object_mut() {
        keys.retain(|id, _| used.iter().any(|used| used == id.as_str()));
    }
}

pub(crate) fn count(
    role: Role,
    file: &Signed,
    authority: &Authority,
) -> Result<usize, ReleaseError> {
    signatures(&file.bytes(), &authority.keys, &authority.ids).map_err(|refused| {
        ReleaseError::BoxRefuses(format!("{}.json", role.name()), Box::new(refused))
    })
}

pub(crate) fn require(
    role: Role,
    file: &Signed,
    authority: &Authority,
) -> Result<(), ReleaseError> {
    let found = count(role, file, authority)?;
    if found >= authority.threshold {
        return Ok(());
    }
    Err(ReleaseError::Threshold {
        role: role.name().to_owned(),
        found,
        threshold: authority.threshold,
    })
}
