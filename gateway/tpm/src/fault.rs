//! Sorts the TPM stack's answers into the few classes that differ in what to do; it takes no action itself.

use crate::VaultError;
use tss_esapi::constants::response_code::{Tss2ResponseCode, Tss2ResponseCodeKind as Kind};

/// A failed step inside the owner thread.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The stack said no while doing `action`.
    Tss {
        /// The command, as a verb.
        action: &'static str,
        /// The stack's error.
        source: tss_esapi::Error,
    },
    /// We decided ourselves.
    Vault(VaultError),
}

impl From<VaultError> for Fault {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

/// What a fault means (observed against swtpm and in the field).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The transport is gone or the ESYS context is poisoned: every later call on it fails too. Build anew.
    Transport,
    /// The TPM was reset between two commands; transient objects and sessions are gone. Build anew.
    Reset,
    /// No free object or session slot: leaked handles, or no resource manager.
    Memory,
    /// The object's integrity check failed (0x1df): cleared TPM, other TPM or damaged blob. For good.
    Integrity,
    /// A handle names nothing: the persistent SRK was evicted or the TPM was cleared.
    Handle,
    /// Dictionary-attack lockout. Never hammer.
    Lockout,
    /// An authorisation that should be empty is not.
    Auth,
    /// The TPM is busy and says "again".
    Busy,
    /// A command is switched off in this TPM.
    Disabled,
    /// The NV memory is full.
    NvSpace,
    /// An NV index was defined and never written.
    Unwritten,
    /// Anything else.
    Other,
}

/// Response codes carry the layer that produced them in bits 16–23 (TSS 2.0 Overview, "Response Code Layers").
const LAYER_TPM: u32 = 0;
const LAYER_RESOURCE_MANAGER: u32 = 11;
const LAYER_RESOURCE_MANAGER_TPM: u32 = 12;

impl Fault {
    /// Wraps a stack error with the verb of the command that met it.
    pub(crate) fn tss(action: &'static str) -> impl FnOnce(tss_esapi::Error) -> Self {
        move |source| Self::Tss { action, source }
    }

    /// What this fault means.
    pub(crate) fn class(&self) -> Class {
        let Self::Tss { source, .. } = self else {
            return Class::Other;
        };
        let tss_esapi::Error::Tss2Error(rc) = source else {
            return Class::Other;
        };
        let layer = (code(*rc) >> 16) & 0xff;
        if !matches!(
            layer,
            LAYER_TPM | LAYER_RESOURCE_MANAGER | LAYER_RESOURCE_MANAGER_TPM
        ) {
            // 0x000a000a (TCTI I/O error), then 0x00070007 (bad sequence) for ever: the context is dead.
            return Class::Transport;
        }
        match rc.kind() {
            Some(
                Kind::ReferenceH0
                | Kind::ReferenceH1
                | Kind::ReferenceH2
                | Kind::ReferenceH3
                | Kind::ReferenceH4
                | Kind::ReferenceH5
                | Kind::ReferenceH6
                | Kind::ReferenceS0
                | Kind::ReferenceS1
                | Kind::ReferenceS2
                | Kind::ReferenceS3
                | Kind::ReferenceS4
                | Kind::ReferenceS5
                | Kind::ReferenceS6
                | Kind::Initialize,
            ) => Class::Reset,
            Some(
                Kind::ObjectMemory
                | Kind::SessionMemory
                | Kind::ObjectHandles
                | Kind::SessionHandles
                | Kind::Memory,
            ) => Class::Memory,
            Some(Kind::Integrity) => Class::Integrity,
            Some(Kind::Handle) => Class::Handle,
            Some(Kind::Lockout) => Class::Lockout,
            Some(Kind::BadAuth | Kind::AuthFail | Kind::AuthMissing | Kind::AuthUnavailable) => {
                Class::Auth
            }
            Some(
                Kind::Retry
                | Kind::Yielded
                | Kind::Testing
                | Kind::NvRate
                | Kind::NvUnavailable
                | Kind::Canceled,
            ) => Class::Busy,
            Some(Kind::Disabled) => Class::Disabled,
            Some(Kind::NvSpace) => Class::NvSpace,
            Some(Kind::NvUninitialized) => Class::Unwritten,
            _ => Class::Other,
        }
    }

    /// What the caller is told when nothing more can be done about this fault.
    pub(crate) fn into_error(self) -> VaultError {
        let class = self.class();
        match self {
            Self::Vault(error) => error,
            Self::Tss { action, source } => match class {
                Class::Transport | Class::Reset => VaultError::Unavailable,
                Class::Integrity | Class::Handle => VaultError::KeyLost,
                Class::Lockout => VaultError::Locked,
                Class::Auth => VaultError::OwnerAuth,
                Class::Busy => VaultError::Busy,
                Class::Disabled if action == "clear" => VaultError::ClearDisabled,
                Class::NvSpace => VaultError::NoNvSpace,
                Class::Memory | Class::Disabled | Class::Unwritten | Class::Other => {
                    VaultError::Tpm {
                        action,
                        code: match source {
                            tss_esapi::Error::Tss2Error(rc) => code(rc),
                            tss_esapi::Error::WrapperError(_) => 0,
                        },
                        source,
                    }
                }
            },
        }
    }
}

/// The raw response code.
///
/// The wrapper keeps the number private, yet its layer bits decide between "rebuild" and "key lost"; the only way out is
/// its `Display`, which ends in the number in hexadecimal (pinned by a test below).
fn code(rc: Tss2ResponseCode) -> u32 {
    let text = match rc {
        Tss2ResponseCode::Success => return 0,
        Tss2ResponseCode::FormatZero(rc) => rc.to_string(),
        Tss2ResponseCode::FormatOne(rc) => rc.to_string(),
    };
    text.rsplit("0x")
        .next()
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;
    use tss_esapi::{Context, tcti_ldr::TctiNameConf};

    /// The number is read from the wrapper's `Display`; a real error of the transport layer shows that it still can be.
    #[test]
    fn an_error_of_the_transport_layer_is_told_from_one_of_the_tpm() {
        let unused = std::net::TcpListener::bind(("127.0.0.1", 0))
            .expect("bind")
            .local_addr()
            .expect("address");
        let tcti = TctiNameConf::from_str(&format!("swtpm:host=127.0.0.1,port={}", unused.port()))
            .expect("TCTI");
        let error = Context::new(tcti).expect_err("nobody listens");
        let tss_esapi::Error::Tss2Error(rc) = error else {
            panic!("{error:?}")
        };
        assert_eq!(code(rc) >> 16 & 0xff, 10, "the TCTI layer: {error:?}");
        let fault = Fault::Tss {
            action: "connect",
            source: error,
        };
        assert_eq!(fault.class(), Class::Transport);
        assert!(matches!(fault.into_error(), VaultError::Unavailable));
    }
}
