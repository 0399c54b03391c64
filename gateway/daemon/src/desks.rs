//! Puts the parts of the box together that have pages of their own in the console. Decides nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gateway_city::feed::FeedState;
use gateway_console::{Desks, DevicesDesk, Refusal};
use gateway_policy::Subject;
use gateway_provisioning::Provisioner;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::accesses::Accesses;
use crate::break_glass::BreakGlassFile;
use crate::certificates::Certificates;
use crate::desk_accesses::AccessPages;
use crate::desk_break_glass::BreakGlassPages;
use crate::desk_leaving::LeavingPages;
use crate::desk_offline::OfflinePages;
use crate::desk_recovery::RecoveryPages;
use crate::desk_registers::RegisterPages;
use crate::desk_report::{Names, ReportPages};
use crate::desk_waivers::WaiverPages;
use crate::devices::KeptDevices;
use crate::posture::Posture;
use crate::registers::KeptRegisters;
use crate::stored_notes::StoredNotes;

/// How often the registers are looked at without a change: what they prove grows old by the day.
const REGISTERS: Duration = Duration::from_secs(600);

/// What the pages are made of.
pub(crate) struct Parts<'a> {
    /// Where the box keeps its state.
    pub(crate) state_dir: &'a Path,
    /// The evidence board.
    pub(crate) posture: &'a Arc<Posture>,
    /// Knows the facility.
    pub(crate) provisioner: &'a Arc<Provisioner>,
    /// Who looked at whose stored notes, and the store that knows names.
    pub(crate) accesses: (&'a Arc<Accesses>, &'a Arc<StoredNotes>),
    /// What is in use towards the city.
    pub(crate) certificates: &'a Arc<Certificates>,
    /// `/`, or where a test keeps `sys`.
    pub(crate) system: &'a Path,
    /// Where the feed stands.
    pub(crate) feed: watch::Receiver<FeedState>,
    /// What of the signed channel was refused last.
    pub(crate) refusals: watch::Receiver<Option<Refusal>>,
    /// The register of devices, where there is one, and what devices are called.
    pub(crate) devices: Option<(Arc<dyn DevicesDesk>, Names)>,
    /// The time without the city.
    pub(crate) offline: Arc<OfflinePages>,
    /// Holds what PCs report against the city's lists and the register of media.
    pub(crate) kept_devices: &'a Arc<KeptDevices>,
}

/// Opens what is opened here, and has the registers tell the board what they prove.
pub(crate) fn make(parts: Parts<'_>, tasks: &mut JoinSet<()>) -> Desks {
    let registers = Arc::new(KeptRegisters::new(
        parts.state_dir,
        Arc::clone(parts.posture),
    ));
    let board = Arc::clone(parts.posture);
    let tell = move |observed| board.observe(Subject::Facility, observed);
    tasks.spawn(Arc::clone(&registers).keep(REGISTERS, tell));
    tasks.spawn(Arc::clone(parts.kept_devices).follow_standards(Arc::clone(&registers)));
    let (devices, names) = match parts.devices {
        Some((desk, names)) => (Some(desk), names),
        None => (None, Arc::new(|_| None) as Names),
    };
    let leaving = Arc::new(LeavingPages::new(
        Arc::clone(parts.provisioner),
        Arc::clone(parts.certificates),
        Arc::clone(parts.accesses.1),
        Arc::clone(parts.posture),
        parts.system,
    ));
    // It ends; a part in `tasks` that ends stops the box.
    tokio::spawn(Arc::clone(&leaving).look_back());
    Desks {
        leaving: Some(leaving),
        devices,
        offline: Some(parts.offline),
        registers: Some(Arc::new(RegisterPages(
            registers,
            Arc::clone(parts.posture),
        ))),
        report: Some(Arc::new(ReportPages {
            posture: Arc::clone(parts.posture),
            provisioner: Arc::clone(parts.provisioner),
            names: Arc::clone(&names),
            refusals: parts.refusals,
        })),
        recovery: Some(Arc::new(RecoveryPages::new(
            parts.state_dir,
            Arc::clone(parts.posture),
        ))),
        accesses: Some(Arc::new(AccessPages {
            accesses: Arc::clone(parts.accesses.0),
            notes: Arc::clone(parts.accesses.1),
            names: Arc::clone(&names),
        })),
        waivers: Some(Arc::new(WaiverPages {
            posture: Arc::clone(parts.posture),
            names,
            turn: tokio::sync::Mutex::new(()),
        })),
        break_glass: Some(Arc::new(BreakGlassPages {
            file: Arc::new(BreakGlassFile::open(parts.state_dir)),
            posture: Arc::clone(parts.posture),
            feed: parts.feed,
            turn: tokio::sync::Mutex::new(()),
        })),
    }
}
