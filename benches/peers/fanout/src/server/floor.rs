//! What a server over sockets is hardly under: the frames, written to one socket after the other, and an upgrade without
//! checks.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex};
use std::thread;

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::Server;

pub struct Floor {
    port: u16,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    /// How many frames go with one call, and those that wait for that.
    frames: usize,
    waiting: Vec<u8>,
    count: usize,
    /// Sockets that were full, and where in the bytes.
    unfinished: Vec<(usize, usize)>,
}

impl Floor {
    /// Its calls take so many frames. With `greets` its clients ask for something once they are upgraded, as on `stepcast.v1`.
    pub fn start(frames: usize, greets: bool) -> Self {
        let listener = crate::server::tasks::listen();
        let port = listener.local_addr().expect("an address").port();
        let sockets = Arc::new(Mutex::new(Vec::new()));
        let accepted = Arc::clone(&sockets);
        thread::spawn(move || accept(&listener, &accepted, greets));
        Self { port, sockets, frames, waiting: Vec::new(), count: 0, unfinished: Vec::new() }
    }
}

/// As long as the hub's is.
const GREETING: [u8; 250] = [b'-'; 250];

/// Upgrades whoever connects. What a client of ours says comes whole.
fn accept(listener: &TcpListener, accepted: &Mutex<Vec<TcpStream>>, greets: bool) {
    let mut buffer = [0; 4096];
    let mut epoll = crate::sys::Epoll::new();
    epoll.watch_reading(listener.as_raw_fd(), usize::MAX);
    listener.set_nonblocking(true).expect("a socket");
    let mut asking: Vec<Option<TcpStream>> = Vec::new();
    let mut free = Vec::new();
    let mut keys = Vec::new();
    loop {
        epoll.wait(-1, &mut keys);
        for &key in &keys {
            if key == usize::MAX {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nodelay(true).expect("a socket");
                    stream.set_nonblocking(true).expect("a socket");
                    let key = free.pop().unwrap_or_else(|| {
                        asking.push(None);
                        asking.len() - 1
                    });
                    epoll.watch_reading(stream.as_raw_fd(), key);
                    asking[key] = Some(stream);
                }
                continue;
            }
            let Some(mut stream) = asking[key].take() else { continue };
            let count = stream.read(&mut buffer).expect("a request");
            if buffer[0] == 0x81 {
                free.push(key);
                epoll.forget(stream.as_raw_fd());
                let header = [0x81, 126, 0, GREETING.len() as u8];
                let greeting = [&header[..], &GREETING].concat();
                stream.write_all(&greeting).expect("room for a greeting");
                accepted.lock().expect("no panic").push(stream);
                continue;
            }
            let request = std::str::from_utf8(&buffer[..count]).expect("text");
            assert!(request.ends_with("\r\n\r\n"), "a request that is whole");
            let its_key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
            let accept = derive_accept_key(its_key.expect("a key").as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).expect("room for an answer");
            if greets {
                asking[key] = Some(stream);
                continue;
            }
            free.push(key);
            epoll.forget(stream.as_raw_fd());
            accepted.lock().expect("no panic").push(stream);
        }
    }
}

impl Server for Floor {
    fn port(&self) -> u16 {
        self.port
    }

    fn clients(&self) -> usize {
        self.sockets.lock().expect("no panic").len()
    }

    fn publish(&mut self, text: String, more: bool) {
        let len = text.len();
        self.waiting.push(0x81);
        if len < 126 {
            self.waiting.push(len as u8);
        } else {
            self.waiting.push(126);
            self.waiting.extend_from_slice(&u16::try_from(len).expect("small").to_be_bytes());
        }
        self.waiting.extend_from_slice(text.as_bytes());
        self.count += 1;
        if more && self.count < self.frames {
            return;
        }
        let sockets = self.sockets.lock().expect("no panic");
        for (at, socket) in sockets.iter().enumerate() {
            let sent = crate::sys::send(socket.as_raw_fd(), &self.waiting);
            if sent < self.waiting.len() {
                self.unfinished.push((at, sent));
            }
        }
        for (at, mut sent) in self.unfinished.drain(..) {
            let fd = sockets[at].as_raw_fd();
            while sent < self.waiting.len() {
                sent += crate::sys::send(fd, &self.waiting[sent..]);
                if sent < self.waiting.len() {
                    crate::sys::wait_writable(fd);
                }
            }
        }
        self.waiting.clear();
        self.count = 0;
    }
}
