//! The state that the callers' threads and the driver share.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::codec::{CloseCode, CloseFrame};
use crate::hub::client::mail::Mail;
use crate::hub::client::state::{ClientState, Registry};
use crate::hub::error::{FeedError, FollowError, SendError};
use crate::hub::events::{Events, Listeners};
use crate::hub::feed::stamp::Stamps;
use crate::hub::feed::topic::{By, Found, Inbox, Topic, Topics};
use crate::hub::goodbye::Goodbye;
use crate::hub::id::{ClientId, IdSource};
use crate::hub::limits::{Limits, Overflow};
use crate::hub::primitives::bell::Bell;
use crate::hub::primitives::budget::Budget;
use crate::hub::primitives::journal::{self, Journal};
use crate::hub::primitives::lock::Lock;
use crate::hub::primitives::process::Process;
use crate::hub::primitives::program;
use crate::hub::shared::descriptors::{Capacity, Descriptors};
use crate::hub::shared::flush::{self, Requests};
use crate::hub::shared::refusals::Refusals;
use crate::hub::shared::waiters::Waiters;
use crate::hub::stats::{Counters, Stats};
use crate::progress::jobs::Jobs;
use crate::progress::outlet::Outlet;

/// The time in place of one that the clock cannot hold: thirty years.
const NO_LIMIT: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

pub(crate) struct Shared {
    /// The process that the driver runs in. Every handle checks this first.
    pub(crate) process: Process,
    pub(crate) limits: Limits,
    pub(crate) descriptors: Descriptors,
    pub(crate) overflow: Overflow,
    /// The stamp of the next push. Drawn under the lock of the queue that the push goes to.
    pub(crate) stamps: Arc<Stamps>,
    pub(crate) topics: Topics,
    /// Feeds whose inbox has become non-empty, each once.
    pub(crate) news: Lock<FeedNews>,
    /// The most message bytes in the inbox of one feed: see [`share_inboxes`](Self::share_inboxes).
    inbox: AtomicUsize,
    pub(crate) registry: Registry,
    pub(crate) mail: Lock<MailNews>,
    pub(crate) commands: Lock<Vec<Command>>,
    pub(crate) budget: Arc<Budget>,
    /// The share of the budget for what connections have taken up and their sockets do not take.
    pub(crate) outboxes: Arc<Budget>,
    /// The share for what peers have sent, so peers cannot use the memory that pushes need.
    pub(crate) inbound: Arc<Budget>,
    /// The share of `inbound` for what stays: details of clients, and events nobody has taken. The
    /// rest of `inbound` is for arriving messages.
    pub(crate) kept: Arc<Budget>,
    /// The share for what waits for clients that are away, so the connected clients have the rest.
    /// Its bytes are counted in the budget separately, too.
    pub(crate) absent: Arc<Budget>,
    /// Whether a push was refused for lack of memory.
    pub(crate) starved: AtomicBool,
    pub(crate) bell: Arc<Bell>,
    /// What the program tells of its jobs.
    pub(crate) jobs: Jobs,
    pub(crate) waiters: Waiters,
    pub(crate) flushes: Requests,
    pub(crate) listeners: Listeners,
    /// The events since the start, for the first caller that asks, if the program wants them.
    early_events: Lock<Option<Events>>,
    /// Cancelled when the hub begins to end.
    pub(crate) ended: CancellationToken,
    /// The tokens that are cancelled when a client has gone.
    pub(crate) gone: Lock<HashMap<ClientId, CancellationToken>>,
    pub(crate) counters: Counters,
    pub(crate) refusals: Refusals,
    pub(crate) journal: Arc<Journal>,
    pub(crate) ids: IdSource,
    /// Whether feeds keep messages for late joiners.
    pub(crate) keeps_messages: bool,
    /// Set first of all when the hub ends: nothing is taken any more.
    pub(crate) closed: AtomicBool,
    /// The first goodbye of the hub, and then its deadline, once the end is decided.
    pub(crate) goodbye: OnceLock<Arc<Goodbye>>,
    pub(crate) shutdown: Lock<Option<Instant>>,
    pub(crate) end: End,
}

/// Feeds with news. Here and below the first few entries are inline: a heap block is one more cache
/// miss for a caller after a pause.
pub(crate) type FeedNews = SmallVec<[Arc<Topic>; 2]>;

/// Clients that have mail.
pub(crate) type Slots = SmallVec<[usize; 4]>;

/// The news about mailboxes between callers and the driver.
#[derive(Debug, Default)]
pub(crate) struct MailNews {
    /// Clients whose mailbox has become non-empty, by their slot in the driver's table. At most
    /// one entry for each client, and stale entries are harmless.
    pub(crate) slots: Slots,
    /// A mail that the driver has emptied, for the next client with mail. Memory freed on the
    /// driver's thread is slow to allocate again on another.
    pub(crate) spare: Option<Box<Mail>>,
}

/// A rare task for the driver.
pub(crate) enum Command {
    /// Closes a client when it has what it is owed.
    Disconnect { id: ClientId, close: CloseFrame },
    /// Closes a client at once: its mailbox overflowed.
    TooSlow { id: ClientId },
}

impl Shared {
    pub(crate) fn new(mut limits: Limits, overflow: Overflow, ids: IdSource) -> Self {
        // One feed, or one mailbox, must not take the memory of all.
        limits.feed = limits.feed.min(limits.memory / 4);
        limits.mailbox = limits.mailbox.min(limits.memory / 4);
        limits.latest = limits.latest.min(limits.memory / 4);
        let stamps = Arc::new(Stamps::default());
        let budget = Budget::new(limits.memory);
        let inbound = budget.share(4);
        let inbox = AtomicUsize::new(limits.feed);
        let bell = Arc::<Bell>::default();
        let driver = Arc::clone(&bell);
        let (points, copies) = (limits.feed, limits.memory / 8);
        let jobs = Jobs::new(points, copies, move || driver.wake_driver());
        Self {
            process: Process::current(),
            outboxes: budget.share(4),
            kept: inbound.share(2),
            inbound,
            absent: Budget::new(limits.memory / 4),
            budget,
            topics: Topics::new(limits.feeds, Arc::clone(&stamps)),
            limits,
            descriptors: Descriptors::new(),
            overflow,
            stamps,
            news: Lock::default(),
            inbox,
            registry: Registry::default(),
            mail: Lock::default(),
            commands: Lock::default(),
            starved: AtomicBool::new(false),
            bell,
            jobs,
            waiters: Waiters::default(),
            flushes: Requests::default(),
            listeners: Listeners::default(),
            early_events: Lock::default(),
            ended: CancellationToken::new(),
            gone: Lock::default(),
            counters: Counters::default(),
            refusals: Refusals::new(),
            journal: Journal::new(),
            ids,
            keeps_messages: true,
            closed: AtomicBool::new(false),
            goodbye: OnceLock::new(),
            shutdown: Lock::default(),
            end: End::default(),
        }
    }

    /// Has a thread of this name take the lines of the run, the reports of each job every so many
    /// milliseconds, and nothing where there is none for the time of a `tick`.
    ///
    /// # Errors
    ///
    /// The system has no thread, or the hub has ended.
    pub(crate) fn observe(
        &self,
        name: &str,
        report_every: u64,
        tick: Option<Duration>,
        write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let outlet = Outlet::start(name, Arc::clone(&self.journal), tick, write)?;
        if !self.jobs.observers.add(outlet, report_every) {
            return Err(io::Error::other("the hub has ended"));
        }
        self.jobs.registry.base.wake();
        self.bell.wake_driver(); // which may rest until the next sample
        Ok(())
    }

    /// Keeps events from now on for the first call of [`events`](Self::events).
    pub(crate) fn keep_events(&self) {
        let events = self.listeners.listen(self.limits.events);
        *self.early_events.lock() = Some(events);
    }

    /// Returns the events from now on; for the first caller, those since they were kept.
    pub(crate) fn events(&self) -> Events {
        let early = self.early_events.lock().take();
        early.unwrap_or_else(|| self.listeners.listen(self.limits.events))
    }

    /// The budgets of waiting mail: of all clients, and of clients that are away.
    pub(crate) fn mail_budgets(&self) -> [&Budget; 2] {
        [&self.budget, &self.absent]
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The number of connections that there may be now.
    pub(crate) fn capacity(&self) -> Capacity {
        self.descriptors.capacity(&self.limits)
    }

    /// Tells the driver, once, that this feed's inbox has news.
    ///
    /// The inbox's lock is held, and the stamp is not yet drawn. When the driver reads a stamp, it
    /// can therefore find every feed that has something older.
    pub(crate) fn tell(&self, topic: &Arc<Topic>, inbox: &mut Inbox) {
        if !std::mem::replace(&mut inbox.told, true) {
            topic.make_known();
            let mut news = self.news.lock();
            news.push(Arc::clone(topic));
            self.share_inboxes(news.len());
        }
    }

    /// Gives the driver the feeds with news, in exchange for an empty list.
    pub(crate) fn take_news(&self, list: &mut FeedNews) {
        let mut news = self.news.lock();
        std::mem::swap(&mut *news, list);
        self.share_inboxes(0);
    }

    /// Divides a quarter of the memory among the inboxes of `feeds` feeds that wait to be taken
    /// over. However many feeds are hot, the driver's work before it reaches the other messages is
    /// bounded.
    fn share_inboxes(&self, feeds: usize) {
        let bound = (self.limits.memory / 4 / feeds.max(1)).min(self.limits.feed);
        self.inbox.store(bound, Ordering::Relaxed);
    }

    /// The most that the inbox of a feed may hold now. Everyone's feed, of which there is one, has
    /// the whole bound of a feed.
    pub(crate) fn inbox_bound(&self, topic: &Topic) -> usize {
        if topic.is_everyones() { self.limits.feed } else { self.inbox.load(Ordering::Relaxed) }
    }

    /// Lets the driver sleep until the bell rings, if no push is unseen. The check takes the locks
    /// that the bell needs.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.bell.sleep();
        self.news.lock().is_empty() && self.mail.lock().slots.is_empty()
    }

    /// Returns the feed of this name, with one more handle.
    ///
    /// # Errors
    ///
    /// As [`Topics::find_or_make`].
    pub(crate) fn topic(&self, name: &str, by: By) -> Result<Arc<Topic>, FeedError> {
        let Found { topic, evicted } = self.topics.find_or_make(name, by)?;
        if let Some(evicted) = evicted {
            self.tell(&evicted, &mut evicted.inbox.lock()); // the driver drops the feed
            self.bell.ring();
        }
        Ok(topic)
    }

    /// Returns the feed of this name for the program. If the table has no place, that is a feed
    /// that takes nothing.
    ///
    /// # Errors
    ///
    /// The name is invalid.
    pub(crate) fn topic_or_none(&self, name: &str) -> Result<Arc<Topic>, FeedError> {
        let found = self.topic(name, By::Program);
        let Err(error @ FeedError::TooMany { limit }) = found else { return found };
        if self.counters.feeds_refused.add(1) == 0 {
            let name = name.to_owned();
            self.journal.write(move || {
                let what =
                    "feed refused: there are too many; `Stats::feeds_refused` counts further ones";
                tracing::error!(name, %error, "{what}");
            });
        }
        Ok(Topic::refused(name, limit))
    }

    /// Drops a handle of a feed.
    pub(crate) fn drop_handle(&self, topic: &Arc<Topic>) {
        if self.topics.drop_handle(topic) {
            self.tell(topic, &mut topic.inbox.lock()); // the driver drops the feed
            self.bell.wake_driver();
        }
    }

    /// Drops the handle of a client that no longer follows the feed.
    pub(crate) fn drop_follower(&self, topic: &Arc<Topic>) {
        topic.remove_follower();
        self.drop_handle(topic);
    }

    /// Makes a client follow one more feed.
    pub(crate) fn follow(&self, id: ClientId, topic: &Arc<Topic>) -> Result<(), FollowError> {
        if self.is_closed() {
            return Err(FollowError::ShutDown);
        }
        if let Some(limit) = topic.inbox.lock().refused {
            return Err(FollowError::TooManyFeeds { limit });
        }
        let client = self.registry.get(id).ok_or(FollowError::NoSuchClient(id))?;
        let stamp = self.stamps.load(Ordering::Acquire);
        client.follow(topic, stamp, self.limits.feeds_per_client, || {
            topic.make_known();
            self.tell_refollow(&client);
        })
    }

    /// Makes a client unfollow a feed.
    pub(crate) fn unfollow(&self, id: ClientId, topic: &Arc<Topic>) -> Result<(), FollowError> {
        if self.is_closed() {
            return Err(FollowError::ShutDown);
        }
        let client = self.registry.get(id).ok_or(FollowError::NoSuchClient(id))?;
        if client.unfollow(topic, || self.tell_refollow(&client)) {
            self.drop_follower(topic);
        }
        Ok(())
    }

    /// Closes a client when it has what was pushed to it before.
    pub(crate) fn disconnect(&self, id: ClientId, reason: &str) -> Result<(), SendError> {
        if self.is_closed() {
            return Err(SendError::ShutDown);
        }
        let client = self.registry.get(id).ok_or(SendError::NoSuchClient(id))?;
        // Once for each client, so the number of commands is bounded, too.
        {
            let mut mailbox = client.mailbox.lock();
            if std::mem::replace(&mut mailbox.ended, true) {
                return Err(SendError::NoSuchClient(id));
            }
            mailbox.closed = true;
        }
        let close = CloseFrame::new(CloseCode::NORMAL, reason);
        self.command(Command::Disconnect { id, close });
        Ok(())
    }

    fn tell_refollow(&self, client: &ClientState) {
        if !std::mem::replace(&mut client.mailbox.lock().refollow, true) {
            self.mail.lock().slots.push(client.slot());
            self.bell.wake_driver();
        }
    }

    /// Returns a token that is cancelled when this client has gone.
    pub(crate) fn gone_token(&self, id: ClientId) -> CancellationToken {
        let token = self.gone.lock().entry(id).or_default().clone();
        // The registry is read afterwards: a client that goes in between cancels the token, or is
        // not found. The lock is not held, since the cancellation wakes the program's tasks.
        if self.registry.get(id).is_none() {
            self.gone.lock().remove(&id);
            // A hub that ends has no clients, and cannot say which had left before.
            if !self.is_closed() {
                let _ = program::run(|| token.cancel());
            }
        }
        token
    }

    pub(crate) fn command(&self, command: Command) {
        self.commands.lock().push(command);
        self.bell.wake_driver();
    }

    /// Asks the driver to end within this time and to say this goodbye. The first goodbye and the
    /// earlier deadline count. Of several calls at once, each ends the jobs by the first goodbye.
    pub(crate) fn request_shutdown(&self, within: Duration, goodbye: Goodbye) {
        let goodbye = self.goodbye.get_or_init(|| Arc::new(goodbye));
        if !self.is_closed() {
            self.jobs.registry.end();
            self.jobs.end(goodbye.failure());
            if let Some(how) = goodbye.how() {
                self.jobs.say_end(how, goodbye.reason());
            }
        }
        self.closed.store(true, Ordering::Relaxed);
        let by = Instant::now() + within.min(NO_LIMIT);
        {
            let mut shutdown = self.shutdown.lock();
            *shutdown = Some(shutdown.map_or(by, |earlier| by.min(earlier)));
        }
        self.bell.wake_driver();
        let _ = program::run(|| self.ended.cancel()); // which wakes the program's tasks
    }

    pub(crate) fn count_skipped(&self, client: &ClientState, skipped: u64) {
        client.skipped.fetch_add(skipped, Ordering::Relaxed);
        self.counters.skipped.add(skipped);
    }

    /// Asks for a flush of everything pushed so far.
    pub(crate) fn flush(&self, within: Duration) -> oneshot::Receiver<flush::Outcome> {
        let upto = self.stamps.load(Ordering::Acquire);
        let flushed = self.flushes.ask(upto, Instant::now() + within.min(NO_LIMIT));
        if self.end.has_come() {
            self.flushes.give_up(); // the driver may have done so before
        }
        self.bell.wake_driver();
        flushed
    }

    pub(crate) fn stats(&self) -> Stats {
        let counters = &self.counters;
        Stats {
            clients: self.registry.count(),
            most_clients: self.capacity().clients,
            feeds: self.topics.count(),
            accepted: counters.accepted.get(),
            refused: counters.refused.get(),
            pushed: self.stamps.load(Ordering::Relaxed).get(),
            skipped: counters.skipped.get(),
            feeds_refused: counters.feeds_refused.get(),
            refused_pushes: self.refusals.counts(),
            received: counters.received.get(),
            bytes_out: counters.bytes_out.get(),
            bytes_in: counters.bytes_in.get(),
            panics: program::panics(),
            memory: self.budget.used(),
        }
    }
}

/// Whether the driver has ended, and a way to wait for that from a thread and from a task.
#[derive(Default)]
pub(crate) struct End {
    state: Mutex<EndState>,
    condvar: Condvar,
}

#[derive(Default)]
struct EndState {
    has_come: bool,
    /// The tasks that wait. Each has a channel of its own, since a waker that panics would end a
    /// walk over several.
    tasks: Vec<oneshot::Sender<Infallible>>,
}

impl End {
    fn lock(&self) -> MutexGuard<'_, EndState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self) {
        let tasks = {
            let mut state = self.lock();
            state.has_come = true;
            std::mem::take(&mut state.tasks)
        };
        self.condvar.notify_all();
        tasks.into_iter().for_each(program::let_go); // each wakes a task of the program's
    }

    pub(crate) async fn wait(&self) {
        let (task, end) = oneshot::channel();
        let given_up = {
            let mut state = self.lock();
            if state.has_come {
                return;
            }
            // Tasks that have given up are removed before the list grows.
            let mut given_up = Vec::new();
            if state.tasks.len() == state.tasks.capacity() {
                let tasks = std::mem::take(&mut state.tasks).into_iter();
                (given_up, state.tasks) = tasks.partition(oneshot::Sender::is_closed);
            }
            state.tasks.push(task);
            given_up
        };
        given_up.into_iter().for_each(program::let_go); // each holds a waker of the program's
        let _ = end.await; // nothing is sent: the channel closes
    }

    fn has_come(&self) -> bool {
        self.lock().has_come
    }

    /// Waits for the end on this thread. Returns whether it has come within the time.
    pub(crate) fn wait_blocking(&self, within: Duration) -> bool {
        let result = self.condvar.wait_timeout_while(self.lock(), within, |state| !state.has_come);
        result.unwrap_or_else(PoisonError::into_inner).0.has_come
    }
}

/// Marks the end of the hub when dropped, however the driver ended: by itself, in a panic, or
/// because the runtime it was given ended.
pub(crate) struct EndOnDrop(pub(crate) Arc<Shared>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let shared = &self.0;
        if shared.process.is_another() {
            return; // the hub is the parent's, and goes on there
        }
        shared.closed.store(true, Ordering::Relaxed);
        shared.descriptors.count(0);
        let everyone = Arc::clone(shared.topics.everyone());
        let told = std::mem::take(&mut *shared.news.lock()); // some of these have made way
        for topic in shared.topics.all().iter().chain([&everyone]).chain(&told) {
            let left = {
                let mut inbox = topic.inbox.lock();
                inbox.closed = true;
                (inbox.bytes(), std::mem::take(&mut inbox.queue), inbox.latest.take())
            };
            shared.budget.sub(left.0);
        }
        for client in shared.registry.all() {
            let mut mailbox = client.mailbox.lock();
            mailbox.closed = true;
            let left = mailbox.mail.take();
            drop(mailbox);
            shared.budget.sub(left.map_or(0, |mail| mail.bytes()));
            shared.registry.remove(client.id);
        }
        shared.gone.lock().clear(); // not cancelled: these clients have not left
        let _ = program::run(|| shared.ended.cancel());
        shared.listeners.end();
        shared.waiters.end(); // pending pushes find that the hub has ended
        shared.bell.forget(); // its waker holds what is left of the runtime
        // The runtime may have gone without a goodbye.
        let goodbye = shared.goodbye.get_or_init(|| Goodbye::ended().into());
        shared.jobs.tell_of_the_end(goodbye.how(), goodbye.reason());
        let by = *shared.shutdown.lock();
        shared.jobs.observers.wait(Instant::now() + journal::patience(by));
        shared.journal.finish(journal::patience(by));
        shared.end.set();
        shared.flushes.give_up(); // after `end.set()`, which later callers see
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::hub::client::state::Details;
    use crate::hub::primitives::conn_id::ConnId;
    use crate::progress::job::{Job, JobBuilder};
    use crate::progress::status::JobStatus;

    pub(crate) fn shared_with_a_client(limits: Limits) -> (Shared, Arc<ClientState>) {
        shared_with(limits, Overflow::SkipOldest)
    }

    pub(crate) fn shared_with(limits: Limits, overflow: Overflow) -> (Shared, Arc<ClientState>) {
        let shared = Shared::new(limits, overflow, IdSource::new().unwrap());
        let details = Details::default();
        let address = "127.0.0.1:1".parse().unwrap();
        let client = Arc::new(ClientState::new(
            shared.ids.draw(),
            ConnId::new(0, 0),
            address,
            details,
            Some(Arc::clone(shared.topics.everyone())),
        ));
        shared.registry.insert(Arc::clone(&client));
        (shared, client)
    }

    #[test]
    fn from_the_call_that_ends_the_hub_on_nothing_is_taken() {
        let (shared, client) = shared_with_a_client(Limits::default());
        shared.request_shutdown(Duration::from_secs(600), Goodbye::ended()); // no driver has looked yet
        assert_eq!(shared.send(client.id, "late".into()), Err(SendError::ShutDown));
        shared.broadcast("late".into());
        assert_eq!((shared.stats().refused_pushes.shut_down, shared.budget.used()), (2, 0));
    }

    #[test]
    fn of_two_ends_at_once_the_one_that_clients_are_told_ends_the_jobs() {
        for _ in 0..50 {
            let (shared, _client) = shared_with_a_client(Limits::default());
            let registry = || Some(Arc::clone(&shared.jobs.registry));
            let start = |_| JobBuilder::new(registry(), "part".into()).start();
            let jobs: Vec<Job> = (0..200).map(start).collect();
            let barrier = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                for goodbye in [Goodbye::finished("converged"), Goodbye::failed("diverged")] {
                    let (shared, barrier) = (&shared, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        shared.request_shutdown(Duration::ZERO, goodbye);
                    });
                }
            });
            let has_failed = shared.goodbye.get().unwrap().failure().is_some();
            let status = if has_failed { JobStatus::Failed } else { JobStatus::Abandoned };
            assert!(jobs.iter().all(|job| job.status() == status));
        }
    }

    #[test]
    fn the_end_frees_what_was_left_and_takes_no_more() {
        let (shared, client) = shared_with_a_client(Limits::default());
        let shared = Arc::new(shared);
        shared.broadcast("to all".into());
        shared.send(client.id, "to one".into()).unwrap();
        shared.set_for(client.id, "key", "for one".into()).unwrap();
        drop(EndOnDrop(Arc::clone(&shared)));
        assert_eq!((shared.budget.used(), shared.registry.count()), (0, 0));
        assert!(client.mailbox.lock().closed && shared.topics.everyone().inbox.lock().closed);
        assert_eq!(shared.send(client.id, "late".into()), Err(SendError::ShutDown));
        assert_eq!(shared.set_for(client.id, "key", "late".into()), Err(SendError::ShutDown));
        assert!(shared.end.wait_blocking(Duration::ZERO));
    }
}
