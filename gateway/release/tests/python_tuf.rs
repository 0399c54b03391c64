//! Another client of the same specification reads what `gateway-release` writes: python-tuf, from PyPI, in an environment of its
//! own below `target`. So the two ends here cannot agree on a mistake of their own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

#[path = "channel/town.rs"]
#[allow(dead_code, reason = "shared with the tests of the channel")]
mod town;

use std::path::{Path, PathBuf};
use std::process::Command;

use gateway_release::Role;
use time::OffsetDateTime;

/// Reads a repository from a directory, from its first root on, and writes a target out.
const SCRIPT: &str = r#"
import pathlib, sys, tempfile
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

repository, target, out = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]

class Files(FetcherInterface):
    def _fetch(self, url):
        path = pathlib.Path(url.removeprefix("file://"))
        if not path.is_file():
            raise DownloadHTTPError("not there", 404)
        return iter([path.read_bytes()])

with tempfile.TemporaryDirectory() as store:
    updater = Updater(
        store, f"file://{repository}/metadata/", target_base_url=f"file://{repository}/targets/",
        fetcher=Files(), bootstrap=(repository / "metadata/1.root.json").read_bytes())
    updater.refresh()
    info = updater.get_targetinfo(target)
    if info is None:
        sys.exit("nobody names it")
    updater.download_target(info, out)
    print(updater._trusted_set.root.version, updater._trusted_set.timestamp.version)
"#;

/// The interpreter of an environment that has python-tuf.
fn python() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/python-tuf");
    let python = folder.join("bin/python");
    if !folder.join("complete").exists() {
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        let what = ["tuf==7.0.0", "securesystemslib[crypto]==1.4.0"];
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(what));
        std::fs::write(folder.join("complete"), "").unwrap();
    }
    python
}

fn read(repository: &Path, target: &str, out: &Path) -> (bool, String) {
    let output = Command::new(python())
        .args(["-c", SCRIPT])
        .arg(repository)
        .arg(target)
        .arg(out)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8(said).unwrap().trim().to_owned(),
    )
}

#[test]
fn python_tuf_reads_what_is_published_and_refuses_what_is_forged() {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let town = town::Town::published_at(now);
    town.publish_antivirus(9, b"a database", now);
    // A second root and other online keys' signatures on the way.
    town.repository
        .renew(Role::Root, 365, town::at(now))
        .unwrap();
    town.sign_everything();
    town.publish(now);
    let out = town.folder.path().join("daily.cud");
    let directory = town.repository.directory();
    let (read_it, said) = read(directory, "antivirus/9/daily.cud", &out);
    assert!(read_it, "{said}");
    assert_eq!(said, "2 3");
    assert_eq!(std::fs::read(&out).unwrap(), b"a database");
    let (read_it, said) = read(directory, "antivirus/10/daily.cud", &out);
    assert!(!read_it && said.contains("nobody names it"), "{said}");

    town.publish_timestamp_for(1, now);
    let timestamp = town.metadata("timestamp.json");
    let stranger = town::key(true);
    let forged = town::Town::forge(&timestamp["signed"], &[&stranger]);
    town.replace("timestamp.json", &forged);
    let (read_it, said) = read(directory, "antivirus/9/daily.cud", &out);
    assert!(!read_it && said.contains("signed by 0/1 keys"), "{said}");
}
