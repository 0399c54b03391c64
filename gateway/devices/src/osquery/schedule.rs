//! What is asked of each platform, and how often. This list is all there is: it is shown to staff as it stands, and there is
//! no other way to ask a device anything.
//!
//! No query names a user, a file of a user, a window or an address; settings that Windows keeps per user come as their worst
//! value over all of them.

use serde_json::{Map, Value, json};

use crate::Kind;

/// Seconds between two looks at what changes quickly.
pub const REPORT_INTERVAL: u32 = 900;

/// Programs change rarely and the list is long.
const SLOW: u32 = 21_600;

/// Name, query, seconds between two looks.
type Query = (&'static str, &'static str, u32);

const WINDOWS: &[Query] = &[
    (
        "renraku_security_products",
        "SELECT type, state, signatures_up_to_date FROM windows_security_products WHERE type = 'Antivirus'",
        REPORT_INTERVAL,
    ),
    (
        "renraku_security_center",
        "SELECT antivirus FROM windows_security_center",
        REPORT_INTERVAL,
    ),
    (
        "renraku_windows_version",
        "SELECT name, data FROM registry WHERE key = 'HKEY_LOCAL_MACHINE\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion' \
         AND name IN ('CurrentMajorVersionNumber', 'CurrentMinorVersionNumber', 'CurrentBuildNumber', 'UBR')",
        REPORT_INTERVAL,
    ),
    (
        "renraku_windows_lock",
        "SELECT 'inactivity' AS name, max(CAST(data AS INTEGER)) AS data FROM registry \
         WHERE key = 'HKEY_LOCAL_MACHINE\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Policies\\System' AND name = 'InactivityTimeoutSecs' \
         UNION ALL SELECT 'saver_seconds', max(CAST(data AS INTEGER)) FROM registry \
         WHERE key LIKE 'HKEY_USERS\\%\\Software\\Policies\\Microsoft\\Windows\\Control Panel\\Desktop' AND name = 'ScreenSaveTimeOut' \
         UNION ALL SELECT 'saver_secure', min(CAST(data AS INTEGER)) FROM registry \
         WHERE key LIKE 'HKEY_USERS\\%\\Software\\Policies\\Microsoft\\Windows\\Control Panel\\Desktop' AND name = 'ScreenSaverIsSecure'",
        REPORT_INTERVAL,
    ),
    (
        "renraku_usbstor",
        "SELECT data FROM registry WHERE key = 'HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services\\USBSTOR' AND name = 'Start'",
        REPORT_INTERVAL,
    ),
    (
        "renraku_usb_media",
        "SELECT name FROM registry WHERE key LIKE 'HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Enum\\USBSTOR\\%' AND type = 'subkey'",
        REPORT_INTERVAL,
    ),
    (
        "renraku_bitlocker",
        "SELECT drive_letter, protection_status FROM bitlocker_info",
        REPORT_INTERVAL,
    ),
    (
        "renraku_battery",
        "SELECT count(*) AS batteries FROM battery",
        SLOW,
    ),
    (
        "renraku_programs",
        "SELECT name, version FROM programs",
        SLOW,
    ),
];

const MAC: &[Query] = &[
    (
        "renraku_gatekeeper",
        "SELECT assessments_enabled FROM gatekeeper",
        REPORT_INTERVAL,
    ),
    (
        "renraku_xprotect_updates",
        "SELECT value FROM preferences WHERE path = '/Library/Preferences/com.apple.SoftwareUpdate.plist' AND key = 'ConfigDataInstall'",
        REPORT_INTERVAL,
    ),
    (
        "renraku_os_version",
        "SELECT platform, version FROM os_version",
        REPORT_INTERVAL,
    ),
    (
        "renraku_screenlock",
        "SELECT enabled, grace_period FROM screenlock",
        REPORT_INTERVAL,
    ),
    (
        "renraku_disk_encryption",
        "SELECT min(d.encrypted) AS encrypted FROM mounts m JOIN disk_encryption d ON m.device_alias = d.name WHERE m.path = '/'",
        REPORT_INTERVAL,
    ),
    (
        "renraku_battery",
        "SELECT count(*) AS batteries FROM battery",
        SLOW,
    ),
    (
        "renraku_programs",
        "SELECT bundle_name AS name, bundle_short_version AS version FROM apps WHERE path LIKE '/Applications/%'",
        SLOW,
    ),
];

const LINUX: &[Query] = &[
    (
        "renraku_clamd",
        "SELECT count(*) AS running FROM processes WHERE name = 'clamd'",
        REPORT_INTERVAL,
    ),
    (
        "renraku_clamav_database",
        "SELECT max(mtime) AS built FROM file WHERE path IN ('/var/lib/clamav/daily.cld', '/var/lib/clamav/daily.cvd')",
        REPORT_INTERVAL,
    ),
    (
        "renraku_os_version",
        "SELECT platform, version FROM os_version",
        REPORT_INTERVAL,
    ),
    (
        "renraku_disk_encryption",
        "SELECT max(d.encrypted) AS encrypted FROM mounts m JOIN disk_encryption d ON m.device_alias = d.name WHERE m.path = '/'",
        REPORT_INTERVAL,
    ),
    (
        "renraku_programs",
        "SELECT name, version FROM deb_packages WHERE section NOT IN ('libs', 'oldlibs', 'doc', 'libdevel', 'debug')",
        SLOW,
    ),
];

/// The whole configuration of a device's osquery.
#[must_use]
pub fn schedule(kind: Kind) -> Value {
    let queries: &[Query] = match kind {
        Kind::Windows => WINDOWS,
        Kind::Mac => MAC,
        Kind::Linux => LINUX,
        Kind::Ipad | Kind::Android | Kind::Chromebook => &[],
    };
    let schedule: Map<String, Value> = queries
        .iter()
        .map(|(name, query, interval)| {
            // Snapshots, because a lost difference would be lost for good.
            let asked =
                json!({ "query": query, "interval": interval, "snapshot": true, "removed": false });
            ((*name).to_owned(), asked)
        })
        .collect();
    json!({
        "schedule": schedule,
        "options": {
            "disable_distributed": true,
            "schedule_splay_percent": 10,
            "config_refresh": 3_600,
            "logger_tls_period": 60,
        },
        "node_invalid": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_query_asks_for_people_files_of_people_or_addresses() {
        let forbidden = [
            "users",
            "logged_in",
            "shell_history",
            "username",
            "path,",
            "cmdline",
            "url",
            "email",
            "wifi",
            "interface",
            "arp",
            "chrome",
            "firefox",
            "curl",
            "hostname",
            "select *",
        ];
        for query in WINDOWS.iter().chain(MAC).chain(LINUX) {
            let text = query.1.to_lowercase().replace("hkey_users", "");
            for word in forbidden {
                assert!(!text.contains(word), "{} asks for {word}", query.0);
            }
        }
    }

    #[test]
    fn every_kind_that_reports_is_asked_and_no_other() {
        for kind in Kind::ALL {
            let asked = schedule(kind)["schedule"].as_object().unwrap().len();
            assert_eq!(asked > 0, kind.reports(), "{kind:?}");
        }
    }
}
