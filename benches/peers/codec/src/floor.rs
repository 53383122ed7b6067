//! What no codec over a stream can be under: the parts of the work, without the protocol.

use std::hint::black_box;

use bytes::Bytes;

use crate::contest::Contestant;
use crate::wire::{CHUNK, Kind};

pub fn decoding(kind: Kind, messages: &[Bytes]) -> Vec<Contestant> {
    let mut floors =
        vec![floor("memcpy", messages, |_, _| {}), floor("memcpy, xor", messages, xor)];
    if kind != Kind::Binary {
        // Here the key is 0, so that what is validated is text.
        floors.push(floor("memcpy, xor, UTF-8", messages, |bytes, _| {
            xor(bytes, black_box(0));
            simdutf8::basic::from_utf8(bytes).unwrap();
        }));
    }
    floors
}

pub fn encoding(messages: &[Bytes]) -> Vec<Contestant> {
    vec![floor("memcpy", messages, |_, _| {})]
}

fn xor(bytes: &mut [u8], key: u64) {
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        let plain = u64::from_ne_bytes(word.try_into().unwrap()) ^ key;
        word.copy_from_slice(&plain.to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.to_ne_bytes()) {
        *byte ^= key;
    }
}

fn floor(
    name: &'static str,
    messages: &[Bytes],
    work: impl Fn(&mut [u8], u64) + 'static,
) -> Contestant {
    let messages = messages.to_vec();
    let size = messages[0].len();
    let mut buffer = vec![0; size.max(CHUNK)];
    let mut at = 0;
    let run = move |count: usize| {
        for number in 0..count {
            if at + size > buffer.len() {
                at = 0;
            }
            let place = &mut buffer[at..at + size];
            place.copy_from_slice(&messages[number % messages.len()]);
            work(place, black_box(0x1234_5678_1234_5678));
            black_box(place);
            at += size;
        }
        count * size
    };
    Contestant { name, is_floor: true, run: Box::new(run) }
}
