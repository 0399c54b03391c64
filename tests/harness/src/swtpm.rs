//! A software TPM of one's own: swtpm on two loopback ports, with its state in a directory that outlives it.
//!
//! It does not stand in for a TPM in the product, which refuses it unless told otherwise, and it keeps no secret.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Child, Error, Program, Result, ports, wait};

const START_LIMIT: Duration = Duration::from_secs(10);
const SETUP_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A running (or killed) swtpm; dropping it kills it, its state stays in the directory.
#[derive(Debug)]
pub struct Swtpm {
    directory: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Swtpm {
    /// Starts swtpm with its state in `directory`, which is made when missing; an existing state is continued.
    ///
    /// # Errors
    /// When swtpm is not installed or does not answer.
    pub fn start(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).map_err(|error| {
            Error::new(format!("{} cannot be made", directory.display())).because(error)
        })?;
        let mut swtpm = Self {
            directory: directory.to_owned(),
            // The TCTI of tpm2-tss expects the control channel on the port after the command port.
            port: ports::consecutive(2)?,
            child: None,
        };
        swtpm.restart()?;
        Ok(swtpm)
    }

    /// As [`Swtpm::start`], on a TPM that was first given an endorsement certificate (RSA-2048, at NV index 0x01c00002) by a
    /// certificate authority made for this directory.
    ///
    /// # Errors
    /// When swtpm-tools are not installed, or as [`Swtpm::start`].
    pub fn start_with_endorsement_certificate(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory.join("ca")).map_err(|error| {
            Error::new(format!("{} cannot be made", directory.display())).because(error)
        })?;
        let config = write_setup_configuration(directory)?;
        let mut setup = Program::new(
            "swtpm_setup",
            "swtpm_setup",
            directory.join("swtpm_setup.log"),
        )
        .args(["--tpm2", "--createek", "--create-ek-cert", "--lock-nvram"])
        .arg("--tpmstate")
        .arg(directory)
        .arg("--config")
        .arg(config)
        .spawn()?;
        let status = setup.wait(SETUP_LIMIT)?;
        if !status.success() {
            return Err(Error::new(format!("swtpm_setup ended with {status}"))
                .with_output_of(setup.output()));
        }
        Self::start(directory)
    }

    /// What to configure as TCTI.
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// The TCP port for TPM commands; control is on the next.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::pid)
    }

    /// SIGKILL: a power cut, without `TPM2_Shutdown`. Nothing happens when it does not run.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill();
        }
    }

    /// Starts it on the same state and the same ports, killing it first when it runs.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let channel = |port: u16| format!("type=tcp,port={port},bindaddr=127.0.0.1");
        let mut child = Program::new("swtpm", "swtpm", self.directory.join("swtpm.log"))
            .args(["socket", "--tpm2"])
            .args(["--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", self.directory.display()))
            .arg("--server")
            .arg(channel(self.port))
            .arg("--ctrl")
            .arg(channel(self.port + 1))
            .spawn()?;
        // Not the command port: it serves one connection at a time, and somebody may be waiting for it.
        wait::for_port(&mut child, self.port + 1, START_LIMIT)?;
        self.child = Some(child);
        Ok(())
    }

    /// Sends one TPM command as raw bytes and returns the response, as another program with access to the TPM would.
    ///
    /// # Errors
    /// When swtpm does not answer with a whole response.
    pub fn command(&self, command: &[u8]) -> Result<Vec<u8>> {
        self.exchange(command).map_err(|error| {
            Error::new("swtpm did not answer a command that a test sent").because(error)
        })
    }

    fn exchange(&self, command: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(command)?;
        let mut response = vec![0; 10];
        stream.read_exact(&mut response)?;
        let size = u32::from_be_bytes([response[2], response[3], response[4], response[5]]);
        response.resize(usize::try_from(size).unwrap_or(0).clamp(10, 1 << 16), 0);
        stream.read_exact(&mut response[10..])?;
        Ok(response)
    }

    /// `TPM2_Clear` with the empty lockout authorisation, as any program with access to the TPM may.
    ///
    /// # Errors
    /// When the TPM refuses.
    pub fn clear(&self) -> Result<()> {
        // tag with sessions, size 27, TPM2_CC_Clear, TPM_RH_LOCKOUT, then one empty password authorisation.
        const CLEAR: [u8; 27] = [
            0x80, 0x02, 0, 0, 0, 27, 0, 0, 0x01, 0x26, 0x40, 0, 0, 0x0a, 0, 0, 0, 9, 0x40, 0, 0,
            0x09, 0, 0, 0, 0, 0,
        ];
        let response = self.command(&CLEAR)?;
        match response[6..10] {
            [0, 0, 0, 0] => Ok(()),
            ref code => Err(Error::new(format!("TPM2_Clear was refused: {code:02x?}"))),
        }
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.kill();
    }
}

/// swtpm_setup's defaults write below /var/lib; these keep everything in `directory`. Returns the configuration's path.
fn write_setup_configuration(directory: &Path) -> Result<PathBuf> {
    let ca = directory.join("ca");
    let setup = directory.join("swtpm_setup.conf");
    let localca = directory.join("swtpm-localca.conf");
    let options = directory.join("swtpm-localca.options");
    let write = |path: &Path, text: String| {
        fs::write(path, text).map_err(|error| {
            Error::new(format!("{} cannot be written", path.display())).because(error)
        })
    };
    write(
        &setup,
        format!(
            "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {}\n\
             create_certs_tool_options = {}\nactive_pcr_banks = sha256\n",
            localca.display(),
            options.display()
        ),
    )?;
    write(
        &localca,
        format!(
            "statedir = {ca}\nsigningkey = {ca}/signkey.pem\nissuercert = {ca}/issuercert.pem\n\
             certserial = {ca}/certserial\n",
            ca = ca.display()
        ),
    )?;
    write(
        &options,
        "--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n".to_owned(),
    )?;
    Ok(setup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_tpm_answers_on_the_same_port() {
        let directory = tempfile::tempdir().unwrap();
        let mut swtpm = Swtpm::start(directory.path()).unwrap();
        let (tcti, pid) = (swtpm.tcti(), swtpm.pid());
        swtpm.clear().unwrap();
        swtpm.kill();
        assert!(swtpm.pid().is_none());
        swtpm.clear().unwrap_err();
        swtpm.restart().unwrap();
        assert_eq!(swtpm.tcti(), tcti);
        assert_ne!(swtpm.pid(), pid);
        swtpm.clear().unwrap();
    }
}
