//! Measures the box itself, again and again: how it booted, what it runs, its USB storage (checks BOOT, UPD, SBOM, USB-BOX).
//!
//! It judges nothing and repairs nothing. The measuring is `gateway-posture`'s; here is only when.

use std::sync::Arc;
use std::time::Duration;

use gateway_policy::{Observed, Subject, Timestamp};
use gateway_posture::{Release, System, Told, UsbEvent};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::posture::{self, Posture};
use crate::signed_channel::Newest;
use crate::steps::Steps;

/// How often everything is measured; the kernel's news and the signed channel's make it sooner.
const INTERVAL: Duration = Duration::from_secs(300);

/// The file of a release that is its bill of materials (CycloneDX).
const BILL: &str = "sbom.cdx.json";

/// Starts measuring.
pub(crate) fn start(
    system: System,
    release: watch::Receiver<Option<Newest>>,
    posture: Arc<Posture>,
    steps: Steps,
    tasks: &mut JoinSet<()>,
) {
    let told = match gateway_posture::listen() {
        Ok(told) => Some(told),
        Err(error) => {
            tracing::warn!(event = "posture", check = "USB-BOX", %error, "the kernel's events are not heard; USB is measured on the timer only");
            None
        }
    };
    tasks.spawn(run(system, release, told, posture, steps));
}

async fn run(
    system: System,
    mut release: watch::Receiver<Option<Newest>>,
    mut told: Option<mpsc::Receiver<Told>>,
    posture: Arc<Posture>,
    mut steps: Steps,
) {
    let mut event = None;
    loop {
        let newest = release.borrow_and_update().as_ref().map(released);
        let of = system.clone();
        let measured =
            tokio::task::spawn_blocking(move || measure(&of, newest.as_ref(), event)).await;
        for observed in measured.into_iter().flatten() {
            posture.observe(Subject::Box, observed);
        }
        event = tokio::select! {
            () = steps.sleep(INTERVAL) => None,
            Ok(()) = release.changed() => None,
            news = heard(&mut told) => match news {
                Told::Event(event) => {
                    tracing::warn!(event = "posture", check = "USB-BOX", article = 28, what = event.name(), "USB storage was plugged in");
                    Some(event)
                }
                Told::Lost => None,
            },
        };
    }
}

/// The kernel's next word; never, when it is not heard.
async fn heard(told: &mut Option<mpsc::Receiver<Told>>) -> Told {
    if let Some(receiver) = told {
        if let Some(news) = receiver.recv().await {
            return news;
        }
        *told = None;
    }
    std::future::pending().await
}

/// The channel's document in the words of the measurement.
fn released(newest: &Newest) -> Release {
    Release {
        version: newest.version.clone(),
        published: Timestamp(newest.published_at.unix_timestamp()),
        root_hash: newest.root_hash.clone(),
        bill_of_materials: newest
            .files
            .iter()
            .find(|file| file.name == BILL)
            .map(|file| file.sha256.clone()),
    }
}

fn measure(system: &System, newest: Option<&Release>, event: Option<UsbEvent>) -> [Observed; 4] {
    let at = posture::now();
    [
        gateway_posture::boot(system, at),
        gateway_posture::update(system, newest, at),
        gateway_posture::bill_of_materials(system, newest, at),
        gateway_posture::usb(system, event, at),
    ]
}
