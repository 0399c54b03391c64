//! Small writers of real file formats. What they write is complete and can be opened.

use std::{fmt::Write as _, io::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{
    Compression, Crc,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A zip archive (APPNOTE 4.3): the first entry stored, the others deflated.
pub fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    zip_with(entries, 0)
}

/// The same with general-purpose flags; bit 0 says that the entries are encrypted.
pub fn zip_with(entries: &[(&str, &[u8])], flags: u16) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (number, (name, content)) in entries.iter().enumerate() {
        let (method, packed) = if number == 0 {
            (0_u16, content.to_vec())
        } else {
            (8, deflate(content))
        };
        let mut common = Vec::new();
        // Version, flags (names in UTF-8), method, time, date.
        for word in [20, flags | 0x800, method, 0x6000, 0x5d76] {
            common.extend_from_slice(&u16::to_le_bytes(word));
        }
        for long in [crc(content), length(&packed), length(content)] {
            common.extend_from_slice(&long.to_le_bytes());
        }
        common.extend_from_slice(&u16::try_from(name.len()).unwrap().to_le_bytes());
        common.extend_from_slice(&[0, 0]);
        let offset = length(&archive);
        archive.extend_from_slice(b"PK\x03\x04");
        archive.extend_from_slice(&common);
        archive.extend_from_slice(name.as_bytes());
        archive.extend_from_slice(&packed);
        directory.extend_from_slice(b"PK\x01\x02\x14\0");
        directory.extend_from_slice(&common);
        // No comment, disk 0, no attributes.
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    let offset = length(&archive);
    archive.extend_from_slice(&directory);
    archive.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    archive.extend_from_slice(&[count, count].concat());
    archive.extend_from_slice(&length(&directory).to_le_bytes());
    archive.extend_from_slice(&offset.to_le_bytes());
    archive.extend_from_slice(&[0, 0]);
    archive
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>";

/// An Office Open XML package (ECMA-376) around one main part.
fn package(main: &str, media_type: &str, body: &str) -> Vec<u8> {
    let types = format!(
        "{XML}<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\">\
         <Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/>\
         <Override PartName=\"/{main}\" ContentType=\"{media_type}\"/></Types>"
    );
    let relations = format!(
        "{XML}<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"><Relationship Id=\"r1\" \
         Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument\" Target=\"{main}\"/></Relationships>"
    );
    let body = format!("{XML}{body}");
    zip(&[
        ("[Content_Types].xml", types.as_bytes()),
        ("_rels/.rels", relations.as_bytes()),
        (main, body.as_bytes()),
    ])
}

pub fn docx(text: &str) -> Vec<u8> {
    let kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml";
    let body = format!(
        "<w:document xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\"><w:body><w:p><w:r><w:t>{text}\
         </w:t></w:r></w:p></w:body></w:document>"
    );
    package("word/document.xml", kind, &body)
}

pub fn xlsx(text: &str) -> Vec<u8> {
    let kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml";
    let body = format!(
        "<workbook xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><sheets/><!-- {text} --></workbook>"
    );
    package("xl/workbook.xml", kind, &body)
}

pub fn pptx(text: &str) -> Vec<u8> {
    let kind = "application/vnd.openxmlformats-officedocument.presentationml.presentation.main+xml";
    let body = format!(
        "<p:presentation xmlns:p=\"http://schemas.openxmlformats.org/presentationml/2006/main\"><!-- {text} --></p:presentation>"
    );
    package("ppt/presentation.xml", kind, &body)
}

/// An OpenDocument package: its type first, stored.
pub fn open_document(kind: &str, text: &str) -> Vec<u8> {
    let media_type = format!("application/vnd.oasis.opendocument.{kind}");
    let manifest = format!(
        "{XML}<manifest:manifest xmlns:manifest=\"urn:oasis:names:tc:opendocument:xmlns:manifest:1.0\"><manifest:file-entry \
         manifest:full-path=\"/\" manifest:media-type=\"{media_type}\"/></manifest:manifest>"
    );
    let content = format!(
        "{XML}<office:document-content xmlns:office=\"urn:oasis:names:tc:opendocument:xmlns:office:1.0\" \
         xmlns:text=\"urn:oasis:names:tc:opendocument:xmlns:text:1.0\"><office:body><office:text><text:p>{text}</text:p>\
         </office:text></office:body></office:document-content>"
    );
    zip(&[
        ("mimetype", media_type.as_bytes()),
        ("content.xml", content.as_bytes()),
        ("META-INF/manifest.xml", manifest.as_bytes()),
    ])
}

/// One page with one line.
pub fn pdf(number: u32) -> Vec<u8> {
    let line = format!("BT /F1 18 Tf 72 720 Td (Daily record {number}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{line}\nendstream", line.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut text = String::from("%PDF-1.4\n");
    let mut table = String::from("0000000000 65535 f \n");
    for (index, object) in objects.iter().enumerate() {
        let _ = writeln!(table, "{:010} 00000 n ", text.len());
        let _ = write!(text, "{} 0 obj\n{object}\nendobj\n", index + 1);
    }
    let at = text.len();
    let _ = write!(
        text,
        "xref\n0 6\n{table}trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n{at}\n%%EOF\n"
    );
    text.into_bytes()
}

/// A picture with a gradient.
pub fn png(side: u32) -> Vec<u8> {
    let mut rows = Vec::new();
    for y in 0..side {
        rows.push(0);
        for x in 0..side {
            rows.extend([x, y, x ^ y].map(|value| u8::try_from(value & 0xff).unwrap()));
        }
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&rows).unwrap();
    let mut header = [side.to_be_bytes(), side.to_be_bytes()].concat();
    header.extend_from_slice(&[8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [
        (b"IHDR", header),
        (b"IDAT", encoder.finish().unwrap()),
        (b"IEND", Vec::new()),
    ] {
        file.extend_from_slice(&length(&data).to_be_bytes());
        let body = [&kind[..], &data].concat();
        file.extend_from_slice(&body);
        file.extend_from_slice(&crc(&body).to_be_bytes());
    }
    file
}

/// A grey baseline JPEG (ITU-T T.81) of `blocks` × `blocks` blocks, each of one brightness.
pub fn jpeg(blocks: u16) -> Vec<u8> {
    let mut file =
        b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xdb\0\x43\0".to_vec();
    file.extend_from_slice(&[8; 64]);
    let side = (blocks * 8).to_be_bytes();
    file.extend_from_slice(b"\xff\xc0\0\x0b\x08");
    file.extend_from_slice(&[side, side].concat());
    file.extend_from_slice(b"\x01\x01\x11\0");
    // Direct current: code 0 for no change, 10 for a change of three bits. Alternating current: 0 for nothing more.
    file.extend_from_slice(b"\xff\xc4\0\x15\0\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x03");
    file.extend_from_slice(b"\xff\xc4\0\x14\x10\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    file.extend_from_slice(b"\xff\xda\0\x08\x01\x01\0\0\x3f\0");
    let mut bits = String::new();
    for block in 0..u32::from(blocks) * u32::from(blocks) {
        // Up by five, down by five, in turn (T.81 F.1.2.1: the complement for negative ones).
        bits.push_str(if block % 2 == 0 { "10101" } else { "10010" });
        bits.push('0');
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    for byte in bits.as_bytes().chunks(8) {
        let byte = u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap();
        file.push(byte);
        if byte == 0xff {
            file.push(0);
        }
    }
    file.extend_from_slice(b"\xff\xd9");
    file
}

/// A second of a tone.
pub fn wav(hertz: u16) -> Vec<u8> {
    let samples: Vec<u8> = (0..8000_u32)
        .map(|at| {
            if at * u32::from(hertz) / 4000 % 2 == 0 {
                96
            } else {
                160
            }
        })
        .collect();
    let mut file = b"RIFF".to_vec();
    file.extend_from_slice(&(36 + length(&samples)).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    for long in [8000_u32, 8000] {
        file.extend_from_slice(&long.to_le_bytes());
    }
    file.extend_from_slice(b"\x01\0\x08\0data");
    file.extend_from_slice(&length(&samples).to_le_bytes());
    file.extend_from_slice(&samples);
    file
}

/// A bitmap of one row.
pub fn bmp(width: u32) -> Vec<u8> {
    let row: Vec<u8> = (0..width * 4)
        .map(|at| u8::try_from(at & 0xff).unwrap())
        .collect();
    let mut file = b"BM".to_vec();
    for long in [
        54 + length(&row),
        0,
        54,
        40,
        width,
        1,
        0x0020_0001,
        0,
        length(&row),
        0,
        0,
        0,
        0,
    ] {
        file.extend_from_slice(&long.to_le_bytes());
    }
    file.extend_from_slice(&row);
    file
}

/// A message with one attachment.
pub fn eml(subject: &str, name: &str, attachment: &[u8]) -> Vec<u8> {
    let coded = STANDARD.encode(attachment);
    let lines: Vec<&str> = coded
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "From: kaigo@example.jp\r\nTo: renraku@example.jp\r\nSubject: =?UTF-8?B?{}?=\r\nDate: Sun, 22 Nov 2026 09:00:00 +0900\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_part\"\r\n\r\n--=_part\r\nContent-Type: text/plain; \
         charset=utf-8\r\n\r\n添付のとおりです。\r\n--=_part\r\nContent-Type: application/octet-stream; name=\"{name}\"\r\n\
         Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"{name}\"\r\n\r\n{}\r\n--=_part--\r\n",
        STANDARD.encode(subject),
        lines.join("\r\n")
    )
    .into_bytes()
}

/// What browsers make of a form with a text and a file.
pub fn form(boundary: &str, name: &str, media_type: &str, file: &[u8]) -> Vec<u8> {
    let mut body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\n記録です。\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"attachment\"; filename=\"{name}\"\r\n\
         Content-Type: {media_type}\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(file);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

/// The least that Windows takes for a program, padded.
pub fn windows_program() -> Vec<u8> {
    let mut program = vec![0; 0x80];
    program[..2].copy_from_slice(b"MZ");
    program[0x3c] = 0x80;
    program.extend_from_slice(b"PE\0\0\x64\x86\x01\0");
    program.extend_from_slice(&[0; 512]);
    program
}
