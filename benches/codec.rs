//! Decoding and encoding, with a copy of the same bytes beside it: the floor that no codec over a
//! stream can be under.
//!
//! ```text
//! cargo bench --bench codec                      all of it, some three minutes
//! cargo bench --bench codec -- 'decode ascii'    one group
//! cargo bench --bench codec -- --test            once each: correctness only
//! ```
//!
//! Inputs: text of 7-bit characters, text of Chinese ones (three bytes each), and bytes of all
//! values; from 16 B to 1 MiB. *Decode* is a server's: a masked frame is copied into a reused
//! buffer, as a read from a socket would, decoded, and dropped. *Encode* is into a reused buffer.
//! The throughput is that of the payload.

use std::hint::black_box;
use std::time::Duration;

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stepcast::codec::{FrameLimits, Incoming, Message, MessageCodec, Role, server_frame};
use tokio_util::codec::{Decoder, Encoder};

const SIZES: [usize; 6] = [16, 125, 1024, 16 * 1024, 64 * 1024, 1024 * 1024];
const KINDS: [&str; 3] = ["ascii", "chinese", "binary"];

fn message(kind: &str, len: usize) -> Message {
    let repeated = |text: &'static str| text.chars().cycle();
    match kind {
        "ascii" => {
            repeated("step 41 of 100, residual 3.2e-7; ").take(len).collect::<String>().into()
        }
        "chinese" => {
            let mut text: String = repeated("残差收敛，第四十一步完成。").take(len / 3).collect();
            text.extend(repeated(".").take(len % 3));
            text.into()
        }
        _ => (0..len).map(|i| u8::try_from(i % 251).unwrap_or(0)).collect::<Vec<u8>>().into(),
    }
}

fn codec(role: Role) -> MessageCodec {
    MessageCodec::new(role, FrameLimits::default())
}

/// Room for a few of the largest messages, or for many small ones, as in a hub's receive buffer.
fn buffer(len: usize) -> BytesMut {
    BytesMut::with_capacity(64 * 1024 + 2 * len)
}

fn decode(c: &mut Criterion) {
    for kind in KINDS {
        let mut group = c.benchmark_group(format!("decode {kind}"));
        for len in SIZES {
            let message = message(kind, len);
            assert_eq!(message.len(), len);
            let mut wire = BytesMut::new();
            codec(Role::Client).encode(&message, &mut wire).expect("random bytes for a key");
            let mut codec = codec(Role::Server);
            let mut src = buffer(wire.len());

            src.extend_from_slice(&wire);
            let decoded = codec.decode(&mut src).expect("nothing is wrong with it");
            assert!(decoded == Some(Incoming::Message(message)), "it is what was sent");
            drop(decoded);

            group.throughput(Throughput::Bytes(len as u64));
            group.bench_function(BenchmarkId::new("memcpy", len), |b| {
                let mut to = vec![0; wire.len()];
                b.iter(|| black_box(&mut to[..]).copy_from_slice(black_box(&wire)));
            });
            group.bench_function(BenchmarkId::new("codec", len), |b| {
                b.iter(|| {
                    src.extend_from_slice(black_box(&wire));
                    codec.decode(&mut src)
                });
            });
        }
    }
}

fn encode(c: &mut Criterion) {
    for kind in KINDS {
        let mut group = c.benchmark_group(format!("encode {kind}"));
        for len in SIZES {
            let message = message(kind, len);
            let mut dst = buffer(len);
            group.throughput(Throughput::Bytes(len as u64));
            group.bench_function(BenchmarkId::new("memcpy", len), |b| {
                let mut to = vec![0; len];
                b.iter(|| black_box(&mut to[..]).copy_from_slice(black_box(message.as_bytes())));
            });
            for (name, role, peer) in
                [("server", Role::Server, Role::Client), ("client", Role::Client, Role::Server)]
            {
                let mut codec = codec(role);
                dst.clear();
                codec.encode(&message, &mut dst).expect("random bytes for a key");
                let decoded = self::codec(peer).decode(&mut dst.clone());
                let decoded = decoded.expect("nothing is wrong with it");
                assert!(decoded == Some(Incoming::Message(message.clone())), "it is the message");

                group.bench_function(BenchmarkId::new(name, len), |b| {
                    b.iter(|| {
                        dst.clear();
                        codec.encode(black_box(&message), &mut dst)
                    });
                });
            }
            group.bench_function(BenchmarkId::new("server_frame", len), |b| {
                b.iter(|| server_frame(black_box(&message)));
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30);
    targets = decode, encode
}
criterion_main!(benches);
