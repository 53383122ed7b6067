//! Masked frames to messages, each crate's own way.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use tokio_util::codec::{Decoder as _, FramedRead};

use crate::contest::Contestant;
use crate::floor;
use crate::wire::{Kind, Wire, image, messages};

const LIMIT: usize = 64 << 20;

pub fn contestants(kind: Kind, size: usize) -> Vec<Contestant> {
    let messages = messages(kind, size);
    let image = image(kind, &messages, true);
    let wire = || Wire::new(image.clone());
    let contestant = |name, next: Next| decoding(name, messages.clone(), next);
    let mut all = vec![
        contestant("stepcast", stepcast(wire())),
        contestant("stepcast in FramedRead", stepcast_framed(wire())),
        stepcast_in_a_task(messages.clone(), wire()),
        contestant("tungstenite", tungstenite(wire())),
        contestant("fastwebsockets", fastwebsockets(wire())),
        contestant("tokio-websockets", tokio_websockets(wire())),
        contestant("yawc", yawc(wire())),
        contestant("yawc's codec (with simdutf8)", yawc_codec(wire(), kind)),
        contestant("sockudo-ws", sockudo(wire())),
        contestant("sockudo-ws's protocol", sockudo_protocol(wire())),
    ];
    all.extend([
        yawc_in_a_task(messages.clone(), wire(), kind),
        tokio_websockets_in_a_task(messages.clone(), wire()),
    ]);
    all.extend(floor::decoding(kind, &messages));
    all
}

/// Gives the next message to whoever wants to see its payload.
type Next = Box<dyn FnMut(&mut dyn FnMut(&[u8]))>;

fn decoding(name: &'static str, messages: Vec<Bytes>, mut next: Next) -> Contestant {
    let mut compared = false;
    let run = move |count: usize| {
        let mut total = 0;
        if !std::mem::replace(&mut compared, true) {
            for expected in messages.iter().cycle().take(count) {
                next(&mut |payload| {
                    assert!(payload == expected, "{name}: not what was sent");
                    total += payload.len();
                });
            }
            return total;
        }
        for _ in 0..count {
            next(&mut |payload| total += black_box(payload).len());
        }
        total
    };
    Contestant { name, is_floor: false, run: Box::new(run) }
}

/// A stream that a task of a runtime reads message by message, as most programs do.
fn in_a_task<T: 'static, E: std::fmt::Debug>(
    name: &'static str,
    messages: Vec<Bytes>,
    mut stream: impl Stream<Item = Result<T, E>> + Unpin + 'static,
    payload: fn(&T) -> &[u8],
) -> Contestant {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut compared = false;
    let run = move |count: usize| {
        let compare = !std::mem::replace(&mut compared, true);
        runtime.block_on(async {
            let (mut total, mut number) = (0, 0);
            while number < count {
                let message = stream.next().await.expect("the wire never ends").unwrap();
                let payload = payload(&message);
                if compare {
                    assert!(payload == messages[number], "{name}: not what was sent");
                }
                total += black_box(payload).len();
                number += 1;
            }
            total
        })
    };
    Contestant { name, is_floor: false, run: Box::new(run) }
}

fn stepcast_in_a_task(messages: Vec<Bytes>, wire: Wire) -> Contestant {
    use stepcast::codec::{FrameLimits, Incoming, MessageCodec, Role};
    let limits = FrameLimits::default().frame(LIMIT).message(LIMIT);
    let framed = FramedRead::new(wire, MessageCodec::new(Role::Server, limits));
    in_a_task("stepcast in FramedRead, in a task", messages, framed, |read| match read {
        Incoming::Message(message) => message.as_bytes(),
        other => panic!("{other:?}"),
    })
}

fn yawc_in_a_task(messages: Vec<Bytes>, wire: Wire, kind: Kind) -> Contestant {
    let framed = FramedRead::new(wire, yawc::codec::Decoder::new(yawc::Role::Server, LIMIT));
    in_a_task(
        "yawc's codec in FramedRead, in a task",
        messages,
        framed,
        match kind {
            Kind::Binary => |read| read.payload(),
            _ => |read| {
                simdutf8::basic::from_utf8(read.payload()).unwrap();
                read.payload()
            },
        },
    )
}

fn tokio_websockets_in_a_task(messages: Vec<Bytes>, wire: Wire) -> Contestant {
    let socket = tokio_websockets::ServerBuilder::new().serve(wire);
    in_a_task("tokio-websockets, in a task", messages, socket, |read| read.as_payload())
}

/// The output of what never has to wait.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits, though all is there"),
    }
}

fn stepcast(mut wire: Wire) -> Next {
    use stepcast::codec::{FrameLimits, Incoming, MessageCodec, Role};
    let limits = FrameLimits::default().frame(LIMIT).message(LIMIT);
    let mut codec = MessageCodec::new(Role::Server, limits);
    let mut received = BytesMut::with_capacity(8 * 1024);
    Box::new(move |see| {
        loop {
            match codec.decode(&mut received).unwrap() {
                Some(Incoming::Message(message)) => break see(message.as_bytes()),
                Some(other) => panic!("{other:?}"),
                None => {
                    wire.read_buf(&mut received);
                }
            }
        }
    })
}

fn stepcast_framed(wire: Wire) -> Next {
    use stepcast::codec::{FrameLimits, Incoming, MessageCodec, Role};
    let limits = FrameLimits::default().frame(LIMIT).message(LIMIT);
    let codec = MessageCodec::new(Role::Server, limits);
    let mut framed = FramedRead::new(wire, codec);
    Box::new(move |see| match now(framed.next()).unwrap().unwrap() {
        Incoming::Message(message) => see(message.as_bytes()),
        other => panic!("{other:?}"),
    })
}

fn tungstenite(wire: Wire) -> Next {
    use tungstenite::protocol::{Role, WebSocket};
    let mut socket = WebSocket::from_raw_socket(wire, Role::Server, None);
    Box::new(move |see| match socket.read().unwrap() {
        tungstenite::Message::Text(text) => see(text.as_bytes()),
        tungstenite::Message::Binary(bytes) => see(&bytes),
        other => panic!("{other:?}"),
    })
}

fn fastwebsockets(wire: Wire) -> Next {
    use fastwebsockets::{FragmentCollector, Role, WebSocket};
    let mut socket = FragmentCollector::new(WebSocket::after_handshake(wire, Role::Server));
    Box::new(move |see| see(&now(socket.read_frame()).unwrap().payload))
}

fn tokio_websockets(wire: Wire) -> Next {
    let mut socket = tokio_websockets::ServerBuilder::new().serve(wire);
    Box::new(move |see| {
        let message = now(socket.next()).unwrap().unwrap();
        see(message.as_payload());
    })
}

fn yawc(wire: Wire) -> Next {
    let options = yawc::Options::default().with_utf8().with_limits(LIMIT, LIMIT);
    let mut socket = yawc::WebSocket::from_stream(wire, yawc::Role::Server, options).unwrap();
    Box::new(move |see| see(now(socket.next_frame()).unwrap().payload()))
}

/// It leaves validation to others: here to simdutf8, as its stream does with the same feature.
fn yawc_codec(mut wire: Wire, kind: Kind) -> Next {
    let mut codec = yawc::codec::Decoder::new(yawc::Role::Server, LIMIT);
    let mut received = BytesMut::with_capacity(8 * 1024);
    Box::new(move |see| {
        loop {
            if let Some(frame) = codec.decode(&mut received).unwrap() {
                if kind != Kind::Binary {
                    simdutf8::basic::from_utf8(frame.payload()).unwrap();
                }
                break see(frame.payload());
            }
            wire.read_buf(&mut received);
        }
    })
}

fn sockudo_config() -> sockudo_ws::Config {
    sockudo_ws::Config::builder().auto_ping(false).idle_timeout(0).build()
}

fn sockudo(wire: Wire) -> Next {
    let mut socket = sockudo_ws::WebSocketStream::server(wire, sockudo_config());
    Box::new(move |see| see(now(socket.next()).unwrap().unwrap().as_bytes()))
}

fn sockudo_protocol(mut wire: Wire) -> Next {
    let mut protocol = sockudo_ws::protocol::Protocol::new(sockudo_ws::Role::Server, LIMIT, LIMIT);
    let mut received = BytesMut::with_capacity(8 * 1024);
    let mut batch = Vec::new();
    let mut ready = Vec::new();
    Box::new(move |see| {
        loop {
            if let Some(message) = ready.pop() {
                let message: sockudo_ws::Message = message;
                break see(message.as_bytes());
            }
            wire.read_buf(&mut received);
            protocol.process_into(&mut received, &mut batch).unwrap();
            ready.extend(batch.drain(..).rev());
        }
    })
}
