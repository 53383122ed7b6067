//! Viewers that read what they are given, on threads of their own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use stepcast::Hub;

/// Viewers that follow the run and its series.
pub struct Viewers {
    stop: Arc<AtomicBool>,
    /// The bytes that all have read.
    pub bytes: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

pub fn watch(hub: &Hub, count: usize) -> Viewers {
    let mut sockets: Vec<TcpStream> = (0..count).map(|_| connect(hub)).collect();
    let (stop, bytes) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let (has_stopped, read) = (Arc::clone(&stop), Arc::clone(&bytes));
    let thread = std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while !has_stopped.load(Ordering::Relaxed) {
            for socket in &mut sockets {
                while let Ok(count @ 1..) = socket.read(&mut buffer) {
                    read.fetch_add(count as u64, Ordering::Relaxed);
                }
            }
            std::thread::sleep(Duration::from_millis(20)); // a browser draws about as often
        }
    });
    while hub.client_count() < count {
        std::thread::yield_now();
    }
    Viewers { stop, bytes, thread: Some(thread) }
}

fn connect(hub: &Hub) -> TcpStream {
    let address = hub.local_addr().expect("a hub that listens");
    let mut socket = TcpStream::connect(address).expect("a connection");
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: stepcast.v1\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).expect("a request");
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).expect("an answer");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    let hello = br#"{"hello":{"feeds":{"stepcast/run":{},"stepcast/series":{}}}}"#;
    // A mask of zeros leaves the text as it is.
    let mut frame =
        vec![0x81, 0x80 | u8::try_from(hello.len()).expect("a short hello"), 0, 0, 0, 0];
    frame.extend_from_slice(hello);
    socket.write_all(&frame).expect("a hello");
    socket.set_nonblocking(true).expect("a socket");
    socket
}

impl Drop for Viewers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the viewers' thread");
        }
    }
}
