//! What a request asks for, already classified. Does not look at HTTP.

/// Which part of the world a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Area {
    /// The public portal, sign-in help and the like: open to everybody, whatever the verdict (第17条).
    Public,
    /// Staff pages and API of the notebook: forwarded only with a verdict that allows it.
    Staff,
    /// The box's own pages: set-up, status and stored notes. Who may read which note is decided by the store.
    Box,
}

/// One request in the words of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The part of the world it is for.
    pub area: Area,
    /// It may change something at the city (any method but GET, HEAD, OPTIONS).
    pub writes: bool,
    /// It carries a file up, or asks for one down.
    pub transfers_file: bool,
}
