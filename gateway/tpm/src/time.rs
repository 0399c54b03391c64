//! The TPM's own clock, which nobody can set back (TPM 2.0 Part 1, "Timing Components"). It keeps no time and judges none.
//!
//! The wrapper has no `TPM2_ReadClock`; a quote over no PCRs carries the same clock. It is asked in a session salted to the
//! pinned SRK, whose HMAC covers the answer: somebody on the bus cannot change it.

use crate::{
    Config, SealedBlob, TpmVault, VaultError, attest,
    chip::Chip,
    fault::{Class, Fault},
};
use tss_esapi::{
    handles::KeyHandle,
    structures::{ClockInfo, Data, PcrSelectionList, SignatureScheme},
};

/// One reading (TPMS_CLOCK_INFO, Part 2 section 10.11.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TpmTime {
    /// Milliseconds with power since the TPM was made or cleared. After a loss of power it goes on from what was saved last,
    /// at most 2²² ms before.
    pub milliseconds: u64,
    /// How often the TPM was reset, plus a number that stays the same for as long as the attestation key does: readings can
    /// be compared and say nothing else (Part 1, "Clock, Reset and Restart obfuscation").
    pub resets: u32,
    /// No later clock was ever reported. Turns to true again some time after a loss of power, so it proves little.
    pub safe: bool,
}

/// The part of a vault that tells the time. Blocks, as [`KeyVault`](crate::KeyVault) does.
pub trait TimeVault: Send + Sync + std::fmt::Debug {
    /// Reads the TPM's clock.
    ///
    /// # Errors
    /// See [`VaultError`].
    fn time(&self) -> Result<TpmTime, VaultError>;
}

impl TimeVault for TpmVault {
    fn time(&self) -> Result<TpmTime, VaultError> {
        let config = self.config().clone();
        self.command(move |chip| read(chip, &config))
    }
}

fn read(chip: &mut Chip, config: &Config) -> Result<TpmTime, Fault> {
    let key = match attest::stored_ak(config) {
        Some(key) => key,
        None => attest::new_ak(chip, config)?,
    };
    match ask(chip, &key) {
        // Of another life of this TPM, or damaged on the disk.
        Err(fault) if fault.class() == Class::Integrity => {
            let fresh = attest::new_ak(chip, config)?;
            ask(chip, &fresh)
        }
        outcome => outcome,
    }
}

fn ask(chip: &mut Chip, key: &SealedBlob) -> Result<TpmTime, Fault> {
    let handle = chip.load_wrapped(&key.tpmt_public, &key.private)?;
    let outcome = quote(chip, handle);
    let flushed = chip.flush(handle);
    let clock = outcome?;
    flushed?;
    Ok(TpmTime {
        milliseconds: clock.clock(),
        resets: clock.reset_count(),
        safe: clock.safe(),
    })
}

fn quote(chip: &mut Chip, key: KeyHandle) -> Result<ClockInfo, Fault> {
    let nothing = Data::try_from(vec![0; 16]).map_err(Fault::tss("tell the time"))?;
    let (attest, _) = chip.in_salted_session("tell the time", |c| {
        c.quote(
            key,
            nothing,
            SignatureScheme::Null,
            PcrSelectionList::builder().build()?,
        )
    })?;
    Ok(*attest.clock_info())
}
