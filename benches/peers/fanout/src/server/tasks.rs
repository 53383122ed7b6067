//! What people write by hand: a task for each client on a single-threaded runtime, which takes
//! what is published from a channel and writes it.
//!
//! What the publishing thread says goes to one task of the runtime, which hands it to all the others:
//! waking them from inside the runtime is cheaper than from outside.

use std::net::TcpListener as StdListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{self, WebSocketUpgrade};
use axum::routing::any;
use bytes::Bytes;
use fastwebsockets::{FragmentCollector, Frame, Payload, upgrade};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio_tungstenite::tungstenite;

use super::{BACKLOG, Server};

pub struct Tasks {
    port: u16,
    publisher: mpsc::UnboundedSender<String>,
    clients: Arc<AtomicUsize>,
}

impl Server for Tasks {
    fn port(&self) -> u16 {
        self.port
    }

    fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    fn publish(&mut self, text: String, _: bool) {
        self.publisher.send(text).expect("the runtime is there");
    }
}

/// A listener whose queue holds all who connect at once.
pub fn listen() -> StdListener {
    StdListener::bind("127.0.0.1:0").expect("a port")
}

/// The one of this name.
pub fn start(kind: &str) -> Option<Box<dyn Server>> {
    let (publisher, published) = mpsc::unbounded_channel();
    let clients = Arc::new(AtomicUsize::new(0));
    let listener = listen();
    let port = listener.local_addr().expect("an address").port();
    let stand = Stand { listener, published, clients: Arc::clone(&clients) };
    match kind {
        "axum" => stand.run(axum_broadcast),
        "tokio-tungstenite" => stand.run(|stand| with_channels(stand, tungstenite_plain)),
        "tokio-tungstenite-tuned" => stand.run(|stand| with_channels(stand, tungstenite_tuned)),
        "fastwebsockets" => stand.run(|stand| with_channels(stand, fastwebsockets)),
        "tokio-websockets" => stand.run(|stand| with_channels(stand, tokio_websockets)),
        "tokio-websockets-batch" => {
            stand.run(|stand| with_channels(stand, tokio_websockets_batch));
        }
        _ => return None,
    }
    Some(Box::new(Tasks { port, publisher, clients }))
}

struct Stand {
    listener: StdListener,
    published: mpsc::UnboundedReceiver<String>,
    clients: Arc<AtomicUsize>,
}

impl Stand {
    fn run<F: Future<Output = ()>>(self, serve: impl FnOnce(Self) -> F + Send + 'static) {
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(serve(self));
        });
    }

    fn listener(&self) -> TcpListener {
        self.listener.set_nonblocking(true).expect("a socket");
        TcpListener::from_std(self.listener.try_clone().expect("a socket")).expect("a runtime")
    }
}

// ---- axum and tokio's broadcast channel ----

#[derive(Clone)]
struct App {
    sender: broadcast::Sender<ws::Utf8Bytes>,
    clients: Arc<AtomicUsize>,
}

async fn axum_broadcast(mut stand: Stand) {
    let (sender, _) = broadcast::channel(BACKLOG);
    let app = App { sender: sender.clone(), clients: Arc::clone(&stand.clients) };
    let upgrade = |upgrade: WebSocketUpgrade, State(app): State<App>| async {
        upgrade.on_upgrade(|socket| axum_client(socket, app))
    };
    let router = Router::new().route("/", any(upgrade)).with_state(app);
    let listener = axum::serve::ListenerExt::tap_io(stand.listener(), |stream: &mut TcpStream| {
        stream.set_nodelay(true).expect("a socket");
    });
    tokio::spawn(async { axum::serve(listener, router).await });
    while let Some(text) = stand.published.recv().await {
        let _ = sender.send(text.into());
    }
}

async fn axum_client(mut socket: ws::WebSocket, app: App) {
    let mut messages = app.sender.subscribe();
    app.clients.fetch_add(1, Ordering::Relaxed);
    loop {
        tokio::select! {
            message = messages.recv() => {
                let text = message.expect("nobody is behind");
                if socket.send(ws::Message::Text(text)).await.is_err() {
                    return;
                }
            }
            incoming = socket.recv() => {
                if !matches!(incoming, Some(Ok(_))) {
                    return;
                }
            }
        }
    }
}

// ---- a bounded channel for each client ----

type Senders = Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>;

/// One client's place: what it needs to take part once it has been upgraded.
struct Place {
    senders: Senders,
    clients: Arc<AtomicUsize>,
}

impl Place {
    fn take(&self) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        self.senders.lock().expect("no panic").push(sender);
        self.clients.fetch_add(1, Ordering::Relaxed);
        receiver
    }
}

async fn with_channels<F: Future<Output = Option<()>> + Send + 'static>(
    mut stand: Stand,
    client: fn(TcpStream, Place) -> F,
) {
    let senders = Senders::default();
    let listener = stand.listener();
    let (all, clients) = (Arc::clone(&senders), Arc::clone(&stand.clients));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("a socket");
            let place = Place { senders: Arc::clone(&all), clients: Arc::clone(&clients) };
            tokio::spawn(client(stream, place));
        }
    });
    while let Some(text) = stand.published.recv().await {
        let message = Bytes::from(text);
        for sender in &*senders.lock().expect("no panic") {
            assert!(sender.try_send(message.clone()).is_ok(), "nobody is behind");
        }
    }
}

fn utf8(message: Bytes) -> tungstenite::Message {
    // It was a `String`.
    let text = unsafe { tungstenite::Utf8Bytes::from_bytes_unchecked(message) };
    tungstenite::Message::Text(text)
}

async fn tungstenite_plain(stream: TcpStream, place: Place) -> Option<()> {
    let mut socket = tokio_tungstenite::accept_async(stream).await.ok()?;
    let mut messages = place.take();
    loop {
        tokio::select! {
            message = messages.recv() => socket.send(utf8(message?)).await.ok()?,
            incoming = socket.next() => drop(incoming?.ok()?),
        }
    }
}

/// With a small read buffer, and all that waits fed before it is flushed.
async fn tungstenite_tuned(stream: TcpStream, place: Place) -> Option<()> {
    let config = tungstenite::protocol::WebSocketConfig::default().read_buffer_size(4096);
    let accepted = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await;
    let mut socket = accepted.ok()?;
    let mut messages = place.take();
    loop {
        tokio::select! {
            message = messages.recv() => {
                socket.feed(utf8(message?)).await.ok()?;
                while let Ok(message) = messages.try_recv() {
                    socket.feed(utf8(message)).await.ok()?;
                }
                socket.flush().await.ok()?;
            }
            incoming = socket.next() => drop(incoming?.ok()?),
        }
    }
}

async fn fastwebsockets(stream: TcpStream, place: Place) -> Option<()> {
    let place = Arc::new(place);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let place = Arc::clone(&place);
        async move {
            let (response, socket) = upgrade::upgrade(&mut request)?;
            tokio::spawn(fastwebsockets_client(socket, place));
            Ok::<Response<Empty<Bytes>>, fastwebsockets::WebSocketError>(response)
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    connection.with_upgrades().await.ok()
}

async fn fastwebsockets_client(socket: upgrade::UpgradeFut, place: Arc<Place>) -> Option<()> {
    let mut socket = FragmentCollector::new(socket.await.ok()?);
    let mut messages = place.take();
    drop(place);
    loop {
        tokio::select! {
            message = messages.recv() => {
                let message = message?;
                socket.write_frame(Frame::text(Payload::Borrowed(&message))).await.ok()?;
            }
            incoming = socket.read_frame() => drop(incoming.ok()?),
        }
    }
}

async fn tokio_websockets(stream: TcpStream, place: Place) -> Option<()> {
    let accepted = tokio_websockets::ServerBuilder::new().accept(stream).await;
    let (_, mut socket) = accepted.ok()?;
    let mut messages = place.take();
    loop {
        tokio::select! {
            message = messages.recv() => {
                socket.send(tokio_websockets::Message::text(message?)).await.ok()?;
            }
            incoming = socket.next() => drop(incoming?.ok()?),
        }
    }
}

async fn tokio_websockets_batch(stream: TcpStream, place: Place) -> Option<()> {
    let accepted = tokio_websockets::ServerBuilder::new().accept(stream).await;
    let (_, mut socket) = accepted.ok()?;
    let mut messages = place.take();
    loop {
        tokio::select! {
            message = messages.recv() => {
                socket.feed(tokio_websockets::Message::text(message?)).await.ok()?;
                while let Ok(message) = messages.try_recv() {
                    socket.feed(tokio_websockets::Message::text(message)).await.ok()?;
                }
                socket.flush().await.ok()?;
            }
            incoming = socket.next() => drop(incoming?.ok()?),
        }
    }
}
