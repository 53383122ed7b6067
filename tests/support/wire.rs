//! A WebSocket connection to a hub, from the client's side: the one below every client of the tests.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use stepcast::codec::{FrameLimits, Incoming, MessageCodec, Role};
use stepcast::handshake::{ClientRequest, HeadLimits, ResponseReader};
use tokio_util::codec::{Decoder, Encoder};

/// How long a test waits for something that must come. A busy machine may take many times as long
/// as a quiet one.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A blocking socket with a deadline on every read, and the codec on top.
pub struct Wire {
    pub socket: TcpStream,
    /// What has been read and not yet decoded.
    pub received: BytesMut,
    codec: MessageCodec,
}

impl Wire {
    /// Upgrades a connection that may break.
    pub fn upgrade(
        mut socket: TcpStream,
        address: SocketAddr,
        path: &str,
        protocol: Option<&str>,
    ) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut request = ClientRequest::new(&address.to_string(), path).unwrap();
        if let Some(protocol) = protocol {
            request = request.protocol(protocol).unwrap();
        }
        socket.write_all(&request.encode())?;
        let mut reader = ResponseReader::new(&request, HeadLimits::default());
        let mut received = BytesMut::new();
        while reader.read(&mut received).map_err(io::Error::other)?.is_none() {
            read_some(&mut socket, &mut received)?;
        }
        Ok(Self { socket, received, codec: client_codec() })
    }

    /// What comes next.
    pub fn next(&mut self) -> io::Result<Incoming> {
        loop {
            match self.codec.decode(&mut self.received).unwrap() {
                Some(incoming) => return Ok(incoming),
                None => read_some(&mut self.socket, &mut self.received)?,
            }
        }
    }

    /// Sends these, messages or control frames, in one write.
    pub fn write<T>(&mut self, items: impl IntoIterator<Item = T>) -> io::Result<()>
    where
        MessageCodec: Encoder<T>,
        <MessageCodec as Encoder<T>>::Error: std::fmt::Debug,
    {
        let mut bytes = BytesMut::new();
        for item in items {
            self.codec.encode(item, &mut bytes).unwrap();
        }
        self.socket.write_all(&bytes)
    }
}

/// The codec of a client that takes what a hub may send at most.
pub fn client_codec() -> MessageCodec {
    MessageCodec::new(Role::Client, FrameLimits::default().frame(1 << 30).message(1 << 30))
}

pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

pub fn read_some(socket: &mut TcpStream, into: &mut BytesMut) -> io::Result<()> {
    let mut bytes = [0; 16384];
    let told = |error: io::Error| {
        io::Error::new(error.kind(), format!("{error}; left over: {} bytes", into.len()))
    };
    match socket.read(&mut bytes).map_err(told)? {
        0 => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("the stream ended; left over: {into:?}"),
        )),
        count => {
            into.extend_from_slice(&bytes[..count]);
            Ok(())
        }
    }
}
