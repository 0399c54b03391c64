//! Forbidden kinds against the real clamd: recognised by content at any depth, never instead of malware, and never in what
//! an office sends every day.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use gateway_antivirus::{Config, Kind, Outcome, Scanner, SealedBody, SelfTest, SelfTestError};
use test_harness::clamd::{Clamd, Database, eicar};

struct Stand {
    directory: tempfile::TempDir,
    _clamd: Clamd,
    scanner: Scanner,
}

impl Stand {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clamd = Clamd::start(&directory.path().join("clamd")).unwrap();
        let scanner = Scanner::new(Config::new(clamd.socket()));
        Self {
            directory,
            _clamd: clamd,
            scanner,
        }
    }

    async fn says(&self, body: &[u8]) -> Outcome {
        let body = SealedBody::from_bytes(body).unwrap();
        self.scanner.scan(&body).await
    }

    /// Files packed by a program of the system.
    fn packed(&self, how: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
        let work = self.directory.path().join("packing");
        let _ = std::fs::remove_dir_all(&work);
        std::fs::create_dir_all(&work).unwrap();
        for (name, content) in files {
            let path = work.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        let archive: PathBuf = work.join("archive");
        let script = match how {
            "zip" => {
                "import sys,zipfile\nwith zipfile.ZipFile(sys.argv[1],'w',zipfile.ZIP_DEFLATED) as z:\n for n in sys.argv[2:]: z.write(n)"
            }
            "tar.gz" => {
                "import sys,tarfile\nwith tarfile.open(sys.argv[1],'w:gz') as t:\n for n in sys.argv[2:]: t.add(n)"
            }
            "gzip" => {
                "import sys,gzip\ngzip.open(sys.argv[1],'w').write(open(sys.argv[2],'rb').read())"
            }
            "mail" => {
                "import sys,email.message\nm=email.message.EmailMessage()\nm['From']='a@b.example'\nm['To']='c@d.example'\nm['Subject']='x'\nm.set_content('text')\nfor n in sys.argv[2:]: m.add_attachment(open(n,'rb').read(),maintype='application',subtype='octet-stream',filename=n)\nopen(sys.argv[1],'wb').write(b'Received: from x\\r\\n'+bytes(m))"
            }
            _ => panic!("{how}"),
        };
        let status = Command::new("python3")
            .args(["-c", script])
            .arg(&archive)
            .args(&names)
            .current_dir(&work)
            .status()
            .unwrap();
        assert!(status.success());
        std::fs::read(archive).unwrap()
    }
}

/// A compound file (OLE2) with these streams: version 3, one FAT sector, streams of 4096 bytes.
fn compound(class: [u8; 16], streams: &[(&str, &[u8])]) -> Vec<u8> {
    const END: u32 = 0xffff_fffe;
    const NONE: u32 = 0xffff_ffff;
    let mut sectors: Vec<u8> = Vec::new();
    let mut table: Vec<u32> = Vec::new();
    let mut add = |content: &[u8]| {
        let first = u32::try_from(table.len()).unwrap();
        let count = u32::try_from(content.len().div_ceil(512)).unwrap();
        table.extend((1..=count).map(|n| if n == count { END } else { first + n }));
        sectors.extend(content);
        sectors.resize(table.len() * 512, 0);
        first
    };
    let mut entries = vec![("Root Entry", 5_u8, END, 0_u32, class)];
    for (name, content) in streams {
        let mut content = content.to_vec();
        content.resize(4096, 0);
        entries.push((name, 2, add(&content), 4096, [0; 16]));
    }
    let last = entries.len() - 1;
    let mut directory = Vec::new();
    for (index, (name, kind, start, length, class)) in entries.iter().enumerate() {
        let mut utf16: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        utf16.extend([0, 0]);
        let name_length = u16::try_from(utf16.len()).unwrap();
        utf16.resize(64, 0);
        directory.extend(utf16);
        directory.extend(name_length.to_le_bytes());
        directory.extend([*kind, 1]);
        let next = u32::try_from(index + 1).unwrap();
        let right = if index > 0 && index < last {
            next
        } else {
            NONE
        };
        let child = if index == 0 && last > 0 { 1 } else { NONE };
        for link in [NONE, right, child] {
            directory.extend(link.to_le_bytes());
        }
        directory.extend(class);
        directory.extend([0; 20]);
        directory.extend(start.to_le_bytes());
        directory.extend(length.to_le_bytes());
        directory.extend([0; 4]);
    }
    let directory = add(&directory);
    let at = u32::try_from(table.len()).unwrap();
    table.push(0xffff_fffd);
    let mut fat: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    fat.resize(512, 0xff);
    sectors.extend(fat);
    let mut file = vec![0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];
    file.extend([0; 16]);
    for half in [0x3e_u16, 3, 0xfffe, 9, 6, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for whole in [0, 1, directory, 0, 4096, END, 0, END, 0, at] {
        file.extend(whole.to_le_bytes());
    }
    file.resize(512, 0xff);
    file.extend(sectors);
    file
}

const NO_CLASS: [u8; 16] = [0; 16];

fn with_vba() -> Vec<u8> {
    compound(NO_CLASS, &[("_VBA_PROJECT", b"\xcc\x61"), ("dir", b"x")])
}

const MSI: [u8; 16] = [
    0x84, 0x10, 0x0c, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0x46,
];

/// The beginnings of programs, enough to be recognised and not to run.
fn bare() -> Vec<(Kind, &'static str, Vec<u8>)> {
    let mut pe = b"MZ".to_vec();
    pe.resize(0x80, 0);
    pe[0x3c] = 0x80;
    pe.extend(b"PE\0\0\x4c\x01");
    pe.resize(600, 0);
    let padded = |start: &[u8]| [start, &[0; 200]].concat();
    let wide = |text: &str| -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(u16::to_le_bytes).collect()
    };
    let sheet = b"\x09\x08\x10\x00\x00\x06\x05\x00\0\0\0\0\0\0\0\0\0\0\0\0\x85\x00\x0e\x00\0\0\x01\0\x01\x01\x06\0Macro1";
    let shortcut = b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F";
    vec![
        (Kind::WindowsProgram, "pe", pe),
        (
            Kind::LinuxProgram,
            "elf",
            std::fs::read("/usr/bin/true").unwrap(),
        ),
        (
            Kind::MacProgram,
            "macho",
            padded(b"\xcf\xfa\xed\xfe\x07\0\0\x01"),
        ),
        (
            Kind::MacProgram,
            "universal",
            padded(b"\xca\xfe\xba\xbe\0\0\0\x02"),
        ),
        (Kind::Java, "class", padded(b"\xca\xfe\xba\xbe\0\0\x00\x3d")),
        (Kind::Android, "dex", padded(b"dex\n035\0")),
        (Kind::Shortcut, "lnk", padded(shortcut)),
        (Kind::Installer, "msi", compound(MSI, &[("x", b"y")])),
        (Kind::Script, "shebang", b"#!/bin/sh\nrm -rf /\n".to_vec()),
        (Kind::Script, "batch", b"@Echo OFF\r\ndel *\r\n".to_vec()),
        (Kind::Script, "batch16", wide("@echo off\r\n")),
        (
            Kind::Script,
            "reg",
            wide("Windows Registry Editor Version 5.00\r\n"),
        ),
        (Kind::Script, "jse", b"#@~^AAAAAA==".to_vec()),
        (
            Kind::Script,
            "hta",
            b"<html><head><HTA:APPLICATION ID=\"x\"></head></html>".to_vec(),
        ),
        (
            Kind::Script,
            "wsf",
            b"<?xml version=\"1.0\"?>\n<job>\n<script language=\"VBScript\">x</script></job>"
                .to_vec(),
        ),
        (Kind::Macro, "vba", with_vba()),
        (
            Kind::Macro,
            "xlm",
            compound(NO_CLASS, &[("Workbook", sheet)]),
        ),
    ]
}

#[tokio::test]
async fn each_kind_is_recognised_by_its_content_bare_and_in_archives() {
    let stand = Stand::start();
    for (kind, name, content) in bare() {
        let forbidden = Outcome::Forbidden(kind);
        assert_eq!(stand.says(&content).await, forbidden, "{name}");
        let zip = stand.packed("zip", &[("写真.jpg", b"x"), ("報告.pdf", &content)]);
        assert_eq!(stand.says(&zip).await, forbidden, "{name} in zip");
        let tar = stand.packed("tar.gz", &[("a/archive.zip", &zip)]);
        assert_eq!(stand.says(&tar).await, forbidden, "{name} in zip in tar");
    }
    for how in ["gzip", "mail"] {
        let program = std::fs::read("/usr/bin/true").unwrap();
        let packed = stand.packed(how, &[("report.pdf", &program)]);
        let forbidden = Outcome::Forbidden(Kind::LinuxProgram);
        assert_eq!(stand.says(&packed).await, forbidden, "{how}");
    }
}

#[tokio::test]
async fn scripts_that_only_their_name_makes_one_are_recognised_in_archives() {
    let stand = Stand::start();
    for name in [
        "a.js",
        "請求書.VBS",
        "x/y.Ps1",
        "run.BAT",
        "setup.hta",
        "a.reg",
    ] {
        let zip = stand.packed("zip", &[(name, b"harmless words")]);
        assert_eq!(
            stand.says(&zip).await,
            Outcome::Forbidden(Kind::Script),
            "{name}"
        );
    }
    for name in ["a.json", "js.txt", "readme.bat.txt", "battery.pdf", "shell"] {
        let zip = stand.packed("zip", &[(name, b"harmless words")]);
        assert_eq!(stand.says(&zip).await, Outcome::Clean, "{name}");
    }
}

fn document(vba: bool) -> Vec<(&'static str, Vec<u8>)> {
    let types = br#"<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>"#;
    let mut parts = vec![
        ("[Content_Types].xml", types.to_vec()),
        ("word/document.xml", b"<w:document/>".to_vec()),
    ];
    if vba {
        parts.push(("word/vbaProject.bin", with_vba()));
    }
    parts
}

fn borrowed<'a>(parts: &'a [(&'static str, Vec<u8>)]) -> Vec<(&'static str, &'a [u8])> {
    let parts = parts.iter();
    parts.map(|(name, part)| (*name, part.as_slice())).collect()
}

#[tokio::test]
async fn documents_with_macros_are_told_from_those_without() {
    let stand = Stand::start();
    let forbidden = Outcome::Forbidden(Kind::Macro);
    let with = stand.packed("zip", &borrowed(&document(true)));
    assert_eq!(stand.says(&with).await, forbidden);
    let without = stand.packed("zip", &borrowed(&document(false)));
    assert_eq!(stand.says(&without).await, Outcome::Clean);
    let sheet: &[(&str, &[u8])] = &[
        ("xl/workbook.xml", b"<w/>"),
        ("xl/macrosheets/sheet1.xml", b"<x/>"),
    ];
    let sheet = stand.packed("zip", sheet);
    assert_eq!(stand.says(&sheet).await, forbidden);
    let open: &[(&str, &[u8])] = &[
        ("content.xml", b"<o/>"),
        ("Basic/Standard/Module1.xml", b"<x/>"),
    ];
    let open = stand.packed("zip", open);
    assert_eq!(stand.says(&open).await, forbidden);
    let plain = compound(NO_CLASS, &[("WordDocument", b"\xec\xa5"), ("1Table", b"x")]);
    assert_eq!(stand.says(&plain).await, Outcome::Clean);
}

#[tokio::test]
async fn malware_is_called_malware_wherever_a_forbidden_kind_stands_beside_it() {
    let stand = Stand::start();
    let program = std::fs::read("/usr/bin/true").unwrap();
    let virus = eicar();
    let infected = [program.as_slice(), &virus].concat();
    let script = b"words".as_slice();
    let bodies = [
        infected.clone(),
        stand.packed("zip", &[("a", &program), ("b", &virus)]),
        stand.packed("zip", &[("b", &virus), ("a", &program)]),
        stand.packed("zip", &[("a.js", script), ("b", &infected)]),
        stand.packed(
            "tar.gz",
            &[("b", &virus), ("a.js", script), ("c", &program)],
        ),
        stand.packed("mail", &[("a.exe", &program), ("b.pdf", &virus)]),
    ];
    for (number, body) in bodies.iter().enumerate() {
        let outcome = stand.says(body).await;
        assert!(
            matches!(outcome, Outcome::Infected(_)),
            "{number}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn what_an_office_sends_every_day_passes() {
    let stand = Stand::start();
    let ordinary: &[(&str, &[u8])] = &[
        ("page", b"<!DOCTYPE html><html><body onload='x()'><script>function job(){}</script><p>#!/bin/sh @echo off</p></body></html>"),
        ("script of a page", b"// #!/usr/bin/env\nexport const a = () => import('./b.js');\n"),
        ("json", br##"{"text":"#!/bin/sh\n@echo off\nREGEDIT4"}"##),
        ("form", b"csrf=abc&text=%23%21%2Fbin%2Fsh%0A"),
        ("note", "血圧 #!/bin/sh のように書かれた文書について\n@echo off\n".as_bytes()),
        ("begins like a program", b"MZ is how a text may begin. PE\0\0"),
        ("csv", "日時,氏名\r\n2026-11-22,高萩\r\n".as_bytes()),
        ("svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>"),
        ("wasm of a page", b"\0asm\x01\0\0\0"),
        ("empty", b""),
    ];
    for (name, body) in ordinary {
        let outcome = stand.says(body).await;
        if *name == "begins like a program" {
            // It has both marks of one.
            assert_eq!(outcome, Outcome::Forbidden(Kind::WindowsProgram));
        } else {
            assert_eq!(outcome, Outcome::Clean, "{name}");
        }
    }
    let mut seen = 0;
    for directory in [
        "/usr/share/fonts",
        "/usr/share/icons",
        "/usr/share/doc/libc6",
        "/usr/share/i18n/locales",
    ] {
        seen += all_pass(&stand, Path::new(directory), 60).await;
    }
    assert!(seen > 60, "{seen}");
}

async fn all_pass(stand: &Stand, directory: &Path, most: usize) -> usize {
    let mut seen = 0;
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let Ok(entries) = std::fs::read_dir(directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() && seen < most {
                let body = std::fs::read(entry.path()).unwrap();
                assert_eq!(
                    stand.says(&body).await,
                    Outcome::Clean,
                    "{}",
                    entry.path().display()
                );
                seen += 1;
            }
        }
    }
    seen
}

#[tokio::test]
async fn the_self_test_passes_and_notices_what_is_missing() {
    let stand = Stand::start();
    SelfTest::new(&[]).run(&stand.scanner).await.unwrap();
    let missed = async |database, settings: &str| {
        let directory = tempfile::tempdir().unwrap();
        let clamd = Clamd::start_with(directory.path(), database, settings).unwrap();
        let scanner = Scanner::new(Config::new(clamd.socket()));
        match SelfTest::new(&[]).run(&scanner).await {
            Err(SelfTestError::Missed { sample, .. }) => sample,
            Ok(()) => "nothing",
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(missed(Database::WithoutEicar, "").await, "eicar");
    assert_eq!(
        missed(Database::Eicar, "ScanArchive no\n").await,
        "eicar in three archives"
    );
    assert_eq!(
        missed(Database::Eicar, "AlertEncrypted no\n").await,
        "an encrypted archive"
    );
    assert_eq!(
        missed(Database::Eicar, "AlertExceedsMax no\n").await,
        "too many archives in archives"
    );
    let wide = "MaxFileSize 500M\nMaxScanSize 500M\nStreamMaxLength 500M\n";
    assert_eq!(
        missed(Database::Eicar, wide).await,
        "a body beyond the limit"
    );
}
