//! What the city makes of checkpoints of a box's audit log: pinned, countersigned, refused when the log went back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod running_city;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use running_city::{EST, GATEWAY, Identity, RunningCity};
use serde_json::{Value, json};

/// A box's log as far as the city sees it.
struct Log {
    key: EcdsaKeyPair,
    log: u8,
}

impl Log {
    fn new(log: u8) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        Self { key, log }
    }

    fn spki(&self) -> Vec<u8> {
        let head: [u8; 26] = [
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
            0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ];
        [&head[..], self.key.public_key().as_ref()].concat()
    }

    fn checkpoint(&self, facility: &str, sequence: u64, count: u64, head: u8) -> Value {
        let message = [
            &b"renraku-gateway audit checkpoint v1\0"[..],
            &sequence.to_be_bytes(),
            &count.to_be_bytes(),
            &[head; 32],
            &[self.log; 16],
            &[2; 16],
            &1_795_000_000_i64.to_be_bytes(),
            digest(&SHA256, &self.spki()).as_ref(),
            &[u8::try_from(facility.len()).unwrap()],
            facility.as_bytes(),
        ]
        .concat();
        let signature = self.key.sign(&SystemRandom::new(), &message).unwrap();
        json!({
            "checkpoint": STANDARD.encode(message),
            "signature": STANDARD.encode(signature.as_ref()),
            "key": STANDARD.encode(self.spki()),
        })
    }
}

/// Reports a checkpoint and returns the city's word on it.
fn report(city: &RunningCity, who: &Identity, checkpoint: &Value) -> Value {
    let body =
        json!({ "version": "0.1.0", "slot": "none", "checks": [], "checkpoint": checkpoint });
    let text = body.to_string();
    let key: String = digest(&SHA256, text.as_bytes())
        .as_ref()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let answer = city.curl_as(
        who,
        GATEWAY,
        "/gateway/v1/status",
        &[
            "-X",
            "POST",
            "-H",
            "Content-Type: application/json",
            "-H",
            &format!("Idempotency-Key: {key}"),
            "-d",
            &text,
        ],
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["audit"].clone()
}

fn refused(reason: &str) -> Value {
    json!({ "accepted": false, "reason": reason })
}

#[test]
fn a_log_that_grows_is_countersigned_and_one_that_went_back_is_refused_and_raised() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let log = Log::new(1);
    for (sequence, count) in [(1, 4), (2, 9), (2, 9), (3, 9), (7, 30)] {
        let word = report(&city, &who, &log.checkpoint("tkh-1001", sequence, count, 5));
        assert_eq!(word["accepted"], true, "{sequence} {count}: {word}");
        assert_eq!(word["certificates"].as_array().unwrap().len(), 2);
    }
    let theirs = Log::new(1);
    for (checkpoint, reason) in [
        (log.checkpoint("tkh-1001", 8, 29, 5), "smaller-count"),
        (log.checkpoint("tkh-1001", 6, 31, 5), "smaller-count"),
        (log.checkpoint("tkh-1001", 8, 30, 6), "different-head"),
        (log.checkpoint("tkh-1002", 8, 31, 5), "other-facility"),
        (theirs.checkpoint("tkh-1001", 8, 31, 5), "other-key"),
        (Log::new(2).checkpoint("tkh-1001", 8, 31, 5), "other-log"),
    ] {
        assert_eq!(report(&city, &who, &checkpoint), refused(reason));
    }
    let mut forged = log.checkpoint("tkh-1001", 9, 40, 5);
    forged["signature"] = log.checkpoint("tkh-1001", 9, 41, 5)["signature"].clone();
    assert_eq!(report(&city, &who, &forged), refused("signature"));
    let kept = city.control("audit", &json!({ "facility": "tkh-1001" }));
    assert_eq!(kept["count"], 30);
    assert_eq!(kept["faults"].as_array().unwrap().len(), 7, "{kept}");
    // And it still goes on where it was.
    let word = report(&city, &who, &log.checkpoint("tkh-1001", 10, 31, 9));
    assert_eq!(word["accepted"], true);
}

#[test]
fn another_log_is_accepted_after_a_new_number_or_when_somebody_at_the_city_says_so() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let first = Log::new(1);
    assert_eq!(
        report(&city, &who, &first.checkpoint("tkh-1001", 1, 4, 5))["accepted"],
        true
    );
    let second = Log::new(2);
    let begin = second.checkpoint("tkh-1001", 1, 2, 5);
    assert_eq!(report(&city, &who, &begin), refused("other-log"));
    city.control("audit-accept", &json!({ "facility": "tkh-1001" }));
    let again = second.checkpoint("tkh-1001", 2, 3, 5);
    assert_eq!(report(&city, &who, &again)["accepted"], true);

    std::thread::sleep(std::time::Duration::from_millis(1100));
    let replaced = city.identity("tkh-1001", "replacement");
    let third = Log::new(3).checkpoint("tkh-1001", 1, 2, 5);
    assert_eq!(report(&city, &replaced, &third)["accepted"], true);
}

#[test]
fn two_boxes_of_one_facility_have_a_log_each_and_renewing_a_certificate_keeps_the_pin() {
    let city = RunningCity::start();
    let (first, second) = (
        city.identity("tkh-1001", "first"),
        city.identity("tkh-1001", "second"),
    );
    let (log, other) = (Log::new(1), Log::new(2));
    for (sequence, count) in [(1, 4), (2, 9)] {
        for (who, log) in [(&first, &log), (&second, &other)] {
            let word = report(&city, who, &log.checkpoint("tkh-1001", sequence, count, 5));
            assert_eq!(word["accepted"], true, "{word}");
        }
    }
    let kept = city.control("audit", &json!({ "facility": "tkh-1001" }));
    assert_eq!(kept["boxes"].as_array().unwrap().len(), 2, "{kept}");
    assert_eq!(
        (&kept["checkpoints"], &kept["faults"]),
        (&json!(4), &json!([]))
    );
    let of_one = city.control(
        "audit",
        &json!({ "facility": "tkh-1001", "box": first.serial }),
    );
    assert_eq!(of_one["checkpoints"], 2, "{of_one}");
    // Neither may show the other's.
    let theirs = other.checkpoint("tkh-1001", 3, 10, 5);
    assert_eq!(report(&city, &first, &theirs), refused("other-log"));

    // Renewed, it is the same box: what went back is still refused.
    let (key, csr) = city.request("first-renewed", &[]);
    let data = format!("@{}", csr.display());
    let body = [
        "-H",
        "content-type: application/pkcs10",
        "--data-binary",
        &data,
    ];
    let answer = city.curl_as(&first, EST, "/.well-known/est/simplereenroll", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let renewed = city.keep(&answer.body, key, "first-renewed");
    let back = log.checkpoint("tkh-1001", 3, 8, 5);
    assert_eq!(report(&city, &renewed, &back), refused("smaller-count"));
    let on = log.checkpoint("tkh-1001", 3, 10, 5);
    assert_eq!(report(&city, &renewed, &on)["accepted"], true);
}
