//! The wire `stepcast.v1`, as `docs/protocol.md` has it: lines of JSON in text frames, bytes in binary frames.
//!
//! What the hub says is written here by hand, member after member, so that one message costs one pass over its text;
//! the fixtures in `tests/protocol` say byte for byte what it has to be. What clients say is parsed.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::from_str;
use serde_json::value::RawValue;

use super::Frame;
use crate::codec::{FrameHeader, Json, Kind, Message, OpCode};

/// The name of the subprotocol.
pub(crate) const PROTOCOL: &str = "stepcast.v1";

/// The alias of every client's mailbox.
pub(crate) const MAILBOX: u32 = 0;

/// Bytes of a binary frame before the key.
const BINARY_HEAD: usize = 23;

/// What a message of a feed has become: a line, of which several share a frame, or a frame of its own.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    Line(Bytes),
    Frame(Frame),
}

impl Form {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Line(line) => line.len(),
            Self::Frame(frame) => frame.len(),
        }
    }
}

/// What every message, value, removal and end begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// Of its feed.
    pub(crate) alias: u32,
    /// The sequence number of a message, or the stamp of all else.
    pub(crate) number: u64,
    /// When the hub took it over, in milliseconds since the moment that `hello` names.
    pub(crate) at: u64,
}

impl Head {
    fn put(self, line: &mut Vec<u8>) {
        put_number(line, self.alias.into());
        line.push(b',');
        put_number(line, self.number);
        line.push(b',');
        put_number(line, self.at);
    }
}

/// A message of a feed's log, or the value of a key.
pub(crate) fn message(head: Head, kind: Kind, payload: Bytes, key: Option<&str>) -> Form {
    if let Kind::Binary = kind {
        let form = if key.is_some() { 2 } else { 1 };
        return Form::Frame(binary(form, head, key.unwrap_or_default(), payload));
    }
    let mut line = Vec::with_capacity(payload.len() + payload.len() / 8 + 48);
    put_message(&mut line, head, kind, &payload, key);
    Form::Line(line.into_boxed_slice().into()) // no more than it needs: lines are many
}

/// The line of a message that is text.
fn put_message(line: &mut Vec<u8>, head: Head, kind: Kind, text: &[u8], key: Option<&str>) {
    let is_json = matches!(kind, Kind::Json);
    line.extend_from_slice(if is_json { br#"{"json":["# } else { br#"{"text":["# });
    head.put(line);
    line.push(b',');
    if is_json {
        let from = line.len();
        line.extend_from_slice(text);
        // Between lines stands a line feed, and in JSON only between tokens.
        for byte in &mut line[from..] {
            *byte = if matches!(*byte, b'\n' | b'\r') { b' ' } else { *byte };
        }
    } else {
        put_text(line, text);
    }
    if let Some(key) = key {
        line.push(b',');
        put_text(line, key.as_bytes());
    }
    line.extend_from_slice(b"]}");
}

/// The end of a key's value: clients that have an older one forget it.
pub(crate) fn removed(head: Head, key: &str) -> Form {
    let mut line = Vec::with_capacity(key.len() + 48);
    line.extend_from_slice(br#"{"removed":["#);
    head.put(&mut line);
    line.push(b',');
    put_text(&mut line, key.as_bytes());
    line.extend_from_slice(b"]}");
    Form::Line(line.into_boxed_slice().into())
}

/// The end of a feed: nothing comes after it.
pub(crate) fn ended(head: Head) -> Form {
    let mut line = Vec::with_capacity(64);
    line.extend_from_slice(br#"{"ended":["#);
    head.put(&mut line);
    line.extend_from_slice(b"]}");
    Form::Line(line.into_boxed_slice().into())
}

fn binary(kind: u8, of: Head, key: &str, payload: Bytes) -> Frame {
    let key_len = u16::try_from(key.len()).unwrap_or_default(); // keys are shorter: see `Shared::set`
    let before = BINARY_HEAD + usize::from(key_len);
    let header = FrameHeader::server(OpCode::Binary, true, before + payload.len());
    let mut head = BytesMut::with_capacity(header.as_ref().len() + before);
    head.put_slice(header.as_ref());
    head.put_u8(kind);
    head.put_u32(of.alias);
    head.put_u64(of.number);
    head.put_u64(of.at);
    head.put_u16(key_len);
    head.put_slice(&key.as_bytes()[..usize::from(key_len)]);
    Frame::new(head.freeze(), payload)
}

/// A number, as JSON has it.
fn put_number(line: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10).to_le_bytes()[0];
        number /= 10;
        if number == 0 {
            return line.extend_from_slice(&digits[first..]);
        }
    }
}

/// A string, as JSON has it, of bytes that are text. (To have them as a `&str` is to validate them once more.)
fn put_text(line: &mut Vec<u8>, mut text: &[u8]) {
    let is_escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // The compiler looks at so many bytes at once.
    let has_escaped = |bytes: &[u8]| bytes.iter().fold(false, |has, byte| has | is_escaped(*byte));
    line.push(b'"');
    loop {
        let clean = text.chunks_exact(32).take_while(|bytes| !has_escaped(bytes)).count() * 32;
        let next = text[clean..].iter().position(|byte| is_escaped(*byte));
        let Some(at) = next.map(|next| clean + next) else { break };
        line.extend_from_slice(&text[..at]);
        put_escaped(line, text[at]);
        text = &text[at + 1..];
    }
    line.extend_from_slice(text);
    line.push(b'"');
}

/// A character that stands in no string of JSON as it is.
fn put_escaped(line: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            line.extend_from_slice(br"\u00");
            return put_hex(line, &[byte]);
        }
    };
    line.extend_from_slice(&[b'\\', short]);
}

/// One text frame of some lines.
fn frame(lines: &[u8]) -> Vec<u8> {
    [FrameHeader::server(OpCode::Text, true, lines.len()).as_ref(), lines].concat()
}

/// The most of lines in one frame: with one line more it may be longer.
const JOINED: usize = 16 * 1024;

/// Messages of a feed, lines of which share frames.
#[derive(Debug, Default)]
pub(crate) struct Joined(Vec<u8>);

impl Joined {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a message. What is complete with that: a frame of those before it, and one that is its own.
    pub(crate) fn add(&mut self, form: &Form) -> (Option<Frame>, Option<Frame>) {
        match form {
            Form::Line(line) => {
                let before = if self.0.len() + line.len() > JOINED { self.take() } else { None };
                self.line(line);
                (before, None)
            }
            Form::Frame(frame) => (self.take(), Some(frame.clone())),
        }
    }

    fn line(&mut self, line: &[u8]) {
        if !self.0.is_empty() {
            self.0.push(b'\n');
        }
        self.0.extend_from_slice(line);
    }

    /// Says what is missing behind one message and before another, if anything is.
    pub(crate) fn gap(&mut self, alias: u32, last: u64, next: u64, why: &str) {
        if next > last + 1 {
            let mut lines = Lines::default();
            lines.gap(alias, last + 1, next - 1, why);
            self.line(&lines.0);
        }
    }

    pub(crate) fn take(&mut self) -> Option<Frame> {
        let lines = std::mem::take(&mut self.0);
        (!lines.is_empty()).then(|| frame(&lines).into())
    }
}

/// Lines that wait for their frame.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes that it holds.
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// The frame.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        frame(&std::mem::take(&mut self.0))
    }

    fn next(&mut self) -> &mut Vec<u8> {
        if !self.0.is_empty() {
            self.0.push(b'\n');
        }
        &mut self.0
    }

    pub(crate) fn hello(&mut self, hello: &Greeting<'_>) {
        let Greeting { id, key, epoch, resumed, base, now, ping, message, feeds, rate } = hello;
        let line = self.next();
        line.reserve(256); // with the feeds that most follow
        line.extend_from_slice(br#"{"hello":{"id":"#);
        put_number(line, *id);
        line.extend_from_slice(br#","key":""#);
        put_hex(line, key);
        line.extend_from_slice(br#"","epoch":""#);
        let _ = write!(
            line,
            r#"{epoch:016x}","resumed":{resumed},"base":{base},"now":{now},"ping":{ping},"#
        );
        let _ =
            write!(line, r#""limits":{{"message":{message},"feeds":{feeds},"rate":{rate}}}}}}}"#);
    }

    pub(crate) fn feed(&mut self, name: &str, alias: u32, epoch: u64, seq: u64, resumed: bool) {
        let how = if resumed { "resumed" } else { "snapshot" };
        let line = self.next();
        line.extend_from_slice(br#"{"feed":{"name":"#);
        put_text(line, name.as_bytes());
        let _ = write!(line, r#","alias":{alias},"epoch":"{epoch:016x}","#);
        let _ = write!(line, r#""seq":{seq},"how":"{how}"}}}}"#);
    }

    pub(crate) fn unfollowed(&mut self, alias: u32) {
        let _ = write!(self.next(), r#"{{"unfollowed":{{"alias":{alias}}}}}"#);
    }

    /// The messages from `from` to `to`, both included, are left out.
    pub(crate) fn gap(&mut self, alias: u32, from: u64, to: u64, why: &str) {
        let _ = write!(
            self.next(),
            r#"{{"gap":{{"alias":{alias},"from":{from},"to":{to},"why":"{why}"}}}}"#
        );
    }

    pub(crate) fn ping(&mut self, value: [u32; 3]) {
        let [a, b, c] = value;
        let _ = write!(self.next(), r#"{{"ping":[{a},{b},{c}]}}"#);
    }

    pub(crate) fn error(&mut self, code: &str, feed: Option<&str>, reason: &str) {
        let line = self.next();
        let _ = write!(line, r#"{{"error":{{"code":"{code}""#);
        if let Some(feed) = feed {
            line.extend_from_slice(br#","feed":"#);
            put_text(line, feed.as_bytes());
        }
        line.extend_from_slice(br#","reason":"#);
        put_text(line, reason.as_bytes());
        line.extend_from_slice(b"}}");
    }

    /// `retry`: after how many milliseconds to come back.
    pub(crate) fn bye(&mut self, code: u16, reason: &str, retry: Option<u64>) {
        let line = self.next();
        let _ = write!(line, r#"{{"bye":{{"code":{code},"reason":"#);
        put_text(line, reason.as_bytes());
        if let Some(retry) = retry {
            let _ = write!(line, r#","retry":{retry}"#);
        }
        line.extend_from_slice(b"}}");
    }
}

/// What a client is told first of all.
pub(crate) struct Greeting<'a> {
    pub(crate) id: u64,
    pub(crate) key: &'a [u8],
    pub(crate) epoch: u64,
    pub(crate) resumed: bool,
    /// The moment from which times count, in milliseconds since the Unix epoch.
    pub(crate) base: u64,
    /// Milliseconds since then.
    pub(crate) now: u64,
    /// In seconds.
    pub(crate) ping: u64,
    pub(crate) message: usize,
    pub(crate) feeds: usize,
    /// What the client may say in a second.
    pub(crate) rate: u32,
}

fn put_hex(line: &mut Vec<u8>, bytes: &[u8]) {
    let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
    line.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(2 * bytes.len());
    put_hex(&mut text, bytes);
    String::from_utf8(text).unwrap_or_default()
}

/// What a client says.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    Hello(Hello),
    Follow(Vec<(String, Had)>),
    Unfollow(Vec<String>),
    /// A message to the program, about the feed with this alias.
    Message(u32, Message),
    /// Its mailbox has come up to this number.
    Ack(u64),
    Pong([u64; 3]),
    /// Of a later version, or a pong to another question.
    Unknown,
}

/// What a client has of a feed, or of its mailbox.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Had {
    /// Of the feed.
    pub(crate) epoch: Option<u64>,
    /// The last sequence number.
    pub(crate) seq: Option<u64>,
    /// The last stamp.
    pub(crate) set: Option<u64>,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Hello {
    /// Who it was.
    pub(crate) id: Option<u64>,
    pub(crate) key: Option<String>,
    pub(crate) epoch: Option<u64>,
    pub(crate) mail: Had,
    /// Of what it names more than it may nothing is here.
    pub(crate) feeds: Vec<(String, Had)>,
    pub(crate) too_many: bool,
}

impl Hello {
    /// Whether its key is this one: a comparison that takes as long wherever they differ.
    pub(crate) fn has_key(&self, key: &[u8]) -> bool {
        let (own, given) = (hex(key), self.key.as_deref().unwrap_or_default());
        let differs = |sum: u8, (a, b): (u8, u8)| std::hint::black_box(sum | (a ^ b));
        own.len() == given.len() && own.bytes().zip(given.bytes()).fold(0, differs) == 0
    }
}

impl Said {
    /// How many feeds it names.
    pub(crate) fn names(&self) -> usize {
        match self {
            Self::Hello(hello) => hello.feeds.len(),
            Self::Follow(feeds) => feeds.len(),
            Self::Unfollow(names) => names.len(),
            _ => 0,
        }
    }
}

/// Why a line is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// What was expected.
    Malformed(&'static str),
    /// It names more feeds than it may.
    TooMany,
}

/// One line of a client, in which it may name so many feeds. No more of them are kept.
pub(crate) fn parse(line: &str, most: usize) -> Result<Said, Refused> {
    let expected = |what| move || Refused::Malformed(what);
    let (mut says, mut to) = (None, None);
    let is_object = each_member(line, |key, value| {
        let before = match &*key {
            "to" => to.replace(value.get()).map(|_| ()),
            _ => says.replace((key, value.get())).map(|_| ()),
        };
        before.is_none().then_some(())
    });
    let (Some(()), Some((key, body))) = (is_object, says) else {
        return Err(Refused::Malformed("expected a JSON object with one key"));
    };
    let to = match to {
        Some(_) if !matches!(&*key, "text" | "json") => {
            return Err(Refused::Malformed("expected \"to\" beside \"text\" or \"json\" only"));
        }
        Some(to) => {
            from_str(to).ok().ok_or_else(expected("expected the alias of a feed in \"to\""))?
        }
        None => MAILBOX,
    };
    Ok(match &*key {
        "hello" => hello(body, most)
            .map(Said::Hello)
            .ok_or_else(expected("expected {\"hello\":{\"feeds\":{..}}}"))?,
        "follow" => Said::Follow(
            feeds(body, most).ok_or_else(expected("expected {\"follow\":{name:{..}}}"))??,
        ),
        "unfollow" => Said::Unfollow(
            names(body, most).ok_or_else(expected("expected {\"unfollow\":[name]}"))??,
        ),
        "text" => {
            let text: String =
                from_str(body).ok().ok_or_else(expected("expected a string in \"text\""))?;
            Said::Message(to, text.into())
        }
        // A member's value is whole JSON: its parser has seen to that.
        "json" => Said::Message(to, Json::validated(body.to_owned().into()).into()),
        "ack" => Said::Ack(ack(body).ok_or_else(expected("expected a number in \"ack\""))?),
        "pong" => from_str(body).map_or(Said::Unknown, Said::Pong),
        _ => Said::Unknown,
    })
}

/// A binary frame of a client. `None`: it is of a later version.
pub(crate) fn parse_binary(frame: &Bytes) -> Result<Option<(u32, Message)>, Refused> {
    let Some(([kind, alias @ ..], _)) = frame.split_first_chunk::<5>() else {
        return Err(Refused::Malformed("expected five bytes before the payload"));
    };
    let message = || Message::Binary(frame.slice(5..));
    Ok((*kind == 1).then(|| (u32::from_be_bytes(*alias), message())))
}

/// A string that is borrowed where it can be.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// Shows each member of a JSON object, whose values are not looked into, until one is not taken. `None`: it is no such
/// object, or one was not.
fn each_member<'a>(
    body: &'a str,
    take: impl FnMut(Cow<'a, str>, &'a RawValue) -> Option<()>,
) -> Option<()> {
    struct Members<F>(F);

    impl<'de, F: FnMut(Cow<'de, str>, &'de RawValue) -> Option<()>> Visitor<'de> for Members<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some((Name(key), value)) = map.next_entry()? {
                (self.0)(key, value).ok_or_else(|| A::Error::custom("not taken"))?;
            }
            Ok(())
        }
    }

    let mut json = serde_json::Deserializer::from_str(body);
    json.deserialize_map(Members(take)).ok()?;
    json.end().ok()
}

/// The same with each string of an array.
fn each_name<'a>(body: &'a str, take: impl FnMut(Cow<'a, str>) -> Option<()>) -> Option<()> {
    struct Names<F>(F);

    impl<'de, F: FnMut(Cow<'de, str>) -> Option<()>> Visitor<'de> for Names<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut names: A) -> Result<(), A::Error> {
            while let Some(Name(name)) = names.next_element()? {
                (self.0)(name).ok_or_else(|| A::Error::custom("not taken"))?;
            }
            Ok(())
        }
    }

    let mut json = serde_json::Deserializer::from_str(body);
    json.deserialize_seq(Names(take)).ok()?;
    json.end().ok()
}

/// Keeps what a line names, up to so many.
struct Kept<T> {
    most: usize,
    all: Vec<T>,
    too_many: bool,
}

impl<T> Kept<T> {
    fn up_to(most: usize) -> Self {
        Self { most, all: Vec::new(), too_many: false }
    }

    fn keep(&mut self, one: T) -> Option<()> {
        self.too_many = self.all.len() == self.most;
        (!self.too_many).then(|| self.all.push(one))
    }

    /// `None`: the line was not whole.
    fn if_whole(self, whole: Option<()>) -> Option<Result<Vec<T>, Refused>> {
        if self.too_many { Some(Err(Refused::TooMany)) } else { whole.map(|()| Ok(self.all)) }
    }
}

fn hello(body: &str, most: usize) -> Option<Hello> {
    let mut hello = Hello::default();
    each_member(body, |key, value| {
        let value = value.get();
        match &*key {
            "id" => hello.id = Some(number(value)?),
            "key" => hello.key = Some(from_str(value).ok()?),
            "epoch" => hello.epoch = Some(epoch(value)?),
            "mail" => hello.mail = had(value)?,
            "feeds" => {
                let feeds = feeds(value, most)?;
                hello.too_many = feeds.is_err();
                hello.feeds = feeds.unwrap_or_default();
            }
            _ => {}
        }
        Some(())
    })?;
    Some(hello)
}

fn feeds(body: &str, most: usize) -> Option<Result<Vec<(String, Had)>, Refused>> {
    let mut feeds = Kept::up_to(most);
    let whole = each_member(body, |name, value| feeds.keep((name.into_owned(), had(value.get())?)));
    feeds.if_whole(whole)
}

fn names(body: &str, most: usize) -> Option<Result<Vec<String>, Refused>> {
    let mut names = Kept::up_to(most);
    let whole = each_name(body, |name| names.keep(name.into_owned()));
    names.if_whole(whole)
}

fn had(body: &str) -> Option<Had> {
    let mut had = Had::default();
    each_member(body, |key, value| {
        match &*key {
            "epoch" => had.epoch = Some(epoch(value.get())?),
            "seq" => had.seq = Some(number(value.get())?),
            "set" => had.set = Some(number(value.get())?),
            _ => {}
        }
        Some(())
    })?;
    Some(had)
}

fn ack(body: &str) -> Option<u64> {
    let mut seq = 0; // the first message has 1
    each_member(body, |key, value| {
        if &*key == "seq" {
            seq = number(value.get())?;
        }
        Some(())
    })?;
    Some(seq)
}

/// An epoch: 16 hexadecimal digits. What is none is that of no hub and of no feed.
fn epoch(body: &str) -> Option<u64> {
    let Name(text) = from_str(body).ok()?;
    Some(u64::from_str_radix(&text, 16).ok().filter(|_| text.len() == 16).unwrap_or_default())
}

/// A number below 2^53.
fn number(body: &str) -> Option<u64> {
    from_str(body).ok().filter(|number| *number < 1 << 53)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn fixtures(name: &str) -> Value {
        let path = format!("{}/tests/protocol/{name}.json", env!("CARGO_MANIFEST_DIR"));
        from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn from_hub(name: &str) -> Vec<(String, Value)> {
        let fixtures = fixtures(name);
        let all = fixtures["from_hub"].as_array().unwrap().iter();
        all.map(|f| (f["line"].as_str().unwrap().to_owned(), f["means"].clone())).collect()
    }

    fn from_client(name: &str) -> Vec<(String, Value)> {
        let fixtures = fixtures(name);
        let all = fixtures["from_client"].as_array().unwrap().iter();
        all.map(|f| (f["line"].as_str().unwrap().to_owned(), f["means"].clone())).collect()
    }

    fn written(write: impl FnOnce(&mut Lines)) -> String {
        let mut lines = Lines::default();
        write(&mut lines);
        String::from_utf8(lines.0).unwrap()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect()
    }

    fn head(means: &Value) -> Head {
        let number = means["seq"].as_u64().or(means["stamp"].as_u64()).unwrap();
        Head { alias: u32_of(&means["alias"]), number, at: means["at"].as_u64().unwrap() }
    }

    fn epoch_of(value: &Value) -> Option<u64> {
        value.as_str().map(|epoch| u64::from_str_radix(epoch, 16).unwrap())
    }

    fn u32_of(value: &Value) -> u32 {
        u32::try_from(value.as_u64().unwrap()).unwrap()
    }

    #[test]
    fn what_the_hub_says_is_written_as_the_fixtures_have_it() {
        for (line, means) in from_hub("hello") {
            let greeting = |lines: &mut Lines| {
                lines.hello(&Greeting {
                    id: means["id"].as_u64().unwrap(),
                    key: &bytes(means["key"].as_str().unwrap()),
                    epoch: epoch_of(&means["epoch"]).unwrap(),
                    resumed: means["resumed"].as_bool().unwrap(),
                    base: means["base"].as_u64().unwrap(),
                    now: means["now"].as_u64().unwrap(),
                    ping: means["ping"].as_u64().unwrap(),
                    message: usize::try_from(means["limits"]["message"].as_u64().unwrap()).unwrap(),
                    feeds: usize::try_from(means["limits"]["feeds"].as_u64().unwrap()).unwrap(),
                    rate: u32_of(&means["limits"]["rate"]),
                });
            };
            assert_eq!(written(greeting), line);
        }
        for (line, means) in from_hub("feed") {
            let alias = u32_of(&means["alias"]);
            let feed = |lines: &mut Lines| match means["type"].as_str().unwrap() {
                "feed" => lines.feed(
                    means["name"].as_str().unwrap(),
                    alias,
                    epoch_of(&means["epoch"]).unwrap(),
                    means["seq"].as_u64().unwrap(),
                    means["how"] == "resumed",
                ),
                _ => lines.unfollowed(alias),
            };
            assert_eq!(written(feed), line);
        }
        for (line, means) in from_hub("gap") {
            let number = |name: &str| means[name].as_u64().unwrap();
            let why = means["why"].as_str().unwrap();
            let gap = |lines: &mut Lines| {
                lines.gap(u32_of(&means["alias"]), number("from"), number("to"), why);
            };
            assert_eq!(written(gap), line);
        }
        for (line, means) in from_hub("error") {
            let text = |name: &str| means[name].as_str();
            let error = |lines: &mut Lines| {
                lines.error(text("code").unwrap(), text("feed"), text("reason").unwrap());
            };
            assert_eq!(written(error), line);
        }
        for (line, means) in from_hub("bye") {
            let code = u16::try_from(means["code"].as_u64().unwrap()).unwrap();
            let reason = means["reason"].as_str().unwrap();
            assert_eq!(written(|lines| lines.bye(code, reason, means["retry"].as_u64())), line);
        }
        assert_eq!(written(|lines| lines.ping([131_072, 16_384, 40_213])), from_hub("ping")[0].0);
    }

    #[test]
    fn messages_are_written_as_the_fixtures_have_them() {
        for (line, means) in from_hub("messages") {
            let message_given = if means["form"] == "json" {
                // As the program wrote it: from the line, since numbers have more than one form.
                let start = line.match_indices(',').nth(2).unwrap().0 + 1;
                let end = match means["key"].as_str() {
                    Some(key) => line.len() - 3 - serde_json::to_string(key).unwrap().len(),
                    None => line.len() - 2,
                };
                Message::json_text(&line[start..end]).unwrap()
            } else {
                Message::from(means["data"].as_str().unwrap().to_owned())
            };
            let (kind, payload) = (message_given.kind(), message_given.into_bytes());
            let form = message(head(&means), kind, payload, means["key"].as_str());
            let Form::Line(written) = form else { panic!("{form:?}") };
            assert_eq!(written, line);
        }
        for (line, means) in from_hub("removed") {
            let form = removed(head(&means), means["key"].as_str().unwrap());
            let Form::Line(written) = form else { panic!("{form:?}") };
            assert_eq!(written, line);
        }
        for (line, means) in from_hub("ended") {
            let Form::Line(written) = ended(head(&means)) else { panic!("{line}") };
            assert_eq!(written, line);
        }
        for fixture in fixtures("binary")["binary"].as_array().unwrap() {
            let means = &fixture["means"];
            let Some(kind @ 1..=2) = means["kind"].as_u64() else { continue };
            let payload = bytes(means["payload_hex"].as_str().unwrap()).into();
            let key = means["key"].as_str().filter(|_| kind == 2);
            let form = message(head(means), Kind::Binary, payload, key);
            let Form::Frame(frame) = form else { panic!("{form:?}") };
            let whole: Vec<u8> = frame.parts().flatten().copied().collect();
            assert_eq!(whole[2..], bytes(fixture["hex"].as_str().unwrap()), "{fixture}");
        }
    }

    proptest! {
        #[test]
        fn strings_and_numbers_are_as_serde_writes_them(text in "[\\x00-\\x7f步]{0,100}", number: u64) {
            let mut line = Vec::new();
            put_text(&mut line, text.as_bytes());
            prop_assert_eq!(&line[..], serde_json::to_vec(&text).unwrap());
            line.clear();
            put_number(&mut line, number);
            prop_assert_eq!(line, number.to_string().into_bytes());
        }
    }

    #[test]
    fn what_clients_say_is_understood_as_the_fixtures_have_it() {
        let had = |value: &Value| Had {
            epoch: epoch_of(&value["epoch"]),
            seq: value["seq"].as_u64(),
            set: value["set"].as_u64(),
        };
        let feeds = |value: &Value| {
            let all = value.as_object().unwrap().iter();
            all.map(|(name, value)| (name.clone(), had(value))).collect::<Vec<_>>()
        };
        for (line, means) in from_client("hello") {
            let text = |name: &str| means[name].as_str().map(str::to_owned);
            let hello = Hello {
                id: means["id"].as_u64(),
                key: text("key"),
                epoch: epoch_of(&means["epoch"]),
                mail: had(&means["mail"]),
                feeds: feeds(&means["feeds"]),
                too_many: false,
            };
            let Ok(Said::Hello(mut said)) = parse(&line, 64) else { panic!("{line}") };
            said.feeds.sort_by(|(one, _), (other, _)| one.cmp(other));
            assert_eq!(said, hello);
        }
        for (line, means) in from_client("messages") {
            let Ok(Said::Message(to, message)) = parse(&line, 64) else { panic!("{line}") };
            assert_eq!(u64::from(to), means["to"].as_u64().unwrap_or_default());
            let text = message.as_text().unwrap();
            if means["form"] == "json" {
                assert!(matches!(message, Message::Json(_)));
                assert_eq!(from_str::<Value>(text).unwrap(), means["data"]);
            } else {
                assert_eq!(text, means["data"]);
            }
        }
        for fixture in fixtures("binary")["binary_from_client"].as_array().unwrap() {
            let (hex, means) = (fixture["hex"].as_str().unwrap(), &fixture["means"]);
            let payload = bytes(means["payload_hex"].as_str().unwrap());
            let message = (u32_of(&means["to"]), Message::from(payload));
            assert_eq!(parse_binary(&bytes(hex).into()), Ok(Some(message)));
        }
        for (line, means) in from_client("ack") {
            assert_eq!(parse(&line, 64), Ok(Said::Ack(means["seq"].as_u64().unwrap())));
        }
        for (line, means) in from_client("follow") {
            let said = match means.get("follow") {
                Some(follow) => Said::Follow(feeds(follow)),
                None => Said::Unfollow(vec![means["unfollow"][0].as_str().unwrap().to_owned()]),
            };
            assert_eq!(parse(&line, 64), Ok(said));
        }
        for (line, means) in from_client("ping") {
            let numbers = serde_json::from_value(means["value"].clone()).unwrap();
            assert_eq!(parse(&line, 64), Ok(Said::Pong(numbers)));
        }
    }

    #[test]
    fn what_is_no_line_is_an_error_that_says_what_was_expected_and_what_is_not_known_is_ignored() {
        for bad in
            ["", "hello", "[]", "{}", "null", r#"{"a":1,"b":2}"#, r#"{"hello":3}"#, "{\"ack\":[]}"]
        {
            let Err(Refused::Malformed(expected)) = parse(bad, 64) else { panic!("{bad}") };
            assert!(expected.starts_with("expected"), "{bad}");
        }
        for bad in [r#"{"ack":{"seq":-1}}"#, r#"{"ack":{"seq":9007199254740992}}"#, r#"{"text":1}"#]
        {
            assert!(parse(bad, 64).is_err(), "{bad}");
        }
        assert!(parse(r#"{"text":"a","text":"b"}"#, 64).is_err(), "one key twice");
        for to in ["-1", "4294967296", "\"run\"", "null", "1,\"to\":1"] {
            assert!(parse(&format!(r#"{{"text":"a","to":{to}}}"#), 64).is_err(), "{to}");
        }
        assert!(parse(r#"{"ack":{},"to":1}"#, 64).is_err() && parse(r#"{"to":1}"#, 64).is_err());
        assert!((0..5).all(|length| parse_binary(&vec![1; length].into()).is_err()));
        assert_eq!(parse_binary(&vec![2; 9].into()), Ok(None), "of another kind");
        for unknown in [r#"{"later":[1]}"#, r#"{"pong":"x"}"#] {
            assert_eq!(parse(unknown, 64), Ok(Said::Unknown));
        }
        assert_eq!(parse(r#"{"ack":{"set":[],"seq":7}}"#, 64), Ok(Said::Ack(7)));
    }

    #[test]
    fn feeds_are_in_the_order_in_which_they_are_named_and_of_a_member_twice_the_last_counts() {
        let had = |seq| Had { seq: Some(seq), ..Had::default() };
        let feeds = vec![("b".to_owned(), had(2)), ("a".to_owned(), had(0))];
        let follow = r#"{"follow":{"b":{"seq":1,"seq":2},"\u0061":{"seq":0}}}"#;
        assert_eq!(parse(follow, 2), Ok(Said::Follow(feeds)));
    }

    #[test]
    fn a_line_with_more_names_than_there_may_be_is_refused_whole_and_none_is_kept() {
        let line = r#"{"follow":{"a":{},"b":{}}}"#;
        assert_eq!(parse(line, 2).map(|said| said.names()), Ok(2));
        assert_eq!(parse(line, 1), Err(Refused::TooMany));
        assert_eq!(parse(r#"{"unfollow":["a","b"]}"#, 1), Err(Refused::TooMany));
        let hello = Hello { id: Some(7), too_many: true, ..Hello::default() };
        let line = r#"{"hello":{"id":7,"feeds":{"a":{},"a":{}}}}"#;
        assert_eq!(parse(line, 1), Ok(Said::Hello(hello)));
        for malformed in [r#"{"follow":{"a":3}}"#, r#"{"unfollow":["a",3]}"#, r#"{"unfollow":{}}"#]
        {
            assert!(matches!(parse(malformed, 2), Err(Refused::Malformed(_))), "{malformed}");
        }
    }

    #[test]
    fn an_epoch_has_sixteen_digits_and_anything_else_is_that_of_nothing() {
        let hello = |epoch: &str| match parse(&format!(r#"{{"hello":{{"epoch":{epoch}}}}}"#), 1) {
            Ok(Said::Hello(hello)) => hello.epoch,
            other => panic!("{other:?}"),
        };
        assert_eq!(hello(r#""0198c5d2a4b3c687""#), Some(0x0198_c5d2_a4b3_c687));
        for other in
            [r#""198c5d2a4b3c687""#, r#""""#, r#""00198c5d2a4b3c687""#, r#""x198c5d2a4b3c687""#]
        {
            assert_eq!(hello(other), Some(0), "{other}");
        }
        assert!(matches!(parse(r#"{"hello":{"epoch":7}}"#, 1), Err(Refused::Malformed(_))));
    }

    #[test]
    fn a_key_is_compared_whole() {
        let hello = |key: &str| Hello { key: Some(key.to_owned()), ..Hello::default() };
        assert!(hello("00ff10").has_key(&[0, 255, 16]));
        for other in ["00ff11", "10ff10", "00ff1", "00ff100", "", "00FF10"] {
            assert!(!hello(other).has_key(&[0, 255, 16]), "{other}");
        }
        assert!(!Hello::default().has_key(&[0]));
    }
}
