//! The root file system as an image, and the hash tree under it.
//!
//! The same tree gives the same bytes: every file carries the commit's time, and salt and identifiers come from the version.

use std::fs;

use super::Site;

/// The file system's own identifier. Nothing looks for it: the kernel's command line names the partition.
const FILE_SYSTEM: &str = "7f8f6a0e-2f4f-4f0b-9f46-3a0d2f2c6a01";

/// Writes `release/root.img`, `release/root.verity` and `disk/root-hash`; gives the root hash.
pub(super) fn make(site: &Site) -> Result<String, String> {
    eprintln!("root: erofs and dm-verity");
    let epoch = site.epoch.to_string();
    site.tools.run(
        "mkfs.erofs",
        &[
            "--quiet",
            "-zlz4hc,9",
            "-C65536",
            "-T",
            &epoch,
            "--all-time",
            "-U",
            FILE_SYSTEM,
            "/work/release/root.img",
            &format!("/work/out/{}", site.tree),
        ],
    )?;
    let said = site.tools.run(
        "veritysetup",
        &[
            "format",
            "--salt",
            &salt(site)?,
            "--uuid",
            FILE_SYSTEM,
            "/work/release/root.img",
            "/work/release/root.verity",
        ],
    )?;
    let hash = said
        .lines()
        .find_map(|line| line.strip_prefix("Root hash:"))
        .map(|hash| hash.trim().to_owned())
        .filter(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .ok_or_else(|| format!("veritysetup named no root hash:\n{said}"))?;
    let path = site.work.join("disk/root-hash");
    fs::write(&path, format!("{hash}\n"))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(hash)
}

/// A salt that is the same whenever the version is.
fn salt(site: &Site) -> Result<String, String> {
    let text = site.work.join("build/version");
    fs::write(&text, &site.version).map_err(|error| format!("{}: {error}", text.display()))?;
    let said = site.tools.run("sha256sum", &["/work/build/version"])?;
    Ok(said
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}
