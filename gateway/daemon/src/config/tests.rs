use super::*;

const SOUND: &str = include_str!("../../gateway.toml");

#[test]
fn the_commented_example_is_a_sound_configuration() {
    let config = Config::parse(SOUND).expect("the example holds");
    assert_eq!(config.sites.len(), 1);
    assert_eq!(config.listen.https[0].port(), 443);
}

#[test]
fn an_unknown_key_is_a_fault_with_its_line() {
    let text = SOUND.replace("[antivirus]", "[antivirus]\nsokcet = \"/x\"");
    let faults = Config::parse(&text).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].key, "antivirus.sokcet");
    assert!(faults[0].line > 1);
}

#[test]
fn faults_of_several_tables_come_together() {
    let text = SOUND
        .replace("http = [\"[::]:80\"]", "http = \"many\"")
        .replace("\nconnections = 4096", "\nconnections = 0")
        + "\n[colour]\nred = 1\n";
    let keys: Vec<_> = Config::parse(&text)
        .unwrap_err()
        .into_iter()
        .map(|fault| fault.key)
        .collect();
    assert_eq!(keys, ["listen.http", "limits.connections", "colour"]);
}

#[test]
fn a_host_relayed_twice_or_misspelt_is_a_fault() {
    for bad in [
        "hosts = [\"a.example\", \"a.example\"]",
        "hosts = [\"A.example\"]",
        "hosts = [\"a.example:443\"]",
        "hosts = []",
    ] {
        let text = SOUND.replace("hosts = [\"renraku.city.example.lg.jp\"]", bad);
        assert_ne!(text, SOUND, "the example's hosts line is replaced");
        assert!(Config::parse(&text).is_err(), "{bad}");
    }
}

#[test]
fn a_canary_scanned_too_rarely_is_a_fault() {
    let text = SOUND.replace("canary_seconds = 300", "canary_seconds = 900");
    assert!(Config::parse(&text).is_err());
}

#[test]
fn nonsense_is_a_fault_and_not_a_panic() {
    for text in [
        "",
        "\u{0}",
        "state_dir = [",
        "state_dir = 1\nlisten = 2\nsite = 3",
        "[[site]]\n[[site]]",
    ] {
        assert!(Config::parse(text).is_err());
    }
}

#[test]
fn without_a_site_there_is_one_fault_and_with_a_faulty_one_only_that() {
    let (before, after) = SOUND.split_once("[[site]]").expect("the example has one");
    let after = after.split_once("[antivirus]").expect("and a scanner").1;
    let none = format!("site = []\n{before}[antivirus]{after}");
    let keys = |text: &str| -> Vec<String> {
        let faults = Config::parse(text).unwrap_err();
        faults.into_iter().map(|fault| fault.key).collect()
    };
    assert_eq!(keys(&none), ["site"]);
    let faulty = SOUND.replace("protocol = \"auto\"", "protocol = \"gopher\"");
    assert_eq!(keys(&faulty), ["site[0].protocol"]);
}

#[test]
fn the_example_agrees_with_what_systemd_installs() {
    let service = include_str!("../../../../systemd/gatewayd.service");
    let socket = include_str!("../../../../systemd/gatewayd.socket");
    let value = |unit: &'static str, key: &str| {
        unit.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .unwrap_or_else(|| panic!("{key}= is missing"))
    };
    let config = Config::parse(SOUND).expect("the example holds");
    let state = Path::new("/var/lib").join(value(service, "StateDirectory"));
    assert_eq!(config.state_dir, state);
    let device = value(service, "DeviceAllow")
        .split(' ')
        .next()
        .unwrap_or_default();
    assert_eq!(config.tpm.tcti, format!("device:{device}"));
    for address in config.listen.https.iter().chain(&config.listen.http) {
        assert!(
            socket.contains(&format!("ListenStream={}\n", address.port())),
            "{address}"
        );
    }
    let stop: u64 = value(service, "TimeoutStopSec").parse().expect("seconds");
    assert!(
        config.limits.drain_seconds < stop,
        "systemd kills before requests could finish"
    );
    assert_eq!(value(service, "RestartPreventExitStatus"), "78");
}
