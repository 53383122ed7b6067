//! What holds for any line of a client on `stepcast.v1`, for the fuzz target of that name and for a test.

use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::from_str;

use super::v1::{Had, Lines, Said, parse};
use crate::codec::Message;

/// Looks at a line that may name so many feeds. There is no panic; what is taken is JSON and names no more; said again it means
/// the same; and an answer that repeats a name is one line of JSON.
pub(crate) fn check_line(line: &str, most: usize) {
    let Ok(said) = parse(line, most) else { return };
    assert!(from_str::<IgnoredAny>(line).is_ok());
    assert!(said.names() <= most);
    let again = match &said {
        Said::Follow(feeds) => {
            for (name, _) in feeds {
                check_answers(name);
            }
            let members = feeds.iter().map(|(name, had)| format!("{}:{}", json(name), of(had)));
            format!(r#"{{"follow":{{{}}}}}"#, members.collect::<Vec<_>>().join(","))
        }
        Said::Unfollow(names) => {
            for name in names {
                check_answers(name);
            }
            format!(r#"{{"unfollow":{}}}"#, json(names))
        }
        Said::Message(to, Message::Text(text)) => {
            format!(r#"{{"to":{to},"text":{}}}"#, json(text.as_str()))
        }
        Said::Message(to, message) => {
            format!(r#"{{"json":{},"to":{to}}}"#, message.as_text().unwrap_or_default())
        }
        Said::Ack(seq) => format!(r#"{{"ack":{{"seq":{seq}}}}}"#),
        Said::Pong(value) => format!(r#"{{"pong":{}}}"#, json(value)),
        Said::Hello(_) | Said::Unknown => return,
    };
    assert_eq!(parse(&again, most), Ok(said));
}

/// Answers that repeat a name.
fn check_answers(name: &str) {
    let mut lines = [Lines::default(), Lines::default()];
    lines[0].error("invalid", Some(name), name);
    lines[1].feed(name, 1, 2, 3, true);
    for mut lines in lines {
        let frame = lines.take();
        let header = match frame[1] {
            127 => 10,
            126 => 4,
            _ => 2,
        };
        let line = std::str::from_utf8(&frame[header..]).unwrap_or_default();
        assert!(from_str::<IgnoredAny>(line).is_ok() && !line.contains('\n'), "{line:?}");
    }
}

fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn of(had: &Had) -> String {
    let epoch = had.epoch.map(|epoch| json(&format!("{epoch:016x}")));
    let numbers = [
        ("epoch", epoch),
        ("seq", had.seq.map(|n| n.to_string())),
        ("set", had.set.map(|n| n.to_string())),
    ];
    let members =
        numbers.into_iter().filter_map(|(key, value)| Some(format!(r#""{key}":{}"#, value?)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What lines are made of, so that many are nearly right.
    fn pieces() -> impl Strategy<Value = String> {
        let pieces = [
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"hello\"",
            "\"follow\"",
            "\"unfollow\"",
            "\"text\"",
            "\"json\"",
            "\"ack\"",
            "\"pong\"",
            "\"seq\"",
            "\"set\"",
            "\"epoch\"",
            "\"to\"",
            "\"0198c5d2a4b3c687\"",
            "\"feeds\"",
            "\"a\\n\"",
            "\"\\u2028\"",
            "0",
            "9007199254740992",
            "-1",
            "1e9",
            "null",
            " ",
            "\n",
        ];
        proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..24)
            .prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_a_client_says_means_the_same_when_it_is_said_again(
            line in prop_oneof![pieces(), ".*"],
            name in ".{0,20}",
            seq in proptest::option::of(any::<u64>()),
            most in 0..4_usize,
        ) {
            check_line(&line, most);
            let had = of(&Had { seq, ..Had::default() });
            check_line(&format!(r#"{{"follow":{{{}:{had},"b":{{}}}}}}"#, json(&name)), most);
            check_line(&format!(r#"{{"unfollow":[{},{line}]}}"#, json(&name)), most);
            check_line(&format!(r#"{{"json":{line}}}"#), most);
            check_line(&format!(r#"{{"text":{}}}"#, json(&line)), most);
        }
    }
}
