//! A handle to one client: each of its calls reaches that client, and none keeps the hub or the
//! client.

use std::time::Duration;

use crate::support::peer::{Peer, until};
use stepcast::{FollowError, Hub, SendError};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_calls_of_a_handle_reach_its_client_and_no_other() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let (mut peer, mut other) = (Peer::connect(&hub), Peer::connect(&hub));
    let client = hub.client(peer.id).unwrap();
    let feed = hub.feed("run").unwrap();
    client.send("sent").unwrap();
    assert_eq!(peer.text(), "sent");
    client.set("key", "set").unwrap();
    client.remove("key").unwrap();
    client.send_timeout_blocking("waited", PATIENCE).unwrap();
    until("it to come", || peer.text() == "waited");
    client.follow(&feed).unwrap();
    feed.send("of the feed").unwrap();
    assert_eq!(peer.text(), "of the feed");
    client.unfollow(&feed).unwrap();
    assert_eq!(feed.followers(), 0);
    let info = client.info();
    assert_eq!((info.id, info.connected), (peer.id, true));
    assert_eq!(info.address, peer.socket.local_addr().unwrap());
    let elsewhere = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let foreign = elsewhere.feed("run").unwrap();
    assert_eq!(client.follow(&foreign), Err(FollowError::OtherHub));
    client.disconnect("enough").unwrap();
    assert_eq!(peer.close_frame().unwrap().reason(), "enough");
    hub.broadcast("to all");
    assert_eq!(other.text(), "to all");
}

#[test]
fn a_handle_of_a_client_that_has_gone_says_so_and_still_knows_who_it_was() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let peer = Peer::connect_at(&hub, "/?run=7");
    let (id, client) = (peer.id, hub.client(peer.id).unwrap());
    let (before, gone) = (client.info(), client.gone_token());
    drop(peer);
    until("it to go", || gone.is_cancelled());
    let nobody = Err(SendError::NoSuchClient(id));
    assert_eq!((client.send("late"), client.set("key", "late")), (nobody, nobody));
    assert_eq!(
        (client.send_timeout_blocking("late", PATIENCE), client.remove("key")),
        (nobody, nobody)
    );
    assert_eq!(client.disconnect("late"), nobody);
    let feed = hub.feed("run").unwrap();
    assert_eq!(client.follow(&feed), Err(FollowError::NoSuchClient(id)));
    assert!(client.gone_token().is_cancelled());
    let after = client.info();
    assert_eq!((after.id, &after.path, after.address), (id, &before.path, before.address));
    assert!(before.connected && !after.connected);
}

#[test]
fn handles_are_equal_by_their_client_and_do_not_keep_the_hub() {
    fn is_shared<T: Send + Sync + Clone + 'static>(_: &T) {}

    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut peers = [Peer::connect(&hub), Peer::connect(&hub)];
    let clients = hub.clients();
    assert!(clients.len() == 2 && clients[0] != clients[1]);
    let client = hub.client(peers[0].id).unwrap();
    is_shared(&client);
    assert!(clients.contains(&client) && Some(client.clone()) == hub.client(client.id()));
    drop(hub);
    assert_eq!(client.send("late"), Err(SendError::ShutDown));
    assert_eq!(peers[0].close_code(), 1001);
}
