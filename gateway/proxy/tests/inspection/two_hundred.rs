//! Two hundred ordinary office files of many kinds.

use std::fmt::Write as _;

use crate::files;

/// One of them.
pub struct File {
    pub name: String,
    pub media_type: &'static str,
    pub body: Vec<u8>,
}

/// Ten of each of twenty kinds; with another `edition` other ones, so that none is known from before.
pub fn two_hundred(edition: u32) -> Vec<File> {
    let mut all = Vec::new();
    for number in 0..10_u32 {
        let mark = number + 10 * edition;
        let text = format!(
            "{}月の利用者の様子。血圧や食事量の記録、その{mark}。",
            number + 1
        );
        let text = text.repeat(usize::try_from(number * number * 20 + 1).unwrap());
        let mut add = |extension: &str, media_type, body: Vec<u8>| {
            let name = format!("記録{number}.{extension}");
            all.push(File {
                name,
                media_type,
                body,
            });
        };
        add(
            "docx",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            files::docx(&text),
        );
        add(
            "xlsx",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            files::xlsx(&text),
        );
        add(
            "pptx",
            "application/vnd.openxmlformats-officedocument.presentationml.presentation",
            files::pptx(&text),
        );
        add(
            "odt",
            "application/vnd.oasis.opendocument.text",
            files::open_document("text", &text),
        );
        add(
            "ods",
            "application/vnd.oasis.opendocument.spreadsheet",
            files::open_document("spreadsheet", &text),
        );
        add(
            "odp",
            "application/vnd.oasis.opendocument.presentation",
            files::open_document("presentation", &text),
        );
        add("pdf", "application/pdf", files::pdf(mark));
        add("png", "image/png", files::png(16 + mark * 20));
        add(
            "jpg",
            "image/jpeg",
            files::jpeg(u16::try_from(mark * 8 + 1).unwrap()),
        );
        add("bmp", "image/bmp", files::bmp(8 + mark * 100));
        add(
            "wav",
            "audio/wav",
            files::wav(u16::try_from(200 + mark * 50).unwrap()),
        );
        add(
            "txt",
            "text/plain; charset=utf-8",
            text.clone().into_bytes(),
        );
        add("csv", "text/csv; charset=utf-8", table(&text).into_bytes());
        add(
            "csv",
            "text/csv; charset=Shift_JIS",
            shift_jis(number, 2026 + edition),
        );
        add("html", "text/html; charset=utf-8", page(&text).into_bytes());
        add("json", "application/json", json(&text).into_bytes());
        add(
            "xml",
            "application/xml",
            format!("<?xml version=\"1.0\"?><記録>{text}</記録>").into_bytes(),
        );
        add("svg", "image/svg+xml", picture(mark).into_bytes());
        add(
            "eml",
            "message/rfc822",
            files::eml("連絡", "record.docx", &files::docx(&text)),
        );
        let inner = files::xlsx(&text);
        add(
            "zip",
            "application/zip",
            files::zip(&[("一覧.xlsx", &inner), ("メモ.txt", text.as_bytes())]),
        );
    }
    all
}

fn table(text: &str) -> String {
    let mut table = String::from("\u{feff}日付,利用者,内容\r\n");
    for day in 1..=28 {
        let _ = write!(table, "2026-11-{day:02},\"山田, 花子\",\"{text}\"\r\n");
    }
    table
}

/// 日付,内容 and lines of 記録, in the encoding that spreadsheets here still write.
fn shift_jis(lines: u32, year: u32) -> Vec<u8> {
    let mut table = b"\x93\xfa\x95\x74,\x93\xe0\x97\x65\r\n".to_vec();
    for line in 0..=lines * 50 {
        table.extend_from_slice(format!("{year}/11/{}", line % 28 + 1).as_bytes());
        table.extend_from_slice(b",\x8b\x4c\x98\x5e\x81\x42\x95\x5c\x83\x5c\r\n");
    }
    table
}

fn page(text: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=\"ja\"><meta charset=\"utf-8\"><title>記録</title><script>document.title += '。';</script>\
         <p>{text}</p></html>"
    )
}

fn json(text: &str) -> String {
    serde_json::json!({"notes": [{"text": text, "signature": "QUJD".repeat(22)}], "hash": "0f".repeat(64)}).to_string()
}

fn picture(number: u32) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 100 100\"><circle r=\"{}\" cx=\"50\" cy=\"50\"/></svg>",
        number + 1
    )
}
