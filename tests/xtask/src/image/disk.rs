//! The disk: firmware's partition, two slots of which the first is filled. `/var` is made by the box itself.
//!
//! It writes a file. Putting it on a box's disk is the installer's work.

use std::fs;

use super::keys::Keys;
use super::{Site, tools};

/// Bytes of the disk for trying: the partitions and a `/var` of 2 GiB.
const SIZE: &str = "4G";

/// Every partition's UUID that the layout does not name comes from this.
const SEED: &str = "0d6f7c3a-8f0e-4a6e-8a39-6d0b5c1f2e77";

/// Writes `disk/disk.img`.
pub(super) fn make(site: &Site, keys: &Keys) -> Result<(), String> {
    eprintln!("disk");
    let esp = site.work.join("build/esp");
    let failed = |error: std::io::Error| format!("{}: {error}", esp.display());
    for folder in ["EFI/BOOT", "EFI/systemd", "EFI/Linux", "loader"] {
        fs::create_dir_all(esp.join(folder)).map_err(failed)?;
    }
    site.tools.run(
        "sbsign",
        &[
            "--key",
            &Keys::path("db.key"),
            "--cert",
            &Keys::path("db.crt"),
            "--output",
            "/work/build/esp/EFI/BOOT/BOOTX64.EFI",
            "/usr/lib/systemd/boot/efi/systemd-bootx64.efi",
        ],
    )?;
    fs::copy(
        esp.join("EFI/BOOT/BOOTX64.EFI"),
        esp.join("EFI/systemd/systemd-bootx64.efi"),
    )
    .map_err(failed)?;
    fs::copy(
        site.workspace.join("image/disk/loader.conf"),
        esp.join("loader/loader.conf"),
    )
    .map_err(failed)?;
    // What the factory put there has been tried: no counter.
    fs::copy(
        site.work.join("release/uki-a.efi"),
        esp.join(format!("EFI/Linux/renraku-gateway_{}_a.efi", site.version)),
    )
    .map_err(failed)?;
    keys.enrolment(site)?;
    repart(site, "image/disk/repart", SIZE, SEED, "disk.img")
}

/// Writes `disk/<file>` with the partitions that the folder `definitions` of the workspace describes.
pub(super) fn repart(
    site: &Site,
    definitions: &str,
    size: &str,
    seed: &str,
    file: &str,
) -> Result<(), String> {
    // The tools see the working directory alone.
    let seen = site.work.join("build/repart");
    let _ = fs::remove_dir_all(&seen);
    tools::run(
        std::process::Command::new("cp")
            .arg("--recursive")
            .arg(site.workspace.join(definitions))
            .arg(&seen),
    )?;
    let mut repart = site.tools.command("env");
    repart
        .arg(format!("SOURCE_DATE_EPOCH={}", site.epoch))
        .args([
            "systemd-repart",
            "--definitions=/work/build/repart",
            "--empty=create",
            "--dry-run=no",
            "--offline=yes",
            "--sector-size=512",
            "--no-pager",
        ])
        .arg(format!("--size={size}"))
        .arg(format!("--seed={seed}"))
        .arg(format!("/work/disk/{file}"));
    tools::run(&mut repart).map(drop)
}
