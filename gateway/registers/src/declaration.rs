//! What a manager declares for the facility as a whole where nothing can be measured. Pure.

use gateway_policy::Timestamp;
use serde::{Deserialize, Serialize};

/// What is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// Printed paper is used, kept and disposed of by the rules of the house (第28条).
    Paper,
    /// Tablets and telephones are handed out, locked and accounted for (第29条).
    Tablets,
}

impl Topic {
    /// All of them; each has to be declared.
    pub const ALL: [Self; 2] = [Self::Paper, Self::Tablets];

    /// For people.
    #[must_use]
    pub const fn label_ja(self) -> &'static str {
        match self {
            Self::Paper => "印刷された用紙の取り扱い",
            Self::Tablets => "タブレット・スマートフォンの管理",
        }
    }
}

/// A declaration that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// The topic.
    pub topic: Topic,
    /// What was written beside it; may be empty.
    pub remark: String,
    /// When.
    pub at: Timestamp,
    /// Who, by the user id at the city.
    pub by: String,
}
