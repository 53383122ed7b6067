//! A program in C or Fortran that links the hub leaves `SIGPIPE` at its default, which ends the process at a write to a peer
//! that has gone. Such a program is a process of its own here: this test file runs itself again.
#![cfg(unix)]

mod support;

use std::io::{IoSlice, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::thread;

use crate::support::peer::{Peer, until};
use stepcast::{ClientId, Hub};

const PROGRAM: &str = "STEPCAST_TEST_SIGPIPE";
const SIGPIPE: i32 = 13;

/// Runs this test again, as a program with `SIGPIPE` at its default: how it ended. `None` in that program.
fn run_again(name: &str) -> Option<ExitStatus> {
    if std::env::var_os(PROGRAM).is_some() {
        sigpipe::reset();
        return None;
    }
    let mut program = Command::new(std::env::current_exe().unwrap());
    let status = program.args(["--exact", name]).env(PROGRAM, "1").status().unwrap();
    Some(status)
}

/// Without this the other test would prove nothing.
#[test]
fn a_plain_write_to_a_peer_that_has_gone_ends_a_program_that_does_not_ignore_the_signal() {
    let name =
        "a_plain_write_to_a_peer_that_has_gone_ends_a_program_that_does_not_ignore_the_signal";
    if let Some(status) = run_again(name) {
        assert_eq!(status.signal(), Some(SIGPIPE), "{status}");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    drop(gone);
    loop {
        let parts = [IoSlice::new(b"two"), IoSlice::new(b"parts")];
        let _ = socket.write_vectored(&parts); // the first is answered with a reset
    }
}

#[test]
fn viewers_that_vanish_one_or_hundreds_at_once_do_not_end_a_program_with_sigpipe_at_its_default() {
    let name = "viewers_that_vanish_one_or_hundreds_at_once_do_not_end_a_program_with_sigpipe_at_its_default";
    if let Some(status) = run_again(name) {
        assert!(status.success(), "{status}");
        return;
    }
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let feed = hub.feed("run").unwrap();
    // Small messages alone are written in one part.
    for (viewers, is_small) in [(1, false), (1, true), (300, false), (300, true), (300, false)] {
        let mut peers: Vec<_> = (0..viewers).map(|_| Peer::connect(&hub)).collect();
        until("all viewers", || hub.client_count() == viewers);
        let ids: Vec<ClientId> = peers.iter().map(|peer| peer.id).collect();
        thread::scope(|scope| {
            // Every way in which a client is written to: from the log of everyone's feed and of another, from its
            // mailbox, in one part and in several, at once and after its socket was full.
            scope.spawn(|| {
                while hub.client_count() > 0 {
                    if is_small {
                        hub.broadcast(vec![0; 100]);
                        continue;
                    }
                    for id in &ids {
                        let _ = hub.follow(*id, &feed);
                        let _ = hub.send(*id, vec![0; 100]);
                        let _ = hub.set(*id, "key", vec![0; 6000]);
                        hub.broadcast(vec![0; 5000]);
                        let _ = feed.send("step");
                    }
                }
            });
            for peer in &mut peers {
                drop(peer.recv());
            }
            // With unread bytes that is a reset, after the end of the stream: then a write raises the signal.
            for peer in &peers {
                let _ = peer.socket.shutdown(Shutdown::Write);
            }
            drop(peers);
        });
    }
    // Some of these go while an answer is being written to them.
    for _ in 0..300 {
        let mut asks = TcpStream::connect(hub.local_addr().unwrap()).unwrap();
        let _ = asks.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    drop(Peer::connect(&hub));
}
