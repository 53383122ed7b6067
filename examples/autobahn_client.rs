//! A client built from the codec and the handshake alone, for the Autobahn suite's server.
//!
//!     cargo run --release --example autobahn_client -- 127.0.0.1:9001 stepcast

use std::error::Error;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use stepcast::codec::{CloseFrame, Control, FrameLimits, Incoming, Message, MessageCodec, Role};
use stepcast::handshake::{ClientRequest, HeadLimits, ResponseReader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::codec::{Framed, FramedParts};

type Failure = Box<dyn Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let server = args.next().unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let agent = args.next().unwrap_or_else(|| "stepcast".to_owned());

    let mut cases = connect(&server, "/getCaseCount").await?;
    let count = match cases.next().await {
        Some(Ok(Incoming::Message(count))) => count.as_text().unwrap_or_default().parse::<u32>()?,
        other => return Err(format!("expected the number of cases, got {other:?}").into()),
    };
    for case in 1..=count {
        let mut case = connect(&server, &format!("/runCase?case={case}&agent={agent}")).await?;
        // A case ends with a Close, with the end of the stream, or with the error that it provokes.
        let _ = echo(&mut case).await;
    }
    let report = format!("/updateReports?agent={agent}&shutdownOnComplete=true");
    // The server may exit before it answers.
    if let Ok(mut report) = connect(&server, &report).await {
        let _ = echo(&mut report).await;
    }
    println!("{count} cases");
    Ok(())
}

async fn connect(server: &str, target: &str) -> Result<Framed<TcpStream, MessageCodec>, Failure> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let request = ClientRequest::new(server, target)?;
    stream.write_all(&request.encode()).await?;
    let mut reader = ResponseReader::new(&request, HeadLimits::default());
    let mut received = BytesMut::new();
    while reader.read(&mut received)?.is_none() {
        if stream.read_buf(&mut received).await? == 0 {
            return Err(reader.eof(&mut received).into());
        }
    }
    let limits = FrameLimits::default().frame(16 << 20).message(16 << 20).fragments(65_537);
    let mut parts = FramedParts::new::<Message>(stream, MessageCodec::new(Role::Client, limits));
    parts.read_buf = received; // frames that came with the answer
    Ok(Framed::from_parts(parts))
}

async fn echo(framed: &mut Framed<TcpStream, MessageCodec>) -> Result<(), Failure> {
    while let Some(incoming) = framed.next().await {
        match incoming {
            Ok(Incoming::Message(message)) => framed.send(message).await?,
            Ok(Incoming::Control(Control::Ping(payload))) => {
                framed.send(Control::Pong(payload)).await?;
            }
            Ok(Incoming::Control(Control::Pong(_))) => {}
            Ok(Incoming::Control(Control::Close(close))) => {
                let code = close.map(|close| CloseFrame::new(close.code(), ""));
                framed.send(Control::Close(code)).await?;
                break;
            }
            Err(error) => {
                if let Some(code) = error.close_code() {
                    framed.send(Control::Close(Some(CloseFrame::new(code, "")))).await?;
                }
                break;
            }
        }
    }
    // The server closes the connection first (RFC 6455, section 7.1.1).
    let stream = framed.get_mut();
    stream.shutdown().await?;
    while stream.read_buf(&mut BytesMut::with_capacity(4096)).await? > 0 {}
    Ok(())
}
