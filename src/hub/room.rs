//! Pushes that wait for room instead of skipping.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use slab::Slab;

use super::lock::Lock;

/// Who waits for room, and until when.
///
/// The driver wakes them all at the end of a turn, since room is made in turns, and at their
/// deadlines: they need no clock of the program's runtime, nor a runtime.
#[derive(Debug, Default)]
pub(crate) struct Room {
    waiting: Lock<Slab<(Instant, Waker)>>,
    /// How many: what the driver looks at.
    count: AtomicUsize,
}

impl Room {
    pub(crate) fn anybody_waits(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// The driver: there may be room, or time has passed.
    pub(crate) fn wake_all(&self) {
        let wakers: Vec<Waker> =
            self.waiting.lock().iter().map(|(_, (_, waker))| waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The driver: when the first of them gives up.
    pub(crate) fn first_deadline(&self) -> Option<Instant> {
        if !self.anybody_waits() {
            return None;
        }
        self.waiting.lock().iter().map(|(_, (deadline, _))| *deadline).min()
    }

    /// Tries until there is an answer or the time is up, which is `None`. `enter` is called before the
    /// first wait: the driver is to look.
    pub(crate) async fn wait<T>(
        &self,
        within: Duration,
        mut attempt: impl FnMut() -> Option<T>,
        enter: impl FnOnce(),
    ) -> Option<T> {
        if let Some(done) = attempt() {
            return Some(done);
        }
        let far = Duration::from_secs(30 * 365 * 24 * 60 * 60);
        let deadline = Instant::now() + within.min(far);
        let place = Place::take(self, deadline);
        let mut enter = Some(enter);
        poll_fn(move |cx| {
            // First the waker, then the attempt: whatever makes room after it wakes.
            place.set_waker(cx.waker());
            if let Some(enter) = enter.take() {
                enter();
            }
            match attempt() {
                Some(done) => Poll::Ready(Some(done)),
                None if Instant::now() >= deadline => Poll::Ready(None),
                None => Poll::Pending,
            }
        })
        .await
    }
}

/// A place among those who wait; given up when the wait is over, or dropped.
struct Place<'a> {
    room: &'a Room,
    key: usize,
}

impl<'a> Place<'a> {
    fn take(room: &'a Room, deadline: Instant) -> Self {
        let key = room.waiting.lock().insert((deadline, Waker::noop().clone()));
        room.count.fetch_add(1, Ordering::SeqCst);
        Self { room, key }
    }

    fn set_waker(&self, waker: &Waker) {
        if let Some((_, known)) = self.room.waiting.lock().get_mut(self.key) {
            known.clone_from(waker);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.room.count.fetch_sub(1, Ordering::SeqCst);
        let mut waiting = self.room.waiting.lock();
        waiting.remove(self.key);
        if waiting.is_empty() {
            waiting.shrink_to_fit();
        }
    }
}

/// Runs a future on this thread, which sleeps while it waits.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    block_on_until(future, None).unwrap_or_else(|| unreachable!("there is no deadline"))
}

/// The same, until this time at the latest.
pub(crate) fn block_on_until<T>(
    future: impl Future<Output = T>,
    deadline: Option<Instant>,
) -> Option<T> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        let Some(deadline) = deadline else {
            thread::park();
            continue;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_woken_tries_again_and_leaves_no_place_behind() {
        let room = Room::default();
        let mut tries = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                while !room.anybody_waits() {
                    thread::yield_now();
                }
                while room.anybody_waits() {
                    room.wake_all();
                }
            });
            let done = block_on(room.wait(
                Duration::MAX,
                || {
                    tries += 1;
                    (tries == 5).then_some("done")
                },
                || {},
            ));
            assert_eq!(done, Some("done"));
        });
        assert!(room.waiting.lock().is_empty());
    }

    #[test]
    fn a_deadline_that_is_over_ends_the_wait_when_it_is_woken() {
        let room = Room::default();
        let waited: Option<()> = block_on(room.wait(Duration::ZERO, || None, || {}));
        assert!(waited.is_none() && room.first_deadline().is_none());
    }

    #[test]
    fn a_wait_that_is_dropped_leaves_no_place_behind() {
        let room = Room::default();
        {
            let mut wait = pin!(room.wait(Duration::MAX, || None::<()>, || {}));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(wait.as_mut().poll(&mut cx).is_pending());
            assert!(room.anybody_waits() && room.first_deadline().is_some());
        }
        assert!(!room.anybody_waits() && room.waiting.lock().is_empty());
    }
}
