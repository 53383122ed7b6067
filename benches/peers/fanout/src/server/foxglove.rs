//! The foxglove crate's server: a raw channel that every client subscribes to, its own queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use foxglove::websocket::{ChannelView, Client, ServerListener};
use foxglove::{ChannelBuilder, RawChannel, WebSocketServer};

use super::Server;

pub struct Foxglove {
    port: u16,
    channel: Arc<RawChannel>,
    subscriptions: Arc<Subscriptions>,
}

#[derive(Default)]
struct Subscriptions(AtomicUsize);

impl ServerListener for Subscriptions {
    fn on_subscribe(&self, _: Client, _: ChannelView) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Foxglove {
    pub fn start() -> Self {
        let channel = ChannelBuilder::new("/progress").message_encoding("json").build_raw();
        let subscriptions = Arc::new(Subscriptions::default());
        let listener = Arc::clone(&subscriptions);
        let (told, port) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let server = WebSocketServer::new().bind("127.0.0.1", 0).listener(listener);
                let handle = server.start().await.expect("a port");
                told.send(handle.port()).expect("somebody waits");
                std::future::pending::<()>().await;
            });
        });
        let port = port.recv().expect("it starts");
        Self { port, channel: channel.expect("a channel"), subscriptions }
    }
}

impl Server for Foxglove {
    fn port(&self) -> u16 {
        self.port
    }

    fn clients(&self) -> usize {
        self.subscriptions.0.load(Ordering::Relaxed)
    }

    fn publish(&mut self, text: String, _: bool) {
        self.channel.log(text.as_bytes());
    }
}
