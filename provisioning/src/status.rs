//! What provisioning says of itself: states, identities, steps and outcomes, with their Japanese words.
//!
//! It does not change anything and holds no secret.

use std::sync::Arc;

use gateway_city::tls::ClientIdentity;
use gateway_tpm::{KeyBlob, KeyVault, Provenance};
use rustls::pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

use crate::failure::{Failure, date_ja};
use crate::folder::Label;

/// Where one certificate stands. `docs/provisioning.md` has the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing yet.
    Unprovisioned,
    /// A key waits for its certificate; number and code must be entered (again).
    KeyPending,
    /// The city wants to approve by hand.
    Waiting {
        /// Not to be asked again before.
        until: OffsetDateTime,
    },
    /// The certificate is here, the city has not accepted it in a connection yet. Goes on by itself.
    CertificateReceived,
    /// The city accepted it; it is about to be put to use. Goes on by itself.
    TrialPassed,
    /// In use, but the LAN server certificate is missing. Goes on by itself.
    AwaitingLan,
    /// Ready.
    Provisioned,
    /// In use, while its successor is on the way.
    Renewing,
    /// Past its end: a new number is needed.
    Expired,
    /// Revoked by the city: a new number is needed.
    Revoked,
    /// Its key no longer loads: a new number is needed.
    KeyLost,
}

impl State {
    /// True when relaying may use this certificate.
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Provisioned | Self::Renewing | Self::AwaitingLan)
    }

    /// True when [`crate::Provisioner::resume`] can go on without number and code.
    pub const fn resumes_by_itself(self) -> bool {
        matches!(
            self,
            Self::CertificateReceived | Self::TrialPassed | Self::AwaitingLan | Self::Renewing
        )
    }

    /// The state in a few Japanese words.
    pub const fn label_ja(self) -> &'static str {
        match self {
            Self::Unprovisioned => "未設定",
            Self::KeyPending => "鍵を作成済み（番号とアクセスコードの入力待ち）",
            Self::Waiting { .. } => "市の承認待ち",
            Self::CertificateReceived => "証明書を受領済み（接続の確認待ち）",
            Self::TrialPassed => "接続を確認済み（切り替え待ち）",
            Self::AwaitingLan => "利用可能（施設内LAN用の証明書を取得中）",
            Self::Provisioned => "準備完了",
            Self::Renewing => "利用中（更新の手続き中）",
            Self::Expired => "期限切れ",
            Self::Revoked => "失効",
            Self::KeyLost => "鍵の喪失",
        }
    }
}

/// Where a key was born, in the words shown everywhere.
pub const fn provenance_ja(provenance: Provenance) -> &'static str {
    match provenance {
        Provenance::Generated => "TPM内で生成",
        Provenance::Imported => "取り込み",
    }
}

/// A certificate in use, as the daemon needs it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Which of several.
    pub label: Label,
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The wrapped key.
    pub key: KeyBlob,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// Begin of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
    /// The facility's id, from the certificate's URI.
    pub facility_id: String,
    /// The facility's name, from the certificate's subject.
    pub facility_name: String,
    /// Where the key was born.
    pub provenance: Provenance,
}

impl Identity {
    /// For [`gateway_city::tls::client_config`].
    pub fn client_identity(&self, vault: &Arc<dyn KeyVault>) -> ClientIdentity {
        ClientIdentity {
            chain: self.chain.clone(),
            key: gateway_tpm::rustls_key(Arc::clone(vault), self.key.clone()),
        }
    }
}

/// One line of the list of certificates.
#[derive(Clone, Debug)]
pub struct CertificateStatus {
    /// Which.
    pub label: Label,
    /// Where it stands.
    pub state: State,
    /// The certificate in use, usable or not.
    pub identity: Option<Identity>,
    /// A warning about its end.
    pub warning: Option<ExpiryWarning>,
    /// Set when this one cannot be read at all.
    pub fault: Option<Failure>,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// All labels in order; empty on a new box.
    pub certificates: Vec<CertificateStatus>,
    /// End of the LAN server certificate, when there is one.
    pub lan_not_after: Option<OffsetDateTime>,
    /// A decommissioning was begun and not finished.
    pub decommissioning: bool,
}

impl Status {
    /// True when the box can work.
    pub fn is_ready(&self) -> bool {
        !self.decommissioning
            && self
                .certificates
                .iter()
                .any(|certificate| certificate.state.is_usable())
    }
}

/// A facility certificate nears its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiryWarning {
    /// The threshold passed: 30, 14, 7 or 1 days.
    pub threshold_days: u8,
    /// The end.
    pub not_after: OffsetDateTime,
}

impl ExpiryWarning {
    /// The warning that applies at `now`, if any: the smallest threshold not yet left behind. None once expired.
    pub fn at(not_after: OffsetDateTime, now: OffsetDateTime) -> Option<Self> {
        let left = not_after - now;
        if left <= Duration::ZERO {
            return None;
        }
        let threshold_days = [1_u8, 7, 14, 30]
            .into_iter()
            .find(|days| left <= Duration::days(i64::from(*days)))?;
        Some(Self {
            threshold_days,
            not_after,
        })
    }

    /// One Japanese sentence with the next step.
    pub fn sentence_ja(&self) -> String {
        format!(
            "電子証明書は{}に期限が切れます（あと{}日以内）。装置が自動で更新を試みますので、この表示が消えないときは市の担当課に連絡してください。",
            date_ja(Some(self.not_after)),
            self.threshold_days
        )
    }
}

/// What has just been done. Each is reported after it is durable, so stopping there loses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The server proved to be the city, and the clocks agree.
    CityTrusted,
    /// The key is in its slot.
    KeyStored,
    /// The request went out and an answer came back. Nothing of it is durable yet.
    Answered,
    /// The city wants to approve by hand; waiting.
    Waiting,
    /// The certificate is checked and durable.
    CertificateStored,
    /// The city accepted the certificate in a connection.
    TrialPassed,
    /// The certificate is in use.
    Switched,
    /// The answer for the LAN server certificate came back.
    LanAnswered,
    /// The LAN server certificate is durable.
    LanStored,
}

impl Step {
    /// What to show while the next step runs.
    pub const fn sentence_ja(self) -> &'static str {
        match self {
            Self::CityTrusted => "市のサーバーを確認しました。鍵を作っています。",
            Self::KeyStored => "鍵をTPMの中に用意しました。市に申請しています。",
            Self::Answered => "市から返事がありました。証明書を確かめています。",
            Self::Waiting => "市の承認を待っています。",
            Self::CertificateStored => "電子証明書を保存しました。市への接続を試しています。",
            Self::TrialPassed => "市への接続を確認しました。",
            Self::Switched => "電子証明書を使い始めました。施設内LAN用の証明書を受け取っています。",
            Self::LanAnswered => "施設内LAN用の証明書を確かめています。",
            Self::LanStored => "準備が完了しました。",
        }
    }
}

/// Told of each step. Answering `Break` stops the ceremony there with [`Failure::Interrupted`]; nothing is lost.
pub type Progress<'a> = &'a (dyn Fn(Step) -> std::ops::ControlFlow<()> + Send + Sync);

/// A [`Progress`] that does nothing.
pub fn quietly(_: Step) -> std::ops::ControlFlow<()> {
    std::ops::ControlFlow::Continue(())
}

/// How a ceremony ended when it did not fail.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Everything is in place.
    Provisioned,
    /// A person at the city approves first.
    WaitingForApproval {
        /// Not to be asked again before.
        until: OffsetDateTime,
    },
    /// The certificate is safe, but could not be tried yet. Goes on by itself.
    AwaitingTrial(Failure),
    /// The certificate is in use, but the LAN server certificate could not be fetched yet. Goes on by itself.
    AwaitingLan(Failure),
}

impl Outcome {
    /// What happened, in one Japanese sentence.
    pub fn sentence_ja(&self) -> String {
        match self {
            Self::Provisioned => {
                "準備完了です。電子証明書はこの装置に入り、使える状態です。".into()
            }
            Self::WaitingForApproval { .. } => {
                "申請は市に届き、市の担当者の承認を待っています。".into()
            }
            Self::AwaitingTrial(failure) => {
                format!(
                    "電子証明書は受け取って保存しましたが、接続の確認がまだです（{}）。",
                    failure.sentence_ja().trim_end_matches('。')
                )
            }
            Self::AwaitingLan(failure) => format!(
                "電子証明書は使える状態ですが、施設内LAN用の証明書がまだです（{}）。",
                failure.sentence_ja().trim_end_matches('。')
            ),
        }
    }

    /// The one next step.
    pub fn next_step_ja(&self) -> String {
        match self {
            Self::Provisioned => "そのままお使いください。番号とアクセスコードの書類は保管の必要がありません。".into(),
            Self::WaitingForApproval { .. } => {
                "承認の連絡を受けたら、同じ番号とアクセスコードをもう一度入力してください（装置には残していません）。".into()
            }
            Self::AwaitingTrial(_) | Self::AwaitingLan(_) => {
                "番号の入れ直しは要りません。装置が自動で続きを行います。".into()
            }
        }
    }

    /// A short stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Provisioned => "P-OK",
            Self::WaitingForApproval { .. } => "P-APPROVAL",
            Self::AwaitingTrial(_) => "P-AWAIT-TRIAL",
            Self::AwaitingLan(_) => "P-AWAIT-LAN",
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn warnings_come_at_30_14_7_and_1_days() {
        let end = datetime!(2027-01-31 00:00 UTC);
        let threshold = |days, hours| {
            let now = end - Duration::days(days) - Duration::hours(hours);
            ExpiryWarning::at(end, now).map(|warning| warning.threshold_days)
        };
        assert_eq!(threshold(30, 1), None);
        assert_eq!(threshold(30, 0), Some(30));
        assert_eq!(threshold(14, 1), Some(30));
        assert_eq!(threshold(14, 0), Some(14));
        assert_eq!(threshold(7, 0), Some(7));
        assert_eq!(threshold(1, 0), Some(1));
        assert_eq!(threshold(0, 1), Some(1));
        assert_eq!(threshold(0, 0), None);
    }

    #[test]
    fn an_imported_key_is_never_called_generated() {
        assert_eq!(provenance_ja(Provenance::Imported), "取り込み");
        assert_eq!(provenance_ja(Provenance::Generated), "TPM内で生成");
    }
}
