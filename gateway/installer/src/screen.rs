//! The person in front of the machine: every screen and serial line it has, and whoever types on one of them.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::mpsc::channel;

/// A monitor with a keyboard, and a serial line. What a machine does not have is left out.
const TERMINALS: [&str; 2] = ["/dev/tty0", "/dev/ttyS0"];

/// See the module.
#[derive(Debug)]
pub(crate) struct Screen(Vec<File>);

impl Screen {
    pub(crate) fn open() -> Self {
        let open = |path: &&str| OpenOptions::new().read(true).write(true).open(path).ok();
        Self(TERMINALS.iter().filter_map(open).collect())
    }

    /// Shows a line everywhere. One that cannot be shown somewhere is shown elsewhere.
    pub(crate) fn say(&self, line: &str) {
        for mut terminal in &self.0 {
            let _ = write!(terminal, "\r\ninstall: {line}\r\n");
        }
    }

    /// Waits for a line, from whichever terminal it comes; `None` when there is none to type on.
    pub(crate) fn line(&self) -> Option<String> {
        let (sender, receiver) = channel();
        for terminal in &self.0 {
            let Ok(terminal) = terminal.try_clone() else {
                continue;
            };
            let sender = sender.clone();
            // Ends with the program: a read of a terminal cannot be called off.
            std::thread::spawn(move || {
                let mut line = String::new();
                if BufReader::new(terminal).read_line(&mut line).is_ok() {
                    let _ = sender.send(line.trim().to_owned());
                }
            });
        }
        drop(sender);
        receiver.recv().ok()
    }
}
