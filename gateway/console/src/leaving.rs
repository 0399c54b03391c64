//! The end of this box's service at this facility, as the pages show it. What happens then is behind [`LeavingDesk`].

use crate::Message;

/// What the page of the end of service asks for and sets in motion. Works without the city.
pub trait LeavingDesk: Send + Sync + 'static {
    /// How it stands. Asked for every page, so it must not wait for anything.
    fn state(&self) -> Leaving;

    /// Whether everything on the disk but the system is made anew at the next start. Where the box's programs run on a system of
    /// somebody else's, registers and logs are left to whoever runs it.
    fn makes_disk_anew(&self) -> bool;

    /// Begins: the city is told, the TPM cleared, everything erased. Answers as soon as it runs.
    ///
    /// # Errors
    /// Why it was not even begun.
    fn leave(&self, reason: LeavingReason) -> Result<(), Message>;
}

/// How the end of service stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// The box is in service, or has never been.
    InService,
    /// It is being taken out of service.
    Running,
    /// It was begun and did not come to its end; it can be gone on with.
    Failed(Message),
    /// It is out of service.
    Left {
        /// What was revoked, cleared and erased, for print.
        record: String,
    },
}

/// Why the box leaves service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeavingReason {
    /// The facility leaves the service (第10条).
    Leaving,
    /// Another box takes over.
    Replaced,
    /// The box is thrown away (第28条).
    Disposed,
}

impl LeavingReason {
    /// All of them, as listed on the form.
    pub const ALL: [Self; 3] = [Self::Leaving, Self::Replaced, Self::Disposed];

    /// The code in forms.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Leaving => "leaving",
            Self::Replaced => "replaced",
            Self::Disposed => "disposed",
        }
    }

    /// The reason with this code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// For people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Leaving => "電子@連絡帳の利用をやめる（第10条）",
            Self::Replaced => "装置を交換する・初期化する",
            Self::Disposed => "装置を廃棄する（第28条）",
        }
    }
}
