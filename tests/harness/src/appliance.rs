//! The box itself: the bootable image in QEMU, with a TPM of its own, firmware that starts without keys, and a line to the city
//! and nothing else.
//!
//! It builds no image (`cargo xtask image` does) and does not know what is tested. QEMU emulates every instruction, so everything
//! takes ten times as long as on a box.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub mod disk;
mod line;
pub mod writes;

use crate::city::{BOX_HOST, PORTAL_HOST};
use crate::{Child, Error, Program, Result, binaries, ports, wait};

/// Where the box finds the city, whatever port that has outside.
pub const CITY_ADDRESS: &str = "10.0.2.100:443";

/// The firmware's identifier of this machine; the box's machine-id comes from it.
const MACHINE: &str = "3f1c9c1e-5d1b-4a57-8e0e-0d8a8a5b9f01";

/// Enters the tree of tools with the working directory as `/work`; the mounts end with the program.
pub const ENTER: &str = r#"set -e
mount --rbind "$2" "$1/work"
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
tree=$1; shift 2
exec chroot "$tree" "$@""#;

/// Starts the TPM, which ends with QEMU, and becomes QEMU. The box can reach one address, and that is the city's port here.
const BOOT: &str = r#"set -e
cd "$1"
rm -f tpm/sock
swtpm socket --tpm2 --tpmstate "dir=$1/tpm" --ctrl "type=unixio,path=$1/tpm/sock" --daemon --terminate
exec qemu-system-x86_64 -machine q35,smm=on -smp 2 -m 2048 -cpu max -display none -no-user-config -nodefaults $6 \
  -serial file:serial.log -uuid "$2" \
  -global driver=cfi.pflash01,property=secure,value=on \
  -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.secboot.fd \
  -drive if=pflash,format=raw,file=vars.fd \
  $7 \
  -chardev socket,id=tpm,path=tpm/sock -tpmdev emulator,id=tpm0,chardev=tpm -device tpm-crb,tpmdev=tpm0 \
  -object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng \
  -netdev "user,id=lan,restrict=on,hostfwd=tcp:127.0.0.1:$3-:443,hostfwd=tcp:127.0.0.1:$4-:80,guestfwd=tcp:10.0.2.100:443-cmd:socat - TCP4:127.0.0.1:$5" \
  -object filter-dump,id=line,netdev=lan,file=lan.pcap,maxlen=256 \
  -device virtio-net-pci,netdev=lan"#;

/// The disk as the box sees it.
const DISK: &str = "-drive file=disk.img,format=raw,if=virtio,cache=writeback";

/// The same, and every write and flush goes to a log as well ([`writes`]).
const LOGGED_DISK: &str = "-blockdev driver=file,filename=disk.img,node-name=disk -blockdev driver=file,filename=writes.log,node-name=log -blockdev driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size=512 -device virtio-blk-pci,drive=logged";

/// What [`DISK`] needs to be started from a USB stick instead, while it stays plugged in.
const STICK: &str = " -device qemu-xhci -drive if=none,id=stick,format=raw,readonly=on,file=stick.img -device usb-storage,drive=stick,bootindex=0";

/// Bytes of a disk that nobody has used.
const BLANK: u64 = 4 << 30;

/// Where `cargo xtask image` keeps its tools, and what the tools see as `/work`.
fn home() -> PathBuf {
    binaries::workspace().join("target/image")
}

/// The folder that `cargo xtask image --trial` fills: `city`, the city's state, and `out`, the release with its disk.
pub fn trial() -> PathBuf {
    home().join("trial")
}

/// The root file system of the newest image, as a tree.
pub fn root_tree() -> PathBuf {
    home().join("work/out/system")
}

/// The arguments of `unshare` that enter the tree of tools, which sees the working directory as `/work`.
fn enter() -> Vec<std::ffi::OsString> {
    let words = [
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        ENTER,
        "sh",
    ];
    let folders = [home().join("tools"), home().join("work")];
    words
        .map(Into::into)
        .into_iter()
        .chain(folders.map(Into::into))
        .collect()
}

/// Runs a program of the tree of tools; gives what it said.
fn tool(program: &str, arguments: &[&str]) -> Result<String> {
    let output = std::process::Command::new("unshare")
        .args(enter())
        .arg(program)
        .args(arguments)
        .output()
        .map_err(|error| Error::new("unshare cannot be started").because(error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::new(format!(
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// A box that can be switched on and off.
#[derive(Debug)]
pub struct Appliance {
    name: String,
    directory: PathBuf,
    https_port: u16,
    http_port: u16,
    process: Option<Child>,
}

impl Appliance {
    /// A box as it leaves the factory: the disk of the release in `release`, an empty TPM, firmware without keys. It is off.
    ///
    /// # Errors
    /// When there is no such disk or the copy cannot be made.
    pub fn new(name: &str, release: &Path) -> Result<Self> {
        let disk = release.join("disk.img");
        if !disk.is_file() {
            return Err(Error::new(format!(
                "{} is not there; `cargo xtask image --trial` makes it",
                disk.display()
            )));
        }
        let appliance = Self::bare(name)?;
        copy(&disk, &appliance.disk())?;
        Ok(appliance)
    }

    /// A machine that nobody has used, with the installer of the release in `release` on a USB stick beside it. It is off.
    ///
    /// # Errors
    /// When there is no installer or the files cannot be made.
    pub fn blank(name: &str, release: &Path) -> Result<Self> {
        let appliance = Self::bare(name)?;
        fs::File::create(appliance.disk())
            .and_then(|disk| disk.set_len(BLANK))
            .map_err(|error| Error::new("a blank disk cannot be made").because(error))?;
        copy(
            &release.join("installer.img"),
            &appliance.directory.join("stick.img"),
        )?;
        Ok(appliance)
    }

    /// An empty TPM, firmware without keys, no disk.
    fn bare(name: &str) -> Result<Self> {
        let directory = home().join("work/boxes").join(name);
        let unusable = |error: std::io::Error| {
            Error::new(format!("{} cannot be used", directory.display())).because(error)
        };
        if directory.exists() {
            fs::remove_dir_all(&directory).map_err(unusable)?;
        }
        fs::create_dir_all(directory.join("tpm")).map_err(unusable)?;
        copy(
            &home().join("tools/usr/share/OVMF/OVMF_VARS_4M.fd"),
            &directory.join("vars.fd"),
        )?;
        Ok(Self {
            name: name.to_owned(),
            directory,
            https_port: ports::free()?,
            http_port: ports::free()?,
            process: None,
        })
    }

    /// A copy of this box's disk in another machine: another TPM, firmware without keys.
    ///
    /// # Errors
    /// When the copy cannot be made.
    pub fn stolen_disk(&self, name: &str) -> Result<Self> {
        Self::new(name, &self.directory)
    }

    /// Keeps disk, firmware and TPM as they are now, for [`Self::put_back`]. The box must be off.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub fn keep(&self) -> Result<()> {
        copy_tree(&self.directory, &self.directory.with_extension("kept"))
    }

    /// Puts back what [`Self::keep`] kept. The box must be off.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn put_back(&self) -> Result<()> {
        copy_tree(&self.directory.with_extension("kept"), &self.directory)
    }

    /// The disk as [`Self::keep`] kept it.
    pub fn kept_disk(&self) -> PathBuf {
        self.directory.with_extension("kept").join("disk.img")
    }

    /// Its disk, firmware variables, TPM state and serial line.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The disk.
    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk.img")
    }

    /// The TLS port, on 127.0.0.1.
    pub fn https_port(&self) -> u16 {
        self.https_port
    }

    /// The port for clear HTTP, on 127.0.0.1.
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// The box's own console.
    pub fn console_url(&self) -> String {
        format!("https://{BOX_HOST}:{}/", self.https_port)
    }

    /// The liaison notebook through the box.
    pub fn portal_url(&self) -> String {
        format!("https://{PORTAL_HOST}:{}/", self.https_port)
    }

    /// Switches it on; the city is on `city_port` of this machine.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn switch_on(&mut self, city_port: u16) -> Result<()> {
        self.start(city_port, "", DISK)
    }

    /// As [`Self::switch_on`]; where the box would restart it goes off instead.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn switch_on_once(&mut self, city_port: u16) -> Result<()> {
        self.start(city_port, "-no-reboot", DISK)
    }

    /// As [`Self::switch_on`], with the stick of [`Self::blank`] plugged in and started from.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn switch_on_from_stick(&mut self, city_port: u16) -> Result<()> {
        self.start(city_port, "-no-reboot", &format!("{DISK}{STICK}"))
    }

    /// As [`Self::switch_on_once`]; what it writes is in [`Self::written`] when it is off.
    ///
    /// # Errors
    /// When QEMU cannot be started or the log cannot be made.
    pub fn switch_on_logged(&mut self, city_port: u16) -> Result<()> {
        let log = self.directory.join("writes.log");
        fs::write(&log, b"")
            .map_err(|error| Error::new(format!("{}", log.display())).because(error))?;
        self.start(city_port, "-no-reboot", LOGGED_DISK)
    }

    /// The writes of a box that was [switched on so](Self::switch_on_logged) and is off; the log is kept under `name`.
    ///
    /// # Errors
    /// When there is no log.
    pub fn written(&self, name: &str) -> Result<writes::Writes> {
        let log = self.directory.join(format!("{name}.log"));
        fs::rename(self.directory.join("writes.log"), &log)
            .map_err(|error| Error::new(format!("{}", log.display())).because(error))?;
        writes::Writes::read(&log)
    }

    /// Waits until it goes off by itself.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_until_off(&mut self, patience: Duration) -> Result<()> {
        let process = self.process.as_mut().ok_or_else(is_off)?;
        wait::until("the box to go off", patience, || process.exit_status())
            .map_err(|error| self.shown_at_the_end().because(error))?;
        self.process = None;
        Ok(())
    }

    fn start(&mut self, city_port: u16, option: &str, disk: &str) -> Result<()> {
        let _ = fs::rename(
            self.directory.join("serial.log"),
            self.directory.join("serial-before.log"),
        );
        let inside = format!("/work/boxes/{}", self.name);
        let process = Program::new("qemu", "unshare", self.directory.join("qemu.log"))
            .args(enter())
            .args(["sh", "-c", BOOT, "sh", &inside, MACHINE])
            .args([
                self.https_port.to_string(),
                self.http_port.to_string(),
                city_port.to_string(),
                option.to_owned(),
                disk.to_owned(),
            ])
            .spawn()?;
        self.process = Some(process);
        Ok(())
    }

    /// What it has begun on its line since it was switched on, each once: `tcp 10.0.2.100:443`, `name time.example` …
    ///
    /// # Errors
    /// When there is no record of the line.
    pub fn begun(&self) -> Result<BTreeSet<String>> {
        line::begun(&self.directory.join("lan.pcap"))
    }

    /// Pulls the plug.
    pub fn cut_power(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// What it has shown on its serial line since it was switched on, without colours.
    pub fn screen(&self) -> String {
        shown(&self.directory.join("serial.log"))
    }

    /// Waits until the screen shows one of `texts`; gives which.
    ///
    /// # Errors
    /// When none appears in time, or QEMU ends.
    pub fn wait_for(&mut self, texts: &[&str], patience: Duration) -> Result<usize> {
        self.wait_until_shown(&texts.join(" or "), patience, |screen| {
            texts.iter().position(|text| screen.contains(text))
        })
    }

    /// Waits until the screen has shown `text` so often.
    ///
    /// # Errors
    /// When it does not in time, or QEMU ends.
    pub fn wait_for_times(&mut self, text: &str, times: usize, patience: Duration) -> Result<()> {
        self.wait_until_shown(&format!("{text} {times} times"), patience, |screen| {
            (screen.matches(text).count() >= times).then_some(())
        })
    }

    fn wait_until_shown<T>(
        &mut self,
        what: &str,
        patience: Duration,
        is_shown: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let serial = self.directory.join("serial.log");
        let process = self.process.as_mut().ok_or_else(is_off)?;
        let what = format!("the box to show {what}");
        wait::for_process(process, &what, patience, || is_shown(&shown(&serial)))
            .map_err(|error| self.shown_at_the_end().because(error))
    }

    fn shown_at_the_end(&self) -> Error {
        let screen = self.screen();
        let lines: Vec<&str> = screen.lines().rev().take(40).collect();
        let end: Vec<&str> = lines.into_iter().rev().collect();
        Error::new(format!("the box showed at the end:\n{}", end.join("\n")))
    }

    /// A file of this box as the tools see it.
    fn inside(&self, name: &str) -> String {
        format!("/work/boxes/{}/{name}", self.name)
    }
}

fn is_off() -> Error {
    Error::new("the box is switched off")
}

/// What a serial line has shown, without colours.
fn shown(serial: &Path) -> String {
    let bytes = fs::read(serial).unwrap_or_default();
    plain(&String::from_utf8_lossy(&bytes))
}

/// A folder in place of another.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(to);
    copy(from, to)
}

/// A copy of a file, or of a folder that is not there yet, that keeps holes: a disk is mostly empty.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let output = std::process::Command::new("cp")
        .args(["--archive", "--sparse=always"])
        .args([from, to])
        .output()
        .map_err(|error| Error::new("cp cannot be started").because(error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(format!(
        "{} cannot be copied: {}",
        from.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// Text without the terminal's control sequences (ECMA-48 §5.4).
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' if characters.clone().next() == Some('[') => {
                characters.next();
                for end in characters.by_ref() {
                    if ('\u{40}'..='\u{7e}').contains(&end) {
                        break;
                    }
                }
            }
            '\r' => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_not_part_of_what_is_shown() {
        assert_eq!(
            plain("[\u{1b}[0;32m  OK  \u{1b}[0m] Mounted\r\n"),
            "[  OK  ] Mounted\n"
        );
    }
}
