//! Two more small attachments made from nothing: a JPEG and a Word document.
//!
//! Knows just enough of both formats for that.

use super::files::crc32;

/// A segment of a JPEG (ITU-T T.81, B.1.1.4).
fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 2).expect("a segment of ours is small");
    [&[0xff, marker], length.to_be_bytes().as_slice(), data].concat()
}

/// An evenly grey picture of 64 × 64 pixels: baseline, one component.
#[must_use]
pub fn jpeg() -> Vec<u8> {
    const BLOCKS: usize = 64;
    let quantisation = [&[0_u8][..], &[16; 64]].concat();
    // 8 bits, 64 × 64, one component without subsampling.
    let frame = [8, 0, 64, 0, 64, 1, 1, 0x11, 0];
    // One code each, one bit long: for the first coefficient "as before" (category 0), for the others "no more".
    let table = |class: u8| {
        let mut table = vec![class << 4];
        table.push(1);
        table.extend([0; 15]);
        table.push(0);
        table
    };
    let scan = [1, 1, 0, 0, 63, 0];
    // Two bits, both 0, for each block.
    let data = vec![0; BLOCKS * 2 / 8];
    [
        vec![0xff, 0xd8],
        segment(0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
        segment(0xdb, &quantisation),
        segment(0xc0, &frame),
        segment(0xc4, &table(0)),
        segment(0xc4, &table(1)),
        segment(0xda, &scan),
        data,
        vec![0xff, 0xd9],
    ]
    .concat()
}

/// A ZIP archive of stored files (APPNOTE 6.3, 4.3).
fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    let number = |number: usize| u32::try_from(number).expect("an archive of ours is small");
    for (name, text) in files {
        // Version 2.0, no flags, stored, 1980-01-01 00:00.
        let common = [
            &20_u16.to_le_bytes()[..],
            &[0; 4],
            &[0, 0, 0x21, 0],
            &crc32(text.as_bytes()).to_le_bytes(),
            &number(text.len()).to_le_bytes(),
            &number(text.len()).to_le_bytes(),
            &u16::try_from(name.len()).unwrap_or(0).to_le_bytes(),
            &[0, 0],
        ]
        .concat();
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(number(out.len()).to_le_bytes());
        directory.extend(name.as_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(text.as_bytes());
    }
    let count = u16::try_from(files.len()).unwrap_or(0).to_le_bytes();
    let end = [
        &b"PK\x05\x06\0\0\0\0"[..],
        &count,
        &count,
        &number(directory.len()).to_le_bytes(),
        &number(out.len()).to_le_bytes(),
        &[0, 0],
    ]
    .concat();
    [out, directory, end].concat()
}

/// A Word document of one paragraph (ECMA-376) that says it is a sample.
#[must_use]
pub fn docx() -> Vec<u8> {
    zip(&[
        (
            "[Content_Types].xml",
            r#"<?xml version="1.0" encoding="UTF-8"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>"#,
        ),
        (
            "_rels/.rels",
            r#"<?xml version="1.0" encoding="UTF-8"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>"#,
        ),
        (
            "word/document.xml",
            r#"<?xml version="1.0" encoding="UTF-8"?><w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>見本：架空の人についての文書です。</w:t></w:r></w:p></w:body></w:document>"#,
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_begins_and_ends_as_a_jpeg_does() {
        let picture = jpeg();
        assert!(picture.starts_with(&[0xff, 0xd8, 0xff, 0xe0]));
        assert!(picture.ends_with(&[0xff, 0xd9]));
    }

    #[test]
    fn a_document_is_an_archive_whose_directory_is_where_its_end_says() {
        let document = docx();
        let end = document.len() - 22;
        assert_eq!(&document[end..end + 4], b"PK\x05\x06");
        let word = |at: usize| u32::from_le_bytes(document[at..at + 4].try_into().unwrap());
        let directory = usize::try_from(word(end + 16)).unwrap();
        assert_eq!(&document[directory..directory + 4], b"PK\x01\x02");
        assert_eq!(directory + usize::try_from(word(end + 12)).unwrap(), end);
    }
}
