//! Tests of a driver that sleeps, and of when it does.

use super::*;

#[test]
fn every_call_wakes_a_driver_that_sleeps() {
    let mut stand = Stand::new();
    let peers = stand.connect(5);
    let clients = stand.shared.registry.all();
    let no_tick = 3600 * 1000;
    (stand.driver.next_tick, stand.driver.engine.clock.timeouts.tick) = (no_tick, no_tick);
    let Stand { driver, shared, runtime, .. } = stand;
    let hub = thread::spawn(move || runtime.block_on(driver.run()));
    let until_asleep = || {
        let started = Instant::now();
        while !shared.bell.is_asleep() {
            assert!(started.elapsed() < PATIENCE, "the driver does not sleep");
            thread::yield_now();
        }
    };
    let reads = |mut peer: &TcpStream, awaited: &[u8]| {
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(awaited) {
            let mut byte = [0];
            peer.read_exact(&mut byte).expect("the driver has not been woken");
            bytes.extend_from_slice(&byte);
        }
    };
    for _ in 0..5 {
        until_asleep();
        shared.broadcast("all".into());
        for peer in &peers {
            reads(peer, b"all");
        }
    }
    for client in clients {
        let address = client.info().address;
        let peer = peers.iter().find(|peer| peer.local_addr().unwrap() == address).unwrap();
        until_asleep();
        shared.send(client.id, "one".into()).unwrap();
        reads(peer, b"one");
        until_asleep();
        let close = CloseFrame::new(CloseCode::NORMAL, "go");
        shared.command(Command::Disconnect { id: client.id, close });
        reads(peer, b"go");
    }
    until_asleep();
    drop(peers);
    until_asleep();
    shared.request_shutdown(PATIENCE * 9, Goodbye::ended());
    let (ended, is_over) = std::sync::mpsc::channel();
    thread::spawn(move || ended.send(hub.join()));
    is_over.recv_timeout(PATIENCE).expect("the driver has not been woken").unwrap();
}

// The bell's two rules; see `Bell`.
#[test]
fn the_driver_looks_once_more_after_it_has_said_that_it_sleeps() {
    let mut stand = Stand::new();
    let _client = stand.connect(1);
    while !matches!(stand.turn(), Turn::Rest) {}
    let Stand { driver, shared, runtime, .. } = &mut stand;
    driver.look_until = 0;
    let context = runtime.enter();
    let mut timer = Box::pin(sleep_until(driver.epoch));
    drop(context);

    // Pushed while the driver is awake, so that nobody rings: the driver must not sleep.
    shared.broadcast("x".into());
    let up_at_once = runtime.block_on(async {
        let mut rest = pin!(driver.rest(timer.as_mut()));
        poll_fn(|cx| Poll::Ready(rest.as_mut().poll(cx).is_ready())).await
    });
    assert!(up_at_once);
    assert!(!shared.bell.is_asleep());

    // It says so before it looks: here it cannot look yet.
    let news = shared.news.lock();
    thread::scope(|scope| {
        let resting = scope.spawn(move || {
            runtime.block_on(async {
                tokio::time::timeout(PATIENCE, driver.rest(timer.as_mut())).await
            })
        });
        let started = Instant::now();
        while !shared.bell.is_asleep() && started.elapsed() < PATIENCE {
            thread::yield_now();
        }
        let asleep = shared.bell.is_asleep();
        drop(news);
        resting.join().unwrap().unwrap();
        assert!(asleep);
    });
}

#[test]
fn it_goes_on_looking_for_pushes_that_come_close_together_but_hardly_after_one_alone() {
    let mut stand = Stand::new();
    let _client = stand.connect(1);
    stand.driver.epoch -= Duration::from_secs(1); // so long nothing has been pushed
    let looks_for = |stand: &mut Stand| {
        stand.shared.broadcast("now".into());
        stand.turn();
        stand.driver.look_until - stand.driver.engine.clock.now
    };
    assert_eq!(looks_for(&mut stand), LOOK_FIRST);
    stand.driver.pushed_at = u64::MAX; // just now, however slow the machine is
    assert_eq!(looks_for(&mut stand), LOOK_FOR);
    assert_eq!([0, 10, 11].map(look_for), [LOOK_FOR, LOOK_FOR, LOOK_FIRST]);
}
