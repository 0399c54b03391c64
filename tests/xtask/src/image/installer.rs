//! The installer for a USB stick: one signed file that starts, and beside it what goes on the box's disk.
//!
//! Its initial file system is the box's own with the medium's drivers, one program and no `/var`. It decides nothing about disks;
//! `gateway-install` does.

use std::fs;
use std::path::Path;
use std::process::Command;

use test_harness::appliance::disk::partition;

use super::{Site, disk, tools};

/// Every partition's UUID comes from this.
const SEED: &str = "7b1d0c55-6f0f-4a7e-9b0e-1b7d3a52c9e4";

/// Of the box's initial file system, what opens and makes `/var`.
const NOT_HERE: [&str; 6] = [
    "etc/crypttab",
    "etc/fstab",
    "usr/lib/repart.d",
    "usr/lib/systemd/system/systemd-repart.service.d",
    "usr/lib/systemd/system/renraku-var-key.service",
    "usr/lib/systemd/system/systemd-cryptsetup@var.service.d",
];

/// Writes `disk/installer.img`; `disk/disk.img` is there. `program` is `gateway-install`.
pub(super) fn make(site: &Site, program: &Path) -> Result<(), String> {
    eprintln!("installer");
    tree(site, program)?;
    kernel(site)?;
    firmware_partition(site)?;
    disk::repart(
        site,
        "image/installer/repart",
        "auto",
        SEED,
        "installer.img",
    )
}

/// The initial file system, as `out/installer`.
fn tree(site: &Site, program: &Path) -> Result<(), String> {
    let tree = site.work.join("out/installer");
    let _ = fs::remove_dir_all(&tree);
    copy(&site.work.join("out/initrd"), &tree)?;
    for path in NOT_HERE {
        let path = tree.join(path);
        let _ = fs::remove_dir_all(&path);
        let _ = fs::remove_file(&path);
    }
    let extra = site.workspace.join("image/installer/extra");
    copy(&extra.join("."), &tree)?;
    let to = tree.join("usr/bin/gateway-install");
    fs::copy(program, &to).map_err(|error| format!("{}: {error}", program.display()))?;
    tools::run(Command::new("strip").arg(&to))?;
    layout(site, &tree.join("usr/share/renraku-install/repart"))?;
    let version = fs::read_to_string(site.work.join("out/kernel-version"))
        .map_err(|error| format!("kernel-version: {error}"))?;
    let drivers = tree.join(format!(
        "usr/lib/modules/{}/kernel/drivers/usb/storage",
        version.trim()
    ));
    copy(&site.work.join("out/usb-storage"), &drivers)?;
    site.tools
        .run("depmod", &["-b", "/work/out/installer", version.trim()])
        .map(drop)
}

/// The box's own layout, filled from the medium's partitions instead of from files.
fn layout(site: &Site, to: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", to.display());
    fs::create_dir_all(to).map_err(failed)?;
    let medium = "CopyBlocks=/dev/disk/by-partlabel/renraku-install";
    for entry in fs::read_dir(site.workspace.join("image/disk/repart")).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let text = fs::read_to_string(entry.path()).map_err(failed)?;
        let text = text
            .replace("Format=vfat\n", "")
            .replace("CopyFiles=/work/build/esp:/", &format!("{medium}-esp"))
            .replace(
                "CopyBlocks=/work/release/root.img",
                &format!("{medium}-root"),
            )
            .replace(
                "CopyBlocks=/work/release/root.verity",
                &format!("{medium}-verity"),
            );
        if text.contains("/work/") {
            return Err(format!(
                "{} is filled from elsewhere",
                entry.path().display()
            ));
        }
        fs::write(to.join(entry.file_name()), text).map_err(failed)?;
    }
    Ok(())
}

fn kernel(site: &Site) -> Result<(), String> {
    super::kernel::pack(site, "installer")?;
    let boot = site.work.join("build/installer-esp/EFI/BOOT");
    fs::create_dir_all(&boot).map_err(|error| format!("{}: {error}", boot.display()))?;
    let line = fs::read_to_string(site.workspace.join("image/installer/cmdline"))
        .map_err(|error| format!("image/installer/cmdline: {error}"))?;
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    super::kernel::sign(
        site,
        "/work/build/installer.cpio.zst",
        &line,
        "/work/build/installer-esp/EFI/BOOT/BOOTX64.EFI",
        &[],
    )
}

/// The firmware's partition out of the disk that was made.
fn firmware_partition(site: &Site) -> Result<(), String> {
    let disk = site.work.join("disk/disk.img");
    let place = partition(&disk, "renraku-esp").map_err(|error| error.to_string())?;
    let mut dd = Command::new("dd");
    dd.arg(format!("if={}", disk.display()))
        .arg(format!("of={}", site.work.join("build/esp.img").display()))
        .arg(format!("skip={}", place.start))
        .arg(format!("count={}", place.end - place.start))
        .args(["bs=1M", "iflag=skip_bytes,count_bytes", "conv=sparse"]);
    tools::run(&mut dd).map(drop)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    tools::run(Command::new("cp").arg("--archive").args([from, to])).map(drop)
}
