//! The box's own pages on the LAN: setting up, how the box stands, and reading stored notes.
//!
//! Rendered on the server, in Japanese; every page works without scripts. It opens no socket, knows no clock and does nothing itself:
//! what it shows and what it sets in motion goes through a [`Desk`], which the daemon implements.
#![forbid(unsafe_code)]

mod accesses;
mod accesses_pages;
mod attachment;
mod break_glass;
mod break_glass_pages;
mod checks;
mod compliance;
mod console;
mod desk;
mod devices;
mod devices_pages;
mod form;
mod home;
mod leaving;
mod leaving_pages;
mod moment;
mod notes_pages;
mod notes_views;
mod pages;
mod pairing_pages;
mod pin_pages;
mod progress;
mod reader;
mod recovery;
mod recovery_pages;
mod registers;
mod registers_forms;
mod registers_pages;
mod report;
mod report_pages;
mod request;
mod response;
mod search_pages;
mod sessions;
mod setup;
mod shown;
mod sign_in;
mod visit;
mod waivers;
mod waivers_pages;
mod words;

pub use accesses::{AccessesDesk, Look, LookedAt, Looks, Named, Question};
pub use attachment::{Streamed, StreamedBody};
pub use break_glass::{Actor, BreakGlass, BreakGlassDesk, Key, Opening, Reason};
pub use console::{Config, Console, Desks, RESERVED_PREFIX};
pub use desk::{
    Answer, BoxStatus, Certificate, Desk, Entry, Link, Message, Progress, Provenance, SetupStatus,
};
pub use devices::{
    Admission, CertificateFile, Days, Device, DeviceDetail, DeviceKind, Devices, DevicesDesk,
    Night, Pairing, PairingId, Ticket, Today, Waiting,
};
pub use leaving::{Leaving, LeavingDesk, LeavingReason};
pub use recovery::{RecoveryDesk, RecoveryKey};
pub use registers::{
    DeclarationState, DeclarationTopic, Declarations, HeldTraining, MadeDeclaration, Media, Medium,
    MediumChange, MediumHistory, MediumKind, MediumState, Method, NewMedium, Recorded, Register,
    RegistersDesk, Training, Trainings,
};
pub use report::{About, Channel, Engine, Line, Machinery, Mark, Refusal, Report, ReportDesk};
pub use request::{ConsoleRequest, Staff};
pub use sessions::NoRandomness;
pub use sign_in::{OfflineDesk, PinState};
pub use visit::{SessionId, ViewId, Visit};
pub use waivers::{NewWaiver, Possible, Waiver, Waivers, WaiversDesk};
