//! Measures what the gate judges by, again and again, and puts it on the evidence board: scanner, key.
//!
//! It judges nothing. A measurement that fails leaves the old evidence to grow old, which the gate notices by itself.

use std::sync::Arc;
use std::time::Duration;

use crate::certificates::Certificates;
use crate::late_vault::LateVault;
use crate::posture::{Posture, RENEWAL};
use crate::steps::Steps;

/// How often the TPM is asked whether it still loads the key in use. Open connections outlive a cleared TPM, so
/// without asking nobody would notice until the next handshake.
const KEY_INTERVAL: Duration = Duration::from_secs(60);
/// The same while the TPM is silent, and the least time between two questions when handshakes fail.
const KEY_RETRY: Duration = Duration::from_secs(2);

/// How often renewal is looked at; on most calls it reads the disk only.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(3600);
/// While something is not finished (a certificate without its LAN certificate), it is looked at more often.
const UNFINISHED_INTERVAL: Duration = Duration::from_secs(30);

/// Renews the snapshot, which proves that this process still gathers evidence.
pub(crate) async fn snapshot(posture: Arc<Posture>, mut steps: Steps) {
    loop {
        steps.sleep(RENEWAL).await;
        posture.renew();
    }
}

/// Keeps certificates renewed and the evidence on the key fresh.
pub(crate) async fn certificates(certificates: Arc<Certificates>) {
    let mut since_renewal = RENEWAL_INTERVAL;
    loop {
        if since_renewal >= RENEWAL_INTERVAL || certificates.unfinished().await {
            certificates.renew().await;
            since_renewal = Duration::ZERO;
        } else if certificates.is_behind() {
            certificates.apply_or_log().await;
        }
        tokio::time::sleep(UNFINISHED_INTERVAL).await;
        since_renewal += UNFINISHED_INTERVAL;
    }
}

/// Asks the TPM whether the key in use still loads: now and then, and whenever a handshake went without a signature.
pub(crate) async fn key(certificates: Arc<Certificates>, vault: Arc<LateVault>) {
    loop {
        let pause = if certificates.tpm_is_silent() {
            KEY_RETRY
        } else {
            KEY_INTERVAL
        };
        let signing_failed = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            () = vault.signing_failed() => true,
        };
        certificates.check_key(signing_failed).await;
        if signing_failed {
            tokio::time::sleep(KEY_RETRY).await;
        }
    }
}
