//! Taking a box out of service: revoke, clear, prove, erase, and a record of it without a secret.
//!
//! The order differs from what one would say aloud. The TPM is cleared *before* the files are erased, so that after a power
//! cut the old key files are still there to prove that they no longer load. It works without the network too; the record
//! then says that the city was not told. The stored notes are erased as well; what a copy of them would need, the root of
//! their keys, was in the TPM and went first.

use bytes::Bytes;
use gateway_city::api::GatewayApi;
use gateway_tpm::{KeyBlob, VaultError};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::certificate::hex;
use crate::durable;
use crate::failure::{Failure, ProvisioningError, date_ja};
use crate::folder::{Folder, Label};
use crate::lan;
use crate::provisioner::{Desk, Provisioner};
use crate::status::{Identity, provenance_ja};

/// Why the box leaves service, in the city's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The facility leaves the service (Art. 10).
    Leaving,
    /// Another box takes over.
    Replaced,
    /// The box is thrown away (Art. 28).
    Disposed,
}

impl Reason {
    const fn label_ja(self) -> &'static str {
        match self {
            Self::Leaving => "利用の廃止（第10条）",
            Self::Replaced => "装置の交換",
            Self::Disposed => "装置の廃棄（第28条）",
        }
    }
}

/// What the city was told of one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "told")]
pub enum CityTold {
    /// Revoked now.
    Revoked,
    /// It had been revoked already.
    AlreadyRevoked,
    /// The certificate had expired by itself.
    Expired,
    /// The city could not be told.
    No {
        /// [`Failure::code`].
        code: String,
    },
}

/// One certificate in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedCertificate {
    /// Its label.
    pub label: Label,
    /// Its serial number.
    pub serial: String,
    /// End of validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// Where its key was born, as shown (TPM内で生成, 取り込み).
    pub provenance: String,
    /// What the city was told.
    pub city: CityTold,
}

/// The record of a decommissioning: for print and for keeping. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecommissionRecord {
    /// Why.
    pub reason: Reason,
    /// When it was finished, by the box's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub finished: OffsetDateTime,
    /// The facility's id and name, when a certificate told them.
    pub facility_id: Option<String>,
    /// The facility's name.
    pub facility_name: Option<String>,
    /// Each certificate that was on the box.
    pub certificates: Vec<RecordedCertificate>,
    /// The TPM's maker, as it says of itself.
    pub tpm: String,
    /// `TPM2_Clear` succeeded.
    pub tpm_cleared: bool,
    /// Old keys that were tried after the clearing; none of them loaded.
    pub keys_proven_lost: usize,
    /// The key and certificate files are gone.
    pub files_erased: bool,
}

impl DecommissionRecord {
    /// The record as a Japanese text for print.
    pub fn text_ja(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let unknown = "（証明書なし）".to_owned();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "施設ゲートウェイ 返却・廃棄の記録");
        let _ = writeln!(
            text,
            "事業所　　: {}",
            self.facility_name.as_ref().unwrap_or(&unknown)
        );
        let _ = writeln!(
            text,
            "事業所ID　: {}",
            self.facility_id.as_ref().unwrap_or(&unknown)
        );
        let _ = writeln!(text, "理由　　　: {}", self.reason.label_ja());
        let _ = writeln!(
            text,
            "完了日　　: {}（装置の時計による）",
            date_ja(Some(self.finished))
        );
        for certificate in &self.certificates {
            let city = match &certificate.city {
                CityTold::Revoked => "市に届け出て失効させました".to_owned(),
                CityTold::AlreadyRevoked => "市ですでに失効していました".to_owned(),
                CityTold::Expired => "有効期限が切れていました".to_owned(),
                CityTold::No { code } => {
                    format!("市には届け出ていません［{code}］。市の担当課に失効を依頼してください")
                }
            };
            let _ = writeln!(
                text,
                "電子証明書: {}（{}、シリアル番号 {}、{}まで）: {city}",
                certificate.label,
                certificate.provenance,
                certificate.serial,
                date_ja(Some(certificate.not_after)),
            );
        }
        let _ = writeln!(text, "TPM　　　 : {}（初期化しました）", self.tpm);
        let _ = writeln!(
            text,
            "鍵の確認　: 古い鍵{}個を初期化のあとで試し、どれも使えないことを確かめました",
            self.keys_proven_lost
        );
        let _ = writeln!(
            text,
            "保存データ: 鍵と証明書のファイル、保存した連絡を消去しました（連絡の鍵の元はTPMから消去済み）"
        );
        text
    }

    /// The record as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// Kept from the first step to the last, so that a cut does not forget what the city was told.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    version: u32,
    reason: Reason,
    facility_id: Option<String>,
    facility_name: Option<String>,
    certificates: Vec<RecordedCertificate>,
    /// Set when the TPM has been cleared and every key then on disk was proven lost.
    proven: Option<usize>,
}

impl Provisioner {
    /// Takes the box out of service. Safe to call again after a cut or a failure: it goes on where it stopped. The
    /// state directory's settings are left to the caller.
    ///
    /// # Errors
    /// TPM and disk failures, and [`Failure::ClearUnproven`]. The network failing is no error.
    pub async fn decommission(
        &self,
        reason: Reason,
    ) -> Result<DecommissionRecord, ProvisioningError> {
        let _alone = self.busy.lock().await;
        let mut marker = self
            .blocking(move |desk| desk.begin_decommissioning(reason))
            .await?;
        for at in 0..marker.certificates.len() {
            if matches!(marker.certificates[at].city, CityTold::No { .. }) {
                let told = self
                    .tell_city(&marker.certificates[at], marker.reason)
                    .await;
                marker.certificates[at].city = told;
                marker = self.blocking(move |desk| desk.keep_marker(marker)).await?;
            }
        }
        self.blocking(move |desk| desk.clear_and_erase(marker))
            .await
    }

    /// The record of a box that was taken out of service and has not been set up again.
    ///
    /// # Errors
    /// The record cannot be read, or what there is besides.
    pub async fn left_record(&self) -> Result<Option<DecommissionRecord>, ProvisioningError> {
        self.blocking(|desk| {
            if !desk.status()?.certificates.is_empty() {
                return Ok(None);
            }
            let path = desk.record();
            let Some(content) = durable::read(&path).map_err(ProvisioningError::disk)? else {
                return Ok(None);
            };
            serde_json::from_slice(&content)
                .map(Some)
                .map_err(|error| ProvisioningError::because(Failure::JournalDamaged, error))
        })
        .await
    }

    async fn tell_city(&self, certificate: &RecordedCertificate, reason: Reason) -> CityTold {
        match self.revoke(certificate, reason).await {
            Ok(told) => told,
            Err(error) => match error.failure() {
                Failure::Revoked => CityTold::AlreadyRevoked,
                Failure::Expired => CityTold::Expired,
                failure => {
                    tracing::warn!(
                        code = failure.code(),
                        "the city could not be told of the decommissioning"
                    );
                    CityTold::No {
                        code: failure.code().to_owned(),
                    }
                }
            },
        }
    }

    async fn revoke(
        &self,
        certificate: &RecordedCertificate,
        reason: Reason,
    ) -> Result<CityTold, ProvisioningError> {
        if certificate.not_after <= self.desk.now() {
            return Ok(CityTold::Expired);
        }
        let label = certificate.label.clone();
        let held = self
            .blocking(move |desk| desk.folder(&label)?.active())
            .await?
            .ok_or(Failure::NotProvisioned)?;
        let config = self.desk.identity_config(&held)?;
        let (_keep, config) = tokio::sync::watch::channel(config);
        let endpoint = self.desk.config.city.gateway_api.clone();
        let api = GatewayApi::new(endpoint, config, self.desk.patience.timeouts);
        // The same certificate always has the same key, so that a repetition is recognised.
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.serial.as_bytes());
        let key = format!("decommission-{}", hex(&digest.as_ref()[..16]));
        let body = serde_json::json!({ "reason": reason }).to_string();
        match api.decommission(&key, Bytes::from(body)).await {
            Ok(_receipt) => Ok(CityTold::Revoked),
            Err(error) => Err(self.explain(error, &held.key).await),
        }
    }
}

impl Desk {
    fn record(&self) -> std::path::PathBuf {
        self.config.state_dir.join("decommission-record.json")
    }

    fn begin_decommissioning(&self, reason: Reason) -> Result<Marker, ProvisioningError> {
        self.ensure_root()?;
        if let Some(content) = durable::read(&self.marker()).map_err(ProvisioningError::disk)? {
            return serde_json::from_slice(&content)
                .map_err(|error| ProvisioningError::because(Failure::JournalDamaged, error));
        }
        let identities: Vec<Identity> = self
            .status()?
            .certificates
            .into_iter()
            .filter_map(|certificate| certificate.identity)
            .collect();
        let first = identities.first();
        let marker = Marker {
            version: 1,
            reason,
            facility_id: first.map(|identity| identity.facility_id.clone()),
            facility_name: first.map(|identity| identity.facility_name.clone()),
            certificates: identities.iter().map(recorded).collect(),
            proven: None,
        };
        self.keep_marker(marker)
    }

    fn keep_marker(&self, marker: Marker) -> Result<Marker, ProvisioningError> {
        let content = serde_json::to_vec_pretty(&marker)
            .map_err(|error| ProvisioningError::because(Failure::JournalDamaged, error))?;
        durable::write(&self.marker(), &content).map_err(ProvisioningError::disk)?;
        Ok(marker)
    }

    fn clear_and_erase(&self, mut marker: Marker) -> Result<DecommissionRecord, ProvisioningError> {
        let tpm = match self.vault.health() {
            Ok(health) => health.manufacturer,
            // Cleared already; it does not say whose make it is then.
            Err(error) if error.is_permanent() => "TPM 2.0".to_owned(),
            Err(error) => return Err(error.into()),
        };
        let labels = Folder::labels(&self.root())?;
        let keys: Vec<KeyBlob> = labels
            .iter()
            .filter_map(|label| self.folder(label).ok())
            .flat_map(|folder| folder.keys())
            .collect();
        if marker.proven.is_none() {
            match self.vault.clear() {
                // Cleared before a cut, or by somebody else: what counts is the proof below.
                Ok(()) | Err(VaultError::KeyLost | VaultError::SrkChanged) => {}
                Err(error) => return Err(error.into()),
            }
            for key in &keys {
                match self.vault.prove_loadable(key) {
                    Err(VaultError::KeyLost) => {}
                    Ok(()) => return Err(Failure::ClearUnproven.into()),
                    Err(error) => return Err(error.into()),
                }
            }
            marker.proven = Some(keys.len());
            marker = self.keep_marker(marker)?;
        }
        for label in &labels {
            self.folder(label)?.erase()?;
        }
        durable::erase(&lan::path(&self.root())).map_err(ProvisioningError::disk)?;
        gateway_tpm::forget_srk(&self.config.state_dir)?;
        match std::fs::remove_dir_all(self.config.state_dir.join("notes")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ProvisioningError::disk(error));
            }
            _ => {}
        }
        let record = DecommissionRecord {
            reason: marker.reason,
            finished: self.now(),
            facility_id: marker.facility_id,
            facility_name: marker.facility_name,
            certificates: marker.certificates,
            tpm,
            tpm_cleared: true,
            keys_proven_lost: marker.proven.unwrap_or(0),
            files_erased: true,
        };
        durable::write(&self.record(), record.json().as_bytes())
            .map_err(ProvisioningError::disk)?;
        durable::erase(&self.marker()).map_err(ProvisioningError::disk)?;
        tracing::warn!(
            keys = record.keys_proven_lost,
            "this box has been taken out of service"
        );
        Ok(record)
    }
}

fn recorded(identity: &Identity) -> RecordedCertificate {
    RecordedCertificate {
        label: identity.label.clone(),
        serial: identity.serial.clone(),
        not_after: identity.not_after,
        provenance: provenance_ja(identity.provenance).to_owned(),
        city: CityTold::No {
            code: String::new(),
        },
    }
}
