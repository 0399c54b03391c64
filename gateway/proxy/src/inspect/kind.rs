//! What a body is by its first bytes, and what a name claims it to be (第25条: executables, scripts and the like).
//!
//! It looks at the outermost layer only: what lies inside archives and documents is found by the scanner's policy
//! signatures. It does not decide whether a kind may pass.

use gateway_antivirus::Kind;

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds(u16);

impl Kinds {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u16)
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL
            .into_iter()
            .filter(move |kind| self.0 & (1 << *kind as u16) != 0)
    }
}

impl From<Option<Kind>> for Kinds {
    fn from(kind: Option<Kind>) -> Self {
        kind.map_or(Self::NONE, |kind| Self::NONE.with(kind))
    }
}

/// So many first bytes are enough for [`of_content`].
pub(crate) const ENOUGH: usize = 4096;

/// The kind that the first bytes of a body show.
pub(crate) fn of_content(start: &[u8]) -> Option<Kind> {
    if is_dos_or_windows(start) {
        return Some(Kind::WindowsProgram);
    }
    let begins = |magic: &[u8]| start.starts_with(magic);
    if begins(b"\x7fELF") {
        return Some(Kind::LinuxProgram);
    }
    if begins(b"dex\n0") {
        return Some(Kind::Android);
    }
    // A universal binary of macOS and a Java class share their number; the next one tells architectures from versions.
    if begins(b"\xca\xfe\xba\xbe") && start.len() >= 8 {
        let java = start[7] >= 40;
        return Some(if java { Kind::Java } else { Kind::MacProgram });
    }
    let mach_o: [&[u8]; 5] = [
        b"\xfe\xed\xfa\xce",
        b"\xfe\xed\xfa\xcf",
        b"\xce\xfa\xed\xfe",
        b"\xcf\xfa\xed\xfe",
        b"\xca\xfe\xba\xbf",
    ];
    if mach_o.into_iter().any(begins) {
        return Some(Kind::MacProgram);
    }
    if is_java_archive(start) {
        return Some(Kind::Java);
    }
    // [MS-SHLLINK] section 2.1: header size and class identifier.
    if begins(b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F") {
        return Some(Kind::Shortcut);
    }
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    is_script(text).then_some(Kind::Script)
}

/// `MZ` alone may begin a text; a program has a header behind it.
fn is_dos_or_windows(start: &[u8]) -> bool {
    let Some(header) = start.get(..64) else {
        return false;
    };
    let word = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
    if !(header.starts_with(b"MZ") || header.starts_with(b"ZM")) {
        return false;
    }
    let next = word(0x3c) | word(0x3e) << 16;
    let follows = |magic: &[u8]| {
        start
            .get(next..)
            .is_some_and(|rest| rest.starts_with(magic))
    };
    let windows = [&b"PE\0\0"[..], b"NE", b"LE", b"LX"];
    // Without a second header it is a DOS program, whose first is never text.
    windows.into_iter().any(follows) || header.contains(&0)
}

/// A zip archive whose first entry is the manifest directory, as `jar` writes it; others are the scanner's to find.
fn is_java_archive(start: &[u8]) -> bool {
    start.starts_with(b"PK\x03\x04")
        && start.get(30..).is_some_and(|name| {
            name.starts_with(b"META-INF/") || name.starts_with(b"AndroidManifest.xml")
        })
}

fn is_script(text: &[u8]) -> bool {
    let Some(line) = text.strip_prefix(b"#!") else {
        return false;
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.trim_ascii_start().starts_with(b"/")
}

/// The kind that a file name claims, where content cannot tell: scripts are only text.
pub(crate) fn of_name(name: &[u8]) -> Option<Kind> {
    const CLAIMS: [(Kind, &[&str]); 7] = [
        (
            Kind::WindowsProgram,
            &["exe", "com", "scr", "pif", "cpl", "dll", "msc"],
        ),
        (Kind::Installer, &["msi", "msp", "mst", "msix", "appx"]),
        (Kind::Java, &["jar", "jnlp"]),
        (Kind::Android, &["apk"]),
        (Kind::MacProgram, &["command", "pkg"]),
        (Kind::Shortcut, &["lnk", "url", "scf"]),
        (
            Kind::Script,
            &[
                "js", "jse", "mjs", "vbs", "vbe", "wsf", "wsh", "wsc", "sct", "hta", "bat", "cmd",
                "ps1", "psm1", "psd1", "ps1xml", "reg", "inf", "sh",
            ],
        ),
    ];
    // Windows drops dots and spaces at the end of a name, and everything behind a colon names a stream.
    let name = name
        .split(|byte| matches!(byte, 0 | b':'))
        .next()
        .unwrap_or_default();
    let end = name
        .iter()
        .rposition(|byte| !matches!(byte, b'.' | b' ' | b'"' | b'\''))?;
    let name = &name[..=end];
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    let extension = &name[dot + 1..];
    CLAIMS.into_iter().find_map(|(kind, extensions)| {
        let claimed = extensions
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known.as_bytes()));
        claimed.then_some(kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows_program() -> Vec<u8> {
        let mut program = vec![0; 0x80];
        program[..2].copy_from_slice(b"MZ");
        program[0x3c] = 0x80;
        program.extend_from_slice(b"PE\0\0\x4c\x01");
        program
    }

    #[test]
    fn programs_are_known_by_their_first_bytes() {
        assert_eq!(of_content(&windows_program()), Some(Kind::WindowsProgram));
        assert_eq!(of_content(b"\x7fELF\x02\x01\x01"), Some(Kind::LinuxProgram));
        assert_eq!(of_content(b"\xca\xfe\xba\xbe\0\0\0\x34"), Some(Kind::Java));
        assert_eq!(
            of_content(b"\xcf\xfa\xed\xfe\x07\0\0\x01"),
            Some(Kind::MacProgram)
        );
        let jar =
            b"PK\x03\x04\x14\0\x08\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x09\0\0\0META-INF/";
        assert_eq!(of_content(jar), Some(Kind::Java));
    }

    #[test]
    fn a_text_that_begins_like_a_program_is_a_text() {
        assert_eq!(
            of_content(
                "MZ世代の職員について、研修の記録をここに書きます。長さは六十四バイトを超えます。"
                    .as_bytes()
            ),
            None
        );
        assert_eq!(of_content(b"#! is how a script begins"), None);
        assert_eq!(of_content("記録\n".as_bytes()), None);
        assert_eq!(of_content(b""), None);
    }

    #[test]
    fn scripts_and_shortcuts_are_known() {
        assert_eq!(of_content(b"#!/bin/sh\necho\n"), Some(Kind::Script));
        assert_eq!(
            of_content(b"\xef\xbb\xbf#! /usr/bin/env python3\n"),
            Some(Kind::Script)
        );
        assert_eq!(
            of_content(b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F\x9b\0\x08\0"),
            Some(Kind::Shortcut)
        );
    }

    #[test]
    fn a_name_is_read_as_windows_reads_it() {
        for name in [
            "a.JS",
            "請求書.pdf.vbs",
            "run.bat.",
            "run.cmd ",
            "x.ps1::$DATA",
            "a.hta\0.txt",
        ] {
            assert_eq!(of_name(name.as_bytes()), Some(Kind::Script), "{name}");
        }
        for name in [
            "a.json",
            "js",
            "記録.docx",
            "a.bat.txt",
            "",
            ".",
            "日報 2026.11.22",
        ] {
            assert_eq!(of_name(name.as_bytes()), None, "{name}");
        }
        assert_eq!(of_name(b"setup.exe"), Some(Kind::WindowsProgram));
    }
}
