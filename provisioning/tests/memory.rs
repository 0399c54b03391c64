//! After the ceremony this process's own memory is searched for number and code, as a core dump or swap would show it.
//!
//! Alone in its file, so that no other test's letters are in the same process. HTTP/2 sends field values Huffman-coded and
//! TLS encrypts them, so library buffers hold other forms, which are not searched for.

mod stage;

use std::io::{Read as _, Seek as _, SeekFrom};

use base64::Engine as _;
use stage::Stage;
use zeroize::Zeroize as _;

/// A text kept so that the search does not find the searcher.
struct Needle {
    name: &'static str,
    masked: Vec<u8>,
}

impl Needle {
    fn new(name: &'static str, mut text: String) -> Self {
        let masked = text.bytes().map(|byte| byte ^ 0xff).collect();
        text.zeroize();
        Self { name, masked }
    }

    fn is_in(&self, memory: &[u8]) -> bool {
        let matches = |window: &[u8]| {
            window
                .iter()
                .zip(&self.masked)
                .all(|(found, masked)| found ^ 0xff == *masked)
        };
        memory.windows(self.masked.len()).any(matches)
    }
}

/// The names of the needles found in this process's writable memory.
fn search(needles: &[Needle]) -> std::io::Result<Vec<&'static str>> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut memory = std::fs::File::open("/proc/self/mem")?;
    let mut found = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .split_once('-');
        let Some((from, to)) = range else { continue };
        let parse = |text| u64::from_str_radix(text, 16).unwrap_or(0);
        let (from, to) = (parse(from), parse(to));
        let mut content = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(0)];
        memory.seek(SeekFrom::Start(from))?;
        // Some regions belong to the kernel.
        if memory.read_exact(&mut content).is_ok() {
            found.extend(
                needles
                    .iter()
                    .filter(|needle| needle.is_in(&content))
                    .map(|needle| needle.name),
            );
        }
        content.zeroize();
    }
    Ok(found)
}

#[tokio::test]
async fn number_and_code_are_not_left_in_memory_after_the_ceremony() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    let letter = stage.letter();
    let bare = |text: &str| {
        text.chars()
            .filter(char::is_ascii_alphanumeric)
            .collect::<String>()
    };
    let mut pair = format!("{}:{}", bare(&letter.number), bare(&letter.code));
    let control = String::from("0-control-0-is-found-0");
    let needles = [
        Needle::new(
            "base64(number:code)",
            base64::engine::general_purpose::STANDARD.encode(&pair),
        ),
        Needle::new("number:code", pair.clone()),
        Needle::new("number", bare(&letter.number)),
        Needle::new("control", control.clone()),
    ];
    pair.zeroize();
    stage::enrol(&provisioner, &letter).await.unwrap();
    let found = search(&needles).unwrap();
    assert!(found.contains(&"control"), "the search itself works");
    assert!(
        found.iter().all(|name| *name == "control"),
        "left in memory: {found:?}"
    );
    drop(control);
}
