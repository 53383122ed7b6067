//! Parses what a client says, line by line.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::from_str;
use serde_json::value::RawValue;

use crate::codec::{Json, Message};
use crate::wire::v1::MAILBOX;
use crate::wire::v1::writing::hex;

/// What a client says.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    Hello(Hello),
    Follow(Vec<(String, Had)>),
    Unfollow(Vec<String>),
    /// A message to the program, about the feed with this alias.
    Message(u32, Message),
    /// The number of the last mailbox message that the client has read.
    Ack(u64),
    Pong([u64; 3]),
    /// A line of a later version, or a pong to another question.
    Unknown,
}

/// The client's position in a feed, or in its mailbox.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Had {
    /// The feed's epoch.
    pub(crate) epoch: Option<u64>,
    /// The last sequence number.
    pub(crate) seq: Option<u64>,
    /// The last stamp.
    pub(crate) set: Option<u64>,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Hello {
    /// The id that the client had before.
    pub(crate) id: Option<u64>,
    pub(crate) key: Option<String>,
    pub(crate) epoch: Option<u64>,
    pub(crate) mail: Had,
    /// The feeds to follow, empty if the line names too many.
    pub(crate) feeds: Vec<(String, Had)>,
    pub(crate) too_many: bool,
}

impl Hello {
    /// Whether the client's key is this one. The comparison takes the same time wherever the two
    /// differ.
    pub(crate) fn has_key(&self, key: &[u8]) -> bool {
        let (own, given) = (hex(key), self.key.as_deref().unwrap_or_default());
        let differs = |sum: u8, (a, b): (u8, u8)| std::hint::black_box(sum | (a ^ b));
        own.len() == given.len() && own.bytes().zip(given.bytes()).fold(0, differs) == 0
    }
}

impl Said {
    /// The number of feeds that the line names.
    pub(crate) fn names(&self) -> usize {
        match self {
            Self::Hello(hello) => hello.feeds.len(),
            Self::Follow(feeds) => feeds.len(),
            Self::Unfollow(names) => names.len(),
            _ => 0,
        }
    }
}

/// Why a line is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The line is malformed, and this was expected.
    Malformed(&'static str),
    /// The line names too many feeds.
    TooMany,
}

/// Parses one line of a client, which may name up to `most` feeds.
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

/// Parses a binary frame of a client. `None`: a frame of a later version.
pub(crate) fn parse_binary(frame: &Bytes) -> Result<Option<(u32, Message)>, Refused> {
    let Some(([kind, alias @ ..], _)) = frame.split_first_chunk::<5>() else {
        return Err(Refused::Malformed("expected five bytes before the payload"));
    };
    let message = || Message::Binary(frame.slice(5..));
    Ok((*kind == 1).then(|| (u32::from_be_bytes(*alias), message())))
}

/// A string, borrowed if it has no escapes.
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

/// Shows `see` each member of a JSON object, with its value unparsed. `None`: the text is no JSON
/// object, or `see` returned `None`, which ends the walk.
fn each_member<'a>(
    body: &'a str,
    see: impl FnMut(Cow<'a, str>, &'a RawValue) -> Option<()>,
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
    json.deserialize_map(Members(see)).ok()?;
    json.end().ok()
}

/// Shows `see` each string of a JSON array, as [`each_member`] does.
fn each_name<'a>(body: &'a str, see: impl FnMut(Cow<'a, str>) -> Option<()>) -> Option<()> {
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
    json.deserialize_seq(Names(see)).ok()?;
    json.end().ok()
}

/// What a line names, up to a maximum.
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

    /// Returns the names. `None`: the line was malformed.
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

/// Parses an epoch: 16 hexadecimal digits. Any other string gives zero, which is the epoch of no
/// hub and of no feed.
fn epoch(body: &str) -> Option<u64> {
    let Name(text) = from_str(body).ok()?;
    Some(u64::from_str_radix(&text, 16).ok().filter(|_| text.len() == 16).unwrap_or_default())
}

/// Parses a number below 2^53.
fn number(body: &str) -> Option<u64> {
    from_str(body).ok().filter(|number| *number < 1 << 53)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::wire::v1::fixtures::{bytes, epoch_of, fixtures, from_client, u32_of};

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
