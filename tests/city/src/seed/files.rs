//! Two small attachments made from nothing: a PNG and a PDF.
//!
//! Knows just enough of both formats for that.

/// CRC-32 of PNG and ZIP (ISO 3309).
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    (b << 16) | a
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut body = kind.to_vec();
    body.extend_from_slice(data);
    let length = u32::try_from(data.len()).expect("a seeded picture is small");
    [
        length.to_be_bytes().as_slice(),
        &body,
        &crc32(&body).to_be_bytes(),
    ]
    .concat()
}

/// A grey gradient of 160 × 120 pixels with a darker spot, as a photograph of a wound might be.
#[must_use]
pub fn png() -> Vec<u8> {
    const WIDTH: u32 = 160;
    const HEIGHT: u32 = 120;
    let mut pixels = Vec::new();
    for y in 0..HEIGHT {
        pixels.push(0); // filter: none
        for x in 0..WIDTH {
            let spot = (x.abs_diff(90)).pow(2) + (y.abs_diff(55)).pow(2) < 500;
            let shade = if spot { 90 } else { 150 + (x + y) / 4 };
            pixels.push(u8::try_from(shade).unwrap_or(u8::MAX));
        }
    }
    // zlib with one stored block, which holds up to 65,535 bytes.
    let length = u16::try_from(pixels.len()).expect("160 × 120 pixels fit one stored block");
    let zlib = [
        [0x78, 0x01, 0x01].as_slice(),
        &length.to_le_bytes(),
        &(!length).to_le_bytes(),
        &pixels,
        &adler32(&pixels).to_be_bytes(),
    ]
    .concat();
    let header = [
        WIDTH.to_be_bytes().as_slice(),
        &HEIGHT.to_be_bytes(),
        &[8, 0, 0, 0, 0],
    ]
    .concat();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunk(b"IDAT", &zlib),
        chunk(b"IEND", &[]),
    ]
    .concat()
}

/// A one-page PDF that says it is a sample.
#[must_use]
pub fn pdf() -> Vec<u8> {
    let text = "BT /F1 20 Tf 72 720 Td (Sample care plan - fictional person) Tj ET";
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{text}\nendstream", text.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut out = String::from("%PDF-1.4\n");
    let mut places = Vec::new();
    for (number, object) in (1..).zip(&objects) {
        places.push(out.len());
        out.push_str(&format!("{number} 0 obj\n{object}\nendobj\n"));
    }
    let table = out.len();
    out.push_str(&format!(
        "xref\n0 {}\n0000000000 65535 f \n",
        objects.len() + 1
    ));
    for place in places {
        out.push_str(&format!("{place:010} 00000 n \n"));
    }
    out.push_str(&format!(
        "trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n",
        objects.len() + 1
    ));
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksums_are_those_of_the_standards() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(super::adler32(b"Wikipedia"), 0x11e6_0398);
    }
}
