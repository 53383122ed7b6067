//! The client tungstenite, on tokio: `client HUB PINGING`
//!
//! The same list of checks is in `checks.mjs` and `client.py`.

use std::collections::HashSet;
use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const ROUNDS: usize = 40;
const CLIENTS: usize = 200;
const MEBIBYTE: usize = 1 << 20;

/// Within this time anything that is waited for must have happened.
const PATIENCE: Duration = Duration::from_secs(30);

const CLOSE_CODE: u16 = 4001;
const REASON: &str = "看够了,再见 😀 bye";

fn chinese() -> [String; 5] {
    [
        "模型第 41 步,共 100 步:残差 1e-9".to_owned(),
        "𠜎𠜱𡿺𧒽 😀 每个字四个字节".to_owned(),
        "é ß я 字 😀".to_owned(), // of two, three and four bytes
        "进".repeat(42),          // 126 bytes, and so the first length of two bytes
        "度".repeat(21_846),      // 65 538 bytes, and so a length of eight
    ]
}

/// Bytes that the hub knows, too: of all values, and other ones for another length.
fn pattern(length: usize) -> Message {
    let byte = |i: usize| (i * 131 + (i >> 8) * 17 + length).to_le_bytes()[0];
    Message::binary((0..length).map(byte).collect::<Vec<_>>())
}

/// Fails unless the two are the same, to the last character or byte.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: got {:.120}, not {:.120}", format!("{found:?}"), format!("{expected:?}")))?
}

/// A connection, from its greeting on. What it is sent is taken from it one by one.
struct Connection {
    id: u64,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pings: u64,
}

impl Connection {
    async fn open(url: &str) -> Result<Self> {
        let (socket, _) = timeout(PATIENCE, connect_async(url)).await??;
        let mut new = Self { id: 0, socket, pings: 0 };
        let greeting = new.next().await?;
        let id = greeting.to_text()?.strip_prefix(r#"{"type":1,"body":"#);
        let id = id.and_then(|rest| rest.strip_suffix('}')).and_then(|id| id.parse().ok());
        new.id = id.ok_or_else(|| format!("the greeting is {greeting}"))?;
        Ok(new)
    }

    async fn send(&mut self, message: Message) -> Result {
        Ok(timeout(PATIENCE, self.socket.send(message)).await??)
    }

    async fn command(&mut self, command: &Value) -> Result {
        self.send(Message::text(command.to_string())).await
    }

    /// Whatever comes next, but for pings, which are counted.
    async fn any(&mut self) -> Result<Message> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await?.ok_or("the connection is over")?? {
                Message::Ping(_) => self.pings += 1,
                message => return Ok(message),
            }
        }
    }

    async fn next(&mut self) -> Result<Message> {
        match self.any().await? {
            message @ (Message::Text(_) | Message::Binary(_)) => Ok(message),
            other => Err(format!("{other:?} instead of a message"))?,
        }
    }

    async fn expect(&mut self, expected: &Message) -> Result {
        same("the next message", &self.next().await?, expected)
    }

    async fn expect_text(&mut self, expected: &str) -> Result {
        self.expect(&Message::text(expected)).await
    }

    async fn answer(&mut self, expected: &Value) -> Result {
        let found: Value = serde_json::from_str(self.next().await?.to_text()?)?;
        for (name, value) in expected.as_object().into_iter().flatten() {
            same(&format!("the answer's {name} in {found}"), &found[name], value)?;
        }
        Ok(())
    }

    /// The hub says what it got, by its length and digest, and sends it back.
    async fn returned(&mut self, content: &Message) -> Result {
        let got = if content.is_text() { "text" } else { "binary" };
        let bytes = content.clone().into_data();
        let mut sha1 = String::new();
        for byte in Sha1::digest(&bytes) {
            write!(sha1, "{byte:02x}")?;
        }
        self.answer(&json!({ "got": got, "bytes": bytes.len(), "sha1": sha1 })).await?;
        self.expect(content).await
    }

    async fn exchange(&mut self, content: Message) -> Result {
        self.send(content.clone()).await?;
        self.returned(&content).await
    }

    /// Sends one message in several frames, cut at these bytes, with a ping between two of them.
    async fn fragments(&mut self, content: &Message, cuts: &[usize]) -> Result {
        let bytes = content.clone().into_data();
        let mut kind = if content.is_text() { Data::Text } else { Data::Binary };
        let mut begin = 0;
        for &cut in cuts {
            let frame = Frame::message(bytes.slice(begin..cut), OpCode::Data(kind), false);
            self.send(Message::Frame(frame)).await?;
            (kind, begin) = (Data::Continue, cut);
        }
        self.send(Message::Ping("between".into())).await?;
        let frame = Frame::message(bytes.slice(begin..), OpCode::Data(kind), true);
        self.send(Message::Frame(frame)).await?;
        same("the pong", &self.any().await?, &Message::Pong("between".into()))
    }

    /// Fails unless the hub closes like this, with no message before that; returns the reason.
    async fn ends(&mut self, code: u16, reason: Option<&str>) -> Result<String> {
        let Message::Close(Some(close)) = self.any().await? else {
            Err("something else than a close with a code")?
        };
        same("the code", &u16::from(close.code), &code)?;
        if let Some(reason) = reason {
            same("the reason", &close.reason.as_str(), &reason)?;
        }
        // The rest of the closing handshake, up to the end of the TCP connection.
        match timeout(PATIENCE, self.socket.next()).await? {
            None => Ok(close.reason.to_string()),
            Some(other) => Err(format!("{other:?} after the close"))?,
        }
    }

    async fn close(&mut self, code: u16, reason: &str) -> Result {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        timeout(PATIENCE, self.socket.close(Some(frame))).await??;
        self.ends(code, None).await?;
        Ok(())
    }

    async fn finish(mut self) -> Result {
        self.close(1000, "done").await
    }
}

async fn connect(hub: &str) -> Result {
    let mut client = Connection::open(hub).await?;
    client.command(&json!({ "do": "who", "id": client.id })).await?;
    client.answer(&json!({ "who": client.id, "known": true })).await?;
    client.finish().await
}

async fn addressed(hub: &str) -> Result {
    let (mut one, mut other) = (Connection::open(hub).await?, Connection::open(hub).await?);
    one.command(&json!({ "do": "send", "to": one.id, "text": "to one" })).await?;
    one.command(&json!({ "do": "send", "to": other.id, "text": "to the other" })).await?;
    one.command(&json!({ "do": "broadcast", "text": "to all" })).await?;
    one.expect_text("to one").await?;
    other.expect_text("to the other").await?;
    one.expect_text("to all").await?;
    other.expect_text("to all").await?;
    one.finish().await?;
    other.finish().await
}

async fn broadcast(hub: &str) -> Result {
    let mut clients = try_join_all((0..3).map(|_| Connection::open(hub))).await?;
    for i in 0..100 {
        let command = json!({ "do": "broadcast", "text": format!("step {i}") });
        clients[i % 3].command(&command).await?;
    }
    // One hub, one order; each client's own messages in the order in which it sent them.
    let mut order = Vec::new();
    for client in &mut clients {
        let mut texts = Vec::new();
        while texts.len() < 100 {
            texts.push(client.next().await?.to_text()?.to_owned());
        }
        if order.is_empty() {
            order.clone_from(&texts);
        }
        same("the order", &texts, &order)?;
    }
    for k in 0..3 {
        let sent: Vec<_> = (k..100).step_by(3).map(|i| format!("step {i}")).collect();
        let own: Vec<_> = order.iter().filter(|text| sent.contains(text)).cloned().collect();
        same("the texts", &own, &sent)?;
    }
    for client in clients {
        client.finish().await?;
    }
    Ok(())
}

async fn binary(hub: &str) -> Result {
    let mut client = Connection::open(hub).await?;
    for length in [0, 1, 125, 126, 127, 256, 65_535, 65_536] {
        client.exchange(pattern(length)).await?;
    }
    client.finish().await
}

async fn mebibyte(hub: &str) -> Result {
    let mut client = Connection::open(hub).await?;
    client.exchange(pattern(MEBIBYTE)).await?;
    let text = "进度😀 abc\n".repeat(69_905) + "x"; // 15 bytes each
    client.exchange(Message::text(text)).await?;
    client.finish().await
}

async fn chinese_text(hub: &str) -> Result {
    let mut client = Connection::open(hub).await?;
    for text in chinese() {
        client.exchange(Message::text(text)).await?;
    }
    for text in chinese() {
        client.command(&json!({ "do": "send", "to": client.id, "text": text })).await?;
        client.expect_text(&text).await?;
    }
    client.finish().await
}

async fn fragments(hub: &str) -> Result {
    let mut client = Connection::open(hub).await?;
    let bytes = pattern(1000);
    client.fragments(&bytes, &[0, 1, 500]).await?;
    client.returned(&bytes).await?;
    let text = Message::text("分成几段的文字 😀");
    client.fragments(&text, &[1, 4, 24]).await?; // within characters
    client.returned(&text).await?;
    client.finish().await
}

async fn ping(hub: &str) -> Result {
    let mut client = Connection::open(hub).await?;
    for payload in ["", "ping 7", "在吗", "x".repeat(125).as_str()] {
        client.send(Message::Ping(payload.to_owned().into())).await?;
        same("the pong", &client.any().await?, &Message::Pong(payload.to_owned().into()))?;
    }
    client.finish().await
}

async fn pinged(pinging: &str) -> Result {
    let mut client = Connection::open(pinging).await?;
    let counted: Value = serde_json::from_str(client.next().await?.to_text()?)?;
    let pongs = counted["pongs"].as_u64().unwrap_or(0);
    if pongs < 4 || client.pings < pongs || counted["other_bytes"] != 0 || counted["messages"] != 0
    {
        Err(format!("{} pings, and the hub got {counted}", client.pings))?;
    }
    client.finish().await
}

async fn close(hub: &str) -> Result {
    let (mut client, mut witness) = (Connection::open(hub).await?, Connection::open(hub).await?);
    witness.command(&json!({ "do": "ended", "id": client.id })).await?;
    client.close(CLOSE_CODE, REASON).await?;
    let expected = json!({ "ended": client.id, "code": CLOSE_CODE, "reason": REASON });
    witness.answer(&expected).await?;
    witness.finish().await
}

async fn closed(hub: &str) -> Result {
    let (mut client, mut witness) = (Connection::open(hub).await?, Connection::open(hub).await?);
    witness.command(&json!({ "do": "ended", "id": client.id })).await?;
    witness.command(&json!({ "do": "send", "to": client.id, "text": "the last" })).await?;
    witness.command(&json!({ "do": "disconnect", "id": client.id, "reason": REASON })).await?;
    client.expect_text("the last").await?;
    client.ends(1000, Some(REASON)).await?;
    witness.answer(&json!({ "ended": client.id, "how": "closed by the hub" })).await?;
    witness.finish().await
}

async fn too_large(hub: &str) -> Result {
    let (mut client, mut witness) = (Connection::open(hub).await?, Connection::open(hub).await?);
    witness.command(&json!({ "do": "ended", "id": client.id })).await?;
    client.send(pattern(4 * MEBIBYTE)).await?;
    let reason = client.ends(1009, None).await?;
    witness.answer(&json!({ "ended": client.id, "code": 1009, "reason": reason })).await?;
    witness.finish().await
}

async fn crowd(hub: &str) -> Result {
    let mut clients = try_join_all((0..CLIENTS).map(|_| Connection::open(hub))).await?;
    let ids: Vec<_> = clients.iter().map(|client| client.id).collect();
    same("the number of ids", &ids.iter().collect::<HashSet<_>>().len(), &CLIENTS)?;
    let command = json!({ "do": "rounds", "count": ROUNDS, "to": ids });
    clients[0].command(&command).await?;
    try_join_all(clients.iter_mut().map(async |client| -> Result {
        let id = client.id;
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                client.expect_text(&format!("第 {round} 轮,所有人")).await?;
            } else {
                client.expect(&pattern(round * 100)).await?;
            }
            client.expect_text(&format!("第 {round} 轮,只给 {id}")).await?;
        }
        let own: Vec<_> = (0..5).map(|i| Message::text(format!("{id} 的第 {i} 条"))).collect();
        for text in &own {
            client.send(text.clone()).await?;
        }
        for text in &own {
            client.returned(text).await?;
        }
        Ok(())
    }))
    .await?;
    try_join_all(clients.into_iter().map(Connection::finish)).await?;
    Ok(())
}

fn print(name: &str, result: Result) {
    match result {
        Ok(()) => println!("ok {name}"),
        Err(error) => println!("FAILED {name}: {error}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let mut arguments = std::env::args().skip(1).map(|url| url.replace("http:", "ws:"));
    let hub = &arguments.next().ok_or("no address of a hub")?;
    let pinging = &arguments.next().ok_or("no address of a second hub")?;
    print("connect", connect(hub).await);
    print("addressed", addressed(hub).await);
    print("broadcast", broadcast(hub).await);
    print("binary", binary(hub).await);
    print("mebibyte", mebibyte(hub).await);
    print("chinese", chinese_text(hub).await);
    print("fragments", fragments(hub).await);
    print("ping", ping(hub).await);
    print("pinged", pinged(pinging).await);
    print("close", close(hub).await);
    print("closed", closed(hub).await);
    print("too_large", too_large(hub).await);
    print("crowd", crowd(hub).await);
    Ok(())
}
