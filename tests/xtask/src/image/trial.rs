//! A city to make an image for: a reference city of its own, whose authority and signed channel the image trusts.
//!
//! The city is started once, to make its keys, and ended; whoever boots the image starts it again from the same state.

use std::fs;
use std::path::PathBuf;

use test_harness::appliance::{self, CITY_ADDRESS};
use test_harness::city::{self, BOX_HOST, City, EST_HOST, GATEWAY_HOST, PORTAL_HOST};
use test_harness::{binaries, signatures};

/// The folder with what the image takes from the city.
pub(super) fn for_the_image() -> PathBuf {
    appliance::trial().join("for-the-image")
}

/// Makes the city and the folder with what the image takes from it.
pub(super) fn city() -> Result<PathBuf, String> {
    let trial = appliance::trial();
    let _ = fs::remove_dir_all(&trial);
    let folder = for_the_image();
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(&folder).map_err(failed)?;
    let state = trial.join("city");
    let city = City::start(&state, city::Options::default()).map_err(|error| error.to_string())?;
    fs::copy(city.ca_file(), folder.join("city-anchor.pem")).map_err(failed)?;
    fs::copy(
        state.join("tuf/metadata/1.root.json"),
        folder.join("signed-channel-root.json"),
    )
    .map_err(failed)?;
    drop(city);
    signatures::Signatures::built(signatures::now())
        .write_release(&folder.join("antivirus"))
        .map_err(failed)?;
    let shipped = binaries::workspace().join("gateway/daemon/gateway.toml");
    let text =
        fs::read_to_string(&shipped).map_err(|error| format!("{}: {error}", shipped.display()))?;
    fs::write(folder.join("gateway.toml"), configuration(&text)?).map_err(failed)?;
    Ok(folder)
}

/// The configuration that the box is shipped with, for the reference city: other names, an address instead of the DNS, a TPM that
/// is a program, and a database for the first start.
fn configuration(shipped: &str) -> Result<String, String> {
    let connect = format!("connect = \"{CITY_ADDRESS}\"");
    let changes = [
        (
            r#"{ host = "est.city.example.lg.jp", port = 443 }"#,
            format!(r#"{{ host = "{EST_HOST}", port = 443, {connect} }}"#),
        ),
        (
            r#"{ host = "gw.city.example.lg.jp", port = 443 }"#,
            format!(r#"{{ host = "{GATEWAY_HOST}", port = 443, {connect} }}"#),
        ),
        (
            r#"["renraku.city.example.lg.jp", "box.renraku.internal"]"#,
            format!(r#"["{PORTAL_HOST}", "{BOX_HOST}"]"#),
        ),
        (
            "hosts = [\"renraku.city.example.lg.jp\"]\nport = 443",
            format!("hosts = [\"{PORTAL_HOST}\"]\nport = 443\n{connect}"),
        ),
        (
            r#"["/", "/notices", "/facilities", "/static"]"#,
            r#"["/", "/first-certificate", "/line-check", "/line-check.js", "/style.css", "/icon.svg"]"#
                .to_owned(),
        ),
        ("allow_software = false", "allow_software = true".to_owned()),
        ("# factory = ", "factory = ".to_owned()),
    ];
    let mut text = shipped.to_owned();
    for (from, to) in changes {
        if !text.contains(from) {
            return Err(format!("gateway/daemon/gateway.toml no longer says {from}"));
        }
        text = text.replace(from, &to);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configuration_still_has_what_a_trial_changes() {
        let shipped = include_str!("../../../../gateway/daemon/gateway.toml");
        let text = configuration(shipped).unwrap();
        assert!(text.contains(CITY_ADDRESS) && !text.contains("example.lg.jp\", port"));
        assert!(configuration("").is_err());
    }
}
