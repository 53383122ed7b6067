//! Whatever is sent, however it is cut, the same arrives; whatever arrives, nothing breaks.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use stepcast::codec::{
    CloseCode, CloseFrame, Control, ControlPayload, Frame, FrameCodec, FrameLimits, Incoming,
    Message, MessageCodec, OpCode, Role,
};
use tokio_util::codec::{Decoder, Encoder};

/// A message, where it is cut into fragments, and which control frames come between those: the
/// number says behind which fragment.
type Sent = (Message, Vec<Index>, Vec<(Index, Control)>);

fn message() -> impl Strategy<Value = Message> {
    let long = prop_oneof![Just(125), Just(126), Just(65_535), Just(65_536), Just(70_001)];
    prop_oneof![
        4 => ".{0,60}".prop_map(Message::from),
        2 => "[步骤é🎈a]{0,60}".prop_map(Message::from),
        4 => vec(any::<u8>(), 0..300).prop_map(Message::from),
        1 => (long, any::<u8>()).prop_map(|(len, byte)| Message::from(vec![byte; len])),
    ]
}

fn control() -> impl Strategy<Value = Control> {
    let payload =
        || vec(any::<u8>(), 0..=125).prop_map(|bytes| ControlPayload::new(bytes).unwrap());
    let close = (1000..5000_u16, ".{0,60}")
        .prop_map(|(code, reason)| CloseCode::new(code).map(|code| CloseFrame::new(code, &reason)));
    prop_oneof![
        payload().prop_map(Control::Ping),
        payload().prop_map(Control::Pong),
        close.prop_map(Control::Close),
    ]
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    vec((message(), vec(any::<Index>(), 0..4), vec((any::<Index>(), control()), 0..3)), 0..6)
}

/// The bytes of all that is sent, and what has to come of them.
fn wire(role: Role, sent: &[Sent]) -> (Vec<u8>, Vec<Incoming>) {
    let mut frames = FrameCodec::new(role, FrameLimits::default());
    let mut controls = MessageCodec::new(role, FrameLimits::default());
    let mut wire = BytesMut::new();
    let mut expected = Vec::new();
    for (message, cuts, between) in sent {
        let payload = message.clone().into_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
        cuts.push(payload.len());
        cuts.sort_unstable();
        let mut start = 0;
        for (number, end) in cuts.iter().enumerate() {
            let first = if message.is_text() { OpCode::Text } else { OpCode::Binary };
            let frame = Frame {
                fin: number + 1 == cuts.len(),
                opcode: if number == 0 { first } else { OpCode::Continuation },
                payload: payload.slice(start..*end),
            };
            start = *end;
            let last = frame.fin;
            frames.encode(frame, &mut wire).unwrap();
            if last {
                expected.push(Incoming::Message(message.clone()));
            }
            for (place, control) in between {
                if place.index(cuts.len()) == number {
                    controls.encode(control, &mut wire).unwrap();
                    expected.push(Incoming::Control(control.clone()));
                }
            }
        }
    }
    (wire.to_vec(), expected)
}

/// `bytes` in pieces: of the sizes given, over and over.
fn pieces<'a>(bytes: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        let size = (*sizes.next()?).min(rest.len());
        let (piece, after) = rest.split_at(size);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// A piece is one byte, a few, or thousands.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1..=1_usize, 1..20_usize, 20..10_000_usize], 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_was_sent_arrives_however_it_is_cut(
        sent in sent(),
        sizes in sizes(),
        to_server in any::<bool>(),
    ) {
        let (from, to) =
            if to_server { (Role::Client, Role::Server) } else { (Role::Server, Role::Client) };
        let (wire, expected) = wire(from, &sent);
        // One byte at a time is slow in debug, and teaches nothing after the first few thousand.
        let sizes = if wire.len() > 20_000 { vec![7, 4099, 1] } else { sizes };

        let mut codec = MessageCodec::new(to, FrameLimits::default());
        let mut src = BytesMut::new();
        let mut got = Vec::new();
        for piece in pieces(&wire, &sizes) {
            src.extend_from_slice(piece);
            while let Some(incoming) = codec.decode(&mut src).unwrap() {
                got.push(incoming);
            }
        }
        prop_assert_eq!(got, expected);
        prop_assert!(src.is_empty());
        prop_assert!(codec.is_idle());
    }

    #[test]
    fn any_bytes_lead_to_the_same_end_however_they_are_cut(
        (role, bytes) in hostile(),
        sizes in sizes(),
    ) {
        let limits = FrameLimits::default().frame(3000).message(5000).fragments(5);
        let run = |sizes: &[usize]| {
            let mut codec = MessageCodec::new(role, limits);
            let mut src = BytesMut::new();
            let mut got = Vec::new();
            let mut come = 0;
            for piece in pieces(&bytes, sizes) {
                src.extend_from_slice(piece);
                come += piece.len();
                loop {
                    let before = src.capacity();
                    match codec.decode(&mut src) {
                        Ok(Some(incoming)) => got.push(incoming),
                        Ok(None) => break,
                        Err(error) => return (got, Some(error.to_string())),
                    }
                    assert!(src.capacity() <= before);
                }
                // `decode` may ask for as much as has come, or 1 KiB; growing doubles.
                assert!(src.capacity() <= 4 * come + 2048, "{} for {come}", src.capacity());
            }
            (got, None)
        };
        prop_assert_eq!(run(&sizes), run(&[bytes.len().max(1)]));
    }

    #[test]
    fn a_frame_codec_takes_any_bytes_without_a_panic(
        (role, bytes) in hostile(),
        sizes in sizes(),
    ) {
        let mut codec = FrameCodec::new(role, FrameLimits::default().frame(3000));
        let mut src = BytesMut::new();
        for piece in pieces(&bytes, &sizes) {
            src.extend_from_slice(piece);
            while let Ok(Some(frame)) = codec.decode(&mut src) {
                prop_assert!(frame.payload.len() <= 3000);
            }
        }
    }

    #[test]
    fn text_is_accepted_where_std_accepts_it(
        bytes in vec(prop_oneof![Just(b'a'), 0x80..=0xFF_u8], 0..8),
        cuts in vec(any::<Index>(), 0..4),
        sizes in sizes(),
    ) {
        // Valid text around the bytes, so that they come at any place of a validator's block.
        let payload = Bytes::from([&b"x".repeat(bytes.len() * 13)[..], &bytes].concat());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
        cuts.push(payload.len());
        cuts.sort_unstable();
        let mut frames = FrameCodec::new(Role::Client, FrameLimits::default());
        let mut wire = BytesMut::new();
        let mut start = 0;
        for (number, end) in cuts.iter().enumerate() {
            let opcode = if number == 0 { OpCode::Text } else { OpCode::Continuation };
            let fin = number + 1 == cuts.len();
            let payload = payload.slice(start..*end);
            frames.encode(Frame { fin, opcode, payload }, &mut wire).unwrap();
            start = *end;
        }
        let mut codec = MessageCodec::new(Role::Server, FrameLimits::default());
        let mut src = BytesMut::new();
        let mut got = Ok(None);
        for piece in pieces(&wire, &sizes) {
            src.extend_from_slice(piece);
            got = codec.decode(&mut src);
            if got.is_err() {
                break;
            }
        }
        match std::str::from_utf8(&payload) {
            Ok(text) => {
                let expected = Incoming::Message(Message::from(text.to_owned()));
                prop_assert_eq!(got.unwrap(), Some(expected));
            }
            Err(_) => prop_assert!(got.is_err(), "{:02x?}", payload),
        }
    }
}

/// Bytes of every degree of malice, and who gets them: noise, and frames of a sort, masked as they
/// have to be, so that what is wrong with them comes late.
fn hostile() -> impl Strategy<Value = (Role, Vec<u8>)> {
    prop_oneof![Just(Role::Server), Just(Role::Client)].prop_flat_map(|role| {
        let frames = vec(hostile_frame(role), 0..12).prop_map(|frames| frames.concat());
        let noise = vec(any::<u8>(), 0..400);
        (Just(role), prop_oneof![1 => noise, 4 => frames])
    })
}

fn hostile_frame(role: Role) -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        9 => prop::sample::select(vec![0x00, 0x80, 0x00, 0x80, 0x01, 0x02, 0x81, 0x82, 0x89]),
        1 => any::<u8>(),
    ];
    let len = prop_oneof![
        8 => (0..=125_u8).prop_map(|len| vec![len]),
        2 => (126..4000_u16).prop_map(|len| [&[126], &len.to_be_bytes()[..]].concat()),
        1 => any::<u16>().prop_map(|len| [&[126], &len.to_be_bytes()[..]].concat()),
        1 => any::<u64>().prop_map(|len| [&[127], &len.to_be_bytes()[..]].concat()),
    ];
    (first, len, vec(any::<u8>(), 0..200)).prop_map(move |(first, mut len, payload)| {
        // As long as it says, if it says little.
        let said = usize::from(len[0]);
        let payload: Vec<u8> = if said <= 125 {
            payload.into_iter().chain(std::iter::repeat(b'x')).take(said).collect()
        } else {
            payload
        };
        let key: &[u8] = match role {
            Role::Client => &[],
            Role::Server => {
                len[0] |= 0x80;
                &[1, 2, 3, 4]
            }
        };
        [&[first], &len[..], key, &payload].concat()
    })
}
