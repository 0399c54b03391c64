//! The thread that owns the TPM: takes commands from a bounded queue, drops those that are too late, builds the connection
//! again when it dies, and remembers what is lost for good. It knows no command; each brings its own steps.

use crate::{
    Config, KeyBlob, VaultError,
    chip::Chip,
    fault::{Class, Fault},
    key_file::BlobId,
    pin::{self, SrkName},
    vault::Counters,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

/// Commands that may wait. A TPM is strictly serial, so a longer queue only moves the refusal to the deadline.
const QUEUE: usize = 64;
/// How much longer than the deadline a caller waits, so that the thread's own word (unavailable, late) arrives.
const GRACE: Duration = Duration::from_millis(250);
/// How long closing waits for the thread to flush its keys.
const CLOSING: Duration = Duration::from_secs(1);
/// Back-off while the TPM is away or busy: doubles from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// Keys remembered as lost. There are two slots and a few old files, never many.
const LOST_KEYS: usize = 64;

type Command = Box<dyn FnOnce(&mut Owner) + Send>;

/// The callers' end of the queue. Dropping the last one ends the thread.
pub(crate) struct Queue {
    /// `None` only while dropping.
    commands: Option<SyncSender<Command>>,
    ended: Mutex<Receiver<()>>,
    counters: Arc<Counters>,
}

impl Queue {
    /// Starts the thread; it touches the TPM only when commanded to.
    pub(crate) fn start(config: Config, counters: Arc<Counters>) -> Result<Self, VaultError> {
        let pinned = pin::read(&config.state_dir)?;
        let (commands, inbox) = sync_channel::<Command>(QUEUE);
        let (ending, ended) = sync_channel(0);
        let mut owner = Owner {
            config,
            pinned,
            chip: None,
            ever_open: false,
            lost: None,
            lost_keys: Vec::new(),
            counters: Arc::clone(&counters),
        };
        std::thread::Builder::new()
            .name("tpm".to_owned())
            .spawn(move || {
                let _ending = ending;
                block_signals();
                while let Ok(command) = inbox.recv() {
                    if catch_unwind(AssertUnwindSafe(|| command(&mut owner))).is_err() {
                        tracing::error!("a TPM command panicked; the connection is built anew");
                        owner.chip = None;
                    }
                }
            })
            .map_err(|_| VaultError::ThreadGone)?;
        Ok(Self {
            commands: Some(commands),
            ended: Mutex::new(ended),
            counters,
        })
    }

    /// Runs `work` in the thread and waits for its result, at most `patience` (and a little).
    pub(crate) fn call<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce(&mut Owner, Instant) -> Result<T, VaultError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let deadline = Instant::now() + patience;
        let (reply, answer) = sync_channel(1);
        let command: Command = Box::new(move |owner| {
            let outcome = owner.in_time(deadline).and_then(|()| work(owner, deadline));
            // The caller may have left at its deadline.
            let _ = reply.send(outcome);
        });
        let commands = self
            .commands
            .as_ref()
            .expect("the sender is taken only when dropping");
        commands
            .try_send(command)
            .map_err(|refused| match refused {
                TrySendError::Full(_) => VaultError::Busy,
                TrySendError::Disconnected(_) => VaultError::ThreadGone,
            })?;
        answer
            .recv_timeout(patience + GRACE)
            .unwrap_or_else(|no_answer| {
                Err(match no_answer {
                    RecvTimeoutError::Timeout if self.counters.down.load(Ordering::Relaxed) => {
                        VaultError::Unavailable
                    }
                    RecvTimeoutError::Timeout => VaultError::Deadline,
                    RecvTimeoutError::Disconnected => VaultError::ThreadGone,
                })
            })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.commands = None;
        // Keys loaded into a TPM without resource manager stay there unless flushed, so give the thread a moment; but a TPM
        // that hangs must not hang the shutdown.
        if let Ok(ended) = self.ended.lock() {
            let _ = ended.recv_timeout(CLOSING);
        }
    }
}

/// A signal that interrupts `poll` inside the TPM's transport kills the ESYS context (tpm2-tss issue 3086).
fn block_signals() {
    if let Err(error) = nix::sys::signal::SigSet::all().thread_block() {
        tracing::warn!(%error, "cannot block signals in the TPM thread");
    }
}

/// The state that lives in the thread.
pub(crate) struct Owner {
    pub(crate) config: Config,
    pinned: Option<SrkName>,
    chip: Option<Chip>,
    ever_open: bool,
    /// Set when the SRK is gone or exchanged: from then on every command is answered without touching the TPM.
    lost: Option<VaultError>,
    lost_keys: Vec<BlobId>,
    counters: Arc<Counters>,
}

impl Owner {
    /// A command whose deadline passed in the queue never reaches the TPM.
    fn in_time(&self, deadline: Instant) -> Result<(), VaultError> {
        if Instant::now() < deadline {
            return Ok(());
        }
        Err(if self.counters.down.load(Ordering::Relaxed) {
            VaultError::Unavailable
        } else {
            VaultError::Deadline
        })
    }

    /// Runs steps that may be repeated, with what each class of fault asks for: one rebuild, one clearing of slots, patience
    /// while the TPM is busy; and never a repetition when the key itself is refused.
    pub(crate) fn run<T>(
        &mut self,
        deadline: Instant,
        mut steps: impl FnMut(&mut Chip) -> Result<T, Fault>,
    ) -> Result<T, VaultError> {
        let (mut rebuilt, mut made_room, mut pause) = (false, false, FIRST_PAUSE);
        loop {
            let chip = self.chip(deadline)?;
            let fault = match steps(chip) {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            match fault.class() {
                // A missing handle and a failed integrity check belong here once: the rebuild looks whether the SRK is still
                // there and still the pinned one, before a key is called lost.
                Class::Transport | Class::Reset | Class::Handle | Class::Integrity if !rebuilt => {
                    tracing::warn!(?fault, "the connection to the TPM is lost");
                    rebuilt = true;
                    self.chip = None;
                }
                Class::Memory if !made_room => {
                    tracing::warn!(?fault, "the TPM has no free slot");
                    match chip.make_room() {
                        Ok(()) => made_room = true,
                        Err(_) if !rebuilt => {
                            rebuilt = true;
                            self.chip = None;
                        }
                        Err(worse) => {
                            self.chip = None;
                            return Err(worse.into_error());
                        }
                    }
                }
                Class::Busy if Instant::now() + pause < deadline => {
                    std::thread::sleep(pause);
                    pause = longer(pause);
                }
                class => {
                    if matches!(class, Class::Transport | Class::Reset) {
                        self.chip = None;
                    }
                    return Err(fault.into_error());
                }
            }
        }
    }

    /// As [`Owner::run`], for steps with one key: a key that does not load any more is remembered, so that a thousand
    /// handshakes with a lost key cost the TPM one command.
    pub(crate) fn run_with_key<T>(
        &mut self,
        deadline: Instant,
        key: &KeyBlob,
        steps: impl FnMut(&mut Chip) -> Result<T, Fault>,
    ) -> Result<T, VaultError> {
        if self.lost_keys.contains(key.id()) {
            return Err(VaultError::KeyLost);
        }
        let outcome = self.run(deadline, steps);
        if matches!(outcome, Err(VaultError::KeyLost)) && self.lost_keys.len() < LOST_KEYS {
            self.lost_keys.push(*key.id());
        }
        outcome
    }

    /// The live connection, built when there is none, with a back-off that ends at the deadline.
    fn chip(&mut self, deadline: Instant) -> Result<&mut Chip, VaultError> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        if self.chip.is_none() {
            let chip = self.build(deadline)?;
            self.chip = Some(chip);
        }
        Ok(self.chip.as_mut().expect("built just above"))
    }

    fn build(&mut self, deadline: Instant) -> Result<Chip, VaultError> {
        self.counters.down.store(true, Ordering::Relaxed);
        let mut pause = FIRST_PAUSE;
        loop {
            self.counters.connections.increment();
            let fault = match Chip::open(&self.config, &mut self.pinned, &self.counters) {
                Ok(chip) => {
                    self.counters.down.store(false, Ordering::Relaxed);
                    if std::mem::replace(&mut self.ever_open, true) {
                        self.counters.rebuilds.increment();
                        tracing::info!("the connection to the TPM is built anew");
                    }
                    return Ok(chip);
                }
                Err(fault) => fault,
            };
            let again = matches!(fault.class(), Class::Transport | Class::Reset | Class::Busy);
            if !again {
                let error = fault.into_error();
                if matches!(error, VaultError::KeyLost | VaultError::SrkChanged) {
                    tracing::error!(%error, "the TPM is not the one this box was set up with");
                    self.lost = Some(error.clone());
                }
                return Err(error);
            }
            if Instant::now() + pause >= deadline {
                return Err(VaultError::Unavailable);
            }
            std::thread::sleep(pause);
            pause = longer(pause);
        }
    }

    /// The error that ended this TPM's usefulness, if any.
    pub(crate) fn lost(&self) -> Option<&VaultError> {
        self.lost.as_ref()
    }

    /// Closes the connection, flushing what is loaded.
    pub(crate) fn close(&mut self) {
        self.chip = None;
    }

    /// After `TPM2_Clear`: nothing made before will ever load again.
    pub(crate) fn everything_is_lost(&mut self) {
        self.close();
        self.lost = Some(VaultError::KeyLost);
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}
