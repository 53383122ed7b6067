//! Pushes that wait for room instead of skipping: which is next where, and which is woken.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::ops::Bound;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::hub::error::SendError;
use crate::hub::feed::topic::Topic;
use crate::hub::goodbye::GRACE;
use crate::hub::id::ClientId;
use crate::hub::primitives::lock::Lock;
use crate::hub::primitives::program;

/// The client or feed that a push waits at.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Feed(Arc<Topic>),
    Client(ClientId),
}

/// The id of a target's line. The address of a feed is unique as long as a push waits at the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum LineId {
    Feed(usize),
    Client(ClientId),
}

impl Target {
    fn line_id(&self) -> LineId {
        match self {
            Self::Feed(topic) => LineId::Feed(Arc::as_ptr(topic) as usize),
            Self::Client(id) => LineId::Client(*id),
        }
    }
}

/// The pushes that wait. At each target they stand in a line: the first tries, the others wait for
/// it to succeed or to give up. A large message is therefore not overtaken for ever by small ones,
/// and one push is woken when there is room for one.
///
/// The driver looks at the first of each line when there may be room, and at deadlines: waiting
/// needs neither a clock nor a runtime of the program's. A push whose time is up leaves its line,
/// even if its task does not run. Wakers are the program's code, so they are called when no lock is
/// held.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    lines: Lock<Lines>,
    /// The number of waiting pushes, which pushes and the driver read first.
    count: AtomicUsize,
    /// Whether a push has begun to wait since the driver looked.
    joined: AtomicBool,
}

#[derive(Debug, Default)]
struct Lines {
    by_target: BTreeMap<LineId, Line>,
    deadlines: BTreeSet<(Instant, u64, LineId)>,
    /// The ticket of the next push.
    tickets: u64,
    /// The line that the driver looked at last.
    looked_at: Option<LineId>,
    /// Whether the hub has ended: all pushes may try, and are told.
    is_over: bool,
}

#[derive(Debug)]
struct Line {
    target: Target,
    /// The waiting pushes by their tickets, in the order in which they came. Never empty.
    waits: VecDeque<Wait>,
}

#[derive(Debug)]
struct Wait {
    ticket: u64,
    deadline: Instant,
    /// The cost of the message.
    cost: usize,
    waker: Option<Waker>,
    /// Whether the push has been woken and has not tried since.
    is_woken: bool,
}

/// The first push of a line.
pub(crate) struct First {
    pub(crate) target: Target,
    pub(crate) cost: usize,
    ticket: u64,
}

enum Turn {
    Try {
        /// Whether the push was woken for this try.
        is_woken: bool,
    },
    Wait,
    /// The driver has seen that the time is up.
    TooLate,
}

impl Lines {
    fn position(&self, line_id: LineId, ticket: u64) -> Option<usize> {
        self.by_target.get(&line_id)?.waits.binary_search_by_key(&ticket, |wait| wait.ticket).ok()
    }

    /// Removes a push. Returns its waker, and the waker of the next push if that is first now.
    fn remove(&mut self, line_id: LineId, ticket: u64) -> Option<(Option<Waker>, Option<Waker>)> {
        let position = self.position(line_id, ticket)?;
        let Entry::Occupied(mut line) = self.by_target.entry(line_id) else { return None };
        let wait = line.get_mut().waits.remove(position)?;
        self.deadlines.remove(&(wait.deadline, ticket, line_id));
        let next = if position == 0 { line.get_mut().wake_first() } else { None };
        if line.get().waits.is_empty() {
            line.remove();
        }
        Some((wait.waker, next))
    }
}

impl Line {
    fn wake_first(&mut self) -> Option<Waker> {
        let first = self.waits.front_mut()?;
        first.is_woken = true;
        first.waker.take()
    }
}

impl Waiters {
    fn anybody_waits(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    fn waits_at(&self, target: &Target) -> bool {
        self.anybody_waits() && self.lines.lock().by_target.contains_key(&target.line_id())
    }

    /// Returns, to the driver, the earliest deadline.
    pub(crate) fn first_deadline(&self) -> Option<Instant> {
        if !self.anybody_waits() {
            return None;
        }
        self.lines.lock().deadlines.first().map(|(deadline, ..)| *deadline)
    }

    /// Returns, to the driver, the number of lines, and whether a push has begun to wait since the
    /// last look.
    pub(crate) fn look(&self) -> (usize, bool) {
        if !self.anybody_waits() {
            return (0, false);
        }
        let joined = self.joined.swap(false, Ordering::SeqCst);
        (self.lines.lock().by_target.len(), joined)
    }

    /// Removes, for the driver, at most `most` pushes whose time is up.
    pub(crate) fn expire(&self, now: Instant, most: usize) {
        for _ in 0..most {
            let left = {
                let mut lines = self.lines.lock();
                match lines.deadlines.first().copied() {
                    Some((deadline, ticket, line_id)) if deadline <= now => {
                        lines.remove(line_id, ticket)
                    }
                    _ => return,
                }
            };
            self.count.fetch_sub(1, Ordering::SeqCst);
            if let Some((own, next)) = left {
                wake(own);
                wake(next);
            }
        }
    }

    /// Returns, to the driver, the first push of at most `most` lines, without those that have been
    /// woken and have not tried yet.
    pub(crate) fn firsts(&self, most: usize) -> Vec<First> {
        let mut lines = self.lines.lock();
        let after = lines.looked_at.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = lines.by_target.range((after, Bound::Unbounded));
        let around = rest.chain(&lines.by_target).take(most.min(lines.by_target.len()));
        let (mut firsts, mut looked_at) = (Vec::new(), None);
        for (line_id, line) in around {
            looked_at = Some(*line_id);
            if let Some(Wait { ticket, cost, is_woken: false, .. }) = line.waits.front() {
                let target = line.target.clone();
                firsts.push(First { target, cost: *cost, ticket: *ticket });
            }
        }
        lines.looked_at = looked_at;
        firsts
    }

    /// Makes the driver's next look begin with the line of this push.
    pub(crate) fn look_again_at(&self, first: &First) {
        let mut lines = self.lines.lock();
        let before = lines.by_target.range(..first.target.line_id()).next_back();
        lines.looked_at = before.map(|(line_id, _)| *line_id);
    }

    /// Wakes this push, for which the driver has found room.
    pub(crate) fn wake(&self, first: &First) {
        let waker = {
            let mut lines = self.lines.lock();
            let line = lines.by_target.get_mut(&first.target.line_id());
            let is_first = |line: &&mut Line| {
                line.waits.front().is_some_and(|wait| wait.ticket == first.ticket)
            };
            line.filter(is_first).and_then(Line::wake_first)
        };
        wake(waker);
    }

    /// Wakes all pushes, which find that the hub has ended.
    pub(crate) fn end(&self) {
        let wakers: Vec<_> = {
            let mut lines = self.lines.lock();
            lines.is_over = true;
            let waits = lines.by_target.values_mut().flat_map(|line| &mut line.waits);
            waits.map(|wait| wait.waker.take()).collect()
        };
        wakers.into_iter().for_each(wake);
    }

    /// Tries until there is an answer or the time is up, which is `None`. Pushes that already wait
    /// at this target go first. `cost` is the cost of the message. `ask` makes the driver look:
    /// before the first wait, and after each failed try that the wait was woken for. The driver
    /// skips a wait that has been woken, so it may have missed room made meanwhile. The driver
    /// wakes a wait only where it sees room, so a full target causes no endless wake-ups.
    pub(crate) async fn wait<T>(
        &self,
        target: Target,
        cost: usize,
        within: Duration,
        mut attempt: impl FnMut() -> Option<T>,
        mut ask: impl FnMut(),
    ) -> Option<T> {
        if !self.waits_at(&target) {
            if let Some(done) = attempt() {
                return Some(done);
            }
        }
        let far = Duration::from_secs(30 * 365 * 24 * 60 * 60);
        let deadline = Instant::now() + within.min(far);
        let place = Place::join(self, target, cost, deadline);
        let mut ask = || {
            self.joined.store(true, Ordering::SeqCst);
            ask();
        };
        let mut has_entered = false;
        poll_fn(move |cx| {
            // The waker is set before the attempt: room made after that wakes the push.
            let turn = place.set_waker(cx.waker().clone());
            if !std::mem::replace(&mut has_entered, true) {
                ask();
            }
            let (done, is_woken) = match turn {
                Turn::Try { is_woken } => (attempt(), is_woken),
                Turn::Wait => (None, false),
                Turn::TooLate => return Poll::Ready(None),
            };
            match done {
                Some(done) => return Poll::Ready(Some(done)),
                None if Instant::now() >= deadline => return Poll::Ready(None),
                None if is_woken => ask(),
                None => {}
            }
            Poll::Pending
        })
        .await
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        let _ = program::run(|| waker.wake());
    }
}

/// A place in a line, given up when the wait is over or dropped. The next push then has its turn.
struct Place<'a> {
    waiters: &'a Waiters,
    line_id: LineId,
    ticket: u64,
}

impl<'a> Place<'a> {
    fn join(waiters: &'a Waiters, target: Target, cost: usize, deadline: Instant) -> Self {
        waiters.count.fetch_add(1, Ordering::SeqCst);
        let mut lines = waiters.lines.lock();
        let (line_id, ticket) = (target.line_id(), lines.tickets);
        lines.tickets += 1;
        lines.deadlines.insert((deadline, ticket, line_id));
        let line = lines.by_target.entry(line_id);
        let line = line.or_insert_with(|| Line { target, waits: VecDeque::new() });
        line.waits.push_back(Wait { ticket, deadline, cost, waker: None, is_woken: false });
        Self { waiters, line_id, ticket }
    }

    fn set_waker(&self, waker: Waker) -> Turn {
        let (before, turn) = {
            let mut lines = self.waiters.lines.lock();
            let is_over = lines.is_over;
            match lines.position(self.line_id, self.ticket) {
                None => (Some(waker), Turn::TooLate),
                Some(position) => {
                    let wait = lines
                        .by_target
                        .get_mut(&self.line_id)
                        .map(|line| &mut line.waits[position]);
                    let mut is_woken = false;
                    let before = wait.and_then(|wait| {
                        is_woken = std::mem::take(&mut wait.is_woken);
                        wait.waker.replace(waker)
                    });
                    let may_try = position == 0 || is_over;
                    (before, if may_try { Turn::Try { is_woken } } else { Turn::Wait })
                }
            }
        };
        program::let_go(before);
        turn
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let left = self.waiters.lines.lock().remove(self.line_id, self.ticket);
        if let Some((own, next)) = left {
            self.waiters.count.fetch_sub(1, Ordering::SeqCst);
            program::let_go(own);
            wake(next);
        }
    }
}

/// Pushes on this thread, which waits as in [`block_on_within`].
pub(crate) fn push_blocking(
    within: Duration,
    push: impl Future<Output = Result<(), SendError>>,
) -> Result<(), SendError> {
    block_on_within(within, push).unwrap_or(Err(SendError::TimedOut))
}

/// Runs a future on this thread, which sleeps while it waits: for this time and a moment at most.
/// The driver keeps the future's time, unless this thread is the one that the driver needs.
pub(crate) fn block_on_within<T>(within: Duration, future: impl Future<Output = T>) -> Option<T> {
    let deadline = Instant::now().checked_add(within.saturating_add(GRACE));
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
    use std::sync::Mutex;

    use super::*;

    type Waits<'a> = Vec<std::pin::Pin<Box<dyn Future<Output = Option<()>> + 'a>>>;

    fn target() -> Target {
        Target::Client("4711".parse().unwrap())
    }

    /// Counts how often it is woken, and may do so badly.
    struct Bell(AtomicUsize, bool);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            assert!(!self.1, "a waker that panics");
        }
    }

    fn bell() -> (Arc<Bell>, Waker) {
        let bell = Arc::new(Bell(AtomicUsize::new(0), false));
        (Arc::clone(&bell), bell.into())
    }

    fn rings(bell: &Bell) -> usize {
        bell.0.load(Ordering::SeqCst)
    }

    /// What the driver does where there is room for everybody.
    fn call_all(waiters: &Waiters) {
        waiters.firsts(usize::MAX).iter().for_each(|first| waiters.wake(first));
    }

    fn is_empty(waiters: &Waiters) -> bool {
        let lines = waiters.lines.lock();
        lines.by_target.is_empty() && lines.deadlines.is_empty() && !waiters.anybody_waits()
    }

    #[test]
    fn who_waits_is_woken_tries_again_and_leaves_no_place_behind() {
        let waiters = Waiters::default();
        let mut tries = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                while !waiters.anybody_waits() {
                    thread::yield_now();
                }
                while waiters.anybody_waits() {
                    call_all(&waiters);
                }
            });
            let attempt = || {
                tries += 1;
                (tries == 5).then_some("done")
            };
            let done = block_on_within(
                Duration::MAX,
                waiters.wait(target(), 1, Duration::MAX, attempt, || {}),
            )
            .unwrap();
            assert_eq!(done, Some("done"));
        });
        assert!(is_empty(&waiters));
    }

    #[test]
    fn a_deadline_that_is_over_ends_the_wait_when_it_is_woken() {
        let waiters = Waiters::default();
        let waited: Option<()> = block_on_within(
            Duration::MAX,
            waiters.wait(target(), 1, Duration::ZERO, || None, || {}),
        )
        .unwrap();
        assert!(waited.is_none() && waiters.first_deadline().is_none());
    }

    #[test]
    fn a_wait_that_is_dropped_leaves_no_place_behind() {
        let waiters = Waiters::default();
        {
            let mut wait = pin!(waiters.wait(target(), 1, Duration::MAX, || None::<()>, || {}));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(wait.as_mut().poll(&mut cx).is_pending());
            assert!(waiters.anybody_waits() && waiters.first_deadline().is_some());
        }
        assert!(is_empty(&waiters));
    }

    #[test]
    fn pushes_that_wait_at_one_target_have_their_turns_in_the_order_in_which_they_came() {
        let (waiters, room, order) = (Waiters::default(), AtomicUsize::new(0), Mutex::default());
        let attempt = |cost: usize| {
            let order: &Mutex<Vec<usize>> = &order;
            let room = &room;
            move || {
                let taken = room.load(Ordering::SeqCst).checked_sub(cost)?;
                room.store(taken, Ordering::SeqCst);
                order.lock().unwrap().push(cost);
                Some(())
            }
        };
        let mut waits: Waits<'_> = Vec::new();
        for cost in [10, 1, 2, 3] {
            let wait = waiters.wait(target(), cost, Duration::MAX, attempt(cost), || {});
            waits.push(Box::pin(wait));
        }
        let bells: Vec<_> = waits.iter().map(|_| bell()).collect();
        let poll = |waits: &mut Waits<'_>, index: usize| {
            waits[index].as_mut().poll(&mut Context::from_waker(&bells[index].1)).is_ready()
        };
        assert!(!poll(&mut waits, 0));
        room.store(5, Ordering::SeqCst); // for the small ones
        assert!((1..4).all(|index| !poll(&mut waits, index)), "they came later");
        let rung = || bells.iter().map(|(bell, _)| rings(bell)).collect::<Vec<_>>();
        call_all(&waiters);
        call_all(&waiters);
        assert_eq!(rung(), [1, 0, 0, 0], "once, until it has tried");
        assert!(waiters.firsts(9).is_empty(), "it is not asked about again until then");
        room.store(12, Ordering::SeqCst);
        assert!(poll(&mut waits, 0));
        assert_eq!(rung(), [1, 1, 0, 0], "it hands its turn on");
        drop(waits.remove(1)); // who gives up does so, too
        assert_eq!(rung(), [1, 1, 1, 0]);
        assert_eq!(order.lock().unwrap()[..], [10]);
        drop(waits);
        assert!(is_empty(&waiters));
    }

    #[test]
    fn a_push_that_was_woken_and_found_no_room_asks_again_and_once() {
        let (waiters, asked) = (Waiters::default(), AtomicUsize::new(0));
        let ask = || _ = asked.fetch_add(1, Ordering::SeqCst);
        let mut wait = pin!(waiters.wait(target(), 1, Duration::MAX, || None::<()>, ask));
        let mut looks_after_a_poll = || {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(wait.as_mut().poll(&mut cx).is_pending());
            (asked.load(Ordering::SeqCst), waiters.look().1)
        };
        assert_eq!(looks_after_a_poll(), (1, true), "it comes");
        assert_eq!(looks_after_a_poll(), (1, false), "nobody has woken it");
        call_all(&waiters);
        assert!(waiters.firsts(9).is_empty(), "it is passed over until it has tried");
        assert_eq!(looks_after_a_poll(), (2, true));
        assert_eq!(looks_after_a_poll(), (2, false));
    }

    #[test]
    fn a_push_that_is_never_polled_again_holds_its_turn_until_its_deadline_only() {
        let waiters = Waiters::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut sleeps =
            pin!(waiters.wait(target(), 1, Duration::from_millis(10), || None::<()>, || {}));
        assert!(sleeps.as_mut().poll(&mut cx).is_pending());
        let (bell, waker) = bell();
        let mut next = pin!(waiters.wait(target(), 1, Duration::MAX, || Some(()), || {}));
        assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let deadline = waiters.first_deadline().unwrap();
        waiters.expire(deadline.checked_sub(Duration::from_millis(1)).unwrap(), 9);
        assert_eq!(rings(&bell), 0);
        waiters.expire(deadline, 9);
        assert_eq!(rings(&bell), 1);
        assert!(next.as_mut().poll(&mut cx).is_ready());
        assert!(matches!(sleeps.as_mut().poll(&mut cx), Poll::Ready(None)));
        assert!(is_empty(&waiters));
    }

    #[test]
    fn the_driver_looks_at_so_many_lines_at_once_and_at_each_in_its_turn() {
        let waiters = Waiters::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut waits: Vec<_> = (1..=5u64)
            .map(|id| {
                let target = Target::Client(ClientId::new(id).unwrap());
                Box::pin(waiters.wait(target, 1, Duration::MAX, || None::<()>, || {}))
            })
            .collect();
        assert!(waits.iter_mut().all(|wait| wait.as_mut().poll(&mut cx).is_pending()));
        assert_eq!((waiters.look(), waiters.look()), ((5, true), (5, false)));
        let of = |first: &First| match first.target {
            Target::Client(id) => id.get(),
            Target::Feed(_) => 0,
        };
        let seen = |most| waiters.firsts(most).iter().map(of).collect::<Vec<_>>();
        assert_eq!(
            [seen(2), seen(2), seen(2), seen(9)],
            [vec![1, 2], vec![3, 4], vec![5, 1], vec![2, 3, 4, 5, 1]]
        );
        for first in waiters.firsts(9) {
            waiters.look_again_at(&first);
            assert_eq!(seen(1), [of(&first)]);
        }
    }

    #[test]
    fn a_waker_that_panics_harms_nobody() {
        let waiters = Waiters::default();
        let bad: Waker = Arc::new(Bell(AtomicUsize::new(0), true)).into();
        let (bell, waker) = bell();
        let mut first = Box::pin(waiters.wait(target(), 1, Duration::MAX, || None::<()>, || {}));
        assert!(first.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
        let mut second = Box::pin(waiters.wait(target(), 1, Duration::MAX, || None::<()>, || {}));
        assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        call_all(&waiters);
        waiters.end();
        assert_eq!(rings(&bell), 1);
        drop((first, second));
        assert!(is_empty(&waiters));
    }

    #[test]
    fn wakers_are_called_and_dropped_when_nothing_is_held() {
        struct Caller(Arc<Waiters>, Arc<AtomicBool>);
        impl Wake for Caller {
            fn wake(self: Arc<Self>) {
                self.0.look();
                self.1.store(true, Ordering::SeqCst);
            }
        }
        impl Drop for Caller {
            fn drop(&mut self) {
                self.0.look();
            }
        }
        let (waiters, woken) = (Arc::<Waiters>::default(), Arc::default());
        let caller = || Waker::from(Arc::new(Caller(Arc::clone(&waiters), Arc::clone(&woken))));
        let mut wait = Box::pin(waiters.wait(target(), 1, Duration::MAX, || None::<()>, || {}));
        for _ in 0..2 {
            assert!(wait.as_mut().poll(&mut Context::from_waker(&caller())).is_pending());
        }
        call_all(&waiters);
        assert!(wait.as_mut().poll(&mut Context::from_waker(&caller())).is_pending());
        drop(wait);
        assert!(woken.load(Ordering::SeqCst));
    }
}
