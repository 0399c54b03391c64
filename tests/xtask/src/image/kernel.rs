//! The signed kernels: for each slot one file with kernel, initial file system and the command line that names the root's hash
//! (UAPI.5, unified kernel image), and the expected measurements that open `/var`.
//!
//! What it makes is the same for the same inputs but for the signatures, whose bytes depend on the key.

use std::fs;

use super::Site;
use super::keys::Keys;

/// Writes `release/uki-a.efi` and `release/uki-b.efi`.
///
/// `more` is added to the command line; only releases for trying have any.
pub(super) fn make(site: &Site, root_hash: &str, more: &str) -> Result<(), String> {
    eprintln!("kernels: two signed images");
    let pattern = site.workspace.join("image/disk/cmdline");
    let pattern =
        fs::read_to_string(&pattern).map_err(|error| format!("{}: {error}", pattern.display()))?;
    for slot in ["a", "b"] {
        let line = pattern
            .replace("@ROOT_HASH@", root_hash)
            .replace("@SLOT@", slot)
            .replace("@DATA@", &partition(site, "root", slot)?)
            .replace("@HASH@", &partition(site, "verity", slot)?);
        let line = format!("{line} {more}");
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        sign(
            site,
            "/work/build/initrd.cpio.zst",
            &line,
            &format!("/work/release/uki-{slot}.efi"),
            &[
                &format!("--pcr-private-key={}", Keys::path("pcr.key")),
                &format!("--pcr-public-key={}", Keys::path("pcr.pub")),
                // /var opens before the root is switched to, and at no other time.
                "--phases=enter-initrd",
                "--pcr-banks=sha256",
                "--measure",
            ],
        )?;
    }
    Ok(())
}

/// One signed file of kernel, initial file system and command line. `more` says what else ukify is to do.
pub(super) fn sign(
    site: &Site,
    initrd: &str,
    line: &str,
    output: &str,
    more: &[&str],
) -> Result<(), String> {
    // In a file: a command line is longer than one may want to read in a list of processes.
    let file = site.work.join("build/cmdline");
    fs::write(&file, line).map_err(|error| format!("{}: {error}", file.display()))?;
    let version = fs::read_to_string(site.work.join("out/kernel-version"))
        .map_err(|error| format!("kernel-version: {error}"))?;
    let mut arguments = vec![
        "build".to_owned(),
        "--linux=/work/out/vmlinuz".to_owned(),
        format!("--initrd={initrd}"),
        "--cmdline=@/work/build/cmdline".to_owned(),
        format!("--os-release=@/work/out/{}/usr/lib/os-release", site.tree),
        format!("--uname={}", version.trim()),
        "--signtool=sbsign".to_owned(),
        format!("--secureboot-private-key={}", Keys::path("db.key")),
        format!("--secureboot-certificate={}", Keys::path("db.crt")),
        format!("--output={output}"),
    ];
    arguments.extend(more.iter().map(|word| (*word).to_owned()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    site.tools.run("ukify", &arguments).map(drop)
}

/// Packs an initial file system, `out/<which>`, into `build/<which>.cpio.zst`: sorted, owned by root, with one time.
pub(super) fn pack(site: &Site, which: &str) -> Result<(), String> {
    eprintln!("{which}");
    let script = format!(
        "cd /work/out/{which} && find . -exec touch --no-dereference --date=@{} {{}} + && \
         find . -print0 | LC_ALL=C sort --zero-terminated | \
         cpio --null --create --format=newc --reproducible --owner=0:0 --quiet | \
         zstd --quiet --force -15 -o /work/build/{which}.cpio.zst",
        site.epoch
    );
    site.tools.run("sh", &["-euc", &script]).map(drop)
}

/// The fixed UUID of a slot's partition, as the disk's layout names it.
pub(super) fn partition(site: &Site, kind: &str, slot: &str) -> Result<String, String> {
    let folder = site.workspace.join("image/disk/repart");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let label = format!("Label=renraku-{kind}-{slot}");
    entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .find(|text| text.lines().any(|line| line == label))
        .and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("UUID=").map(str::to_owned))
        })
        .ok_or_else(|| format!("image/disk/repart has no partition with {label}"))
}
