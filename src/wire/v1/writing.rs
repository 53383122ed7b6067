//! Writes what the hub says, line by line.
//!
//! Lines are written by hand, member after member, so one message costs one pass over its text. The
//! fixtures in `tests/protocol` have every line byte for byte.

use std::io::Write as _;

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{FrameHeader, Kind, Message, OpCode};
use crate::wire::Frame;

/// The bytes of a binary frame before the key.
const BINARY_HEAD: usize = 23;

/// An encoded message of a feed: a line, which shares a frame with others, or a frame of its own.
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

/// The beginning of every message, value, removal and end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// The feed's alias.
    pub(crate) alias: u32,
    /// The sequence number of a message, or the stamp of anything else.
    pub(crate) number: u64,
    /// The time of the hub's takeover, in milliseconds since the moment that `hello` names.
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

/// Encodes a message of a feed's log, or the value of a key.
pub(crate) fn message(head: Head, kind: Kind, payload: Bytes, key: Option<&str>) -> Form {
    if let Kind::Binary = kind {
        let form = if key.is_some() { 2 } else { 1 };
        return Form::Frame(binary(form, head, key.unwrap_or_default(), payload));
    }
    let mut line = Vec::with_capacity(payload.len() + payload.len() / 8 + 48);
    put_message(&mut line, head, kind, &payload, key);
    Form::Line(line.into_boxed_slice().into()) // no more than it needs: lines are many
}

/// Writes the line of a message that is text.
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

/// Encodes the removal of a key's value: clients that have an older value forget it.
pub(crate) fn removed(head: Head, key: &str) -> Form {
    let mut line = Vec::with_capacity(key.len() + 48);
    put_removed(&mut line, head, key);
    Form::Line(line.into_boxed_slice().into())
}

fn put_removed(line: &mut Vec<u8>, head: Head, key: &str) {
    line.extend_from_slice(br#"{"removed":["#);
    head.put(line);
    line.push(b',');
    put_text(line, key.as_bytes());
    line.extend_from_slice(b"]}");
}

/// Encodes the end of a feed, after which nothing comes.
pub(crate) fn ended(head: Head) -> Form {
    let mut line = Vec::with_capacity(64);
    line.extend_from_slice(br#"{"ended":["#);
    head.put(&mut line);
    line.extend_from_slice(b"]}");
    Form::Line(line.into_boxed_slice().into())
}

fn binary(kind: u8, of: Head, key: &str, payload: Bytes) -> Frame {
    // Keys are shorter: see `Shared::set`.
    let key_len = u16::try_from(key.len()).unwrap_or_default();
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

/// Writes a number as JSON.
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

/// Writes a JSON string of bytes that are text. A `&str` would need one more validation.
fn put_text(line: &mut Vec<u8>, mut text: &[u8]) {
    let is_escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // A fold without a branch, which the compiler vectorises.
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

/// Writes a character that JSON strings have to escape.
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

/// Encodes lines as one text frame.
fn frame(lines: &[u8]) -> Vec<u8> {
    [FrameHeader::server(OpCode::Text, true, lines.len()).as_ref(), lines].concat()
}

/// The bytes of lines in one frame. A single line may be longer.
const JOINED: usize = 16 * 1024;

/// Messages of a feed whose lines share frames.
#[derive(Debug, Default)]
pub(crate) struct Joined(Vec<u8>);

impl Joined {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a message. Returns the frames that this completes: the frame of the lines before the
    /// message, and the message's own frame.
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

    /// Writes a message for one client alone, or the removal of a key, without a form between.
    /// Returns what [`add`](Self::add) returns, and the message's length.
    pub(crate) fn message(
        &mut self,
        head: Head,
        message: Option<&Message>,
        key: Option<&str>,
    ) -> (Option<Frame>, Option<Frame>, usize) {
        let text = match message {
            Some(Message::Binary(bytes)) => {
                let kind = if key.is_some() { 2 } else { 1 };
                let frame = binary(kind, head, key.unwrap_or_default(), bytes.clone());
                let length = frame.len();
                return (self.take(), Some(frame), length);
            }
            Some(message) => Some((message.kind(), message.as_bytes())),
            None => None,
        };
        let before = self.0.len();
        if before > 0 {
            self.0.push(b'\n');
        }
        let start = self.0.len();
        self.0.reserve(text.map_or(0, |(_, text)| text.len() + text.len() / 8) + 48);
        match text {
            Some((kind, text)) => put_message(&mut self.0, head, kind, text, key),
            None => put_removed(&mut self.0, head, key.unwrap_or_default()),
        }
        let length = self.0.len() - start;
        if before == 0 || self.0.len() <= JOINED {
            return (None, None, length);
        }
        let line = self.0.split_off(start);
        self.0.truncate(before);
        let complete = self.take();
        self.0 = line;
        (complete, None, length)
    }

    fn line(&mut self, line: &[u8]) {
        if !self.0.is_empty() {
            self.0.push(b'\n');
        }
        self.0.extend_from_slice(line);
    }

    /// Adds a gap line if messages are missing between `last` and `next`.
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

    /// The bytes allocated.
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Returns the frame of all lines, and empties this.
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

    /// Adds a gap line: the messages from `from` to `to`, both included, are left out.
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

    /// Adds a goodbye. `retry` is the time after which to come back, in milliseconds.
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

/// The contents of the first line to a client.
pub(crate) struct Greeting<'a> {
    pub(crate) id: u64,
    pub(crate) key: &'a [u8],
    pub(crate) epoch: u64,
    pub(crate) resumed: bool,
    /// The moment from which times count, in milliseconds since the Unix epoch.
    pub(crate) base: u64,
    /// The present time, in milliseconds since `base`.
    pub(crate) now: u64,
    /// The time between two pings, in seconds.
    pub(crate) ping: u64,
    pub(crate) message: usize,
    pub(crate) feeds: usize,
    /// The messages and lines that the client may send in a second.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::codec::Message;
    use crate::wire::v1::fixtures::{bytes, epoch_of, fixtures, from_hub, u32_of};

    fn written(write: impl FnOnce(&mut Lines)) -> String {
        let mut lines = Lines::default();
        write(&mut lines);
        String::from_utf8(lines.0).unwrap()
    }

    fn head(means: &Value) -> Head {
        let number = means["seq"].as_u64().or(means["stamp"].as_u64()).unwrap();
        Head { alias: u32_of(&means["alias"]), number, at: means["at"].as_u64().unwrap() }
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
}
