//! Hostile bytes into `RequestReader` and what follows it. The first byte picks limits, the second
//! the cuts.
//!
//! It never panics; the verdict does not depend on how the bytes were cut; what follows the head
//! stays in the buffer; and whatever is answered is a whole HTTP answer.

#![no_main]

use std::sync::LazyLock;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use stepcast::handshake::{HeadLimits, Refusal, Request, RequestReader, Rules, Upgrade};

mod cuts;

/// The default rules ask the machine for its name, once.
static RULES: LazyLock<Rules> = LazyLock::new(Rules::default);

fn answer(request: &Request) -> Result<bytes::Bytes, Refusal> {
    assert!(request.path().starts_with('/'), "{:?}", request.path());
    let _ = (request.method(), request.query(), request.wants_upgrade());
    assert_eq!(request.header("host"), request.headers("Host").next());
    RULES.check(request)?;
    let upgrade = Upgrade::from_request(request)?;
    let first = upgrade.offered_protocols().next();
    Ok(upgrade.accept(first).expect("a protocol that was offered"))
}

fuzz_target!(|data: &[u8]| {
    let [choice, seed, wire @ ..] = data else { return };
    if wire.is_empty() {
        return; // no cuts, no verdict
    }
    let limits = match choice & 3 {
        0 => HeadLimits::default().bytes(200).headers(4),
        1 => HeadLimits::default().bytes(0).headers(0),
        _ => HeadLimits::default(),
    };

    let mut all = BytesMut::from(wire);
    let whole = RequestReader::new(limits).read(&mut all);

    let mut reader = RequestReader::new(limits);
    let mut src = BytesMut::new();
    let mut in_cuts = Ok(None);
    let mut rest = BytesMut::new();
    for piece in cuts::cuts(wire, *seed) {
        if !matches!(in_cuts, Ok(None)) {
            rest.extend_from_slice(piece);
            continue;
        }
        src.extend_from_slice(piece);
        in_cuts = reader.read(&mut src);
    }
    src.extend_from_slice(&rest);

    match (whole, in_cuts) {
        (Ok(None), Ok(None)) => {}
        (Ok(Some(one)), Ok(Some(other))) => {
            assert_eq!(all, src, "what follows the head");
            assert_eq!((one.method(), one.target()), (other.method(), other.target()));
            let response = answer(&one).unwrap_or_else(|refusal| refusal.response());
            assert!(response.starts_with(b"HTTP/1.1 "));
            assert!(response.windows(4).any(|four| four == b"\r\n\r\n"));
        }
        (Err(one), Err(other)) => {
            for refusal in [one, other] {
                assert!(refusal.response().starts_with(b"HTTP/1.1 4"), "{}", refusal.reason());
            }
        }
        (whole, in_cuts) => panic!("whole {whole:?}, in cuts {in_cuts:?}"),
    }
});
