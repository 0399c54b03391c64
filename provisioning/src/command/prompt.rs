//! Reading secrets from a person or a program: never echoed, never buffered where it is not wiped.
//!
//! It does not understand what it reads.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;

use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use zeroize::{Zeroize as _, Zeroizing};

/// The longest line that is read, in bytes.
const LONGEST: usize = 1024;

/// Where secrets come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// The terminal, without echo.
    Terminal,
    /// Standard input, one line each, which need not be a terminal.
    Stdin,
    /// An open file descriptor, one line each.
    Descriptor(u32),
}

/// Nothing could be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PromptError {
    #[error("standard input is not a terminal")]
    NoTerminal,
    #[error("the person pressed Ctrl-C")]
    Cancelled,
    #[error("the input ended early or is too long")]
    Ended,
    #[error("could not read the input")]
    Read(#[from] io::Error),
}

impl PromptError {
    pub(crate) fn sentence_ja(&self) -> String {
        match self {
            Self::NoTerminal => {
                "端末から実行するか、--stdin か --number-fd を使ってください。".into()
            }
            Self::Cancelled => "中止しました。何も変更していません。".into(),
            Self::Ended => {
                "入力が途中で終わっているか、長すぎます。1行に1つずつ渡してください。".into()
            }
            Self::Read(error) => format!("入力を読めません: {error}"),
        }
    }
}

impl Source {
    pub(crate) const fn choose(descriptor: Option<u32>, stdin: bool) -> Self {
        match (descriptor, stdin) {
            (Some(descriptor), _) => Self::Descriptor(descriptor),
            (None, true) => Self::Stdin,
            (None, false) => Self::Terminal,
        }
    }

    pub(crate) fn open(self) -> Result<Input, PromptError> {
        let stdin = || io::stdin().as_fd().try_clone_to_owned().map(File::from);
        Ok(match self {
            Self::Terminal if !io::stdin().is_terminal() => return Err(PromptError::NoTerminal),
            Self::Terminal => Input {
                file: stdin()?,
                terminal: true,
            },
            Self::Stdin => Input {
                file: stdin()?,
                terminal: false,
            },
            Self::Descriptor(number) => Input {
                file: File::open(format!("/proc/self/fd/{number}"))?,
                terminal: false,
            },
        })
    }
}

/// An opened source. Unbuffered: std's standard input would keep a copy of all that was typed.
#[derive(Debug)]
pub(crate) struct Input {
    file: File,
    terminal: bool,
}

impl Input {
    /// One line, without its end and without echo.
    pub(crate) fn line(&mut self, prompt: &str) -> Result<String, PromptError> {
        let _silent = if self.terminal {
            eprint!("{prompt}");
            io::stderr().flush()?;
            Some(Silence::begin(&self.file)?)
        } else {
            None
        };
        let line = self.read_line();
        if self.terminal {
            eprintln!();
        }
        line
    }

    /// One line with echo, for what is no secret.
    pub(crate) fn visible_line(&mut self, prompt: &str) -> Result<String, PromptError> {
        eprint!("{prompt}");
        io::stderr().flush()?;
        self.read_line()
    }

    fn read_line(&mut self) -> Result<String, PromptError> {
        const CTRL_C: u8 = 3;
        let mut line = Zeroizing::new(Vec::with_capacity(LONGEST));
        let mut byte = Zeroizing::new([0_u8]);
        loop {
            match self.file.read(&mut byte[..])? {
                0 if line.is_empty() => return Err(PromptError::Ended),
                0 => break,
                _ => match byte[0] {
                    b'\n' => break,
                    CTRL_C if self.terminal => return Err(PromptError::Cancelled),
                    _ if line.len() == LONGEST => return Err(PromptError::Ended),
                    other => line.push(other),
                },
            }
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        // The buffer itself becomes the string, so no copy stays behind.
        String::from_utf8(std::mem::take(&mut *line)).map_err(|error| {
            error.into_bytes().zeroize();
            PromptError::Ended
        })
    }
}

/// No echo until dropped. Ctrl-C is read as a byte meanwhile: its signal would leave the terminal silent.
struct Silence {
    terminal: File,
    before: Termios,
}

impl Silence {
    fn begin(file: &File) -> Result<Self, PromptError> {
        let terminal = file.try_clone()?;
        let before = termios::tcgetattr(&terminal).map_err(io::Error::from)?;
        let mut silent = before.clone();
        silent
            .local_flags
            .remove(LocalFlags::ECHO | LocalFlags::ISIG);
        termios::tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent).map_err(io::Error::from)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that has gone away needs no echo.
        let _ = termios::tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}
