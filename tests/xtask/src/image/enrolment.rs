//! The firmware's key variables, signed so that a firmware in setup mode takes them (UEFI 2.10 §8.2.2, §32.4.1).
//!
//! It writes no variable; the boot loader does, at the first start. (sbvarsign is not used: the digest in what Debian 13's makes is
//! not that of the variable, and the firmware refuses the platform key.)

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// `EFI_CERT_X509_GUID`, as bytes.
const X509: [u8; 16] = guid("a5c059a1-94e4-4aa7-87b5-ab155c2bf072");
/// `EFI_CERT_TYPE_PKCS7_GUID`.
const PKCS7: [u8; 16] = guid("4aafd29d-68df-49ee-8aa9-347d375665a7");
/// The vendor of `PK` and `KEK`.
const GLOBAL: [u8; 16] = guid("8be4df61-93ca-11d2-aa0d-00e098032b8c");
/// The vendor of `db`.
const SECURITY_DATABASE: [u8; 16] = guid("d719b2cb-3d3a-4596-a3bc-dad00e67656f");
/// Who owns the entries: ours, constant.
const OWNER: [u8; 16] = guid("b7c6f2d0-4c0e-4d53-8d0b-8a2f0c9e5a11");

/// Non-volatile, for boot services and at run time, replaceable only by a newer signed one.
const ATTRIBUTES: u32 = 0x27;
/// `WIN_CERT_TYPE_EFI_GUID` and its revision.
const CERTIFICATE_TYPE: u16 = 0x0EF1;
const CERTIFICATE_REVISION: u16 = 0x0200;

/// One certificate as an `EFI_SIGNATURE_LIST`.
pub(super) fn list(certificate: &Path) -> Result<Vec<u8>, String> {
    let der = openssl(
        &[
            "x509",
            "-outform",
            "der",
            "-in",
            &certificate.to_string_lossy(),
        ],
        &[],
    )?;
    let entry = 16 + der.len();
    let mut list = Vec::with_capacity(28 + entry);
    list.extend(X509);
    // SignatureListSize, SignatureHeaderSize, SignatureSize.
    for size in [28 + entry, 0, entry] {
        list.extend(length(size)?.to_le_bytes());
    }
    list.extend(OWNER);
    list.extend(der);
    Ok(list)
}

/// The variable's content behind an `EFI_VARIABLE_AUTHENTICATION_2`, signed by the key pair `signer` (`.key`, `.crt`).
pub(super) fn signed(
    variable: &str,
    content: &[u8],
    epoch: u64,
    signer: &Path,
) -> Result<Vec<u8>, String> {
    let vendor = if variable == "db" {
        SECURITY_DATABASE
    } else {
        GLOBAL
    };
    let time = efi_time(epoch)?;
    let mut covered: Vec<u8> = variable.encode_utf16().flat_map(u16::to_le_bytes).collect();
    covered.extend(vendor);
    covered.extend(ATTRIBUTES.to_le_bytes());
    covered.extend(time);
    covered.extend(content);
    let file = |kind: &str| signer.with_extension(kind).to_string_lossy().into_owned();
    let wrapped = openssl(
        &[
            "smime",
            "-sign",
            "-binary",
            "-noattr",
            "-md",
            "sha256",
            "-outform",
            "der",
            "-signer",
            &file("crt"),
            "-inkey",
            &file("key"),
        ],
        &covered,
    )?;
    let signature = signed_data(&wrapped)?;
    let mut out = time.to_vec();
    out.extend(length(24 + signature.len())?.to_le_bytes());
    out.extend(CERTIFICATE_REVISION.to_le_bytes());
    out.extend(CERTIFICATE_TYPE.to_le_bytes());
    out.extend(PKCS7);
    out.extend(signature);
    out.extend(content);
    Ok(out)
}

/// The `SignedData` inside a `ContentInfo` (RFC 2315 §7): what the specification wants there.
fn signed_data(content_info: &[u8]) -> Result<&[u8], String> {
    let wrong = || "openssl made no PKCS #7".to_owned();
    let (inner, _) = contents(content_info).ok_or_else(wrong)?;
    let (_, after_type) = contents(inner).ok_or_else(wrong)?;
    let (signed, _) = contents(after_type).ok_or_else(wrong)?;
    Ok(signed)
}

/// The contents of the first element of DER, and what follows it (X.690 §8.1.3, definite lengths up to four bytes).
fn contents(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 || rest.len() < count {
            return None;
        }
        let (bytes, rest) = rest.split_at(count);
        let length = bytes
            .iter()
            .fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
        (length, rest)
    };
    rest.split_at_checked(length)
}

/// `EFI_TIME` (UEFI 2.10 §8.3) in UTC; what the specification wants to be zero is zero.
fn efi_time(epoch: u64) -> Result<[u8; 16], String> {
    let output = Command::new("date")
        .args(["--utc", &format!("--date=@{epoch}"), "+%Y %m %d %H %M %S"])
        .output()
        .map_err(|error| format!("date: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let fields: Vec<u16> = text
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    let [year, rest @ ..] = fields.as_slice() else {
        return Err(format!("date did not understand {epoch}"));
    };
    let mut time = [0; 16];
    time[..2].copy_from_slice(&year.to_le_bytes());
    for (to, from) in time[2..7].iter_mut().zip(rest) {
        *to = u8::try_from(*from).unwrap_or_default();
    }
    Ok(time)
}

fn length(size: usize) -> Result<u32, String> {
    u32::try_from(size).map_err(|_| "a certificate of four gigabytes".to_owned())
}

fn openssl(arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("openssl: {error}");
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!(
            "openssl {}: {}",
            arguments.first().copied().unwrap_or_default(),
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }
}

/// A GUID as the firmware keeps it: the first three groups little-endian (UEFI 2.10 appendix A).
const fn guid(text: &str) -> [u8; 16] {
    const ORDER: [usize; 16] = [6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34];
    const fn digit(byte: u8) -> u8 {
        match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => 0xff,
        }
    }
    let bytes = text.as_bytes();
    assert!(bytes.len() == 36, "not a GUID");
    let mut out = [0; 16];
    let mut index = 0;
    while index < 16 {
        let at = ORDER[index];
        let (high, low) = (digit(bytes[at]), digit(bytes[at + 1]));
        assert!(high < 16 && low < 16, "not a hexadecimal digit");
        out[index] = high << 4 | low;
        index += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_guid_is_written_as_the_firmware_keeps_it() {
        assert_eq!(
            X509,
            [
                0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b,
                0xf0, 0x72
            ]
        );
    }

    #[test]
    fn what_is_signed_is_the_variable_with_its_name_owner_attributes_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let text = |name: &str| path(name).to_string_lossy().into_owned();
        openssl(
            &[
                "req",
                "-new",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-subj",
                "/CN=PK/",
                "-keyout",
                &text("PK.key"),
                "-out",
                &text("PK.crt"),
            ],
            &[],
        )
        .unwrap();
        let content = list(&path("PK.crt")).unwrap();
        let out = signed("PK", &content, 1_796_090_533, &path("PK")).unwrap();
        assert_eq!(
            out[..7],
            [0xea, 0x07, 12, 1, 2, 2, 13],
            "2026-12-01 02:02:13"
        );
        let length = u32::from_le_bytes(out[16..20].try_into().unwrap()) as usize;
        assert_eq!(out[16 + length..], content);
        // openssl reads a ContentInfo, so the frame is put around it again.
        let data = &out[40..16 + length];
        let frame = |tag: u8, inner: &[u8]| {
            let size = u16::try_from(inner.len()).unwrap().to_be_bytes();
            [&[tag, 0x82, size[0], size[1]], inner].concat()
        };
        let kind = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
        let info = frame(0x30, &[kind.as_slice(), &frame(0xa0, data)].concat());
        fs::write(path("signature"), info).unwrap();
        let covered = [
            b"P\0K\0".as_slice(),
            &GLOBAL,
            &0x27_u32.to_le_bytes(),
            &out[..16],
            &content,
        ]
        .concat();
        let check = |covered: &[u8]| {
            fs::write(path("covered"), covered).unwrap();
            openssl(
                &[
                    "smime",
                    "-verify",
                    "-binary",
                    "-inform",
                    "der",
                    "-in",
                    &text("signature"),
                    "-content",
                    &text("covered"),
                    "-CAfile",
                    &text("PK.crt"),
                    "-purpose",
                    "any",
                ],
                &[],
            )
        };
        check(&covered).unwrap();
        let mut other = covered;
        other[0] = b'X';
        assert!(check(&other).is_err());
    }
}
