//! A client on the wire `stepcast.v1` for tests, which answers pings, and says nothing else by itself.
#![allow(dead_code, unreachable_pub)] // every test file uses a part of it

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::BytesMut;
use serde_json::{Value, json};
use stepcast::codec::{
    CloseCode, CloseFrame, Control, FrameLimits, Incoming, Message, MessageCodec, Role,
};
use stepcast::handshake::{ClientRequest, HeadLimits, ResponseReader};
use stepcast::{ClientId, Hub};
use tokio_util::codec::{Decoder, Encoder};

use super::peer::{PATIENCE, read_some};

pub struct V1 {
    socket: TcpStream,
    codec: MessageCodec,
    received: BytesMut,
    lines: VecDeque<Value>,
    binary: VecDeque<Vec<u8>>,
    /// Text frames that have come, and pings that it has answered.
    pub frames: usize,
    pub pings: usize,
    pub hello: Value,
    pub id: ClientId,
}

/// Who a client was.
pub struct Identity {
    pub id: ClientId,
    hello: Value,
}

impl Identity {
    /// Comes back with this of its mailbox, and of these feeds.
    #[allow(clippy::needless_pass_by_value)] // made for it
    pub fn come_back(&self, hub: &Hub, mail: Value, feeds: Value) -> V1 {
        let Self { hello, .. } = self;
        V1::connect(
            hub,
            &json!({
                "id": hello["id"], "key": hello["key"], "epoch": hello["epoch"], "mail": mail, "feeds": feeds,
            }),
        )
    }
}

/// A message or a value without its time.
pub fn untimed(mut message: Value) -> Value {
    let at = message.as_array_mut().unwrap().remove(2);
    assert!(at.is_u64(), "{at}");
    message
}

impl V1 {
    /// Connects and says this, and takes the answer.
    pub fn connect(hub: &Hub, hello: &Value) -> Self {
        Self::connect_to(hub.local_addr().unwrap(), hello)
    }

    pub fn connect_to(address: SocketAddr, hello: &Value) -> Self {
        let mut client = Self::upgrade_to(address);
        client.say(&json!({"hello": hello}));
        client.hello = client.line("hello");
        client.id = client.hello["id"].to_string().parse().unwrap();
        client
    }

    pub fn upgrade(hub: &Hub) -> Self {
        Self::upgrade_to(hub.local_addr().unwrap())
    }

    fn upgrade_to(address: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = ClientRequest::new(&address.to_string(), "/").unwrap();
        let request = request.protocol("stepcast.v1").unwrap();
        socket.write_all(&request.encode()).unwrap();
        let mut reader = ResponseReader::new(&request, HeadLimits::default());
        let mut received = BytesMut::new();
        while reader.read(&mut received).unwrap().is_none() {
            read_some(&mut socket, &mut received).unwrap();
        }
        let limits = FrameLimits::default().frame(1 << 30).message(1 << 30);
        Self {
            socket,
            codec: MessageCodec::new(Role::Client, limits),
            received,
            lines: VecDeque::new(),
            binary: VecDeque::new(),
            frames: 0,
            pings: 0,
            hello: Value::Null,
            id: ClientId::new(1).unwrap(),
        }
    }

    /// Reads one message; a Close is the end.
    fn read(&mut self) -> Result<(), Option<CloseFrame>> {
        loop {
            match self.codec.decode(&mut self.received).unwrap() {
                Some(Incoming::Message(message)) => {
                    let Some(text) = message.as_text() else {
                        self.binary.push_back(message.as_bytes().to_vec());
                        return Ok(());
                    };
                    self.frames += 1;
                    for line in text.split('\n') {
                        let line: Value = serde_json::from_str(line).unwrap();
                        if let Some(ping) = line.get("ping") {
                            let _ = self.try_say(&json!({"pong": ping}));
                            self.pings += 1;
                        } else {
                            self.lines.push_back(line);
                        }
                    }
                    return Ok(());
                }
                Some(Incoming::Control(Control::Close(frame))) => return Err(frame),
                Some(Incoming::Control(other)) => panic!("{other:?} on this wire"),
                None => read_some(&mut self.socket, &mut self.received).unwrap(),
            }
        }
    }

    /// Reads what comes next.
    pub fn read_on(&mut self) {
        self.read().expect("a message");
    }

    /// The next line, if it has been read.
    pub fn read_line(&mut self) -> Option<Value> {
        self.lines.pop_front()
    }

    /// The next line.
    pub fn any_line(&mut self) -> Value {
        while self.lines.is_empty() {
            self.read().expect("a line");
        }
        self.lines.pop_front().unwrap()
    }

    /// What the next line says, which has to be of this kind.
    pub fn line(&mut self, kind: &str) -> Value {
        let line = self.any_line();
        line.get(kind).unwrap_or_else(|| panic!("expected {kind}, got {line}")).clone()
    }

    pub fn binary(&mut self) -> Vec<u8> {
        while self.binary.is_empty() {
            self.read().expect("a binary frame");
        }
        self.binary.pop_front().unwrap()
    }

    /// Reads up to the hub's Close.
    pub fn close_frame(&mut self) -> CloseFrame {
        loop {
            if let Err(frame) = self.read() {
                return frame.expect("a code");
            }
        }
    }

    pub fn close_code(&mut self) -> u16 {
        self.close_frame().code().get()
    }

    pub fn say(&mut self, line: &Value) {
        self.try_say(line).unwrap();
    }

    pub fn try_say(&mut self, line: &Value) -> std::io::Result<()> {
        let mut bytes = BytesMut::new();
        self.codec.encode(Message::from(line.to_string()), &mut bytes).unwrap();
        self.socket.write_all(&bytes)
    }

    pub fn say_bytes(&mut self, frame: Vec<u8>) {
        let mut bytes = BytesMut::new();
        self.codec.encode(Message::from(frame), &mut bytes).unwrap();
        self.socket.write_all(&bytes).unwrap();
    }

    pub fn say_text(&mut self, text: &str) {
        self.try_say_text(text).unwrap();
    }

    pub fn try_say_text(&mut self, text: &str) -> std::io::Result<()> {
        let mut bytes = BytesMut::new();
        self.codec.encode(Message::from(text.to_owned()), &mut bytes).unwrap();
        self.socket.write_all(&bytes)
    }

    /// Sends this so many times, as long as it is taken.
    pub fn flood(&mut self, bytes: &[u8], count: usize) {
        let _ = self.socket.write_all(&bytes.repeat(count));
    }

    /// Sends frames of these texts in one write.
    pub fn say_at_once(&mut self, texts: &[&str]) {
        let mut bytes = BytesMut::new();
        for text in texts {
            self.codec.encode(Message::from((*text).to_owned()), &mut bytes).unwrap();
        }
        self.socket.write_all(&bytes).unwrap();
    }

    /// Closes with this code and waits for the hub's end.
    pub fn close(mut self, code: u16) {
        let close = CloseFrame::new(CloseCode::new(code).unwrap(), "");
        let mut bytes = BytesMut::new();
        self.codec.encode(Control::Close(Some(close)), &mut bytes).unwrap();
        self.socket.write_all(&bytes).unwrap();
        let _ = self.close_code();
    }

    pub fn identity(&self) -> Identity {
        Identity { id: self.id, hello: self.hello.clone() }
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Waits until the hub has lost the connection, without a word.
    pub fn gone(&mut self) {
        let mut byte = [0];
        let read = self.socket.read(&mut byte);
        assert!(self.received.is_empty() && !matches!(read, Ok(1..)), "{read:?}");
        let timed_out = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        assert!(!read.as_ref().is_err_and(timed_out), "still connected");
    }

    /// Loses the connection.
    pub fn cut(self) -> Identity {
        self.identity()
    }
}
