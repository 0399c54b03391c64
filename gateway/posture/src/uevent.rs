//! The kernel's own news of devices that come and go (NETLINK_KOBJECT_UEVENT). Only what concerns USB storage is told on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};
use tokio::sync::mpsc;

/// The multicast group of the kernel itself; group 2 is udev's, whose words anybody with its rights could write.
const KERNEL: u32 = 1;

/// The kernel's messages are at most 2 KiB of environment and a path.
const LONGEST: usize = 8 * 1024;

/// How often the thread looks whether anybody still listens, in milliseconds.
const LOOK_UP: u16 = 1000;

/// Something about USB storage was plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UsbEvent {
    /// An interface of the mass storage class; no driver has made a disk of it.
    Storage,
    /// A block device behind USB.
    Disk,
}

impl UsbEvent {
    /// One word for the evidence.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Disk => "disk",
        }
    }

    /// Reads one message: `action@devpath`, then `KEY=value`, each ended by a zero byte. Anything else is no event.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(message).ok()?;
        let mut parts = text.split('\0');
        let (action, path) = parts.next()?.split_once('@')?;
        if action != "add" && action != "bind" {
            return None;
        }
        let (mut subsystem, mut kind, mut interface) = (None, None, None);
        for part in parts {
            match part.split_once('=') {
                Some(("SUBSYSTEM", value)) => subsystem = Some(value),
                Some(("DEVTYPE", value)) => kind = Some(value),
                // class/subclass/protocol in decimal.
                Some(("INTERFACE", value)) => interface = Some(value),
                _ => {}
            }
        }
        let behind_usb = path.split('/').any(|part| part.starts_with("usb"));
        match (subsystem?, kind) {
            ("block", _) if behind_usb => Some(Self::Disk),
            ("usb", Some("usb_interface")) if interface?.starts_with("8/") => Some(Self::Storage),
            _ => None,
        }
    }
}

/// What the listener tells: an event, or that an unknown number was lost; measure anew either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Something was plugged in.
    Event(UsbEvent),
    /// The kernel's buffer ran over.
    Lost,
}

/// Listens to the kernel on a thread of its own until the receiver is dropped.
///
/// # Errors
/// When the sandbox or the kernel does not permit the socket; then only the regular measurement notices.
pub fn listen() -> io::Result<mpsc::Receiver<Told>> {
    let socket = open()?;
    let (tell, told) = mpsc::channel(16);
    std::thread::Builder::new()
        .name("uevent".to_owned())
        .spawn(move || {
            while !tell.is_closed() {
                match next(&socket) {
                    Ok(None) => {}
                    // A full channel has something in it that leads to a new measurement.
                    Ok(Some(news)) => drop(tell.try_send(news)),
                    Err(_) => return,
                }
            }
        })?;
    Ok(told)
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkKObjectUEvent,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL))?;
    Ok(socket)
}

/// Waits for one message, at most for a while; `None` when it does not concern us.
fn next(socket: &OwnedFd) -> io::Result<Option<Told>> {
    let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    if poll(&mut ready, PollTimeout::from(LOOK_UP))? == 0 {
        return Ok(None);
    }
    let mut buffer = [0; LONGEST];
    match recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut buffer) {
        // Port 0 is the kernel; a process that may send to its group is not believed.
        Ok((length, Some(from))) if from.pid() == 0 => {
            Ok(UsbEvent::parse(&buffer[..length]).map(Told::Event))
        }
        Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(Errno::ENOBUFS) => Ok(Some(Told::Lost)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what a test cannot do is its failure")]
mod tests {
    use nix::sys::socket::{MsgFlags, getsockname, sendto};

    use super::*;

    fn message(parts: &[&str]) -> Vec<u8> {
        parts
            .iter()
            .flat_map(|part| part.bytes().chain([0]))
            .collect()
    }

    #[test]
    fn a_stick_is_told_from_a_keyboard_and_a_usb_disk_from_another_disk() {
        let port = "/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0";
        let head = format!("add@{port}");
        let stick = ["SUBSYSTEM=usb", "DEVTYPE=usb_interface"];
        let told = |interface| UsbEvent::parse(&message(&[&head, stick[0], stick[1], interface]));
        assert_eq!(told("INTERFACE=8/6/80"), Some(UsbEvent::Storage));
        assert_eq!(told("INTERFACE=3/1/1"), None);
        assert_eq!(told("INTERFACE=80/6/80"), None);
        let disk = format!("add@{port}/host6/target6:0:0/6:0:0:0/block/sda");
        assert_eq!(
            UsbEvent::parse(&message(&[&disk, "SUBSYSTEM=block"])),
            Some(UsbEvent::Disk)
        );
        let other = "add@/devices/pci0000:00/0000:00:1d.0/nvme/nvme0/nvme0n1";
        assert_eq!(UsbEvent::parse(&message(&[other, "SUBSYSTEM=block"])), None);
        let gone = format!("remove@{port}");
        assert_eq!(
            UsbEvent::parse(&message(&[&gone, stick[0], stick[1], "INTERFACE=8/6/80"])),
            None
        );
    }

    #[test]
    fn nonsense_is_no_event() {
        for nonsense in [
            &b""[..],
            b"add",
            b"@",
            b"\xff@\0",
            b"add@/x\0SUBSYSTEM",
            b"\0\0\0",
        ] {
            assert_eq!(UsbEvent::parse(nonsense), None);
        }
    }

    #[test]
    fn a_message_that_the_kernel_did_not_send_is_not_believed() {
        let (listener, speaker) = (open().unwrap(), open().unwrap());
        let forged = message(&[
            "add@/devices/pci0000:00/usb1/1-2/1-2:1.0/block/sda",
            "SUBSYSTEM=block",
        ]);
        assert_eq!(UsbEvent::parse(&forged), Some(UsbEvent::Disk));
        // Straight to the listener, which the kernel lets any process do.
        let port = getsockname::<NetlinkAddr>(listener.as_raw_fd())
            .unwrap()
            .pid();
        let sent = sendto(
            speaker.as_raw_fd(),
            &forged,
            &NetlinkAddr::new(port, 0),
            MsgFlags::empty(),
        );
        assert_eq!(sent, Ok(forged.len()));
        assert_eq!(next(&listener).unwrap(), None);
    }
}
