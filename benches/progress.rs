//! What reporting costs the loop: `cargo bench --bench progress`.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stepcast::{Hub, Job, ProgressIterator};

/// A bare counter, alone on its cache lines as a job's is.
#[repr(align(128))]
struct Counter(AtomicU64);

fn count(c: &mut Criterion) {
    let hub = Hub::spawn_blocking("127.0.0.1:0").expect("a free port");
    let job = hub.job("steps").total(1 << 40).start();
    let bare = Counter(AtomicU64::new(0));
    let mut group = c.benchmark_group("count");
    group.bench_function("bare fetch_add", |b| {
        b.iter(|| black_box(&bare).0.fetch_add(1, Ordering::Relaxed));
    });
    group.bench_function("inc", |b| b.iter(|| black_box(&job).inc(1)));
    group.bench_function("inc, disabled", |b| {
        let job = Job::disabled();
        b.iter(|| black_box(&job).inc(1));
    });
    group.bench_function("bare store", |b| {
        b.iter(|| {
            let counter = &black_box(&bare).0;
            counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        });
    });
    group.bench_function("local", |b| {
        let counter = job.local();
        b.iter(|| black_box(&counter).inc(1));
    });
    group.bench_function("is_cancelled", |b| b.iter(|| black_box(&job).is_cancelled()));
    group.finish();
}

const ITEMS: u64 = 1_000_000;

fn adapters(c: &mut Criterion) {
    let hub = Hub::spawn_blocking("127.0.0.1:0").expect("a free port");
    let job = hub.job("items").start();
    let mut group = c.benchmark_group("adapters");
    group.throughput(Throughput::Elements(ITEMS));
    group.bench_function("bare loop", |b| {
        b.iter(|| (0..black_box(ITEMS)).fold(0, |sum, item| sum ^ black_box(item)));
    });
    group.bench_function("progress_with", |b| {
        b.iter(|| {
            (0..black_box(ITEMS)).progress_with(&job).fold(0, |sum, item| sum ^ black_box(item))
        });
    });
    group.finish();
}

criterion_group!(benches, count, adapters);
criterion_main!(benches);
