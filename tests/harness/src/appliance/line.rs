//! What a box has sent over its line: whom it asked for a connection, and which names it looked up.
//!
//! QEMU records the line (pcap). Answers to what others began are not of interest and left out.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::{Error, Result};

/// The box's card, as QEMU names its first one.
const CARD: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// Of the file (pcap-savefile(5)), and of each packet in it.
const HEADERS: (usize, usize) = (24, 16);

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const IGMP: u8 = 2;
const ICMP6: u8 = 58;

/// Everything the box has begun, each once: `tcp 10.0.2.100:443`, `udp 10.0.2.3:53`, `name time.example`, `icmp6 type 133` …
///
/// # Errors
/// When the record cannot be read or is none.
pub(super) fn begun(record: &Path) -> Result<BTreeSet<String>> {
    let bytes = fs::read(record)
        .map_err(|error| Error::new(format!("{}", record.display())).because(error))?;
    if bytes.get(..4) != Some(&0xa1b2_c3d4_u32.to_le_bytes()) {
        return Err(Error::new(format!(
            "{} is no record of a line",
            record.display()
        )));
    }
    let mut rest = &bytes[HEADERS.0..];
    let mut found = BTreeSet::new();
    // A packet that was being written when the plug was pulled is left out.
    while let Some(length) = rest.get(8..12).and_then(|length| length.try_into().ok()) {
        let length = u32::from_le_bytes(length) as usize;
        let Some(frame) = rest.get(HEADERS.1..HEADERS.1 + length) else {
            break;
        };
        rest = &rest[HEADERS.1 + length..];
        if frame.get(6..12) == Some(CARD.as_slice())
            && let Some(begun) = of_frame(frame)
        {
            found.extend(begun);
        }
    }
    Ok(found)
}

/// What a frame begins; nothing for what belongs to something that was begun before.
fn of_frame(frame: &[u8]) -> Option<Vec<String>> {
    let kind = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let packet = &frame[14..];
    match kind {
        0x0806 => Some(vec!["arp".to_owned()]),
        0x0800 => {
            let length = usize::from(packet.first()? & 0x0f) * 4;
            let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            let to = Ipv4Addr::from(to).to_string();
            of_packet(*packet.get(9)?, &to, packet.get(length..)?)
        }
        0x86dd => {
            let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            let to = format!("[{}]", Ipv6Addr::from(to));
            let (mut protocol, mut inner) = (*packet.get(6)?, packet.get(40..)?);
            // Hop-by-hop options (RFC 8200 §4.3), in front of reports of multicast membership.
            if protocol == 0 {
                protocol = *inner.first()?;
                inner = inner.get(8 + usize::from(*inner.get(1)?) * 8..)?;
            }
            of_packet(protocol, &to, inner)
        }
        other => Some(vec![format!("frame {other:#06x}")]),
    }
}

fn of_packet(protocol: u8, to: &str, inner: &[u8]) -> Option<Vec<String>> {
    let port = || Some(u16::from_be_bytes(inner.get(2..4)?.try_into().ok()?));
    match protocol {
        // A SYN without an ACK (RFC 9293 §3.5).
        TCP => (inner.get(13)? & 0x12 == 0x02).then_some(vec![format!("tcp {to}:{}", port()?)]),
        UDP => {
            let port = port()?;
            let mut begun = vec![format!("udp {to}:{port}")];
            if port == 53 || port == 5353 {
                begun.extend(question(inner.get(8..)?).map(|name| format!("name {name}")));
            }
            Some(begun)
        }
        ICMP => Some(vec![format!("icmp type {}", inner.first()?)]),
        ICMP6 => Some(vec![format!("icmp6 type {}", inner.first()?)]),
        IGMP => Some(vec!["igmp".to_owned()]),
        other => Some(vec![format!("protocol {other} {to}")]),
    }
}

/// The first name a message asks for (RFC 1035 §4.1); `None` for an answer.
fn question(message: &[u8]) -> Option<String> {
    if message.get(2)? & 0x80 != 0 || message.get(4..6)? == [0, 0] {
        return None;
    }
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*message.get(at)?);
        if length == 0 {
            return Some(labels.join("."));
        }
        let label = message.get(at + 1..at + 1 + length)?;
        labels.push(String::from_utf8_lossy(label).into_owned());
        at += 1 + length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(frames: &[Vec<u8>]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
        bytes.resize(HEADERS.0, 0);
        for frame in frames {
            bytes.extend([0; 8]);
            bytes.extend(u32::try_from(frame.len()).unwrap().to_le_bytes());
            bytes.extend([0; 4]);
            bytes.extend(frame);
        }
        fs::write(file.path(), bytes).unwrap();
        file
    }

    fn frame(from: [u8; 6], kind: u16, packet: &[u8]) -> Vec<u8> {
        [&[0xff; 6], &from[..], &kind.to_be_bytes(), packet].concat()
    }

    fn v4(protocol: u8, to: [u8; 4], inner: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 2, 15];
        packet.extend(to);
        packet.extend(inner);
        packet
    }

    fn tcp(port: u16, flags: u8) -> Vec<u8> {
        let mut segment = vec![0; 20];
        segment[2..4].copy_from_slice(&port.to_be_bytes());
        segment[13] = flags;
        segment
    }

    #[test]
    fn what_the_box_begins_is_named_and_what_it_answers_is_not() {
        let city = [10, 0, 2, 100];
        let mut query = vec![0, 9, 0, 53, 0, 0, 0, 0];
        query.extend([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        query.extend(b"\x04time\x07example\x00\x00\x01\x00\x01");
        let frames = [
            frame(CARD, 0x0800, &v4(TCP, city, &tcp(443, 0x02))),
            // Its answer to somebody's SYN, and somebody else's.
            frame(CARD, 0x0800, &v4(TCP, [10, 0, 2, 2], &tcp(5000, 0x12))),
            frame([2; 6], 0x0800, &v4(TCP, [10, 0, 2, 15], &tcp(22, 0x02))),
            frame(CARD, 0x0800, &v4(UDP, [10, 0, 2, 3], &query)),
            frame(CARD, 0x0806, &[]),
        ];
        let found = begun(record(&frames).path()).unwrap();
        let expected = [
            "arp",
            "name time.example",
            "tcp 10.0.2.100:443",
            "udp 10.0.2.3:53",
        ];
        assert_eq!(found, expected.map(str::to_owned).into());
    }

    #[test]
    fn options_in_front_of_an_icmp6_message_are_passed_over() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, 0, 1];
        packet.extend([0; 16]);
        packet.extend([0xff; 16]);
        packet.extend([ICMP6, 0, 0, 0, 0, 0, 0, 0]);
        packet.push(143);
        let found = begun(record(&[frame(CARD, 0x86dd, &packet)]).path()).unwrap();
        assert_eq!(found, ["icmp6 type 143".to_owned()].into());
    }

    #[test]
    fn what_was_cut_off_is_left_out_and_what_is_no_record_is_said() {
        let whole = frame(CARD, 0x0806, &[]);
        let file = record(&[whole.clone(), whole]);
        let bytes = fs::read(file.path()).unwrap();
        for end in HEADERS.0..bytes.len() {
            fs::write(file.path(), &bytes[..end]).unwrap();
            assert!(begun(file.path()).unwrap().len() <= 1, "{end}");
        }
        fs::write(file.path(), b"nothing").unwrap();
        assert!(begun(file.path()).is_err());
    }
}
