//! The tables of `docs/design.md`.

/// Which of our crates each may use at run time. The table of `docs/design.md`; a crate without a row may not exist.
pub(crate) const EDGES: &[(&str, &[&str])] = &[
    ("gateway-policy", &[]),
    ("gateway-posture", &["gateway-policy"]),
    ("gateway-tpm", &[]),
    ("gateway-devices", &["gateway-policy", "gateway-tpm"]),
    ("gateway-installer", &[]),
    ("gateway-journal", &[]),
    ("gateway-notes", &[]),
    ("gateway-antivirus", &[]),
    ("gateway-audit", &["gateway-policy"]),
    ("gateway-accesslog", &["gateway-audit", "gateway-policy"]),
    ("gateway-ctl", &["gateway-audit"]),
    ("gateway-city", &[]),
    ("gateway-tuf", &["gateway-city", "gateway-policy"]),
    (
        "gateway-updater",
        &["gateway-journal", "gateway-policy", "gateway-tuf"],
    ),
    (
        "gateway-release",
        &["gateway-policy", "gateway-tuf", "gateway-updater"],
    ),
    (
        "gateway-proxy",
        &[
            "gateway-antivirus",
            "gateway-city",
            "gateway-notes",
            "gateway-policy",
        ],
    ),
    ("gateway-console", &["gateway-notes", "gateway-policy"]),
    ("gateway-registers", &["gateway-policy"]),
    ("gateway-provisioning", &["gateway-city", "gateway-tpm"]),
    (
        "gateway-daemon",
        &[
            "gateway-accesslog",
            "gateway-antivirus",
            "gateway-audit",
            "gateway-city",
            "gateway-console",
            "gateway-devices",
            "gateway-journal",
            "gateway-notes",
            "gateway-policy",
            "gateway-posture",
            "gateway-provisioning",
            "gateway-proxy",
            "gateway-registers",
            "gateway-tpm",
            "gateway-tuf",
        ],
    ),
    ("reference-city", &["gateway-release", "gateway-tuf"]),
    ("crash-points", &[]),
    ("test-harness", &[]),
    ("xtask", &["test-harness"]),
    ("gateway-e2e", &["test-harness"]),
];

/// Outside libraries with one owner each: who may name them, tests included.
pub(crate) const OWNERS: &[(&str, &[&str])] = &[
    ("tss-esapi", &["gateway-tpm"]),
    // One file each: the store of notes, the registers, the city's database.
    (
        "rusqlite",
        &[
            "gateway-devices",
            "gateway-notes",
            "gateway-registers",
            "reference-city",
        ],
    ),
    ("axum", &["reference-city"]),
    ("sigstore-tuf", &["gateway-tuf"]),
    ("systemd-journal-logger", &["gateway-journal"]),
    ("sd-notify", &["gateway-daemon"]),
];
