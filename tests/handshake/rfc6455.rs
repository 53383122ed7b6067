//! RFC 6455 section 4 from the server's side, rule by rule; the client's side is in `handshake_client.rs`.
//! The numbers are those of the implementer's checklist.

use bytes::BytesMut;
use stepcast::handshake::{
    HeadLimits, Refusal, Request, RequestReader, Rules, Status, Upgrade, accept_key,
};

const VALID: &str = "GET /feed/run?x=1 HTTP/1.1\r\nHost: localhost:8002\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const HOST: &str = "Host: localhost:8002\r\n";
const UPGRADE: &str = "Upgrade: websocket\r\n";
const CONNECTION: &str = "Connection: Upgrade\r\n";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";

/// The valid request with one of its parts replaced.
fn with(part: &str, replacement: &str) -> String {
    assert!(VALID.contains(part), "{part}");
    VALID.replace(part, replacement)
}

fn read(head: impl AsRef<[u8]>) -> Result<Request, Refusal> {
    let mut src = BytesMut::from(head.as_ref());
    let request = RequestReader::new(HeadLimits::default()).read(&mut src)?;
    Ok(request.expect("the head is complete"))
}

fn upgrade(head: impl AsRef<[u8]>) -> Result<Upgrade, Refusal> {
    let request = read(head)?;
    Rules::default().check(&request)?;
    assert!(request.wants_upgrade());
    Upgrade::from_request(&request)
}

/// The code of the answer to this request: 101 or that of its refusal.
fn answer(head: impl AsRef<[u8]>) -> u16 {
    upgrade(head).map_or_else(|refusal| refusal.status().code(), |_| 101)
}

fn refusal_text(head: impl AsRef<[u8]>) -> String {
    let response = upgrade(head).expect_err("it is refused").response();
    String::from_utf8(response.to_vec()).expect("a refusal is text")
}

// 27. Method, version, Host, Upgrade, Connection

// "HTTP/1.1 101 Switching Protocols / Upgrade: websocket / Connection: Upgrade / Sec-WebSocket-Accept:
// s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" (section 1.3)
#[test]
fn the_handshake_of_the_rfc_gets_the_answer_of_the_rfc() {
    let answer = upgrade(VALID).unwrap().accept(None).unwrap();
    assert_eq!(
        answer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
}

// "The method of the request MUST be GET" (section 4.1 item 2)
#[test]
fn a_method_other_than_get_is_refused_and_told_which_is_allowed() {
    for method in ["POST", "HEAD", "OPTIONS", "get", "GETS", "X"] {
        let head = with("GET", method);
        assert_eq!(answer(&head), 405, "{method}");
        assert!(refusal_text(&head).contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"));
    }
}

// "and the HTTP version MUST be at least 1.1" (section 4.1 item 2)
#[test]
fn a_version_other_than_1_1_is_a_bad_request() {
    for version in [
        "HTTP/1.0",
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/2.0",
        "HTTP/1.1 ",
        "http/1.1",
        "HTTP/1.10",
        "RTSP/1.1",
    ] {
        assert_eq!(answer(with("HTTP/1.1", version)), 400, "{version}");
    }
    assert_eq!(answer("GET /\r\n\r\n"), 400);
    assert!(refusal_text(with("HTTP/1.1", "HTTP/1.0")).contains("got HTTP/1.0; a proxy"));
}

// "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a Host
// header field and to any request message that contains more than one Host header field line or a Host header
// field with an invalid field value" (RFC 9112 section 3.2)
#[test]
fn there_is_exactly_one_host_and_it_is_one() {
    assert_eq!(answer(with(HOST, "")), 400);
    assert_eq!(answer(with(HOST, &HOST.repeat(2))), 400);
    assert_eq!(answer(with(HOST, "Host: localhost\r\nhost: evil.example\r\n")), 400);
    for host in [
        "",
        " ",
        "user@localhost",
        "localhost/",
        "local host",
        "localhost:x",
        "localhost:65536",
        "::1",
        "[::1",
        "localhost, localhost",
        "http://localhost",
        "localhost\t:80",
        "\u{fc}",
    ] {
        assert_eq!(answer(with(HOST, &format!("Host: {host}\r\n"))), 400, "{host:?}");
    }
}

// "An |Upgrade| header field containing the value "websocket", treated as an ASCII case-insensitive value"
// (section 4.2.1 item 3)
#[test]
fn upgrade_is_a_list_that_names_websocket_in_any_case() {
    for lines in [
        "upgrade: WebSocket\r\n",
        "Upgrade: h2c, websocket\r\n",
        "Upgrade: websocket,h2c\r\n",
        "Upgrade: h2c\r\nUpgrade:\twebsocket \r\n",
        "Upgrade: , ,websocket\r\n",
    ] {
        assert_eq!(answer(with(UPGRADE, lines)), 101, "{lines:?}");
    }
    for lines in [
        "",
        "Upgrade: h2c\r\n",
        "Upgrade: websocket2\r\n",
        "Upgrade: xwebsocket\r\n",
        "Upgrade:\r\n",
    ] {
        assert_eq!(answer(with(UPGRADE, lines)), 400, "{lines:?}");
    }
}

// "A |Connection| header field that includes the token "Upgrade", treated as an ASCII case-insensitive value"
// (section 4.2.1 item 4)
#[test]
fn connection_is_a_list_over_all_its_lines_that_names_upgrade_in_any_case() {
    for lines in [
        "Connection: keep-alive, Upgrade\r\n",
        "Connection: upgrade,keep-alive\r\n",
        "Connection: keep-alive\r\nConnection: upgrade\r\n",
        "connection: a , b\r\nCONNECTION: c,\tUPGRADE\t,d\r\n",
    ] {
        assert_eq!(answer(with(CONNECTION, lines)), 101, "{lines:?}");
    }
    for lines in [
        "",
        "Connection: close\r\n",
        "Connection: upgraded\r\n",
        "Connection: no-upgrade\r\n",
        "Connection: keep-alive Upgrade\r\n",
    ] {
        assert_eq!(answer(with(CONNECTION, lines)), 400, "{lines:?}");
    }
}

#[test]
fn a_request_that_asks_for_no_upgrade_is_no_error_here() {
    for lines in ["", "Upgrade: h2c\r\nConnection: Upgrade\r\n"] {
        let request = read(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")).unwrap();
        assert!(!request.wants_upgrade());
        assert!(Rules::default().check(&request).is_ok());
    }
    let foreign = read("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").unwrap();
    assert_eq!(Rules::default().check(&foreign).unwrap_err().status(), Status::Forbidden);
}

// "A server MUST accept the absolute-form in requests" (RFC 9112 section 3.2.2)
#[test]
fn a_target_is_a_path_or_a_uri_whose_host_counts() {
    assert_eq!(answer(with("/feed/run", "http://localhost:8002/feed/run")), 101);
    assert_eq!(answer(with("/feed/run", "http://127.0.0.1/feed/run")), 101);
    assert_eq!(answer(with("/feed/run", "http://evil.example/feed/run")), 403);
    for target in ["*", "feed/run", "ws://localhost:8002/feed/run", "localhost:8002", "/feed#run"] {
        assert_eq!(answer(with("/feed/run?x=1", target)), 400, "{target}");
    }
}

#[test]
fn a_body_is_refused_before_it_is_taken_for_frames() {
    let with_line = |line: &str| answer(with(VERSION, &format!("{VERSION}{line}\r\n")));
    assert_eq!(with_line("Content-Length: 0"), 101);
    assert_eq!(with_line("Content-Length: 1"), 413);
    assert_eq!(with_line("Content-Length: 00099999999999999999999999"), 413);
    for line in [
        "Content-Length: -1",
        "Content-Length: +0",
        "Content-Length:",
        "Content-Length: 0, 0",
        "Content-Length: 0x",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 0\r\nContent-Length: 5",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:",
    ] {
        assert_eq!(with_line(line), 400, "{line:?}");
    }
}

// "including but not limited to any violations of the ABNF grammar specified for the components of the handshake"
// (section 4.2.1)
#[test]
fn a_malformed_head_is_a_bad_request() {
    for (part, malformed) in [
        ("GET /feed", "GET  /feed"),
        ("GET /feed", " GET /feed"),
        ("GET /feed", "\r\n\r\nGET /feed"),
        ("GET /feed", "G\u{e9}T /feed"),
        (" HTTP/1.1\r\n", " HTTP/1.1\n"),
        ("Upgrade: websocket\r\n", "Upgrade: websocket\n"),
        ("Upgrade: websocket\r\n", "Upgrade: websocket\r\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade: web\rsocket\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade: websocket\0\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade:\r\n websocket\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade : websocket\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade websocket\r\n"),
        ("Upgrade: websocket\r\n", ": websocket\r\n"),
        ("Upgrade: websocket\r\n", " Upgrade: websocket\r\n"),
        ("13\r\n\r\n", "13\r\n\n"),
        ("13\r\n\r\n", "13\n\n"),
    ] {
        assert_eq!(answer(with(part, malformed)), 400, "{malformed:?}");
    }
}

// 28. Version

// "the server MUST abort the WebSocket handshake described in this section and instead send an appropriate HTTP error
// code (such as 426 Upgrade Required) and a |Sec-WebSocket-Version| header field indicating the version(s) the
// server is capable of understanding" (section 4.2.2 item 4)
#[test]
fn a_version_other_than_13_is_told_which_one_is_spoken() {
    for version in ["8", "0", "14", "013", "13, 8", "1 3", "", "thirteen"] {
        let head = with(VERSION, &format!("Sec-WebSocket-Version: {version}\r\n"));
        assert_eq!(answer(&head), 426, "{version:?}");
        let text = refusal_text(&head);
        assert!(text.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{text}");
        assert!(text.contains("\r\nUpgrade: websocket\r\n"), "{text}");
        assert!(text.contains("\r\nConnection: close, Upgrade\r\n"), "{text}");
    }
    assert_eq!(answer(with(VERSION, "")), 426);
}

// "The |Sec-WebSocket-Version| header field MUST NOT appear more than once in an HTTP request" (section 11.3.5)
#[test]
fn two_versions_are_a_bad_request() {
    assert_eq!(answer(with(VERSION, &VERSION.repeat(2))), 400);
}

// 29. Key

// "A |Sec-WebSocket-Key| header field with a base64-encoded value that, when decoded, is 16 bytes in length"
// (section 4.2.1 item 5)
#[test]
fn a_key_is_the_base64_of_sixteen_bytes() {
    for key in [
        "",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZSE=",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        "\"dGhlIHNhbXBsZSBub25jZQ==\"",
        "dGhlIHNhbXBsZSBub25jZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub2 jZQ==",
    ] {
        assert_eq!(answer(with(KEY, &format!("Sec-WebSocket-Key: {key}\r\n"))), 400, "{key:?}");
    }
    assert_eq!(answer(with(KEY, "")), 400);
}

// "The |Sec-WebSocket-Key| header field MUST NOT appear more than once in an HTTP request" (section 11.3.1)
#[test]
fn two_keys_are_a_bad_request() {
    assert_eq!(answer(with(KEY, &KEY.repeat(2))), 400);
}

#[test]
fn a_key_without_an_upgrade_is_a_refusal_and_not_a_page() {
    let request = read(with(UPGRADE, "")).unwrap();
    assert!(request.wants_upgrade());
    let refusal = Upgrade::from_request(&request).unwrap_err();
    assert_eq!(refusal.status(), Status::BadRequest);
    assert!(refusal.reason().contains("got none; a proxy"), "{refusal}");
}

// 30. Limits

fn padded_to(length: usize) -> String {
    let pad = length - VALID.len() - "X: \r\n".len();
    with(VERSION, &format!("{VERSION}X: {}\r\n", "x".repeat(pad)))
}

#[test]
fn a_head_of_16_kib_is_read_and_one_byte_more_is_not() {
    let head = padded_to(16_384);
    assert_eq!(head.len(), 16_384);
    assert_eq!(answer(&head), 101);
    assert_eq!(answer(head + "early frames do not count"), 101);
    assert_eq!(answer(padded_to(16_385)), 431);
}

#[test]
fn sixty_four_headers_are_read_and_sixty_five_are_not() {
    let with_headers =
        |count: usize| with(VERSION, &format!("{VERSION}{}", "X: x\r\n".repeat(count - 5)));
    assert_eq!(answer(with_headers(64)), 101);
    assert_eq!(answer(with_headers(65)), 431);
}

#[test]
fn the_limits_are_the_users() {
    let read = |limits: HeadLimits| RequestReader::new(limits).read(&mut BytesMut::from(VALID));
    assert!(read(HeadLimits::default().bytes(VALID.len()).headers(5)).is_ok());
    assert!(read(HeadLimits::default().bytes(VALID.len() - 1)).is_err());
    assert!(read(HeadLimits::default().headers(4)).is_err());
    let most = HeadLimits::default().bytes(1 << 20);
    assert_eq!(HeadLimits::default().bytes(usize::MAX), most);
}

#[test]
fn a_drip_of_one_endless_header_is_refused_at_the_limit() {
    let mut reader = RequestReader::new(HeadLimits::default());
    let mut src = BytesMut::from("GET / HTTP/1.1\r\nX: ");
    let refused_at = (src.len()..1 << 20).find_map(|length| {
        src.extend_from_slice(b"x");
        reader.read(&mut src).err().map(|refusal| (length + 1, refusal.status()))
    });
    assert_eq!(refused_at, Some((16_384, Status::HeadersTooLarge)));
}

#[test]
fn endless_short_headers_are_refused_at_the_sixty_fifth() {
    let mut reader = RequestReader::new(HeadLimits::default());
    let mut src = BytesMut::from("GET / HTTP/1.1\r\n");
    let refused_at = (1..1000).find(|_| {
        src.extend_from_slice(b"X:\r\n");
        reader.read(&mut src).is_err()
    });
    assert_eq!(refused_at, Some(65));
}

#[test]
fn other_protocols_are_refused_without_waiting_for_a_blank_line() {
    for (bytes, at) in [
        (&b"\x16\x03\x01\x02\x00\x01"[..], 1),
        (b"\x00\x00\x00", 1),
        (b"\r\n\r\n", 3),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 4),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 21),
        (b"GET / HTTP/1.1\nHost: a\n\n", 15),
    ] {
        let mut reader = RequestReader::new(HeadLimits::default());
        let mut src = BytesMut::new();
        let refused_at = (1..=bytes.len()).find_map(|length| {
            src.extend_from_slice(&bytes[length - 1..length]);
            reader.read(&mut src).err().map(|refusal| (length, refusal.status()))
        });
        assert_eq!(refused_at, Some((at, Status::BadRequest)), "{}", bytes.escape_ascii());
        let whole = RequestReader::new(HeadLimits::default()).read(&mut BytesMut::from(bytes));
        assert_eq!(whole.unwrap_err().status(), Status::BadRequest);
    }
}

// 31. Bytes after the head

// "Once the client's opening handshake has been sent, the client MUST wait for a response from the server before
// sending any further data" (section 4.1): one that does not wait loses nothing.
#[test]
fn early_frames_stay_in_the_buffer() {
    let mut src = BytesMut::from(VALID);
    src.extend_from_slice(b"\x81\x80abcd\r\n\r\n");
    let mut reader = RequestReader::new(HeadLimits::default());
    assert!(reader.read(&mut src).unwrap().is_some());
    assert_eq!(src, &b"\x81\x80abcd\r\n\r\n"[..]);
}

// 32. Refusals

#[test]
fn every_refusal_is_a_whole_answer_that_closes_the_connection() {
    for head in [
        with("GET", "POST"),
        with("HTTP/1.1", "HTTP/1.0"),
        with(HOST, "Host: evil.example\r\n"),
        with(HOST, "Host: localhost\r\nOrigin: null\r\n"),
        with(VERSION, ""),
        with(KEY, ""),
        with(VERSION, "Content-Length: 5\r\n"),
        padded_to(20_000),
    ] {
        let text = refusal_text(head);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let has = |line: &str| head.lines().any(|found| found.starts_with(line));
        assert!(has("HTTP/1.1 4") && has("Connection: close"), "{text}");
        assert!(has(&format!("Content-Length: {}", body.len())), "{text}");
        assert!(has("Content-Type: text/plain; charset=utf-8"), "{text}");
        assert!(has("X-Content-Type-Options: nosniff"), "{text}");
        assert!(body.starts_with("expected ") && body.contains(", got "), "{text}");
        assert_eq!(body.find('\n'), Some(body.len() - 1), "{text}");
    }
}

// 33. Subprotocols and extensions

// "The value chosen MUST be derived from the client's handshake, specifically by selecting one of the values from the
// |Sec-WebSocket-Protocol| field" (section 4.2.2 item 4)
#[test]
fn only_an_offered_subprotocol_can_be_accepted() {
    let lines = format!(
        "{VERSION}Sec-WebSocket-Protocol: a, stepcast.v1\r\nsec-websocket-protocol: ,c\r\n"
    );
    let upgrade = upgrade(with(VERSION, &lines)).unwrap();
    assert!(upgrade.offered_protocols().eq(["a", "stepcast.v1", "c"]));
    for protocol in ["a", "stepcast.v1", "c"] {
        let answer = upgrade.accept(Some(protocol)).unwrap();
        assert!(
            answer.ends_with(format!("\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n").as_bytes())
        );
    }
    for protocol in ["A", "stepcast", "a, stepcast.v1", "", "c\r\nX: y"] {
        assert!(upgrade.accept(Some(protocol)).is_err(), "{protocol:?}");
    }
    let none = upgrade.accept(None).unwrap();
    assert!(!String::from_utf8_lossy(&none).contains("Protocol:"));
}

#[test]
fn nothing_can_be_accepted_where_nothing_was_offered() {
    let upgrade = upgrade(VALID).unwrap();
    assert_eq!(upgrade.offered_protocols().count(), 0);
    assert!(upgrade.accept(Some("stepcast.v1")).is_err());
}

#[test]
fn a_subprotocol_that_is_no_token_is_a_bad_request() {
    for protocol in ["a b", "a;b", "\"a\"", "\u{fc}", "a/b"] {
        let lines = format!("{VERSION}Sec-WebSocket-Protocol: {protocol}\r\n");
        assert_eq!(answer(with(VERSION, &lines)), 400, "{protocol}");
    }
}

// "Extensions not listed by the client MUST NOT be listed" (section 4.2.2 item 4); this server lists none.
#[test]
fn extensions_are_ignored_and_never_echoed() {
    let lines = format!(
        "{VERSION}Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    );
    let answer = upgrade(with(VERSION, &lines)).unwrap().accept(None).unwrap();
    assert_eq!(answer, upgrade(VALID).unwrap().accept(None).unwrap());
}

// RFC 9110, 10.1.4: `TE` is about the answer's transfer coding, which a 101 has none of. Some proxies add it.
#[test]
fn a_te_header_changes_nothing() {
    let answer = upgrade(with(VERSION, &format!("{VERSION}TE: trailers\r\n"))).unwrap();
    assert_eq!(answer.accept(None).unwrap(), upgrade(VALID).unwrap().accept(None).unwrap());
}

// 34. Origin and Host

fn from(origin: &str) -> u16 {
    answer(with(HOST, &format!("{HOST}Origin: {origin}\r\n")))
}

// "If the origin indicated is unacceptable to the server, then it SHOULD respond to the WebSocket handshake with a
// reply containing HTTP 403 Forbidden status code" (section 10.2)
#[test]
fn only_pages_of_the_same_host_come_in_by_default() {
    assert_eq!(answer(VALID), 101);
    assert_eq!(from("http://localhost:3000"), 101);
    assert_eq!(from("https://LOCALHOST"), 101);
    assert_eq!(from("http://127.0.0.1:3000"), 101);
    for origin in [
        "null",
        "http://evil.example",
        "http://localhost.evil.example",
        "http://192.0.2.1:8002",
        "http://a.localhost",
    ] {
        assert_eq!(from(origin), 403, "{origin}");
    }
}

#[test]
fn an_origin_that_is_none_is_a_bad_request() {
    assert_eq!(from(""), 101, "as without one: no browser sends it");
    for origin in [
        "localhost",
        "http://evil@localhost",
        "http://localhost/",
        "http://localhost http://localhost",
        "http://",
    ] {
        assert_eq!(from(origin), 400, "{origin:?}");
    }
    let twice = "Origin: http://localhost\r\n".repeat(2);
    assert_eq!(answer(with(HOST, &format!("{HOST}{twice}"))), 400);
}

#[test]
fn a_page_from_disk_comes_in_when_it_is_listed() {
    let request = read(with(HOST, "Host: localhost\r\nOrigin: null\r\n")).unwrap();
    assert!(Rules::default().check(&request).is_err());
    assert!(Rules::default().allow_origin("null").check(&request).is_ok());
}

#[test]
fn a_name_that_is_not_the_servers_own_is_forbidden() {
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8002", "[::1]:8002", "192.0.2.1"] {
        assert_eq!(answer(with(HOST, &format!("Host: {host}\r\n"))), 101, "{host}");
    }
    for host in
        ["evil.example:8002", "localhost.evil.example", "127.0.0.1.evil.example", "localhost."]
    {
        let head = with(HOST, &format!("Host: {host}\r\nOrigin: http://{host}\r\n"));
        assert_eq!(answer(head), 403, "{host}");
    }
    let request = read(with(HOST, "Host: Progress.Example:443\r\n")).unwrap();
    assert!(Rules::default().allow_host("progress.example").check(&request).is_ok());
}

#[test]
#[cfg(unix)]
fn the_machines_own_name_is_the_servers_own() {
    let output = std::process::Command::new("uname").arg("-n").output().unwrap();
    let name = String::from_utf8(output.stdout).unwrap().trim_end().to_uppercase();
    assert_eq!(answer(with(HOST, &format!("Host: {name}:8002\r\n"))), 101);
}

// 35. Injection

#[test]
fn what_the_peer_sent_is_shown_escaped_and_cut() {
    let text =
        refusal_text(with(HOST, &format!("{HOST}Origin: http://\u{1b}[2J\u{202e}\"<b>\r\n")));
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    let text =
        refusal_text(with(HOST, &format!("{HOST}Origin: \u{202e}\"<b>\t{}\r\n", "x".repeat(4000))));
    assert!(text.contains(r#""\xe2\x80\xae\"<b>\txx"#) && text.contains("xxx...\""), "{text}");
    assert!(text.len() < 500, "{text}");
}

// 36. Accept

// "The value of this header field is constructed by concatenating /key/, defined above in step 4 in Section 4.2.2, with
// the string "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", taking the SHA-1 hash of this concatenated value to obtain a
// 20-byte value and base64-encoding this 20-byte hash" (section 4.2.2 item 5.4)
#[test]
fn the_answer_is_the_hash_of_the_keys_bytes_as_they_came() {
    // "if the randomly selected value was the sequence of bytes 0x01 0x02 .. 0x10, the value of the header field would be"
    // this (section 4.1 item 7), which has bits left over: the hash is over the text, and nothing is lost by it.
    let key = "AQIDBAUGBwgJCgsMDQ4PEC==";
    assert_eq!(answer(with(KEY, &format!("Sec-WebSocket-Key: {key}\r\n"))), 101);
    let key = "AQIDBAUGBwgJCgsMDQ4PEA==";
    let accepted = upgrade(with(KEY, &format!("Sec-WebSocket-Key: \t {key}  \r\n"))).unwrap();
    let accepted = String::from_utf8(accepted.accept(None).unwrap().to_vec()).unwrap();
    assert!(
        accepted.contains("Sec-WebSocket-Accept: C/0nmHhBztSRGR1CwL6Tf4ZjwpY=\r\n"),
        "{accepted}"
    );
    assert_eq!(&accept_key(b""), b"Kfh9QIsMVZcl6xEPYxPHzW8SZ8w=");
}
