//! USB-BOX (第28条): no storage driver, no storage plugged in, no disk behind USB. Does not block devices; the image has no
//! driver for them.

use gateway_policy::{Check, Grade, Missing, Observation, Observed, Timestamp};

use crate::System;
use crate::evidence::Raw;
use crate::uevent::UsbEvent;

/// USB-IF class code "mass storage", as the kernel prints it.
const MASS_STORAGE: &str = "08";
/// The kernel's two drivers for it.
const DRIVERS: [&str; 2] = ["usb_storage", "uas"];

/// Measures USB storage. `event` is a plugging-in that the kernel told of since the last measurement; what was taken out again
/// is still an event.
#[must_use]
pub fn usb(system: &System, event: Option<UsbEvent>, at: Timestamp) -> Observed {
    let mut raw = Raw::default();
    if system.image().is_none() {
        raw.note("image", None);
        return raw.observed(Check::UsbBox, Observation::Unknown(Missing::Never), at);
    }
    let drivers = drivers(system);
    let disks = disks(system);
    let plugged = plugged(system);
    raw.note(
        "drivers",
        drivers.as_deref().map(|names| names.join(" ")).as_deref(),
    );
    raw.note(
        "disks",
        disks.as_deref().map(|names| names.join(" ")).as_deref(),
    );
    raw.note(
        "plugged",
        plugged.as_deref().map(|names| names.join(" ")).as_deref(),
    );
    raw.note("event", event.map(UsbEvent::name));
    let fail = |grade| Observation::Fail { grade, since: None };
    let some = |names: &Option<Vec<String>>| names.as_ref().is_some_and(|names| !names.is_empty());
    let observation = if some(&drivers) || some(&disks) || event == Some(UsbEvent::Disk) {
        fail(Grade::Major)
    } else if some(&plugged) || event == Some(UsbEvent::Storage) {
        fail(Grade::Minor)
    } else if drivers.is_none() || disks.is_none() || plugged.is_none() {
        Observation::Unknown(Missing::Error)
    } else {
        Observation::Pass
    };
    raw.observed(Check::UsbBox, observation, at)
}

/// Loaded drivers, which sysfs lists as modules, and built-in ones, which it lists as drivers of the bus.
fn drivers(system: &System) -> Option<Vec<String>> {
    let modules = system.names("sys/module").ok()?;
    let loaded = modules
        .iter()
        .map(String::as_str)
        .filter(|name| DRIVERS.contains(name));
    let bus = system.names("sys/bus/usb/drivers").unwrap_or_default();
    let built_in = bus
        .iter()
        .map(String::as_str)
        .filter(|name| DRIVERS.contains(&name.replace('-', "_").as_str()));
    Some(loaded.chain(built_in).map(str::to_owned).collect())
}

/// Block devices whose place in the device tree is behind a USB port.
fn disks(system: &System) -> Option<Vec<String>> {
    let names = system.names("sys/block").ok()?;
    Some(
        names
            .into_iter()
            .filter(|name| {
                std::fs::read_link(system.path("sys/block").join(name)).is_ok_and(|place| {
                    place
                        .components()
                        .any(|part| is_usb_bus(&part.as_os_str().to_string_lossy()))
                })
            })
            .collect(),
    )
}

/// `usb1`, `usb2` … are the buses.
fn is_usb_bus(part: &str) -> bool {
    part.strip_prefix("usb").is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Interfaces of the mass storage class that are plugged in, with or without a driver.
fn plugged(system: &System) -> Option<Vec<String>> {
    let names = match system.names("sys/bus/usb/devices") {
        Ok(names) => names,
        // A machine without a USB controller has nothing plugged in.
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound && system.path("sys/bus").exists() =>
        {
            return Some(Vec::new());
        }
        Err(_) => return None,
    };
    Some(
        names
            .into_iter()
            .filter(|name| {
                system
                    .text(format!("sys/bus/usb/devices/{name}/bInterfaceClass"))
                    .is_ok_and(|class| class.trim() == MASS_STORAGE)
            })
            .collect(),
    )
}
