//! Everything provisioning can fail with, and what each failure says to a manager: what happened, and the next step.
//!
//! It does not hold numbers, codes or names of persons, so every value of this module may be logged.

use std::io;

use gateway_city::CityError;
use gateway_tpm::VaultError;
use time::{OffsetDateTime, UtcOffset};

use crate::entry::EntryError;

/// A failure with its technical cause.
#[derive(Debug, thiserror::Error)]
#[error("provisioning failed ({})", failure.code())]
pub struct ProvisioningError {
    failure: Failure,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ProvisioningError {
    pub(crate) fn because(
        failure: Failure,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            failure,
            source: Some(source.into()),
        }
    }

    pub(crate) fn disk(error: io::Error) -> Self {
        let failure = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::DiskFull,
            _ => Failure::DiskUnusable,
        };
        Self::because(failure, error)
    }

    /// What to say and do.
    pub const fn failure(&self) -> &Failure {
        &self.failure
    }
}

impl From<Failure> for ProvisioningError {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            source: None,
        }
    }
}

impl From<VaultError> for ProvisioningError {
    fn from(error: VaultError) -> Self {
        let failure = match &error {
            VaultError::KeyLost | VaultError::MalformedBlob { .. } => Failure::KeyLost,
            VaultError::SrkChanged => Failure::TpmExchanged,
            VaultError::SoftwareTpm { .. } => Failure::SoftwareTpm,
            VaultError::OwnerAuth | VaultError::ClearDisabled => Failure::TpmOwned,
            VaultError::Deadline | VaultError::Busy | VaultError::Locked => Failure::TpmBusy,
            VaultError::StateFile { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Failure::DiskFull
            }
            VaultError::StateFile { .. } => Failure::DiskUnusable,
            _ => Failure::TpmMissing,
        };
        Self::because(failure, error)
    }
}

impl From<CityError> for ProvisioningError {
    fn from(error: CityError) -> Self {
        use gateway_city::wire::problem_type;
        let failure = match &error {
            CityError::Dns { .. } => Failure::NameNotFound,
            CityError::Connect { .. } => Failure::NoNetwork,
            CityError::Timeout { .. } | CityError::Broken { .. } => Failure::ConnectionLost,
            CityError::Untrusted { .. } => Failure::NotTheCity,
            CityError::NotValidYet {
                clock, not_before, ..
            } => Failure::ClockBehind {
                clock: *clock,
                at_least: *not_before,
            },
            CityError::Expired {
                clock, not_after, ..
            } => Failure::ClockAhead {
                clock: *clock,
                at_most: *not_after,
            },
            CityError::Revoked { .. } => Failure::Revoked,
            CityError::CertificateRefused { .. } => Failure::CertificateRefused,
            CityError::Refused {
                status, problem, ..
            } => {
                let kind = problem.as_ref().map_or("", |problem| problem.kind.as_str());
                let support_code = problem
                    .as_ref()
                    .and_then(|problem| problem.support_code.clone());
                match kind {
                    problem_type::NUMBER_LOCKED => Failure::NumberLocked,
                    problem_type::NUMBER_USED => Failure::NumberUsed,
                    problem_type::NUMBER_EXPIRED => Failure::NumberExpired,
                    problem_type::FACILITY_SUSPENDED => Failure::FacilitySuspended,
                    problem_type::CERTIFICATE_REVOKED => Failure::Revoked,
                    _ if gateway_city::https::is_temporary(*status) => {
                        Failure::CityBusy { support_code }
                    }
                    _ => Failure::CityRefused {
                        status: status.as_u16(),
                        support_code,
                    },
                }
            }
            // The TPM is asked for its own account before this is shown; see `Provisioner::explain`.
            CityError::Handshake { .. } => Failure::TpmMissing,
            CityError::TooLarge { .. } | CityError::Protocol { .. } => Failure::CityUnintelligible,
        };
        Self::because(failure, error)
    }
}

/// What went wrong, in the classes that need different next steps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The number as typed cannot be one.
    NumberMistyped(EntryError),
    /// The code as typed cannot be one.
    CodeMistyped(EntryError),
    /// The city answered 401: number unknown or code wrong; it does not say which.
    WrongNumberOrCode {
        /// Wrong answers in a row from this box. The city locks a number after five.
        times: u8,
    },
    /// The city locked the number.
    NumberLocked,
    /// The number was used with another key.
    NumberUsed,
    /// The number was not used in time.
    NumberExpired,
    /// A continuation needs number and code again, since neither is ever stored.
    EntryNeeded,
    /// The server does not lead to the city's trust anchor.
    NotTheCity,
    /// The city's certificate is in the future by this clock.
    ClockBehind {
        /// This box's clock.
        clock: Option<OffsetDateTime>,
        /// The earliest the true time can be.
        at_least: Option<OffsetDateTime>,
    },
    /// The city's certificate is in the past by this clock.
    ClockAhead {
        /// This box's clock.
        clock: Option<OffsetDateTime>,
        /// The latest the true time can be, unless the city forgot a renewal.
        at_most: Option<OffsetDateTime>,
    },
    /// The city's own `Date` and this clock differ by more than a day.
    ClockDiffers {
        /// This box's clock.
        clock: OffsetDateTime,
        /// The city's clock.
        city: OffsetDateTime,
    },
    /// DNS does not know the city.
    NameNotFound,
    /// No TCP connection.
    NoNetwork,
    /// The connection broke or stalled.
    ConnectionLost,
    /// 5xx, 429 or 408.
    CityBusy {
        /// The city's support code.
        support_code: Option<String>,
    },
    /// The city refused for a reason that has no sentence of its own.
    CityRefused {
        /// HTTP status.
        status: u16,
        /// The city's support code.
        support_code: Option<String>,
    },
    /// The answer could not be understood.
    CityUnintelligible,
    /// The facility certificate is revoked.
    Revoked,
    /// The facility certificate was refused, but not as revoked.
    CertificateRefused,
    /// The facility is suspended (Art. 35).
    FacilitySuspended,
    /// The facility certificate has expired.
    Expired,
    /// The returned certificate is for another key.
    CertificateForOtherKey,
    /// The returned certificate does not lead to the city's trust anchor.
    CertificateFromOtherIssuer,
    /// The returned certificate is not for this use (EKU, names).
    CertificateForOtherUse,
    /// The returned certificate names no facility, or another one than this box's (Art. 4).
    CertificateForOtherFacility,
    /// No TPM answers.
    TpmMissing,
    /// The TPM is there but slow, or locked for the moment.
    TpmBusy,
    /// The TPM is software and this is production.
    SoftwareTpm,
    /// Someone else set the TPM's owner authorisation, or disabled its clearing.
    TpmOwned,
    /// The TPM is not the one this box was set up with.
    TpmExchanged,
    /// The key no longer loads.
    KeyLost,
    /// The disk is full.
    DiskFull,
    /// The disk cannot be written or read.
    DiskUnusable,
    /// The journal or a kept file is damaged.
    JournalDamaged,
    /// This label already has a certificate in good standing.
    AlreadyProvisioned,
    /// There is no certificate yet.
    NotProvisioned,
    /// Another process of this box is at work on the state.
    InUse,
    /// The PKCS#12 password is wrong, or the file is damaged.
    ImportUnreadable,
    /// The PKCS#12 holds an RSA key.
    ImportRsa,
    /// The PKCS#12 holds no private key with its certificate, or a key that is not P-256.
    ImportUnsuitable,
    /// The configuration's trust anchor cannot be used.
    AnchorUnusable,
    /// The TPM was told to clear itself, but an old key still loads.
    ClearUnproven,
    /// A decommissioning was begun and must be finished first.
    Decommissioning,
    /// This process is being stopped.
    Interrupted,
}

impl Failure {
    /// A short stable code: for support, logs and exit statuses' documentation.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NumberMistyped(_) => "P-NUMBER-FORM",
            Self::CodeMistyped(_) => "P-CODE-FORM",
            Self::WrongNumberOrCode { .. } => "P-WRONG",
            Self::NumberLocked => "P-LOCKED",
            Self::NumberUsed => "P-USED",
            Self::NumberExpired => "P-NUMBER-EXPIRED",
            Self::EntryNeeded => "P-ENTRY",
            Self::NotTheCity => "P-CITY-TRUST",
            Self::ClockBehind { .. } => "P-CLOCK-BEHIND",
            Self::ClockAhead { .. } => "P-CLOCK-AHEAD",
            Self::ClockDiffers { .. } => "P-CLOCK",
            Self::NameNotFound => "P-DNS",
            Self::NoNetwork => "P-NETWORK",
            Self::ConnectionLost => "P-CONNECTION",
            Self::CityBusy { .. } => "P-CITY-BUSY",
            Self::CityRefused { .. } => "P-CITY-REFUSED",
            Self::CityUnintelligible => "P-CITY-PROTOCOL",
            Self::Revoked => "P-REVOKED",
            Self::CertificateRefused => "P-CERT-REFUSED",
            Self::FacilitySuspended => "P-SUSPENDED",
            Self::Expired => "P-EXPIRED",
            Self::CertificateForOtherKey => "P-CERT-KEY",
            Self::CertificateFromOtherIssuer => "P-CERT-ISSUER",
            Self::CertificateForOtherUse => "P-CERT-USE",
            Self::CertificateForOtherFacility => "P-CERT-FACILITY",
            Self::TpmMissing => "P-TPM-MISSING",
            Self::TpmBusy => "P-TPM-BUSY",
            Self::SoftwareTpm => "P-TPM-SOFTWARE",
            Self::TpmOwned => "P-TPM-OWNED",
            Self::TpmExchanged => "P-TPM-EXCHANGED",
            Self::KeyLost => "P-KEY-LOST",
            Self::DiskFull => "P-DISK-FULL",
            Self::DiskUnusable => "P-DISK",
            Self::JournalDamaged => "P-JOURNAL",
            Self::AlreadyProvisioned => "P-ALREADY",
            Self::NotProvisioned => "P-NONE",
            Self::InUse => "P-IN-USE",
            Self::ImportUnreadable => "P-P12",
            Self::ImportRsa => "P-P12-RSA",
            Self::ImportUnsuitable => "P-P12-KEY",
            Self::AnchorUnusable => "P-ANCHOR",
            Self::ClearUnproven => "P-CLEAR",
            Self::Decommissioning => "P-DECOMMISSIONING",
            Self::Interrupted => "P-INTERRUPTED",
        }
    }

    /// What happened, in one plain Japanese sentence.
    pub fn sentence_ja(&self) -> String {
        match self {
            Self::NumberMistyped(error) => format!("電子証明書取得用番号が{}。", entry_ja(*error)),
            Self::CodeMistyped(error) => format!("アクセスコードが{}。", entry_ja(*error)),
            Self::WrongNumberOrCode { times } => {
                format!("電子証明書取得用番号かアクセスコードが違うと市から返事がありました（続けて{times}回目です）。")
            }
            Self::NumberLocked => "アクセスコードを続けて間違えたため、この番号は市によって停止されています。".into(),
            Self::NumberUsed => "この電子証明書取得用番号は、別の装置かパソコンですでに使われています。".into(),
            Self::NumberExpired => "この電子証明書取得用番号は、使える期限を過ぎています。".into(),
            Self::EntryNeeded => "手続きは途中まで終わっていますが、番号とアクセスコードは装置に残していません。".into(),
            Self::NotTheCity => "つながった相手が市のサーバーであることを確かめられなかったため、番号とアクセスコードは送っていません。".into(),
            Self::ClockBehind { clock, at_least } => format!(
                "この装置の時計は{}を指していますが、実際は{}のはずです（時計が遅れています）。",
                date_ja(*clock),
                at_least.map_or_else(|| "もっと後".to_owned(), |at| format!("{}以降", date_ja(Some(at))))
            ),
            Self::ClockAhead { clock, at_most } => format!(
                "この装置の時計は{}を指しており、{}で終わる市のサーバーの証明書が期限切れに見えます（時計が進んでいるか、市側の更新もれです）。",
                date_ja(*clock),
                date_ja(*at_most)
            ),
            Self::ClockDiffers { clock, city } => format!(
                "この装置の時計は{}を指していますが、市のサーバーの時計は{}です。",
                date_ja(Some(*clock)),
                date_ja(Some(*city))
            ),
            Self::NameNotFound => "市のサーバーの名前を調べられませんでした（インターネットにつながっていない可能性があります）。".into(),
            Self::NoNetwork => "市のサーバーにつながりませんでした。".into(),
            Self::ConnectionLost => "市のサーバーとの通信が途中で切れました。".into(),
            Self::CityBusy { support_code } => {
                format!("市のサーバーが混み合っているか、一時的に止まっています{}。", support_ja(support_code.as_deref()))
            }
            Self::CityRefused { status, support_code } => {
                format!("市のサーバーが申請を受け付けませんでした（応答{status}）{}。", support_ja(support_code.as_deref()))
            }
            Self::CityUnintelligible => "市のサーバーの返事が、取り決めた形式ではありませんでした。".into(),
            Self::Revoked => "この装置の電子証明書は、市によって失効されています。".into(),
            Self::CertificateRefused => "市のサーバーが、この装置の電子証明書を受け付けませんでした。".into(),
            Self::FacilitySuspended => "この事業所の利用は、市によって停止されています。".into(),
            Self::Expired => "電子証明書の有効期限が切れています。".into(),
            Self::CertificateForOtherKey => "市から届いた証明書が、この装置の鍵のものではありませんでした。".into(),
            Self::CertificateFromOtherIssuer => "届いた証明書が、市の認証局の発行したものではありませんでした。".into(),
            Self::CertificateForOtherUse => "届いた証明書が、この用途のものではありませんでした。".into(),
            Self::CertificateForOtherFacility => "届いた証明書が、この事業所のものではありませんでした。".into(),
            Self::TpmMissing => "鍵を守る部品（TPM）が応答しません。".into(),
            Self::TpmBusy => "鍵を守る部品（TPM）が時間内に応答しませんでした。".into(),
            Self::SoftwareTpm => "この装置のTPMはソフトウェアによる模擬のもので、本番では使えません。".into(),
            Self::TpmOwned => "TPMに別の所有者のパスワードか制限が設定されています。".into(),
            Self::TpmExchanged => "TPMが、この装置を設定したときのものと違います。".into(),
            Self::KeyLost => "電子証明書の鍵がTPMから失われています（初期化または部品交換）。".into(),
            Self::DiskFull => "装置の記憶領域に空きがありません。".into(),
            Self::DiskUnusable => "装置の記憶領域に書き込めないか、読み出せません。".into(),
            Self::JournalDamaged => "装置に保存した手続きの記録が壊れています。".into(),
            Self::AlreadyProvisioned => "有効な電子証明書がすでに入っています。".into(),
            Self::NotProvisioned => "電子証明書はまだ入っていません。".into(),
            Self::InUse => "この装置のほかのプログラム（gatewayd か gateway-provision）が作業中です。".into(),
            Self::ImportUnreadable => "証明書ファイル（PKCS#12）を開けませんでした（パスワード違いか、ファイルの破損です）。".into(),
            Self::ImportRsa => "この証明書ファイルの鍵はRSA方式で、この装置では使えません。".into(),
            Self::ImportUnsuitable => "この証明書ファイルには、使える鍵（P-256方式）とその証明書の組がありません。".into(),
            Self::AnchorUnusable => "市の認証局の証明書（信頼の起点）のファイルを使えません。".into(),
            Self::ClearUnproven => "TPMの初期化のあとも、古い鍵が使えなくなったことを確かめられませんでした。".into(),
            Self::Decommissioning => "この装置の返却・廃棄の手続きが途中まで進んでいます。".into(),
            Self::Interrupted => "手続きが途中で止められました。".into(),
        }
    }

    /// The one next step, as a Japanese sentence.
    pub fn next_step_ja(&self) -> String {
        const FROM_HERE: &str = "そのあと、もう一度同じ番号とアクセスコードで進めてください（ここまでの手続きは失われません）。";
        match self {
            Self::NumberMistyped(_) | Self::CodeMistyped(_) => "書類を見ながら、英数字をもう一度入力してください。".into(),
            Self::WrongNumberOrCode { times } => format!(
                "書類を見ながら、落ち着いてもう一度入力してください（市は続けて5回の間違いで番号を停止します。あと{}回です）。",
                5_u8.saturating_sub(*times)
            ),
            Self::NumberLocked => "市の担当課に連絡し、新しい番号とアクセスコードを受け取ってください。".into(),
            Self::NumberUsed => "心当たりがなければすぐに市の担当課へ連絡し、新しい番号を受け取ってください。".into(),
            Self::NumberExpired => "市の担当課に連絡し、新しい番号とアクセスコードを受け取ってください。".into(),
            Self::EntryNeeded => "同じ番号とアクセスコードをもう一度入力してください（同じ鍵で続けるので、番号は無駄になりません）。".into(),
            Self::NotTheCity => "装置をつないだ回線が正しいかを確かめ、サポート窓口に連絡してください（繰り返し試さないでください）。".into(),
            Self::ClockBehind { .. } | Self::ClockDiffers { .. } => {
                format!("装置をインターネットにつないで時刻が合うまで数分待ってください。{FROM_HERE}")
            }
            Self::ClockAhead { .. } => {
                "まず装置の時計を確かめて合わせ、時計が正しければ市の担当課に連絡してください（ここまでの手続きは失われません）。".into()
            }
            Self::NameNotFound | Self::NoNetwork => format!("LANケーブルとインターネット回線を確かめてください。{FROM_HERE}"),
            Self::ConnectionLost => format!("1分ほど待ってください。{FROM_HERE}"),
            Self::CityBusy { .. } => format!("10分ほど待ってください。{FROM_HERE}"),
            Self::CityRefused { .. } | Self::CityUnintelligible => {
                "この画面のコードを控えて、サポート窓口に連絡してください（ここまでの手続きは失われません）。".into()
            }
            Self::Revoked => "市の担当課に確かめ、新しい番号とアクセスコードで設定し直してください。".into(),
            Self::CertificateRefused => "サポート窓口に連絡してください（鍵と証明書は装置に残っています）。".into(),
            Self::FacilitySuspended => "市の担当課に連絡してください（再開されれば、設定し直さずに使えます）。".into(),
            Self::Expired => "市の担当課から新しい番号とアクセスコードを受け取り、設定し直してください。".into(),
            Self::CertificateForOtherKey
            | Self::CertificateFromOtherIssuer
            | Self::CertificateForOtherUse
            | Self::CertificateForOtherFacility => {
                "証明書は使わずに捨てました。市の担当課に、この画面のコードを伝えてください。".into()
            }
            Self::TpmMissing | Self::TpmBusy => {
                "装置の電源を切って入れ直し、同じ表示が続くときはサポート窓口に連絡してください。".into()
            }
            Self::SoftwareTpm => "TPMを備えた装置を使ってください（試験用の環境では設定で明示的に許可できます）。".into(),
            Self::TpmOwned => "装置のファームウェア設定でTPMを初期化してから、もう一度お試しください。".into(),
            Self::TpmExchanged | Self::KeyLost => {
                "市の担当課から新しい番号とアクセスコードを受け取り、設定し直してください。".into()
            }
            Self::DiskFull => "サポート窓口に連絡して空きを作ってから、同じ番号とアクセスコードで続けてください。".into(),
            Self::DiskUnusable | Self::JournalDamaged => "装置の交換が必要な場合があるため、サポート窓口に連絡してください。".into(),
            Self::AlreadyProvisioned => "追加の電子証明書（第6条第4項）なら、別の名前を付けて取得してください。".into(),
            Self::NotProvisioned => "市から届いた番号とアクセスコードで設定してください。".into(),
            Self::InUse => "その作業が終わるのを待つか、設定画面から操作してください。".into(),
            Self::ImportUnreadable => "市から届いたパスワードとファイルを確かめて、もう一度お試しください。".into(),
            Self::ImportRsa => "P-256（楕円曲線）方式の証明書か、電子証明書取得用番号の発行を市に依頼してください。".into(),
            Self::ImportUnsuitable => "市から届いた元のファイルをそのまま選んでください。".into(),
            Self::AnchorUnusable => "サポート窓口に連絡し、設定ファイルの city.anchor を確かめてください。".into(),
            Self::ClearUnproven => "装置を手放さずに保管し、サポート窓口に連絡してください。".into(),
            Self::Decommissioning => "返却・廃棄の手続きをもう一度実行して、最後まで終えてください。".into(),
            Self::Interrupted => "もう一度同じ番号とアクセスコードで進めてください（ここまでの手続きは失われません）。".into(),
        }
    }

    /// Sentence, next step and code on one line.
    pub fn line_ja(&self) -> String {
        format!(
            "{}{}［{}］",
            self.sentence_ja(),
            self.next_step_ja(),
            self.code()
        )
    }
}

fn entry_ja(error: EntryError) -> String {
    match error {
        EntryError::Empty => "入力されていません".into(),
        EntryError::TooShort => "短すぎます".into(),
        EntryError::TooLong => "長すぎます".into(),
        EntryError::Character { position } => {
            format!("英数字だけではありません（{position}文字目）")
        }
    }
}

fn support_ja(code: Option<&str>) -> String {
    code.map_or_else(String::new, |code| format!("（市のサポートコード {code}）"))
}

/// A date as read in Japan. Certificates are in UTC, calendars on the wall are not.
pub(crate) fn date_ja(at: Option<OffsetDateTime>) -> String {
    let Some(at) = at else {
        return "別の日".to_owned();
    };
    let hours = UtcOffset::from_hms(9, 0, 0).unwrap_or(UtcOffset::UTC);
    let at = at.checked_to_offset(hours).unwrap_or(at);
    format!("{}年{}月{}日", at.year(), u8::from(at.month()), at.day())
}

#[cfg(test)]
pub(crate) mod tests {
    use time::macros::datetime;

    use super::*;

    /// One of each.
    pub(crate) fn all() -> Vec<Failure> {
        let day = datetime!(2026-11-22 20:00 UTC);
        vec![
            Failure::NumberMistyped(EntryError::Character { position: 3 }),
            Failure::CodeMistyped(EntryError::Empty),
            Failure::WrongNumberOrCode { times: 2 },
            Failure::NumberLocked,
            Failure::NumberUsed,
            Failure::NumberExpired,
            Failure::EntryNeeded,
            Failure::NotTheCity,
            Failure::ClockBehind {
                clock: Some(day),
                at_least: None,
            },
            Failure::ClockAhead {
                clock: Some(day),
                at_most: Some(day),
            },
            Failure::ClockDiffers {
                clock: day,
                city: day,
            },
            Failure::NameNotFound,
            Failure::NoNetwork,
            Failure::ConnectionLost,
            Failure::CityBusy { support_code: None },
            Failure::CityRefused {
                status: 400,
                support_code: Some("ABCD-EFGH".into()),
            },
            Failure::CityUnintelligible,
            Failure::Revoked,
            Failure::CertificateRefused,
            Failure::FacilitySuspended,
            Failure::Expired,
            Failure::CertificateForOtherKey,
            Failure::CertificateFromOtherIssuer,
            Failure::CertificateForOtherUse,
            Failure::CertificateForOtherFacility,
            Failure::TpmMissing,
            Failure::TpmBusy,
            Failure::SoftwareTpm,
            Failure::TpmOwned,
            Failure::TpmExchanged,
            Failure::KeyLost,
            Failure::DiskFull,
            Failure::DiskUnusable,
            Failure::JournalDamaged,
            Failure::AlreadyProvisioned,
            Failure::NotProvisioned,
            Failure::InUse,
            Failure::ImportUnreadable,
            Failure::ImportRsa,
            Failure::ImportUnsuitable,
            Failure::AnchorUnusable,
            Failure::ClearUnproven,
            Failure::Decommissioning,
            Failure::Interrupted,
        ]
    }

    #[test]
    fn every_failure_has_one_sentence_a_next_step_and_its_own_code() {
        let mut codes = std::collections::BTreeSet::new();
        for failure in all() {
            let sentence = failure.sentence_ja();
            assert!(
                sentence.ends_with('。') && sentence.matches('。').count() == 1,
                "{sentence}"
            );
            assert!(failure.next_step_ja().ends_with('。'));
            assert!(codes.insert(failure.code()), "{}", failure.code());
        }
    }

    #[test]
    fn the_sentence_about_a_wrong_clock_tells_both_times_as_read_in_japan() {
        let failure = Failure::ClockDiffers {
            clock: datetime!(1970-01-01 00:00 UTC),
            city: datetime!(2026-11-22 20:00 UTC),
        };
        let sentence = failure.sentence_ja();
        assert!(
            sentence.contains("1970年1月1日") && sentence.contains("2026年11月23日"),
            "{sentence}"
        );
    }

    #[test]
    fn the_next_step_after_a_wrong_code_tells_how_many_attempts_are_left() {
        assert!(
            Failure::WrongNumberOrCode { times: 2 }
                .next_step_ja()
                .contains("あと3回")
        );
    }
}
