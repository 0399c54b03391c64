//! `cargo xtask image`: the bootable image from this tree: two slots, signed kernels, a disk for trying, a bill of materials.
//!
//! mkosi installs Debian's packages; what follows is made here, each step by one program of a Debian 13 tree. It signs no
//! release for boxes: `gateway-release` does. It boots nothing: the end-to-end tests do.

mod bill;
mod disk;
mod enrolment;
mod installer;
mod kernel;
mod keys;
mod root;
mod tools;
mod tree;
mod trial;
mod variations;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use test_harness::{appliance, binaries};

use keys::Keys;
use tools::Tools;

/// Options of `cargo xtask image`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// The city's folder: gateway.toml, city-anchor.pem and signed-channel-root.json, put into the image as they are, and
    /// antivirus/, a release of databases for the first start.
    #[arg(long, required_unless_present = "trial")]
    city: Option<PathBuf>,
    /// Make an image for trying, for a new reference city of its own, in target/image/trial: `city` keeps the city's state,
    /// `out` the release, and `next` the release after it. Programs are built without optimisation.
    #[arg(long, conflicts_with_all = ["city", "out", "keys"])]
    trial: bool,
    /// The release's version; this tree's when not given.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    image_version: String,
    /// The hardware's id, as releases name it.
    #[arg(long, default_value = "x86-64-uefi")]
    hardware: String,
    /// The folder with the keys for Secure Boot and for the policy of PCR 11. Made, for trying only, when not given.
    #[arg(long)]
    keys: Option<PathBuf>,
    /// Where the release and the disk go.
    #[arg(long, default_value = "target/image/out")]
    out: PathBuf,
    /// Ask for the newest packages again, and make everything anew.
    #[arg(long)]
    fresh: bool,
    /// Build the programs without optimisation: much faster, for tests.
    #[arg(long)]
    debug: bool,
    /// With `--trial`: releases that are bad, too, and one that tells what runs.
    #[arg(long, requires = "trial")]
    variations: bool,
}

/// What every step knows.
#[derive(Clone, Debug)]
struct Site {
    /// The checkout.
    workspace: PathBuf,
    /// `target/image`: tools, caches, and `work`, which the tools see as `/work`.
    work: PathBuf,
    tools: Tools,
    /// Which tree in `work/out` is the root file system.
    tree: &'static str,
    version: String,
    /// Seconds since 1970 that every file of the image carries: when the newest commit was made.
    epoch: u64,
}

/// Makes everything and prints where it is, how large, and the root hash.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let made = make(arguments).and_then(|report| {
        if arguments.trial {
            Ok(report + "\n" + &make(&next(arguments))?)
        } else {
            Ok(report)
        }
    });
    match made {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// For trying an update: the same once more, as the release after it.
fn next(first: &Arguments) -> Arguments {
    Arguments {
        trial: false,
        city: Some(trial::for_the_image()),
        out: appliance::trial().join("next"),
        image_version: "0.2.0".to_owned(),
        debug: true,
        fresh: false,
        ..first.clone()
    }
}

fn make(arguments: &Arguments) -> Result<String, String> {
    let start = Instant::now();
    let workspace = binaries::workspace()
        .canonicalize()
        .map_err(|error| error.to_string())?;
    let home = workspace.join("target/image");
    let site = Site {
        work: home.join("work"),
        tools: Tools::prepare(&home)?,
        tree: "system",
        version: checked_version(&arguments.image_version)?,
        epoch: match newest_commit(&workspace) {
            // What is for trying is made with a new city each time, and is not the same again anyhow.
            Err(_) if arguments.trial || arguments.debug => now()?,
            told => told?,
        },
        workspace,
    };
    let release = site.work.join("release");
    let forgotten = arguments.fresh.then_some(["cache", "out"]);
    for folder in ["release", "disk", "build"]
        .into_iter()
        .chain(forgotten.into_iter().flatten())
    {
        let path = site.work.join(folder);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let keys = match &arguments.keys {
        Some(folder) => Keys::given(folder, &site)?,
        None => Keys::for_trying(&home, &site)?,
    };
    let programs = build(
        &site.workspace,
        arguments.debug || arguments.trial,
        arguments.trial,
    )?;
    let (city, out) = match &arguments.city {
        Some(city) => (city.clone(), site.workspace.join(&arguments.out)),
        None => (trial::city()?, appliance::trial().join("out")),
    };
    tree::stage(&site, &city, &programs.of_the_box)?;
    tree::updater(&site, &arguments.hardware)?;
    tree::build(&site, "system")?;
    if arguments.fresh || !tree::initrd_is_current(&site) {
        tree::build(&site, "initrd")?;
        tree::initrd_was_built(&site)?;
    }
    bill::write(&site)?;
    let root_hash = root::make(&site)?;
    kernel::pack(&site, "initrd")?;
    kernel::make(&site, &root_hash, "")?;
    disk::make(&site, &keys)?;
    // Tests that every change runs do not install from a medium.
    if !arguments.debug && (!arguments.trial || arguments.variations) {
        installer::make(&site, &programs.installer)?;
    }
    put(&site.work.join("disk"), &out)?;
    put(&release, &out.join("release"))?;
    // Once, beside the release after the first.
    if arguments.variations && !arguments.trial {
        variations::make(&site, &keys)?;
    }
    keys.put_away();
    let out = out.canonicalize().unwrap_or(out);
    let size = |name: &str| {
        fs::metadata(out.join("release").join(name)).map_or(0, |data| data.len()) as f64
            / f64::from(1 << 20)
    };
    Ok(format!(
        "{} in {} s\nversion    {}\nroot hash  {root_hash}\nroot       {:.1} MiB, hash tree {:.1} MiB, kernel with initrd {:.1} MiB",
        out.display(),
        start.elapsed().as_secs(),
        site.version,
        size("root.img"),
        size("root.verity"),
        size("uki-a.efi"),
    ))
}

/// A version is part of file names, of a partition's content and of the order in which the boot loader looks.
fn checked_version(version: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'~';
    if !version.is_empty() && version.len() <= 32 && version.bytes().all(plain) {
        Ok(version.to_owned())
    } else {
        Err(format!(
            "{version:?} is no version: letters, digits, dots and tildes, 32 at most"
        ))
    }
}

fn now() -> Result<u64, String> {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|since| since.as_secs())
        .map_err(|error| error.to_string())
}

fn newest_commit(workspace: &Path) -> Result<u64, String> {
    if let Some(given) = std::env::var_os("SOURCE_DATE_EPOCH") {
        return given
            .to_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| "SOURCE_DATE_EPOCH is not a number of seconds".to_owned());
    }
    let output = Command::new("git")
        .args(["log", "-1", "--format=%ct"])
        .current_dir(workspace)
        .output()
        .map_err(|error| format!("git: {error}"))?;
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .map_err(|_| {
            "git does not tell when the newest commit was made; set SOURCE_DATE_EPOCH".to_owned()
        })
}

/// The programs of the box, built from this tree.
const PROGRAMS: [(&str, &str); 4] = [
    ("gatewayd", "gateway-daemon"),
    ("gateway-update", "gateway-updater"),
    ("gatewayctl", "gateway-ctl"),
    ("gateway-provision", "gateway-provisioning"),
];

/// The installer's program, on the medium only.
const INSTALLER: (&str, &str) = ("gateway-install", "gateway-installer");

/// What is built.
struct Programs {
    /// [`PROGRAMS`], in that order.
    of_the_box: Vec<PathBuf>,
    installer: PathBuf,
}

impl Programs {
    fn at(path: impl Fn(&str) -> Result<PathBuf, String>) -> Result<Self, String> {
        Ok(Self {
            of_the_box: PROGRAMS
                .iter()
                .map(|(program, _)| path(program))
                .collect::<Result<_, _>>()?,
            installer: path(INSTALLER.0)?,
        })
    }
}

fn build(workspace: &Path, debug: bool, with_city: bool) -> Result<Programs, String> {
    if binaries::are_built() {
        return Programs::at(|program| binaries::ours(program).map_err(|error| error.to_string()));
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace).args(["build", "--locked"]);
    if !debug {
        command.arg("--release");
    }
    for (program, package) in PROGRAMS.into_iter().chain([INSTALLER]) {
        command.args(["--package", package, "--bin", program]);
    }
    if with_city {
        // Started beside the image, or part of one for trying only.
        command.args(["--package", "reference-city", "--bin", "reference-city"]);
        command.args(["--package", "test-harness", "--bin", "observer"]);
    }
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("cargo build: {status}")),
        Err(error) => return Err(format!("cargo build: {error}")),
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    let profile = if debug { "debug" } else { "release" };
    Programs::at(|program| Ok(target.join(profile).join(program)))
}

/// Moves what was made to where it was asked for.
fn put(release: &Path, out: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", out.display());
    let _ = fs::remove_dir_all(out);
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    // Both are below the checkout, as a rule; where they are not, the copy keeps holes as holes.
    if fs::rename(release, out).is_ok() {
        return Ok(());
    }
    let status = Command::new("cp")
        .args(["--recursive", "--sparse=always"])
        .arg(release)
        .arg(out)
        .status()
        .map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} cannot be written", out.display()))
    }
}
