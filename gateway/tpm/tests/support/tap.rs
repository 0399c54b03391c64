//! A listener on the TPM's bus: a TCP proxy before swtpm that records commands and can delay, cut or falsify them.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};
use test_harness::ports;

/// Falsifies a response, given the command.
type Rewrite = Box<dyn FnMut(&[u8], &mut Vec<u8>) + Send>;

#[derive(Default)]
pub struct State {
    /// Commands with their responses, in order.
    pub log: Vec<(Vec<u8>, Vec<u8>)>,
    /// Added to every command.
    pub delay: Duration,
    /// Cuts the connection at the command after so many; `true` for after the TPM has executed it.
    pub cut: Option<(usize, bool)>,
    pub rewrite: Option<Rewrite>,
    /// The cut is one of power: nobody answers afterwards.
    pub stays_cut: bool,
    /// Nobody answers.
    pub dead: bool,
}

#[derive(Clone)]
pub struct Tap {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Tap {
    /// Listens on a port of its own for what is meant for `tpm_port`, and next to it for the control channel.
    pub fn before(tpm_port: u16) -> Self {
        let port = ports::consecutive(2).expect("free ports");
        let tap = Self {
            port,
            state: Arc::default(),
        };
        let commands = TcpListener::bind(("127.0.0.1", port)).expect("bind");
        let control = TcpListener::bind(("127.0.0.1", port + 1)).expect("bind");
        let state = Arc::clone(&tap.state);
        thread::spawn(move || {
            for client in commands.incoming().flatten() {
                let state = Arc::clone(&state);
                thread::spawn(move || relay_commands(client, tpm_port, &state));
            }
        });
        let of_control = Arc::clone(&tap.state);
        thread::spawn(move || {
            for client in control.incoming().flatten() {
                if is_dead(&of_control) {
                    continue;
                }
                thread::spawn(move || relay_control(client, tpm_port + 1));
            }
        });
        tap
    }

    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test thread panicked with it")
    }

    pub fn commands(&self) -> usize {
        self.state().log.len()
    }

    /// Were these bytes on the bus, in either direction?
    pub fn saw(&self, needle: &[u8]) -> bool {
        let contains = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        self.state()
            .log
            .iter()
            .any(|(command, response)| contains(command) || contains(response))
    }
}

fn is_dead(state: &Mutex<State>) -> bool {
    state.lock().expect("no test thread panicked with it").dead
}

fn relay_commands(mut client: TcpStream, tpm_port: u16, state: &Mutex<State>) {
    // Not even a connection: by now the port may be another TPM's.
    if is_dead(state) {
        return;
    }
    let Ok(mut tpm) = TcpStream::connect(("127.0.0.1", tpm_port)) else {
        return;
    };
    while let Some(command) = frame(&mut client) {
        let (delay, cut) = {
            let mut state = state.lock().expect("no test thread panicked with it");
            let cut = match &mut state.cut {
                Some((0, after)) => Some(*after),
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            };
            if state.dead {
                return;
            }
            if cut.is_some() {
                state.cut = None;
                state.dead = state.stays_cut;
            }
            (state.delay, cut)
        };
        if cut == Some(false) {
            return;
        }
        thread::sleep(delay);
        if tpm.write_all(&command).is_err() {
            return;
        }
        let Some(mut response) = frame(&mut tpm) else {
            return;
        };
        if cut == Some(true) {
            return;
        }
        {
            let mut state = state.lock().expect("no test thread panicked with it");
            if let Some(rewrite) = &mut state.rewrite {
                rewrite(&command, &mut response);
            }
            state.log.push((command, response.clone()));
        }
        if client.write_all(&response).is_err() {
            return;
        }
    }
}

/// A TPM command or response: tag, size of the whole, code, and the rest.
fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 10];
    stream.read_exact(&mut frame).ok()?;
    let size = u32::from_be_bytes(frame[2..6].try_into().expect("four bytes"));
    frame.resize(usize::try_from(size).ok()?.clamp(10, 8192), 0);
    stream.read_exact(&mut frame[10..]).ok()?;
    Some(frame)
}

fn relay_control(client: TcpStream, control_port: u16) {
    let Ok(tpm) = TcpStream::connect(("127.0.0.1", control_port)) else {
        return;
    };
    let (Ok(mut from_client), Ok(mut to_client)) = (client.try_clone(), client.try_clone()) else {
        return;
    };
    let Ok(mut to_tpm) = tpm.try_clone() else {
        return;
    };
    let mut from_tpm = tpm;
    let upstream = thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_tpm);
        let _ = to_tpm.shutdown(std::net::Shutdown::Write);
    });
    let _ = std::io::copy(&mut from_tpm, &mut to_client);
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = upstream.join();
}
