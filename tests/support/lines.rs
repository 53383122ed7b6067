//! A client on the wire `stepcast.v1` for tests, which answers pings, and says nothing else by itself.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use stepcast::codec::{CloseCode, CloseFrame, Control, Incoming, Message};
use stepcast::{ClientId, Hub};

use super::wire::{Wire, is_timeout};

pub struct V1 {
    wire: Wire,
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
        let socket = TcpStream::connect(address).unwrap();
        Self {
            wire: Wire::upgrade(socket, address, "/", Some("stepcast.v1")).unwrap(),
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
        let message = match self.wire.next().unwrap() {
            Incoming::Message(message) => message,
            Incoming::Control(Control::Close(frame)) => return Err(frame),
            Incoming::Control(other) => panic!("{other:?} on this wire"),
        };
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
        Ok(())
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
        self.wire.write([Message::from(line.to_string())])
    }

    pub fn say_bytes(&mut self, frame: Vec<u8>) {
        self.wire.write([Message::from(frame)]).unwrap();
    }

    pub fn say_text(&mut self, text: &str) {
        self.try_say_text(text).unwrap();
    }

    pub fn try_say_text(&mut self, text: &str) -> std::io::Result<()> {
        self.wire.write([Message::from(text.to_owned())])
    }

    /// Sends this so many times, as long as it is taken.
    pub fn flood(&mut self, bytes: &[u8], count: usize) {
        let _ = self.wire.socket.write_all(&bytes.repeat(count));
    }

    /// Sends frames of these texts in one write.
    pub fn say_at_once(&mut self, texts: &[&str]) {
        let texts = texts.iter().map(|text| Message::from((*text).to_owned()));
        self.wire.write(texts).unwrap();
    }

    /// Closes with this code and waits for the hub's end.
    pub fn close(mut self, code: u16) {
        let close = CloseFrame::new(CloseCode::new(code).unwrap(), "");
        self.wire.write([Control::Close(Some(close))]).unwrap();
        let _ = self.close_code();
    }

    pub fn identity(&self) -> Identity {
        Identity { id: self.id, hello: self.hello.clone() }
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.wire.socket.local_addr().unwrap()
    }

    /// Waits until the hub has lost the connection, without a word.
    pub fn gone(&mut self) {
        let mut byte = [0];
        let read = self.wire.socket.read(&mut byte);
        assert!(self.wire.received.is_empty() && !matches!(read, Ok(1..)), "{read:?}");
        assert!(!read.as_ref().is_err_and(is_timeout), "still connected");
    }

    /// Loses the connection.
    pub fn cut(self) -> Identity {
        self.identity()
    }
}
