//! RFC 6455 section 4.1 from the client's side: what is sent, and what an answer must have.

use bytes::BytesMut;
use stepcast::handshake::{
    Accepted, ClientRequest, HandshakeError, HeadLimits, Refusal, RequestReader, ResponseReader,
    Rules, Upgrade, accept_key,
};

fn request() -> ClientRequest {
    ClientRequest::new("localhost:8002", "/feed/run").unwrap()
}

fn offering(protocols: &[&str]) -> ClientRequest {
    protocols.iter().fold(request(), |request, protocol| request.protocol(protocol).unwrap())
}

/// A right answer to `request`, with `{accept}` in `answer` replaced by the hash of its key.
fn fill(request: &ClientRequest, answer: &str) -> String {
    let accept = accept_key(request.key().as_bytes());
    answer.replace("{accept}", std::str::from_utf8(&accept).unwrap())
}

fn read(request: &ClientRequest, answer: &str) -> Result<Option<Accepted>, HandshakeError> {
    let mut src = BytesMut::from(fill(request, answer).as_str());
    ResponseReader::new(request, HeadLimits::default()).read(&mut src)
}

const VALID: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: {accept}\r\n\r\n";

fn with(part: &str, replacement: &str) -> String {
    assert!(VALID.contains(part), "{part}");
    VALID.replace(part, replacement)
}

#[test]
fn the_client_and_the_server_agree() {
    let client = offering(&["chat", "stepcast.v1"]).origin("http://localhost:3000").unwrap();
    let mut wire = BytesMut::from(&client.encode()[..]);
    let request = RequestReader::new(HeadLimits::default()).read(&mut wire).unwrap().unwrap();
    Rules::default().check(&request).unwrap();
    let upgrade = Upgrade::from_request(&request).unwrap();

    let mut wire = BytesMut::from(&upgrade.accept(Some("stepcast.v1")).unwrap()[..]);
    wire.extend_from_slice(b"\x81\x00");
    let mut reader = ResponseReader::new(&client, HeadLimits::default());
    let accepted = reader.read(&mut wire).unwrap().unwrap();
    assert_eq!(accepted.protocol(), Some("stepcast.v1"));
    assert_eq!(wire, &b"\x81\x00"[..]);
}

#[test]
fn an_answer_may_arrive_byte_by_byte() {
    let request = request();
    let answer = fill(&request, VALID);
    let mut reader = ResponseReader::new(&request, HeadLimits::default());
    let mut src = BytesMut::new();
    for (index, byte) in answer.bytes().enumerate() {
        src.extend_from_slice(&[byte]);
        let accepted = reader.read(&mut src).unwrap();
        assert_eq!(accepted.is_some(), index + 1 == answer.len());
    }
}

// "If the response lacks an |Upgrade| header field or the |Upgrade| header field contains a value that is not an ASCII
// case-insensitive match for the value "websocket", the client MUST _Fail the WebSocket Connection_"
#[test]
fn an_answer_without_upgrade_websocket_fails() {
    let upgrade = "Upgrade: websocket\r\n";
    assert!(read(&request(), &with(upgrade, "upgrade: WebSocket\r\n")).unwrap().is_some());
    for lines in ["", "Upgrade: h2c\r\n", "Upgrade: websocket, h2c\r\n", &upgrade.repeat(2)] {
        let failed = read(&request(), &with(upgrade, lines));
        assert!(matches!(failed, Err(HandshakeError::NotWebSocket { .. })), "{lines:?}");
    }
}

// "If the response lacks a |Connection| header field or the |Connection| header field doesn't contain a token that is
// an ASCII case-insensitive match for the value "Upgrade", the client MUST _Fail the WebSocket Connection_"
#[test]
fn an_answer_without_connection_upgrade_fails() {
    let connection = "Connection: Upgrade\r\n";
    for lines in ["connection: keep-alive, upgrade\r\n", "Connection: a\r\nConnection: UPGRADE\r\n"]
    {
        assert!(read(&request(), &with(connection, lines)).unwrap().is_some());
    }
    for lines in ["", "Connection: close\r\n", "Connection: upgraded\r\n"] {
        let failed = read(&request(), &with(connection, lines));
        assert!(matches!(failed, Err(HandshakeError::NotWebSocket { .. })), "{lines:?}");
    }
}

// "If the response lacks a |Sec-WebSocket-Accept| header field or the |Sec-WebSocket-Accept| contains a value other
// than the base64-encoded SHA-1 of the concatenation of the |Sec-WebSocket-Key| [...] the client MUST _Fail the
// WebSocket Connection_"
#[test]
fn an_answer_to_another_key_fails() {
    let accept = "Sec-WebSocket-Accept: {accept}\r\n";
    let other = request();
    let lines = fill(&other, accept);
    for lines in [
        "",
        &lines,
        &accept.repeat(2),
        "Sec-WebSocket-Accept: {accept}=\r\n",
        "Sec-WebSocket-Accept:\r\n",
    ] {
        let failed = read(&request(), &with(accept, lines));
        assert!(matches!(failed, Err(HandshakeError::NotWebSocket { .. })), "{lines:?}");
    }
}

// "If the response includes a |Sec-WebSocket-Extensions| header field and this header field indicates the use of an
// extension that was not present in the client's handshake [...] the client MUST _Fail the WebSocket Connection_"
#[test]
fn an_answer_with_an_extension_fails() {
    let answer = with("Connection:", "Sec-WebSocket-Extensions: permessage-deflate\r\nConnection:");
    assert!(matches!(read(&request(), &answer), Err(HandshakeError::NotWebSocket { .. })));
}

// "If the response includes a |Sec-WebSocket-Protocol| header field and this header field indicates the use of a
// subprotocol that was not present in the client's handshake [...] the client MUST _Fail the WebSocket Connection_"
#[test]
fn an_answer_with_a_subprotocol_that_was_not_offered_fails() {
    let choosing = |lines: &str| with("Connection:", &format!("{lines}Connection:"));
    let offering = offering(&["a", "b"]);
    let accepted = read(&offering, &choosing("Sec-WebSocket-Protocol: b\r\n")).unwrap().unwrap();
    assert_eq!(accepted.protocol(), Some("b"));
    assert_eq!(read(&offering, VALID).unwrap().unwrap().protocol(), None);
    for lines in [
        "Sec-WebSocket-Protocol: c\r\n",
        "Sec-WebSocket-Protocol: B\r\n",
        "Sec-WebSocket-Protocol: a, b\r\n",
        "Sec-WebSocket-Protocol:\r\n",
        "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a\r\n",
    ] {
        let failed = read(&offering, &choosing(lines));
        assert!(matches!(failed, Err(HandshakeError::NotWebSocket { .. })), "{lines:?}");
    }
    let unasked = read(&request(), &choosing("Sec-WebSocket-Protocol: a\r\n"));
    assert!(matches!(unasked, Err(HandshakeError::NotWebSocket { .. })));
}

// "If the status code received from the server is not 101, the client handles the response per HTTP procedures"
#[test]
fn a_refusal_is_an_error_with_its_status_and_text() {
    let refusal = Refusal::full("clients", 100);
    let answer = refusal.response();
    let mut reader = ResponseReader::new(&request(), HeadLimits::default());
    let mut src = BytesMut::from(&answer[..answer.len() - 1]);
    assert!(reader.read(&mut src).unwrap().is_none(), "the body is not complete");
    src.extend_from_slice(b"\n");
    let error = reader.read(&mut src).unwrap_err();
    let body = format!("{}\n", refusal.reason());
    assert_eq!(error, HandshakeError::Refused { status: 503, body });
    assert!(error.to_string().ends_with("100 clients, which is the limit; try again later"));
}

#[test]
fn a_refusals_text_is_cut_and_shown_on_one_line() {
    let endless = format!("HTTP/1.1 404 Not Found\r\n\r\n{}", "\u{1b}\r\n".repeat(100_000));
    let Err(HandshakeError::Refused { status: 404, body }) = read(&request(), &endless) else {
        panic!("it is refused");
    };
    assert_eq!(body.len(), 1024);
    let shown = HandshakeError::Refused { status: 404, body }.to_string();
    assert!(shown.len() < 600 && !shown.contains(char::is_control), "{shown}");
}

#[test]
fn no_more_of_a_refusal_is_waited_for_than_is_shown() {
    for length in ["1025", "18446744073709551616"] {
        let body = "x".repeat(1024);
        let answer = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {length}\r\n\r\n{body}");
        let error = read(&request(), &answer).unwrap_err();
        assert_eq!(error, HandshakeError::Refused { status: 404, body });
    }
}

#[test]
fn a_refusal_without_a_length_ends_with_the_connection() {
    let request = request();
    let mut reader = ResponseReader::new(&request, HeadLimits::default());
    let mut src = BytesMut::from(&b"HTTP/1.0 502 Bad Gateway\r\n\r\nno hub \xff"[..]);
    assert!(reader.read(&mut src).unwrap().is_none());
    let HandshakeError::Refused { status: 502, body } = reader.eof(&mut src) else {
        panic!("it is refused");
    };
    assert!(body.starts_with("no hub "));
    for (head, wanted) in [
        ("204 No Content\r\n", 204),
        ("403 No\r\nContent-Length: 0\r\n", 403),
        ("502 No\r\nTransfer-Encoding: chunked\r\n", 502),
    ] {
        let error = read(&request, &format!("HTTP/1.1 {head}\r\n")).unwrap_err();
        assert_eq!(error, HandshakeError::Refused { status: wanted, body: String::new() });
    }
}

#[test]
fn a_connection_that_ends_before_the_answer_is_closed() {
    let request = request();
    let mut reader = ResponseReader::new(&request, HeadLimits::default());
    let mut src = BytesMut::from("HTTP/1.1 101 Switching");
    assert!(reader.read(&mut src).unwrap().is_none());
    assert_eq!(reader.eof(&mut src), HandshakeError::Closed);
}

// "A client MUST be able to parse one or more 1xx responses received prior to a final response" (RFC 9110 section 15.2)
#[test]
fn interim_answers_are_read_over_but_not_for_ever() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
    assert!(read(&request(), &format!("{}{VALID}", interim.repeat(4))).unwrap().is_some());
    let endless = read(&request(), &format!("{}{VALID}", interim.repeat(5)));
    assert!(matches!(endless, Err(HandshakeError::Malformed(_))));
}

#[test]
fn an_answer_that_is_not_http_1_1_is_malformed() {
    for bytes in [
        "\x16\x03\x01",
        "h",
        "HTTP/2",
        "HTTP/1.1 101\n",
        "HTTP/1.1 1x1 A\r\n\r\n",
        "HTTP/1.1 101 A\r\nB\r\n\r\n",
        "HTTP/1.0 101 Switching Protocols\r\n\r\n",
        "HTTP/1.2 101 A\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    ] {
        let failed = read(&request(), bytes);
        assert!(matches!(failed, Err(HandshakeError::Malformed(_))), "{bytes:?}: {failed:?}");
    }
}

#[test]
fn the_limits_of_an_answer_are_those_of_a_request() {
    let padded = |length: usize| {
        let pad = length - fill(&request(), VALID).len() - "X: \r\n".len();
        with("Connection:", &format!("X: {}\r\nConnection:", "x".repeat(pad)))
    };
    assert!(read(&request(), &padded(16_384)).unwrap().is_some());
    let failed = read(&request(), &padded(16_385));
    assert!(matches!(failed, Err(HandshakeError::TooLarge { bytes: 16_384, headers: 64 })));
    let headers =
        |count: usize| with("Connection:", &format!("{}Connection:", "X: x\r\n".repeat(count - 3)));
    assert!(read(&request(), &headers(64)).unwrap().is_some());
    assert!(matches!(read(&request(), &headers(65)), Err(HandshakeError::TooLarge { .. })));
}
