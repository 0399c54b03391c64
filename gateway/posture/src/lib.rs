//! Measures this box: how it booted, what it runs, what is plugged into it, and whether its clock can be believed.
//!
//! It judges nothing (that is `gateway-policy`), repairs nothing and talks to nobody. What cannot be found out is said to be
//! unknown: no value is assumed because it would be usual.
#![forbid(unsafe_code)]

mod boot;
mod clock;
mod evidence;
mod link;
mod release;
mod system;
mod uevent;
mod usb;

pub use boot::boot;
pub use clock::{Agreement, CLOCK_TOLERANCE, TimeFloor, agreement};
pub use release::{Release, bill_of_materials, update};
pub use system::{Image, System};
pub use uevent::{Told, UsbEvent, listen};
pub use usb::usb;
