//! What the wire costs: the framing guard per request, and writes with and without deferral.
//!
//! It measures the parser and the wrapper by themselves; what a whole relayed request costs is measured by
//! `cargo xtask bench`, beside other proxies.

#![allow(
    missing_docs,
    reason = "criterion's macros write functions without documentation"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gateway_proxy::wire::framing::Framing;

/// A browser's request, 416 bytes.
const BROWSER: &[u8] = b"GET /staff/persons/17/notes?page=2 HTTP/1.1\r\n\
Host: renraku.takahagi.localhost:8443\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n\
Accept-Language: ja,en;q=0.5\r\n\
Accept-Encoding: gzip, br\r\n\
Connection: keep-alive\r\n\
Cookie: session=k3vYp0c2m9bq7Jt1s8Zr4Wn6Xa5Ud0Ef; theme=light\r\n\
Sec-Fetch-Site: same-origin\r\n\
Cache-Control: max-age=0\r\n\r\n";

/// What a load generator sends, 47 bytes.
const SHORT: &[u8] = b"GET /1k HTTP/1.1\r\nHost: renraku.localhost:1\r\n\r\n";

fn framing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framing");
    for (name, head) in [("browser", BROWSER), ("short", SHORT)] {
        let mut framing = Framing::new();
        assert_eq!(framing.push(head).released, head.len());
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| framing.push(black_box(head)))
        });
    }
    let mut upload = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..16 {
        upload.extend_from_slice(b"1000\r\n");
        upload.extend_from_slice(&[b'x'; 0x1000]);
        upload.extend_from_slice(b"\r\n");
    }
    upload.extend_from_slice(b"0\r\n\r\n");
    let mut framing = Framing::new();
    group.throughput(Throughput::Bytes(upload.len() as u64));
    group.bench_function("64 KiB in chunks", |bencher| {
        bencher.iter(|| framing.push(black_box(&upload)))
    });
    group.finish();
}

criterion_group!(benches, framing);
criterion_main!(benches);
