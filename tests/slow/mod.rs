//! A viewer that reads so many bytes a second and no more, as over a bad mobile connection. It answers
//! pings when it comes to them, as every WebSocket client does.
#![allow(dead_code, unreachable_pub)] // every test file uses a part of it

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use stepcast::codec::{Control, Incoming, Limits, Message, MessageCodec, Role};
use stepcast::{ClientId, Hub};
use tokio_util::codec::{Decoder, Encoder};

use super::peer::{Peer, is_timeout};

pub struct Slow {
    peer: Peer,
    per_second: u32,
    codec: MessageCodec,
    received: BytesMut,
    started: Instant,
    /// Bytes that it has read, and that it could have read and were not there.
    pub read: u64,
    pub missed: u64,
}

impl Slow {
    pub fn connect(hub: &Hub, per_second: u32) -> Self {
        Self::new(Peer::connect(hub), per_second)
    }

    pub fn new(peer: Peer, per_second: u32) -> Self {
        peer.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let limits = Limits::default().max_frame(1 << 30).max_message(1 << 30);
        let codec = MessageCodec::new(Role::Client, limits);
        let (received, started) = (BytesMut::new(), Instant::now());
        Self { peer, per_second, codec, received, started, read: 0, missed: 0 }
    }

    pub fn id(&self) -> ClientId {
        self.peer.id
    }

    /// Reads for so long, and shows each message when it has been read. It says no when the connection has ended.
    pub fn read_for(&mut self, time: Duration, mut see: impl FnMut(Message)) -> bool {
        let end = Instant::now() + time;
        let mut bytes = [0; 2500];
        while Instant::now() < end {
            let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap();
            let due = u64::from(self.per_second) * passed / 1000;
            let most = due.saturating_sub(self.read + self.missed);
            let most = usize::try_from(most).unwrap().min(bytes.len());
            if most < 500 {
                thread::sleep(Duration::from_millis(1)); // slow on purpose
                continue;
            }
            match self.peer.socket.read(&mut bytes[..most]) {
                Ok(0) => return false,
                Ok(count) => {
                    self.read += count as u64;
                    self.received.extend_from_slice(&bytes[..count]);
                }
                Err(error) if is_timeout(&error) => self.missed += most as u64,
                Err(_) => return false,
            }
            while let Some(incoming) = self.codec.decode(&mut self.received).unwrap() {
                match incoming {
                    Incoming::Message(message) => see(message),
                    Incoming::Control(Control::Ping(payload)) => {
                        let mut pong = BytesMut::new();
                        self.codec.encode(Control::Pong(payload), &mut pong).unwrap();
                        if self.peer.socket.write_all(&pong).is_err() {
                            return false;
                        }
                    }
                    Incoming::Control(_) => return false,
                }
            }
        }
        true
    }
}
