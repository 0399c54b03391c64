//! Ends a program by SIGKILL at one chosen point of all those at which it changes what outlives it: loaded before libc
//! (`LD_PRELOAD`), it counts every write, sync, truncation, renaming and removal below one directory, and every command that
//! changes the TPM's NV memory, and kills at the one it was told.
//!
//! A write it kills at is half done; everything else is not done. It changes nothing until that point, knows nothing of the
//! program, and is never part of the product: `tests/harness` loads it.
//!
//! The environment tells it: `CRASH_BELOW` (directory), `CRASH_AT` (the point, from 1; 0 only counts), `CRASH_COUNT` (a file of 8
//! bytes, which holds the number of points passed, in the machine's byte order), `CRASH_LIST` (optional; a file that takes a line for each point).
#![allow(
    unsafe_code,
    reason = "functions of libc are replaced; each is handed to the kernel as it came"
)]

use std::cell::Cell;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc::{self, c_char, c_int, c_uint, c_void, iovec, off64_t, size_t, ssize_t};

/// What the environment said, read once.
struct Orders {
    below: PathBuf,
    at: u64,
    /// The shared page with the count, so that it survives the kill.
    count: Option<&'static AtomicU64>,
    list: Option<c_int>,
}

static ORDERS: OnceLock<Option<Orders>> = OnceLock::new();

thread_local! {
    /// True while this thread is inside our own code, whose system calls are no points.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

fn orders() -> Option<&'static Orders> {
    ORDERS
        .get_or_init(|| {
            let below = PathBuf::from(std::env::var_os("CRASH_BELOW")?);
            let at = std::env::var("CRASH_AT").ok()?.parse().ok()?;
            let count = std::env::var_os("CRASH_COUNT").and_then(|path| map(&path));
            let list = std::env::var_os("CRASH_LIST").and_then(|path| open(&path));
            Some(Orders {
                below,
                at,
                count,
                list,
            })
        })
        .as_ref()
}

/// Reads the orders before the program starts: later it may have shut itself into a sandbox.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOADING: extern "C" fn() = {
    extern "C" fn read_orders() {
        let _ = orders();
    }
    read_orders
};

fn open(path: &OsStr) -> Option<c_int> {
    let path = std::ffi::CString::new(path.as_bytes()).ok()?;
    // SAFETY: the path ends with a NUL and lives through the call.
    let fd = unsafe {
        libc::open(
            path.as_ptr(),
            libc::O_RDWR | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC,
            0o600,
        )
    };
    (fd >= 0).then_some(fd)
}

fn map(path: &OsStr) -> Option<&'static AtomicU64> {
    let fd = open(path)?;
    // SAFETY: the file is ours; the mapping is never undone, is page-aligned and has at least the eight bytes that
    // `ftruncate` has made sure of, so a shared atomic may live in it for as long as the process does.
    unsafe {
        if libc::syscall(libc::SYS_ftruncate, fd, 8) != 0 {
            return None;
        }
        let page = libc::mmap(
            std::ptr::null_mut(),
            8,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd,
            0,
        );
        (page != libc::MAP_FAILED).then(|| &*page.cast::<AtomicU64>())
    }
}

/// What to do at a call.
enum Then {
    GoOn,
    /// This is the point.
    Die,
}

/// Counts one point, unless `subject` says that the call concerns nothing of ours.
fn point(kind: &str, subject: impl FnOnce(&Orders) -> Option<String>) -> Then {
    if BUSY.try_with(|busy| busy.replace(true)).unwrap_or(true) {
        return Then::GoOn;
    }
    let then = judge(kind, subject);
    let _ = BUSY.try_with(|busy| busy.set(false));
    then
}

fn judge(kind: &str, subject: impl FnOnce(&Orders) -> Option<String>) -> Then {
    let Some(orders) = orders() else {
        return Then::GoOn;
    };
    let Some(subject) = subject(orders) else {
        return Then::GoOn;
    };
    let Some(count) = orders.count else {
        return Then::GoOn;
    };
    let number = count.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some(list) = orders.list {
        let line = format!("{number} {kind} {subject}\n");
        // SAFETY: the buffer lives through the call; one short append to a file of ours.
        unsafe { libc::syscall(libc::SYS_write, list, line.as_ptr(), line.len()) };
    }
    if number == orders.at {
        Then::Die
    } else {
        Then::GoOn
    }
}

fn die() -> ! {
    // SAFETY: SIGKILL to this process itself; the call does not return.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
        loop {
            libc::pause();
        }
    }
}

/// The file behind a descriptor, relative to the directory that is watched.
fn file_of(fd: c_int) -> impl FnOnce(&Orders) -> Option<String> {
    move |orders| {
        let path = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        relative(orders, &path)
    }
}

fn named(path: *const c_char) -> impl FnOnce(&Orders) -> Option<String> {
    move |orders| {
        if path.is_null() {
            return None;
        }
        // SAFETY: the caller of the replaced function passes a string that ends with a NUL, as libc demands.
        let path = unsafe { CStr::from_ptr(path) };
        relative(
            orders,
            std::path::Path::new(OsStr::from_bytes(path.to_bytes())),
        )
    }
}

fn relative(orders: &Orders, path: &std::path::Path) -> Option<String> {
    let below = path.strip_prefix(&orders.below).ok()?;
    Some(below.display().to_string())
}

/// TPM commands that change NV memory (TPM 2.0 part 2, table 12): `NV_DefineSpace`, `NV_UndefineSpace`, `NV_Write`, `NV_Increment`.
const NV_COMMANDS: [[u8; 4]; 4] = [
    [0, 0, 0x01, 0x2a],
    [0, 0, 0x01, 0x22],
    [0, 0, 0x01, 0x37],
    [0, 0, 0x01, 0x34],
];

/// Whether these bytes are a TPM command that changes NV memory: tag with sessions, its own length, command code.
fn nv_command(buffer: *const c_void, length: size_t) -> Option<String> {
    if buffer.is_null() || length < 10 {
        return None;
    }
    // SAFETY: the caller passes `length` readable bytes, of which there are at least ten.
    let head = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), 10) };
    let size = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
    let whole = usize::try_from(size) == Ok(length);
    let code = &head[6..10];
    (head[..2] == [0x80, 0x02] && whole && NV_COMMANDS.iter().any(|known| known == code))
        .then(|| format!("command {:02x}{:02x}", code[2], code[3]))
}

/// A write of whole buffers: half of it is done at the point.
fn half(length: size_t) -> size_t {
    length / 2
}

/// Replaces write(2).
///
/// # Safety
/// As write(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    if let Then::Die = point("write", |orders| {
        nv_command(buffer, length).or_else(|| file_of(fd)(orders))
    }) {
        if nv_command(buffer, length).is_none() {
            // SAFETY: as the caller's.
            unsafe { libc::syscall(libc::SYS_write, fd, buffer, half(length)) };
        }
        die();
    }
    // SAFETY: as the caller's.
    returned(unsafe { libc::syscall(libc::SYS_write, fd, buffer, length) })
}

/// Replaces send(2), by which the TPM is spoken to.
///
/// # Safety
/// As send(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn send(
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    if let Then::Die = point("send", |_| nv_command(buffer, length)) {
        die();
    }
    let nobody = std::ptr::null::<c_void>();
    // SAFETY: as the caller's; send(2) is sendto(2) without an address.
    returned(unsafe { libc::syscall(libc::SYS_sendto, fd, buffer, length, flags, nobody, 0) })
}

/// Replaces pwrite64(2).
///
/// # Safety
/// As pwrite64(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
    offset: off64_t,
) -> ssize_t {
    if let Then::Die = point("pwrite", file_of(fd)) {
        // SAFETY: as the caller's.
        unsafe { libc::syscall(libc::SYS_pwrite64, fd, buffer, half(length), offset) };
        die();
    }
    // SAFETY: as the caller's.
    returned(unsafe { libc::syscall(libc::SYS_pwrite64, fd, buffer, length, offset) })
}

/// Replaces pwrite(2), which is the same where offsets have 64 bits.
///
/// # Safety
/// As pwrite(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
    offset: off64_t,
) -> ssize_t {
    // SAFETY: as the caller's.
    unsafe { pwrite64(fd, buffer, length, offset) }
}

/// Replaces writev(2).
///
/// # Safety
/// As writev(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    if let Then::Die = point("writev", file_of(fd)) {
        // SAFETY: as the caller's, with fewer parts.
        unsafe { libc::syscall(libc::SYS_writev, fd, parts, count / 2) };
        die();
    }
    // SAFETY: as the caller's.
    returned(unsafe { libc::syscall(libc::SYS_writev, fd, parts, count) })
}

/// Replaces fsync(2).
#[unsafe(no_mangle)]
pub extern "C" fn fsync(fd: c_int) -> c_int {
    if let Then::Die = point("fsync", file_of(fd)) {
        die();
    }
    // SAFETY: takes a number only.
    status(unsafe { libc::syscall(libc::SYS_fsync, fd) })
}

/// Replaces fdatasync(2).
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: c_int) -> c_int {
    if let Then::Die = point("fdatasync", file_of(fd)) {
        die();
    }
    // SAFETY: takes a number only.
    status(unsafe { libc::syscall(libc::SYS_fdatasync, fd) })
}

/// Replaces ftruncate64(2).
#[unsafe(no_mangle)]
pub extern "C" fn ftruncate64(fd: c_int, length: off64_t) -> c_int {
    if let Then::Die = point("ftruncate", file_of(fd)) {
        die();
    }
    // SAFETY: takes numbers only.
    status(unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) })
}

/// Replaces ftruncate(2), which is the same where lengths have 64 bits.
#[unsafe(no_mangle)]
pub extern "C" fn ftruncate(fd: c_int, length: off64_t) -> c_int {
    ftruncate64(fd, length)
}

/// Replaces rename(2).
///
/// # Safety
/// As rename(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    if let Then::Die = point("rename", named(to)) {
        die();
    }
    // SAFETY: as the caller's.
    status(unsafe { libc::syscall(libc::SYS_rename, from, to) })
}

/// Replaces renameat2(2), for paths that begin at the root.
///
/// # Safety
/// As renameat2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat2(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    if let Then::Die = point("renameat2", named(to)) {
        die();
    }
    // SAFETY: as the caller's.
    status(unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            from_directory,
            from,
            to_directory,
            to,
            flags,
        )
    })
}

/// Replaces unlink(2).
///
/// # Safety
/// As unlink(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    if let Then::Die = point("unlink", named(path)) {
        die();
    }
    // SAFETY: as the caller's.
    status(unsafe { libc::syscall(libc::SYS_unlink, path) })
}

/// Replaces unlinkat(2), for paths that begin at the root.
///
/// # Safety
/// As unlinkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    if let Then::Die = point("unlinkat", named(path)) {
        die();
    }
    // SAFETY: as the caller's.
    status(unsafe { libc::syscall(libc::SYS_unlinkat, directory, path, flags) })
}

/// A system call's result in the width of the function that stands for it.
fn returned(result: libc::c_long) -> ssize_t {
    ssize_t::try_from(result).unwrap_or(-1)
}

fn status(result: libc::c_long) -> c_int {
    c_int::try_from(result).unwrap_or(-1)
}
