//! The hub's calls from a program's threads, with clients in this process that read all they get.
//!
//! ```text
//! cargo bench --bench hub                 all of it, half a minute
//! cargo bench --bench hub -- broadcast    one group
//! cargo bench --bench hub -- --test       once each: correctness only
//! ```
//!
//! A push is timed in batches, which the clients are given the time to take: what is told is what a caller
//! pays while the hub is awake, and not how fast the network is. How the hub does beside other servers, with
//! its clients in another process, is what `benches/peers` measures.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use stepcast::codec::Message;
use stepcast::handshake::ClientRequest;
use stepcast::{Client, Hub, Limits};

/// Pushes that are timed together, and how long the hub has to deliver them.
const BATCH: u64 = 16;
const PAUSE: Duration = Duration::from_micros(500);

const CLIENTS: [usize; 2] = [1, 100];

/// A hub with so many clients, each read by a thread of its own, which ends with the hub.
fn hub_with(clients: usize) -> Hub {
    let hub = Hub::builder()
        .limits(Limits::default().clients(clients.max(1)))
        .spawn_blocking("127.0.0.1:0");
    let hub = hub.expect("a port");
    let address = hub.local_addr().expect("it listens");
    for _ in 0..clients {
        let mut socket = TcpStream::connect(address).expect("a connection");
        let request = ClientRequest::new(&address.to_string(), "/").expect("a request");
        socket.write_all(&request.encode()).expect("it is taken");
        let drain = move || {
            let mut buffer = vec![0; 64 * 1024];
            while socket.read(&mut buffer).is_ok_and(|count| count > 0) {}
        };
        thread::Builder::new().stack_size(64 * 1024).spawn(drain).expect("a thread");
    }
    let started = Instant::now();
    while hub.client_count() < clients {
        assert!(started.elapsed() < Duration::from_secs(20), "not all have come");
        thread::sleep(Duration::from_millis(1));
    }
    hub
}

fn text(len: usize) -> Message {
    Message::from("s".repeat(len))
}

/// The time of so many pushes of messages that exist.
fn pushes(count: u64, len: usize, push: impl Fn(Message)) -> Duration {
    let mut time = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        let messages: Vec<Message> = (0..left.min(BATCH)).map(|_| text(len)).collect();
        left -= messages.len() as u64;
        let started = Instant::now();
        messages.into_iter().for_each(&push);
        time += started.elapsed();
        thread::sleep(PAUSE);
    }
    time
}

fn broadcast(c: &mut Criterion) {
    let mut group = c.benchmark_group("broadcast");
    for clients in CLIENTS {
        let hub = hub_with(clients);
        for len in [64, 1024] {
            group.bench_function(BenchmarkId::new(format!("{clients} clients"), len), |b| {
                let pushed = hub.stats().pushed;
                b.iter_custom(|count| pushes(count, len, |message| hub.broadcast(message)));
                assert!(hub.stats().pushed > pushed, "they were pushed");
            });
        }
        assert_eq!((hub.client_count(), hub.stats().skipped), (clients, 0));
        hub.shutdown_blocking(Duration::from_secs(5));
    }
    let hub = hub_with(0);
    group.bench_function("nobody/64", |b| {
        let message = text(64);
        b.iter(|| hub.broadcast(message.clone()));
    });
    group.bench_function("disabled/64", |b| {
        let (hub, message) = (Hub::disabled(), text(64));
        b.iter(|| hub.broadcast(message.clone()));
    });
    group.finish();
}

fn send(c: &mut Criterion) {
    let mut group = c.benchmark_group("send");
    for clients in CLIENTS {
        let hub = hub_with(clients);
        let ids: Vec<_> = hub.clients().iter().map(Client::id).collect();
        for len in [64, 1024] {
            group.bench_function(BenchmarkId::new(format!("one of {clients}"), len), |b| {
                b.iter_custom(|count| {
                    pushes(count, len, |message| {
                        hub.send(ids[0], message).expect("room in its mailbox");
                    })
                });
            });
        }
        group.bench_function(BenchmarkId::new(format!("set, one of {clients}"), 64), |b| {
            b.iter_custom(|count| {
                pushes(count, 64, |message| {
                    hub.set(ids[0], "progress", message).expect("room for a value");
                })
            });
        });
        let gone = "4711".parse().expect("an id");
        group.bench_function(BenchmarkId::new(format!("none of {clients}"), 64), |b| {
            let message = text(64);
            b.iter(|| hub.send(gone, message.clone()).is_err());
        });
        assert_eq!((hub.client_count(), hub.stats().skipped), (clients, 0));
        hub.shutdown_blocking(Duration::from_secs(5));
    }
    group.finish();
}

fn asking(c: &mut Criterion) {
    let hub = hub_with(100);
    let id = hub.clients()[0].id();
    c.bench_function("client_count", |b| b.iter(|| hub.client_count()));
    c.bench_function("client", |b| b.iter(|| hub.client(id).expect("it is there")));
    c.bench_function("clients/100", |b| b.iter(|| hub.clients()));
    c.bench_function("stats", |b| b.iter(|| hub.stats()));
    hub.shutdown_blocking(Duration::from_secs(5));
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(20);
    targets = broadcast, send, asking
}
criterion_main!(benches);
