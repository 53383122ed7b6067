//! A client on the wire `stepcast.v1` for tests, which survives its connections as the browser's does: it
//! remembers of each feed, and of its mailbox, the last sequence number and the last stamp of what it has received
//! completely, and looks at everything that comes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use stepcast::ClientId;
use stepcast::codec::{CloseCode, CloseFrame, Control, Incoming, Message};

use super::wire::{Wire, is_timeout};

/// What a client has of one feed, or of its mailbox.
#[derive(Debug, Default)]
pub struct Has {
    pub seq: Option<u64>,
    pub set: Option<u64>,
    /// Each message of the log, or how many a gap says are missing, in the order in which they came.
    pub log: Vec<Entry>,
    /// The newest value of each key.
    pub values: BTreeMap<String, String>,
    /// How often it has begun anew.
    pub snapshots: usize,
    /// Whether the program has finished it.
    pub ended: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Message(u64, String),
    /// From, to.
    Gap(u64, u64),
}

impl Has {
    /// As it goes into `hello`.
    fn told(&self) -> Value {
        let mut told = json!({});
        if let Some(seq) = self.seq {
            told["seq"] = seq.into();
        }
        if let Some(set) = self.set {
            told["set"] = set.into();
        }
        told
    }

    fn message(&mut self, number: u64, text: String, key: Option<String>) {
        assert!(!self.ended, "{text} after the end");
        if let Some(key) = key {
            assert!(
                self.set.is_none_or(|last| number > last),
                "{key}: {number} after {:?}",
                self.set
            );
            self.set = Some(number);
            self.values.insert(key, text);
        } else {
            assert_eq!(number, self.seq.unwrap_or(0) + 1, "{text}: each once, and in order");
            self.seq = Some(number);
            self.log.push(Entry::Message(number, text));
        }
    }

    fn gap(&mut self, from: u64, to: u64) {
        assert_eq!(from, self.seq.unwrap_or(0) + 1, "a gap begins where the last message was");
        assert!(to >= from && !self.ended, "{from} to {to}");
        self.seq = Some(to);
        self.log.push(Entry::Gap(from, to));
    }

    fn end(&mut self, stamp: u64) {
        assert!(!self.ended && self.set.is_none_or(|last| stamp > last), "it ends once");
        (self.ended, self.set) = (true, Some(stamp));
    }

    pub fn texts(&self) -> Vec<&str> {
        let text = |entry: &'_ Entry| matches!(entry, Entry::Message(..));
        let texts = self.log.iter().filter(|entry| text(entry));
        texts.map(|e| if let Entry::Message(_, text) = e { text } else { "" }).collect()
    }

    pub fn has_text(&self, text: &str) -> bool {
        self.log.iter().rev().any(|e| matches!(e, Entry::Message(_, known) if known == text))
    }

    pub fn gaps(&self) -> usize {
        self.log.iter().filter(|entry| matches!(entry, Entry::Gap(..))).count()
    }
}

/// A connection.
struct Line {
    wire: Wire,
    feeds: HashMap<u64, String>,
    is_greeted: bool,
}

#[derive(Default)]
pub struct Follower {
    line: Option<Line>,
    /// Who it is, from the hub's last `hello`.
    pub hello: Option<Value>,
    pub mail: Has,
    pub feeds: BTreeMap<String, Has>,
    /// What it asks for when it connects.
    pub wants: BTreeSet<String>,
    /// What the hub said when it closed.
    pub bye: Option<Value>,
    /// How often it was told that it is a new client, or the one it was.
    pub new: usize,
    pub resumed: usize,
    /// How often it was told of a feed.
    pub begun: usize,
    /// Lines that were no message.
    pub told: Vec<Value>,
}

impl Follower {
    pub fn of(feeds: &[&str]) -> Self {
        Self { wants: feeds.iter().map(ToString::to_string).collect(), ..Self::default() }
    }

    pub fn id(&self) -> Option<ClientId> {
        self.hello.as_ref().map(|hello| hello["id"].to_string().parse().unwrap())
    }

    pub fn is_connected(&self) -> bool {
        self.line.is_some()
    }

    /// How many feeds it follows on this connection.
    pub fn follows(&self) -> usize {
        self.line.as_ref().map_or(0, |line| line.feeds.len())
    }

    /// Connects on this socket, and reads up to the hub's answer.
    pub fn connect(&mut self, socket: TcpStream, hub: SocketAddr) -> io::Result<()> {
        self.open(socket, hub)?;
        while !self.line.as_ref().is_some_and(|line| line.is_greeted) {
            self.read()?;
        }
        Ok(())
    }

    pub fn connect_directly(&mut self, hub: SocketAddr) {
        self.connect(TcpStream::connect(hub).unwrap(), hub).unwrap();
    }

    /// Connects, and says hello, and does not wait for the answer.
    pub fn open(&mut self, socket: TcpStream, hub: SocketAddr) -> io::Result<()> {
        self.line = None;
        let wire = Wire::upgrade(socket, hub, "/", Some("stepcast.v1")).map_err(in_time)?;
        self.line = Some(Line { wire, feeds: HashMap::new(), is_greeted: false });
        let nothing = Has::default();
        let told = |name: &String| self.feeds.get(name).unwrap_or(&nothing).told();
        let feeds: serde_json::Map<String, Value> =
            self.wants.iter().map(|name| (name.clone(), told(name))).collect();
        let mut hello = json!({"feeds": feeds});
        if let Some(known) = &self.hello {
            for name in ["id", "key", "epoch"] {
                hello[name] = known[name].clone();
            }
            hello["mail"] = self.mail.told();
        }
        self.say(&json!({"hello": hello}))
    }

    /// Loses the connection.
    pub fn cut(&mut self) {
        self.line = None;
    }

    /// Takes the socket from it, as if nobody were there any more to read: what is left in it stays unread.
    pub fn abandon(&mut self) -> TcpStream {
        self.line.take().expect("a connection").wire.socket
    }

    pub fn say(&mut self, line: &Value) -> io::Result<()> {
        let Some(connection) = &mut self.line else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        connection.wire.write([Message::from(line.to_string())])
    }

    /// Says what it has of its mailbox.
    pub fn ack(&mut self) -> io::Result<()> {
        match self.mail.seq {
            Some(_) => self.say(&json!({"ack": self.mail.told()})),
            None => Ok(()),
        }
    }

    /// Reads until this holds. `Err`: the connection has ended before.
    pub fn read_until(&mut self, mut holds: impl FnMut(&Self) -> bool) -> io::Result<()> {
        while !holds(self) {
            self.read()?;
        }
        Ok(())
    }

    /// Reads one frame, and takes what it says.
    pub fn read(&mut self) -> io::Result<()> {
        let result = self.read_frame();
        if result.is_err() {
            self.line = None;
        }
        result
    }

    fn read_frame(&mut self) -> io::Result<()> {
        let Some(line) = &mut self.line else { return Err(io::ErrorKind::NotConnected.into()) };
        match line.wire.next().map_err(in_time)? {
            Incoming::Message(message) => match message.as_text() {
                Some(text) => text.split('\n').for_each(|line| self.hear(line)),
                None => self.binary(message.as_bytes()),
            },
            Incoming::Control(Control::Close(_)) => {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Incoming::Control(other) => panic!("{other:?} on this wire"),
        }
        Ok(())
    }

    /// The feed of this alias, or the mailbox.
    fn has(&mut self, alias: u64) -> &mut Has {
        let line = self.line.as_ref().expect("a connection");
        assert!(line.is_greeted, "nothing comes before hello");
        if alias == 0 {
            return &mut self.mail;
        }
        let name = line.feeds.get(&alias).expect("nothing of a feed comes before it is told of");
        self.feeds.get_mut(name).expect("told of")
    }

    fn binary(&mut self, bytes: &[u8]) {
        let alias = u32::from_be_bytes(bytes[1..5].try_into().unwrap());
        let number = u64::from_be_bytes(bytes[5..13].try_into().unwrap());
        let key = usize::from(u16::from_be_bytes(bytes[21..23].try_into().unwrap()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let key_text = (bytes[0] == 2).then(|| text(&bytes[23..23 + key]));
        self.has(alias.into()).message(number, text(&bytes[23 + key..]), key_text);
    }

    fn hear(&mut self, line: &str) {
        let line: Value = serde_json::from_str(line).unwrap();
        let (kind, body) = line.as_object().unwrap().iter().next().unwrap();
        let number = |name: &str| body[name].as_u64().unwrap();
        match kind.as_str() {
            "text" | "json" => {
                let text = body[3].as_str().map_or_else(|| body[3].to_string(), str::to_owned);
                let key = body.get(4).map(|key| key.as_str().unwrap().to_owned());
                let alias = body[0].as_u64().unwrap();
                self.has(alias).message(body[1].as_u64().unwrap(), text, key);
            }
            "ended" => self.has(body[0].as_u64().unwrap()).end(body[1].as_u64().unwrap()),
            "gap" => self.has(number("alias")).gap(number("from"), number("to")),
            "ping" => {
                let _ = self.say(&json!({"pong": body})); // if the hub has gone, what is read next says so
            }
            "hello" => self.greeted(body),
            "feed" => self.feed(body),
            "unfollowed" => {
                let line = self.line.as_mut().unwrap();
                let name = line.feeds.remove(&number("alias")).expect("a feed that was followed");
                self.feeds.remove(&name); // as one who asks for it again would begin anew
            }
            "bye" => self.bye = Some(body.clone()),
            _ => self.told.push(line.clone()),
        }
    }

    fn greeted(&mut self, hello: &Value) {
        let line = self.line.as_mut().unwrap();
        assert!(!std::mem::replace(&mut line.is_greeted, true), "greeted once");
        if hello["resumed"] == true {
            let before = self.hello.as_ref().expect("it was nobody");
            for name in ["id", "key", "epoch"] {
                assert_eq!(before[name], hello[name], "the same {name}");
            }
            self.resumed += 1;
        } else {
            if let Some(before) = &self.hello {
                assert_ne!(before["id"], hello["id"], "a new client has a new id");
                assert_ne!(before["key"], hello["key"], "and a new key");
            }
            self.mail = Has::default();
            self.new += 1;
        }
        self.hello = Some(hello.clone());
    }

    fn feed(&mut self, feed: &Value) {
        let name = feed["name"].as_str().unwrap().to_owned();
        let line = self.line.as_mut().unwrap();
        let before = line.feeds.insert(feed["alias"].as_u64().unwrap(), name.clone());
        assert_eq!(before, None, "told of once");
        self.begun += 1;
        let seq = feed["seq"].as_u64();
        let has = self.feeds.entry(name.clone()).or_default();
        if feed["how"] == "resumed" {
            assert_eq!(has.seq, seq, "{name} goes on where it was");
        } else {
            let snapshots = has.snapshots + 1;
            *has = Has { seq, snapshots, ..Has::default() };
        }
    }

    /// Closes for good.
    pub fn close(mut self) {
        let Some(line) = &mut self.line else { return };
        let close = CloseFrame::new(CloseCode::NORMAL, "");
        let _ = line.wire.write([Control::Close(Some(close))]);
        while self.read().is_ok() {}
    }
}

/// A connection may break, but not say nothing for so long.
fn in_time(error: io::Error) -> io::Error {
    assert!(!is_timeout(&error), "nothing came: {error}");
    error
}
