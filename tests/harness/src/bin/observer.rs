//! Tells what runs and what listens on the box it runs on, from `/proc`, again and again, on standard output.
//!
//! It is put into one release for trying, because a box has no shell to ask. It changes nothing and decides nothing; sockets in
//! network namespaces other than its own are not seen.

#![allow(
    clippy::print_stdout,
    reason = "this program's output is what it is for"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

/// How often everything is told.
const INTERVAL: Duration = Duration::from_secs(20);

/// In the order of their numbers (capabilities(7)).
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

fn main() {
    let own = std::process::id().to_string();
    loop {
        let processes = processes(&own);
        let mut lines = BTreeSet::new();
        for process in processes.values() {
            lines.insert(process.line());
        }
        for (what, inode) in listening() {
            let holders: BTreeSet<&str> = processes
                .values()
                .filter(|process| process.sockets.contains(&inode))
                .map(Process::name)
                .collect();
            let holders: Vec<&str> = holders.into_iter().collect();
            lines.insert(format!("listens {what} {}", holders.join(" ")));
        }
        println!("observer: begin");
        for line in lines {
            println!("observer: {}", line.trim_end());
        }
        println!("observer: end");
        std::thread::sleep(INTERVAL);
    }
}

/// A process that is no thread of the kernel.
struct Process {
    program: String,
    user: String,
    effective: u64,
    filtered: bool,
    gains_nothing: bool,
    /// Inodes of its sockets.
    sockets: BTreeSet<String>,
}

impl Process {
    fn name(&self) -> &str {
        self.program.rsplit('/').next().unwrap_or(&self.program)
    }

    fn line(&self) -> String {
        let may: Vec<&str> = match self.effective {
            0 => vec!["nothing"],
            // As many as this kernel has.
            all if all.trailing_ones() >= 38 => vec!["everything"],
            some => CAPABILITIES
                .iter()
                .enumerate()
                .filter(|(number, _)| some >> number & 1 == 1)
                .map(|(_, name)| *name)
                .collect(),
        };
        format!(
            "runs {} as {} may {}{}{}",
            self.program,
            self.user,
            may.join(","),
            if self.filtered {
                ", calls filtered"
            } else {
                ""
            },
            if self.gains_nothing {
                ", gains nothing"
            } else {
                ""
            },
        )
    }
}

fn processes(own: &str) -> BTreeMap<String, Process> {
    let users = users();
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        if id == own || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // A process that ended meanwhile, or a thread of the kernel, has none.
        let Ok(program) = fs::read_link(entry.path().join("exe")) else {
            continue;
        };
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else {
            continue;
        };
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
                .unwrap_or_default()
        };
        let user = field("Uid").split_whitespace().nth(1).unwrap_or_default();
        let process = Process {
            program: program.to_string_lossy().into_owned(),
            user: users
                .get(user)
                .cloned()
                .unwrap_or_else(|| "a user of its own".to_owned()),
            effective: u64::from_str_radix(field("CapEff"), 16).unwrap_or(u64::MAX),
            filtered: field("Seccomp") == "2",
            gains_nothing: field("NoNewPrivs") == "1",
            sockets: sockets(&entry.path()),
        };
        found.insert(id, process);
    }
    found
}

/// Names by number, from the accounts' file.
fn users() -> BTreeMap<String, String> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((fields.nth(1)?.to_owned(), name.to_owned()))
        })
        .collect()
}

fn sockets(process: &Path) -> BTreeSet<String> {
    fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let link = fs::read_link(entry.path()).ok()?;
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect()
}

/// What waits for somebody, with the socket's inode: proc_net(5).
fn listening() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (kind, waits) in [
        ("tcp", Some("0A")),
        ("tcp6", Some("0A")),
        ("udp", None),
        ("udp6", None),
        ("raw", None),
        ("raw6", None),
    ] {
        for line in table(kind) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(state), Some(inode)) =
                (fields.get(1), fields.get(3), fields.get(9))
            else {
                continue;
            };
            if waits.is_none_or(|waits| waits == *state)
                && let Some(local) = address(local)
            {
                found.push((format!("{kind} {local}"), (*inode).to_owned()));
            }
        }
    }
    for line in table("packet") {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let (Some(protocol), Some(inode)) = (fields.get(3), fields.get(8)) {
            found.push((format!("packet {protocol}"), (*inode).to_owned()));
        }
    }
    for line in table("unix") {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(flags), Some(inode), Some(path)) = (fields.get(3), fields.get(6), fields.get(7))
        else {
            continue;
        };
        // __SO_ACCEPTCON, and datagram sockets with a name, which take from whoever knows it.
        if *flags == "00010000" || fields.get(4) == Some(&"0002") {
            found.push((format!("unix {path}"), (*inode).to_owned()));
        }
    }
    found
}

/// The lines of a table, without its heading.
fn table(name: &str) -> Vec<String> {
    fs::read_to_string(format!("/proc/net/{name}"))
        .unwrap_or_default()
        .lines()
        .skip(1)
        .map(str::to_owned)
        .collect()
}

/// `0100007F:0050` as `127.0.0.1:80`: words in the machine's order, the port in the reader's.
fn address(text: &str) -> Option<String> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let bytes: Vec<u8> = (0..address.len() / 8)
        .filter_map(|word| {
            let word = address.get(word * 8..word * 8 + 8)?;
            Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
        })
        .flatten()
        .collect();
    let address = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(std::net::SocketAddr::new(address, port).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_people_write() {
        for (written, read) in [
            ("0100007F:0050", "127.0.0.1:80"),
            ("00000000000000000000000001000000:01BB", "[::1]:443"),
            ("00000000:0035", "0.0.0.0:53"),
        ] {
            assert_eq!(address(written).as_deref(), Some(read));
        }
        assert_eq!(address("0100007F"), None);
    }

    #[test]
    fn what_listens_here_is_seen_with_who_holds_it() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = format!("tcp {}", socket.local_addr().unwrap());
        let (_, inode) = listening()
            .into_iter()
            .find(|(what, _)| *what == wanted)
            .unwrap();
        let processes = processes("0");
        let this = &processes[&std::process::id().to_string()];
        assert!(this.sockets.contains(&inode));
        drop(socket);
        assert!(listening().iter().all(|(what, _)| *what != wanted));
    }
}
