//! Names that come from signed files and go into paths and addresses.
//!
//! It opens nothing; a transport checks every name here before it uses one.

/// A name that could lead out of its directory, or that no repository of ours uses.
#[derive(Debug, thiserror::Error)]
#[error("a file name that is not allowed")]
pub struct UnsafeName;

/// The longest name in bytes.
const LONGEST: usize = 240;

/// A role's name as part of a file name: everything but unreserved characters percent-encoded (RFC 3986 §2.3), slash
/// included, so that `../x` stays one harmless file name. The same as python-tuf's `quote(role, "")`.
#[must_use]
pub fn encode_role(role: &str) -> String {
    let mut out = String::with_capacity(role.len());
    for &byte in role.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Takes a target's name when it is a plain relative path: segments of letters, digits and `._-+~`, none of them empty or
/// beginning with a dot.
///
/// # Errors
/// [`UnsafeName`] for everything else.
pub fn check_target_name(name: &str) -> Result<(), UnsafeName> {
    let fits = |segment: &str| {
        !segment.is_empty()
            && !segment.starts_with('.')
            && segment
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-+~".contains(&byte))
    };
    if name.len() <= LONGEST && name.split('/').count() <= 8 && name.split('/').all(fits) {
        Ok(())
    } else {
        Err(UnsafeName)
    }
}

/// Takes a metadata file's name: one segment, as [`encode_role`] makes it.
///
/// # Errors
/// [`UnsafeName`] for everything else.
pub fn check_metadata_name(name: &str) -> Result<(), UnsafeName> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-~%".contains(&byte);
    if name.ends_with(".json")
        && name.len() <= LONGEST
        && name != ".json"
        && name.bytes().all(plain)
    {
        Ok(())
    } else {
        Err(UnsafeName)
    }
}

/// The path of a target's file under consistent snapshots: the hash before the last segment (TUF specification §6.2).
pub(crate) fn with_hash(name: &str, hash: &str) -> String {
    match name.rsplit_once('/') {
        Some((folder, file)) => format!("{folder}/{hash}.{file}"),
        None => format!("{hash}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_cannot_leave_its_directory() {
        assert_eq!(encode_role("policy"), "policy");
        assert_eq!(encode_role("../a?b"), "..%2Fa%3Fb");
    }

    #[test]
    fn a_target_is_a_plain_relative_path() {
        for name in ["policy/policy.json", "antivirus/27001/daily.cvd", "a"] {
            assert!(check_target_name(name).is_ok(), "{name}");
        }
        let long = "a".repeat(300);
        for name in [
            "", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", ".a", "a\\b", "a\0", "a b", "ä",
            &long,
        ] {
            assert!(check_target_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_hash_stands_before_the_last_segment() {
        assert_eq!(with_hash("a/b/c", "00"), "a/b/00.c");
        assert_eq!(with_hash("c", "00"), "00.c");
    }

    #[test]
    fn a_metadata_file_has_one_segment() {
        assert!(check_metadata_name("1.root.json").is_ok());
        // A role named `../x`, as a file of the store.
        assert!(check_metadata_name("..%2Fx.json").is_ok());
        for name in ["../root.json", "a/b.json", ".json", "root", "a b.json"] {
            assert!(check_metadata_name(name).is_err(), "{name}");
        }
    }
}
