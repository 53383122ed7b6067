//! What a head says does not depend on how it was cut into packets, and no bytes are a panic.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use stepcast::handshake::{
    ClientRequest, HeadLimits, Refusal, RequestReader, ResponseReader, Rules, Upgrade,
};

const VALID: &[u8] = b"GET /feed/run?x=1 HTTP/1.1\r\nHost: localhost:8002\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Origin: http://localhost:3000\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: a, b\r\n\r\n\x81\x80";

/// What a server makes of bytes that arrive in pieces of these sizes, and what it leaves of them.
fn serve(bytes: &[u8], sizes: &[usize]) -> (Option<Result<Vec<u8>, Refusal>>, Vec<u8>) {
    let mut reader = RequestReader::new(HeadLimits::default().bytes(400).headers(10));
    let mut src = BytesMut::new();
    let mut rest = bytes;
    let mut sizes = sizes.iter().copied().cycle();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
        rest = later;
        src.extend_from_slice(piece);
        let answer = match reader.read(&mut src) {
            Ok(None) => continue,
            Err(refusal) => Err(refusal),
            Ok(Some(request)) => {
                src.extend_from_slice(rest);
                Rules::default().check(&request).and_then(|()| {
                    let upgrade = Upgrade::from_request(&request)?;
                    let first = upgrade.offered_protocols().next();
                    Ok(upgrade.accept(first).expect("it was offered").to_vec())
                })
            }
        };
        // What is left after a refusal is nobody's.
        return (Some(answer.clone()), if answer.is_ok() { src.to_vec() } else { Vec::new() });
    }
    (None, src.to_vec())
}

#[test]
fn every_cut_into_two_gives_the_same_answer() {
    let whole = serve(VALID, &[VALID.len()]);
    assert!(matches!(&whole, (Some(Ok(_)), rest) if rest == b"\x81\x80"));
    for at in 1..VALID.len() {
        assert_eq!(serve(VALID, &[at, VALID.len()]), whole, "cut at {at}");
    }
    assert_eq!(serve(VALID, &[1]), whole);
}

#[test]
fn a_head_that_ends_early_is_waited_for() {
    let end = VALID.len() - 2;
    for length in 0..end {
        assert!(serve(&VALID[..length], &[1]).0.is_none(), "{length} bytes");
    }
    assert!(serve(&VALID[..end], &[1]).0.is_some());
}

/// Heads that are nearly right: pieces of grammar in any order.
fn nearly_a_head() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "GET ",
            "/",
            "http://localhost",
            " HTTP/1.1\r\n",
            " HTTP/1.0\r\n",
            "Host: localhost\r\n",
            "Host:",
            "Origin: http://localhost\r\n",
            "Upgrade: websocket\r\n",
            "Connection: upgrade\r\n",
            "\r\n",
            "\r",
            "\n",
            "Sec-WebSocket-Version: 13\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            ": ",
            ",",
            "PRI ",
            "Sec-WebSocket-Protocol: a\r\n",
            "Content-Length: 0\r\n",
            " ",
            "[::1]:1",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        vec(any::<u8>(), 0..4),
    ];
    let start = prop_oneof![Just(""), Just("GET / HTTP/1.1\r\nHost: localhost\r\n")];
    (start, vec(piece, 0..40))
        .prop_map(|(start, pieces)| [start.as_bytes(), &pieces.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_bytes_in_any_pieces_get_the_same_answer(bytes in nearly_a_head(), sizes in vec(1..60_usize, 1..8)) {
        prop_assert_eq!(serve(&bytes, &sizes), serve(&bytes, &[bytes.len().max(1)]));
        prop_assert_eq!(serve(&bytes, &[1]), serve(&bytes, &sizes));
    }

    #[test]
    fn one_wrong_byte_is_no_panic(at in 0..VALID.len(), byte: u8, sizes in vec(1..60_usize, 1..8)) {
        let mut bytes = VALID.to_vec();
        bytes[at] = byte;
        prop_assert_eq!(serve(&bytes, &sizes), serve(&bytes, &[bytes.len()]));
    }

    #[test]
    fn no_refusal_can_be_split_by_what_it_shows(bytes in nearly_a_head()) {
        if let (Some(Err(refusal)), _) = serve(&bytes, &[1]) {
            prop_assert!(refusal.reason().len() <= 512);
            prop_assert!(refusal.reason().bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }

    #[test]
    fn no_answer_panics_a_client(bytes in vec(any::<u8>(), 0..300), head in any::<bool>()) {
        let request = ClientRequest::new("localhost", "/").expect("it is valid");
        let mut reader = ResponseReader::new(&request, HeadLimits::default());
        let mut src = BytesMut::from(if head { &b"HTTP/1.1 101 OK\r\nUpgrade: "[..] } else { b"" });
        src.extend_from_slice(&bytes);
        let answer = reader.read(&mut src);
        prop_assert!(!matches!(answer, Ok(Some(_))));
        let _ = reader.eof(&mut src).to_string();
    }
}
