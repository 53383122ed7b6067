//! The driver: the one task that owns the listener and every connection.
//!
//! The driver works in turns. A turn takes a bounded number of steps of each kind: accepts, ready
//! sockets, mailboxes, and the fan-out of broadcasts. A handshake or a ping therefore does not wait
//! behind a long fan-out. Between turns the runtime polls the sockets. A driver with nothing to do
//! rests. While pushes keep coming the driver looks by itself every millisecond, so a caller in a
//! hot loop does not pay for waking it. After some silence, and soon after a single push, the
//! driver sleeps until the bell rings.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep_until};

use crate::hub::driver::state::{Driver, Stage};
use crate::hub::primitives::moment::millis;

/// The time between two looks, which the runtime's timer rounds up.
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// The driver in its own process. A fork may copy a runtime of the program's with the driver. In
/// the child the runtime's poller and the sockets are the parent's, so closing them there would
/// disturb the parent.
pub(super) struct Own(Option<Driver>);

impl Own {
    /// Returns the driver, unless this is another process.
    fn get(&mut self) -> Option<&mut Driver> {
        let driver = self.0.take_if(|driver| driver.engine.shared.process.is_another());
        std::mem::forget(driver);
        self.0.as_mut()
    }
}
impl Drop for Own {
    fn drop(&mut self) {
        self.get();
    }
}

pub(super) enum Turn {
    /// There is more to do at once.
    More,
    Rest,
    Ended,
}

/// The followers whose cursors a turn looks up, for pushes that wait until the slowest follower has
/// room. More than can begin to follow in a turn, so in the end all are looked at.
const SURVEY: usize = 2048;

impl Driver {
    /// Runs until the hub has been shut down and every connection has ended.
    pub(crate) async fn run(self) {
        let mut timer = Box::pin(sleep_until(self.epoch));
        let mut own = Own(Some(self));
        while let Some(driver) = own.get() {
            match poll_fn(|cx| Poll::Ready(driver.turn(cx))).await {
                Turn::More => tokio::task::yield_now().await,
                Turn::Rest => driver.rest(timer.as_mut()).await,
                Turn::Ended => {
                    if let Some(listener) = driver.listener.take() {
                        listener.close();
                    }
                    return;
                }
            }
        }
        std::future::pending::<()>().await;
    }

    pub(super) fn turn(&mut self, cx: &mut Context<'_>) -> Turn {
        self.engine.shared.bell.register(cx.waker());
        self.engine.clock.now = millis(self.epoch.elapsed());
        self.look_for_shutdown();
        let gives_up = self.go_on_ending();
        let more_to_accept = !gives_up && self.accept(cx);
        self.tick();
        self.serve_ready();
        self.serve_commands();
        self.sample();
        self.take_pushes();
        self.deliver();
        self.serve_waiters(SURVEY);
        self.flushes.begin(&mut self.connections, &self.engine);
        self.flushes.answer(self.engine.shared.registry.count());
        let all_told = self.end.as_ref().is_some_and(|end| end.stage == Stage::Told);
        if all_told && self.connections.iter().all(|(_, c)| c.is_in_handshake()) {
            // No connection is left to be looked at.
            self.flushes.give_up(self.engine.shared.registry.count());
            return Turn::Ended;
        }
        let more = more_to_accept
            || !self.todo.is_empty()
            || !self.commands.is_empty()
            || self.walk.is_some()
            || self.end.as_ref().is_some_and(|end| end.stage != Stage::Told)
            || self.more_to_trim
            || self.unlooked > 0
            || (self.engine.clock.now >= self.relieve_at && self.lacks_memory())
            || !self.owed.is_empty()
            || !self.fresh.is_empty()
            || !self.calling.is_empty()
            || self.engine.feeds.has_hidden()
            || self.flushes.is_beginning();
        if more { Turn::More } else { Turn::Rest }
    }

    /// Waits until there may be something to do.
    pub(super) async fn rest(&mut self, mut timer: Pin<&mut Sleep>) {
        let bell = Arc::clone(&self.engine.shared.bell);
        let mut rested = false;
        let driver = &mut *self; // lent whole: a connection is not shared between threads
        poll_fn(move |cx| {
            if std::mem::replace(&mut rested, true) {
                return Poll::Ready(());
            }
            let mut wake_at = driver.next_deadline();
            if driver.engine.clock.now < driver.look_until {
                let look = driver.epoch.elapsed() + LOOK_EVERY;
                wake_at = Some(wake_at.map_or(look, |at| at.min(look)));
            } else if !driver.engine.shared.fall_asleep() {
                return Poll::Ready(());
            }
            if let Some(at) = wake_at {
                timer.as_mut().reset(driver.epoch + at);
                return timer.as_mut().poll(cx);
            }
            Poll::Pending
        })
        .await;
        bell.rise();
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let tick = self.has_to_tick().then_some(self.next_tick);
        let accept = self.listener.as_ref().and_then(|l| l.resumes_at(self.engine.clock.now));
        let waits = self.engine.shared.waiters.first_deadline();
        let waits = waits.into_iter().chain(self.flushes.first_deadline()).min().map(|deadline| {
            // Rounded up, so that the deadline has passed then.
            1 + self.engine.clock.now
                + millis(deadline.saturating_duration_since(std::time::Instant::now()))
        });
        let relief = self.lacks_memory().then_some(self.relieve_at);
        let end_by = self.end.as_ref().map(|end| end.by);
        let sample = self.sampling.next;
        [tick, accept, end_by, waits, relief, sample]
            .into_iter()
            .flatten()
            .min()
            .map(Duration::from_millis)
    }

    /// Whether anything depends on time: a connection, a client that may come back, or a named
    /// feed.
    pub(super) fn has_to_tick(&self) -> bool {
        !self.connections.is_empty()
            || !self.engine.clients.sessions.is_empty()
            || self.engine.feeds.logs.len() > 1
    }
}
