//! Small bodies that prove something: what must be found, what must be refused, what must pass.
//!
//! None of them can do harm; none of them is on the disk of the box or in this source as it stands.

/// The EICAR test file, put together only here: scanners of developers and of the build would stop a source file that
/// contains it.
pub(crate) fn eicar() -> Vec<u8> {
    let name = ["EICAR", "STANDARD", "ANTIVIRUS", "TEST", "FILE"].join("-");
    [r"X5O!P%@AP[4\PZX54(P^)7CC)7}$", &name, "!$H+H*"]
        .concat()
        .into_bytes()
}

/// The head of a program for Linux, and nothing that could run.
pub(crate) fn program() -> Vec<u8> {
    let mut head = b"\x7fELF\x02\x01\x01\x00".to_vec();
    head.resize(64, 0);
    head
}

/// A zip archive in a zip archive in …, `depth` times, around `content`.
pub(crate) fn nested(content: &[u8], depth: usize) -> Vec<u8> {
    (0..depth).fold(content.to_vec(), |inner, level| {
        let name = if level == 0 { "a.txt" } else { "a.zip" };
        zip(name, &inner, false)
    })
}

/// A zip archive with one compressed member, so that only who unpacks it sees the content; `encrypted` means only that its
/// flag says so.
pub(crate) fn zip(name: &str, content: &[u8], encrypted: bool) -> Vec<u8> {
    let packed = deflated(content);
    // APPNOTE 4.3.7: version, flags, method, time, date, CRC-32, sizes, lengths of name and extra field.
    let mut common = vec![20, 0, u8::from(encrypted), 0, 8, 0, 0, 0, 0x21, 0x50];
    common.extend(crc32(content).to_le_bytes());
    common.extend(four(packed.len()));
    common.extend(four(content.len()));
    common.extend(&four(name.len())[..2]);
    common.extend([0, 0]);
    let mut archive = b"PK\x03\x04".to_vec();
    archive.extend(&common);
    archive.extend(name.as_bytes());
    archive.extend(packed);
    let directory = archive.len();
    archive.extend(b"PK\x01\x02\x14\x00");
    archive.extend(&common);
    archive.extend([0; 14]);
    archive.extend(name.as_bytes());
    let size = archive.len() - directory;
    archive.extend(b"PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00");
    archive.extend(four(size));
    archive.extend(four(directory));
    archive.extend([0, 0]);
    archive
}

/// A length as zip writes it. Samples are small.
fn four(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

/// One DEFLATE block with fixed codes and literals only (RFC 1951 section 3.2.6).
fn deflated(content: &[u8]) -> Vec<u8> {
    let mut packed = Bits::default();
    packed.put(0b110, 3);
    for byte in content {
        let value = u16::from(*byte);
        if value < 144 {
            packed.put(0x30 + value, 8);
        } else {
            packed.put(0x190 + value - 144, 9);
        }
    }
    packed.put(0, 7);
    packed.bytes
}

/// Bits, filling each byte from its lowest.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    /// The lowest `count` bits of `code`, the highest of them first.
    fn put(&mut self, code: u16, count: u32) {
        for shift in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from(code >> shift & 1 == 1) << (self.used % 8);
            }
            self.used += 1;
        }
    }
}

fn crc32(content: &[u8]) -> u32 {
    !content.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    })
}

/// What a database must let pass: (file name, content).
pub(crate) fn clean() -> Vec<(&'static str, Vec<u8>)> {
    let text = "訪問看護の記録です。体温36.5度、血圧128/76。\r\n#!/bin/sh と @echo off の話をしました。\r\n";
    vec![
        ("clean.txt", text.as_bytes().to_vec()),
        ("clean.csv", "日時,氏名,体温\r\n2026-11-22,高萩 花子,36.5\r\n".as_bytes().to_vec()),
        ("clean.json", br##"{"text":"#!/bin/sh\nrm -rf /","ids":[1,2,3]}"##.to_vec()),
        ("clean.js", b"'use strict';\nfunction add(a, b) { return a + b; }\nadd(1, 2);\n".to_vec()),
        ("clean.html", b"<!DOCTYPE html><html><head><title>a</title><script>addEventListener('load', () => fetch('/a'));</script></head><body onload=\"x()\"><p>MZ PK \x7f</p></body></html>".to_vec()),
        ("clean.svg", b"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1\" height=\"1\"><rect width=\"1\" height=\"1\"/></svg>".to_vec()),
        ("clean.pdf", b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n".to_vec()),
        ("clean.gif", b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;".to_vec()),
        ("clean.zip", nested(text.as_bytes(), 3)),
        ("clean.docx", zip("word/document.xml", b"<w:document/>", false)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_file_has_the_length_its_authors_gave_it() {
        assert_eq!(eicar().len(), 68);
    }

    #[test]
    fn an_archive_is_unpacked_by_others_and_hides_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..=255).chain(*b"a text").collect();
        let path = directory.path().join("a.zip");
        let archive = zip("a.bin", &content, false);
        assert!(!archive.windows(6).any(|window| window == b"a text"));
        std::fs::write(&path, archive).unwrap();
        let script = "import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read('a.bin'))";
        let unpacked = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(&path)
            .output()
            .unwrap();
        assert_eq!(unpacked.stdout, content);
    }

    #[test]
    fn the_checksum_is_that_of_the_zip_format() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
