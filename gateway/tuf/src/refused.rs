//! Why something offered as signed was not taken: one variant for each reason, with an id and a sentence.
//!
//! It quotes names of roles and files only, never their content.

use crate::TransportError;

/// Nothing was taken, and why. What was believed before stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// An older version than one already accepted.
    #[error("{file} is version {offered}, version {accepted} was already accepted")]
    Rollback {
        /// The file.
        file: String,
        /// The version accepted before; the floor.
        accepted: u64,
        /// The version offered now; 0 when the file was taken out of the snapshot.
        offered: u64,
    },
    /// Expired: somebody keeps newer files away, or the city has forgotten to renew.
    #[error("{file} has expired at {expired}")]
    Frozen {
        /// The file.
        file: String,
        /// When it expired, RFC 3339.
        expired: String,
    },
    /// Files that do not belong together.
    #[error("{file} is not the one that its parent names")]
    MixAndMatch {
        /// The file.
        file: String,
    },
    /// More bytes than there may be.
    #[error("{file} does not end after {limit} bytes")]
    EndlessData {
        /// The file.
        file: String,
        /// The most it may have, in bytes.
        limit: u64,
    },
    /// Too few bytes in too much time.
    #[error("{file} comes too slowly")]
    SlowRetrieval {
        /// The file.
        file: String,
    },
    /// Too few of those who must sign have signed.
    #[error("{file} has {found} of {threshold} signatures")]
    WrongSigner {
        /// The file.
        file: String,
        /// Good signatures of keys that count.
        found: usize,
        /// How many it takes.
        threshold: usize,
    },
    /// A role named a target that is another role's to name.
    #[error("{target} is named by the role {role}, it belongs to {duty}")]
    WrongRole {
        /// The target.
        target: String,
        /// Who named it.
        role: String,
        /// Whose it is.
        duty: String,
    },
    /// A root whose version is not the next one.
    #[error("root version {offered} cannot follow {accepted}")]
    RootVersion {
        /// The version trusted.
        accepted: u64,
        /// The version offered.
        offered: u64,
    },
    /// Root after root without end.
    #[error("more than {limit} new roots at once")]
    TooManyRoots {
        /// The most that are followed in one refresh.
        limit: u32,
    },
    /// The clock and what is signed contradict each other. Both in seconds since 1970.
    #[error("the clock says {clock}, what is signed says {signed}")]
    WrongClock {
        /// This box's time.
        clock: i64,
        /// The signed or the city's time.
        signed: i64,
    },
    /// What was stored cannot be read, or is not what was stored.
    #[error("{file} in the store is damaged")]
    TornStore {
        /// The file.
        file: String,
        /// What the system said, when it was the system.
        source: Option<std::io::Error>,
    },
    /// The store cannot be written. Nothing is believed that could be forgotten.
    #[error("{file} cannot be written")]
    Disk {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not metadata at all, or with content that is not understood.
    #[error("{file} cannot be understood")]
    Malformed {
        /// The file.
        file: String,
        /// What the core said.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A file that must be there is not.
    #[error("{file} is missing in the repository")]
    MissingFile {
        /// The file.
        file: String,
    },
    /// No role names this target.
    #[error("no role names {target}")]
    MissingTarget {
        /// The target.
        target: String,
    },
    /// The target's file has another length.
    #[error("{target} has {found} bytes, {length} are signed")]
    WrongLength {
        /// The target.
        target: String,
        /// The length signed.
        length: u64,
        /// The length found.
        found: u64,
    },
    /// The target's file has another content.
    #[error("{target} is not the file that was signed")]
    WrongHash {
        /// The target.
        target: String,
    },
    /// A name or a kind of file that could lead elsewhere.
    #[error("{file} is not a plain file of a repository")]
    UnsafeFile {
        /// The file.
        file: String,
    },
    /// The repository could not be asked; no attack, only no news.
    #[error("{file} cannot be had")]
    Unreachable {
        /// The file.
        file: String,
        /// Why.
        source: TransportError,
    },
}

impl Refused {
    /// A word for the journal and the support code; never changes for a reason once it has it.
    #[must_use]
    pub const fn id(&self) -> &'static str {
        match self {
            Self::Rollback { .. } => "TUF-ROLLBACK",
            Self::Frozen { .. } => "TUF-FREEZE",
            Self::MixAndMatch { .. } => "TUF-MIX",
            Self::EndlessData { .. } => "TUF-ENDLESS",
            Self::SlowRetrieval { .. } => "TUF-SLOW",
            Self::WrongSigner { .. } => "TUF-SIGNER",
            Self::WrongRole { .. } => "TUF-ROLE",
            Self::RootVersion { .. } => "TUF-ROOT",
            Self::TooManyRoots { .. } => "TUF-ROOTS",
            Self::WrongClock { .. } => "TUF-CLOCK",
            Self::TornStore { .. } => "TUF-STORE",
            Self::Disk { .. } => "TUF-DISK",
            Self::Malformed { .. } => "TUF-FORM",
            Self::MissingFile { .. } => "TUF-FILE",
            Self::MissingTarget { .. } => "TUF-TARGET",
            Self::WrongLength { .. } => "TUF-LENGTH",
            Self::WrongHash { .. } => "TUF-HASH",
            Self::UnsafeFile { .. } => "TUF-NAME",
            Self::Unreachable { .. } => "TUF-AWAY",
        }
    }

    /// What a person is told: what happened, and where there is one, the next step.
    #[must_use]
    pub const fn sentence(&self) -> &'static str {
        match self {
            Self::Rollback { .. } => {
                "すでに取り込んだものより古い内容のため、取り込みませんでした。"
            }
            Self::Frozen { .. } => {
                "配信内容の有効期限が切れているため、取り込みませんでした。市へ連絡してください。"
            }
            Self::MixAndMatch { .. } => {
                "組み合わせの合わないファイルがあるため、取り込みませんでした。"
            }
            Self::EndlessData { .. } => {
                "決められた大きさを超えて送られてきたため、受信をやめました。"
            }
            Self::SlowRetrieval { .. } => {
                "受信が遅すぎるため、中止しました。時間をおいて自動で再開します。"
            }
            Self::WrongSigner { .. } => {
                "必要な署名がそろっていないため、取り込みませんでした。市へ連絡してください。"
            }
            Self::WrongRole { .. } => {
                "担当の異なる署名のため、取り込みませんでした。市へ連絡してください。"
            }
            Self::RootVersion { .. } | Self::TooManyRoots { .. } => {
                "署名鍵の更新の順序が正しくないため、取り込みませんでした。"
            }
            Self::WrongClock { .. } => {
                "機器の時計と署名の日時が合わないため、取り込みませんでした。"
            }
            Self::TornStore { .. } => {
                "保存済みの署名情報が壊れているため、取り込みを止めています。市へ連絡してください。"
            }
            Self::Disk { .. } => "保存できないため、取り込みませんでした。市へ連絡してください。",
            Self::Malformed { .. } => "配信内容を読み取れないため、取り込みませんでした。",
            Self::MissingFile { .. } | Self::MissingTarget { .. } => {
                "必要なファイルが配信されていません。"
            }
            Self::WrongLength { .. } | Self::WrongHash { .. } => {
                "署名された内容と異なるファイルのため、取り込みませんでした。"
            }
            Self::UnsafeFile { .. } => "使えないファイルが含まれているため、取り込みませんでした。",
            Self::Unreachable { .. } => "配信元に接続できません。つながり次第、自動で再開します。",
        }
    }

    /// True when it is only that nobody could be asked: nothing was offered, so nothing was refused.
    #[must_use]
    pub const fn is_only_away(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    pub(crate) fn unreachable(file: &str, source: TransportError) -> Self {
        match source {
            TransportError::Unsafe(file) => Self::UnsafeFile { file },
            TransportError::City(gateway_city::CityError::Timeout { .. }) => Self::SlowRetrieval {
                file: file.to_owned(),
            },
            source => Self::Unreachable {
                file: file.to_owned(),
                source,
            },
        }
    }

    /// Gives the core's answer about `file` its name.
    pub(crate) fn by_the_core(file: &str, error: sigstore_tuf::Error) -> Self {
        use sigstore_tuf::Error;
        let file = file.to_owned();
        match error {
            Error::Rollback { trusted, new, .. } => Self::Rollback {
                file,
                accepted: trusted,
                offered: new,
            },
            Error::Expired { role, expires } => Self::Frozen {
                file: format!("{role}.json"),
                expired: expires.to_string(),
            },
            Error::IntegrityMismatch(_) => Self::MixAndMatch { file },
            Error::ThresholdNotMet {
                found, threshold, ..
            } => Self::WrongSigner {
                file,
                found,
                threshold,
            },
            Error::DuplicateSignature { .. } => Self::WrongSigner {
                file,
                found: 0,
                threshold: 1,
            },
            Error::BadRootVersion { trusted, new } => Self::RootVersion {
                accepted: trusted,
                offered: new,
            },
            other => Self::Malformed {
                file,
                source: Some(other.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn every_reason() -> Vec<Refused> {
        let file = String::new;
        let error = || std::io::Error::other("x");
        vec![
            Refused::Rollback {
                file: file(),
                accepted: 2,
                offered: 1,
            },
            Refused::Frozen {
                file: file(),
                expired: file(),
            },
            Refused::MixAndMatch { file: file() },
            Refused::EndlessData {
                file: file(),
                limit: 1,
            },
            Refused::SlowRetrieval { file: file() },
            Refused::WrongSigner {
                file: file(),
                found: 1,
                threshold: 2,
            },
            Refused::WrongRole {
                target: file(),
                role: file(),
                duty: file(),
            },
            Refused::RootVersion {
                accepted: 1,
                offered: 3,
            },
            Refused::TooManyRoots { limit: 1 },
            Refused::WrongClock {
                clock: 0,
                signed: 1,
            },
            Refused::TornStore {
                file: file(),
                source: None,
            },
            Refused::Disk {
                file: file(),
                source: error(),
            },
            Refused::Malformed {
                file: file(),
                source: None,
            },
            Refused::MissingFile { file: file() },
            Refused::MissingTarget { target: file() },
            Refused::WrongLength {
                target: file(),
                length: 1,
                found: 2,
            },
            Refused::WrongHash { target: file() },
            Refused::UnsafeFile { file: file() },
            Refused::Unreachable {
                file: file(),
                source: TransportError::NoCertificate,
            },
        ]
    }

    #[test]
    fn each_reason_has_an_id_of_its_own_and_one_japanese_sentence_or_two() {
        let reasons = every_reason();
        let ids: BTreeSet<&str> = reasons.iter().map(Refused::id).collect();
        assert_eq!(ids.len(), reasons.len());
        for reason in &reasons {
            let word = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
            assert!(reason.id().bytes().all(word), "{}", reason.id());
            let sentences = reason.sentence().matches('。').count();
            assert!((1..=2).contains(&sentences) && reason.sentence().ends_with('。'));
        }
    }

    #[test]
    fn only_silence_is_no_refusal() {
        let silent = every_reason().into_iter().filter(Refused::is_only_away);
        assert_eq!(
            silent.map(|reason| reason.id()).collect::<Vec<_>>(),
            ["TUF-AWAY"]
        );
    }

    #[test]
    fn a_city_that_stops_answering_in_the_middle_is_slow_and_not_away() {
        let timeout = gateway_city::CityError::Timeout {
            host: String::new(),
            what: "send on",
            limit: std::time::Duration::from_secs(1),
        };
        let refused = Refused::unreachable("timestamp.json", TransportError::City(timeout));
        assert_eq!(refused.id(), "TUF-SLOW");
    }
}
