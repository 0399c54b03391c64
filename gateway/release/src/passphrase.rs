//! Passphrases: typed without echo, or read from a file that a service manager hands over.
//!
//! Never from an argument or the environment, where other processes could read them.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use gateway_release::{Passphrase, ReleaseError};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// The first line of `file`, or what is typed.
pub(crate) fn obtain(
    file: Option<&Path>,
    what: &str,
    twice: bool,
) -> Result<Passphrase, ReleaseError> {
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|error| ReleaseError::File(path.to_owned(), error))?;
        let line = text.lines().next().unwrap_or_default().to_owned();
        return Passphrase::new(Zeroizing::new(line));
    }
    let terminal = |error| ReleaseError::File(PathBuf::from("terminal"), error);
    let typed = ask(&format!("{what} のパスフレーズ (passphrase): ")).map_err(terminal)?;
    if twice {
        let again = ask("もう一度 (again): ").map_err(terminal)?;
        if *typed != *again {
            let differ = io::Error::other("2回の入力が一致しません (they differ)");
            return Err(terminal(differ));
        }
    }
    Passphrase::new(typed)
}

fn ask(prompt: &str) -> io::Result<Zeroizing<String>> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(io::Error::other(
            "端末がありません。--passphrase-file を使ってください (no terminal)",
        ));
    }
    eprint!("{prompt}");
    io::stderr().flush()?;
    let shown = tcgetattr(&stdin)?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &hidden)?;
    let mut line = Zeroizing::new(String::new());
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &shown)?;
    eprintln!();
    read?;
    Ok(Zeroizing::new(
        line.trim_end_matches(['\r', '\n']).to_owned(),
    ))
}
