//! The push calls, to everyone, to a feed or to one client: what is taken, and what makes room for
//! it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::codec::{Json, Message};
use crate::hub::client::mail::Mail;
use crate::hub::client::state::{ClientState, Mailbox};
use crate::hub::error::{KEY_MAX, SendError};
use crate::hub::feed::queue::{Entry, Evicted};
use crate::hub::feed::stamp::Stamp;
use crate::hub::feed::topic::{Change, KeyTable, Topic};
use crate::hub::id::ClientId;
use crate::hub::limits::Overflow;
use crate::hub::primitives::program::Payload;
use crate::hub::shared::run_feeds::RunFeeds;
use crate::hub::shared::state::{Command, Shared};
use crate::hub::shared::waiters::Target;
use crate::progress::tell::Tell;

impl Shared {
    fn check_size(&self, message: &Message) -> Result<(), SendError> {
        let (bytes, limit) = (message.len(), self.limits.outbound_message);
        if bytes <= limit {
            return Ok(());
        }
        Err(SendError::TooLarge { bytes, limit })
    }

    /// Whether the value of a key can be taken at all.
    fn check_value(&self, key: &str, message: &Message) -> Result<(), SendError> {
        if key.len() > KEY_MAX {
            return Err(SendError::KeyTooLong { bytes: key.len() });
        }
        self.check_size(message)
    }

    /// Returns the result of a push of `bytes`, and counts and logs a refusal.
    #[inline]
    fn noted(&self, bytes: usize, taken: Result<(), SendError>) -> Result<(), SendError> {
        if let Err(error) = taken {
            self.refusals.note(error, bytes, &self.limits, &self.journal);
        }
        taken
    }

    pub(crate) fn broadcast(&self, message: Message) {
        let bytes = message.len();
        let _ = self.noted(bytes, self.push_to_all(message.into())); // a refusal is counted there
    }

    fn push_to_all(&self, message: Payload) -> Result<(), SendError> {
        if self.is_closed() {
            return Err(SendError::ShutDown);
        }
        self.check_size(&message)?;
        if self.is_for_nobody() {
            return Ok(());
        }
        // Everyone's feed has a bound of its own, and reaches it before the hub's.
        self.budget.add(Entry::cost(&message));
        self.append(self.topics.everyone(), message, false)
    }

    /// Broadcasts as [`broadcast`](Self::broadcast) does, but makes the message only if somebody
    /// can get it. No lock is held meanwhile.
    pub(crate) fn broadcast_with(&self, make: impl FnOnce() -> Message) {
        if self.is_closed() {
            let _ = self.noted(0, Err(SendError::ShutDown));
        } else if !self.is_for_nobody() {
            self.broadcast(make());
        }
    }

    /// Whether no client will ever be owed what is pushed to everyone now. A client starts at the
    /// live end, or is told that it has missed this message, which is counted for that.
    fn is_for_nobody(&self) -> bool {
        if self.registry.count() > 0 {
            return false;
        }
        let mut inbox = self.topics.everyone().inbox.lock();
        // Behind messages that wait for the driver, this one would be numbered before them.
        let nobody = inbox.queue.is_empty();
        inbox.newest = inbox.newest.plus(u64::from(nobody));
        nobody
    }

    /// Appends to a feed's log, and finishes the feed if this is the `last` message.
    pub(crate) fn push(
        &self,
        topic: &Arc<Topic>,
        message: Message,
        last: bool,
    ) -> Result<(), SendError> {
        let bytes = message.len();
        self.noted(bytes, self.push_to(topic, message.into(), last))
    }

    /// Pushes as [`push`](Self::push) does, but makes the message only if somebody can get it, now
    /// or later.
    pub(crate) fn push_with(
        &self,
        topic: &Arc<Topic>,
        make: impl FnOnce() -> Message,
    ) -> Result<(), SendError> {
        if self.is_closed() {
            return self.noted(0, Err(SendError::ShutDown));
        }
        let accepts = topic.inbox.lock().accepts();
        if accepts.is_err() {
            return self.noted(0, accepts);
        }
        let nobody = if topic.is_everyones() {
            self.is_for_nobody()
        } else {
            !self.keeps_messages && self.registry.count() == 0
        };
        if nobody { Ok(()) } else { self.push(topic, make(), false) }
    }

    fn push_to(&self, topic: &Arc<Topic>, message: Payload, last: bool) -> Result<(), SendError> {
        if self.is_closed() {
            return Err(SendError::ShutDown);
        }
        self.check_size(&message)?;
        if topic.is_everyones() && !last && self.is_for_nobody() {
            return Ok(());
        }
        if topic.is_everyones() {
            self.budget.add(Entry::cost(&message));
            return self.append(topic, message, last);
        }
        self.append_counted(topic, message, last)
    }

    /// Counts a message in the budget, and appends it.
    fn append_counted(
        &self,
        topic: &Arc<Topic>,
        message: Payload,
        last: bool,
    ) -> Result<(), SendError> {
        if !self.budget.try_add(Entry::cost(&message)) {
            self.ask_for_relief();
            return Err(SendError::NoMemory);
        }
        self.append(topic, message, last)
    }

    /// Appends a message that is already counted in the budget.
    fn append(&self, topic: &Arc<Topic>, message: Payload, last: bool) -> Result<(), SendError> {
        let (cost, bound) = (Entry::cost(&message), self.inbox_bound(topic));
        let (mut evicted, mut copied) = (Evicted::default(), None);
        let taken = {
            let mut inbox = topic.inbox.lock();
            let taken = inbox.accepts();
            if taken.is_ok() {
                if !inbox.queue.has_room(cost, bound) {
                    evicted = inbox.queue.make_room(cost, bound);
                    inbox.lost += evicted.count as u64;
                }
                self.tell(topic, &mut inbox);
                let stamp = self.stamps.draw();
                copied = inbox.queue.push(Entry { stamp, message });
                inbox.newest = inbox.newest.next();
                inbox.owed = inbox.owed.map(|owed| owed + cost);
                inbox.finished = last.then(|| self.stamps.draw());
            }
            taken
        };
        if taken.is_err() {
            self.budget.sub(cost);
            return taken;
        }
        self.bell.ring();
        if evicted.count > 0 {
            self.budget.sub(evicted.bytes);
        }
        drop(copied);
        Ok(())
    }

    /// Sets the latest value of a key.
    pub(crate) fn set(
        &self,
        topic: &Arc<Topic>,
        key: &str,
        message: Message,
    ) -> Result<(), SendError> {
        let bytes = message.len();
        self.noted(bytes, self.set_in(topic, key, message.into()))
    }

    /// Sets a value as [`set`](Self::set) does, but makes it only if a client follows the feed. For
    /// late joiners it is also made if the driver has taken over the value before: that happens
    /// within a moment, so no late joiner gets an old value. No lock is held while the value is
    /// made.
    pub(crate) fn set_with(
        &self,
        topic: &Arc<Topic>,
        key: &str,
        make: impl FnOnce() -> Message,
    ) -> Result<(), SendError> {
        if self.is_closed() {
            return self.noted(0, Err(SendError::ShutDown));
        }
        if topic.followers() == 0 {
            let inbox = topic.inbox.lock();
            let accepts = inbox.accepts();
            let waits = inbox.latest.as_ref().is_some_and(|latest| latest.has_pending(key));
            drop(inbox);
            if accepts.is_err() {
                return self.noted(0, accepts);
            }
            if waits {
                return Ok(());
            }
        }
        self.set(topic, key, make())
    }

    fn set_in(&self, topic: &Arc<Topic>, key: &str, message: Payload) -> Result<(), SendError> {
        if self.is_closed() {
            return Err(SendError::ShutDown);
        }
        let bounds = (self.limits.keys, self.limits.latest);
        self.set_within(topic, key, message, bounds, KeyTable::set)
    }

    /// Sets a value within these bounds, in keys and in bytes. `put` says how.
    fn set_within(
        &self,
        topic: &Arc<Topic>,
        key: &str,
        message: Payload,
        (keys, bytes): (usize, usize),
        put: impl FnOnce(&mut KeyTable, &str, usize, Entry) -> Option<Change>,
    ) -> Result<(), SendError> {
        self.check_value(key, &message)?;
        let cost = KeyTable::cost(key, &message);
        if !self.budget.try_add(cost) {
            self.ask_for_relief();
            return Err(SendError::NoMemory);
        }
        let mut replaced = None;
        let taken = {
            let mut inbox = topic.inbox.lock();
            let mut taken = inbox.accepts();
            let has_room = |l: &KeyTable| l.has_room(key, cost, keys, bytes);
            let latest = inbox.latest.as_deref();
            if taken.is_ok() && !latest.map_or_else(|| has_room(&KeyTable::default()), has_room) {
                taken = Err(SendError::TooManyValues { value: cost, keys, bytes });
            }
            if taken.is_ok() {
                self.tell(topic, &mut inbox);
                let stamp = self.stamps.draw();
                let latest = inbox.latest.get_or_insert_default();
                replaced = put(latest, key, cost, Entry { stamp, message });
            }
            taken
        };
        if taken.is_err() {
            self.budget.sub(cost);
            return taken;
        }
        self.bell.ring();
        if let Some(change) = replaced {
            self.budget.sub(change.cost(key));
        }
        Ok(())
    }

    /// Tells the followers of these feeds something of the run. The hub's thread does so, and does
    /// so also when the hub has begun to end. The numbers of jobs, series and fields bound the keys.
    /// Returns the key of a value that is refused, which has to be told again.
    pub(crate) fn tell_of_jobs(&self, feeds: &RunFeeds, tell: Tell) -> Option<String> {
        let RunFeeds { run, series, fields } = feeds;
        let json = |line: String| Message::from(Json::validated(line.into())).into();
        match tell {
            Tell::Set { key, line } => self.tell_value(Some(run), key, json(line), KeyTable::set),
            Tell::Remove { key } => self.tell_removal(Some(run), &key),
            Tell::Send { line } => self.tell_message(Some(run), json(line)),
            Tell::SetSeries { key, line, is_new } => {
                let put = if is_new { KeyTable::set } else { KeyTable::renew };
                self.tell_value(series.as_ref(), key, json(line), put)
            }
            Tell::Points { line } => self.tell_message(series.as_ref(), json(line)),
            Tell::SetField { key, line } => {
                self.tell_value(fields.as_ref(), key, json(line), KeyTable::set)
            }
            Tell::SetData { key, bytes } => {
                let data = Message::from(bytes).into();
                self.tell_value(fields.as_ref(), key, data, KeyTable::set)
            }
            Tell::DropData { key } => self.tell_removal(fields.as_ref(), &key),
        }
    }

    fn tell_value(
        &self,
        topic: Option<&Arc<Topic>>,
        key: String,
        message: Payload,
        put: fn(&mut KeyTable, &str, usize, Entry) -> Option<Change>,
    ) -> Option<String> {
        let bytes = message.len();
        let told =
            self.set_within(topic?, &key, message, (usize::MAX, self.limits.memory / 4), put);
        self.noted(bytes, told).is_err().then_some(key) // a refusal is counted there
    }

    fn tell_removal(&self, topic: Option<&Arc<Topic>>, key: &str) -> Option<String> {
        let _ = self.noted(0, self.remove_known(topic?, key));
        None
    }

    fn tell_message(&self, topic: Option<&Arc<Topic>>, message: Payload) -> Option<String> {
        let bytes = message.len();
        let _ = self.noted(bytes, self.append_counted(topic?, message, false));
        None
    }

    /// Removes the latest value of a key, if it has one.
    pub(crate) fn remove(&self, topic: &Arc<Topic>, key: &str) -> Result<(), SendError> {
        self.noted(0, self.remove_value(topic, key))
    }

    fn remove_value(&self, topic: &Arc<Topic>, key: &str) -> Result<(), SendError> {
        if self.is_closed() {
            return Err(SendError::ShutDown);
        }
        self.remove_known(topic, key)
    }

    fn remove_known(&self, topic: &Arc<Topic>, key: &str) -> Result<(), SendError> {
        let replaced = {
            let mut inbox = topic.inbox.lock();
            inbox.accepts()?;
            if !inbox.latest.as_ref().is_some_and(|latest| latest.has(key)) {
                return Ok(());
            }
            self.tell(topic, &mut inbox);
            let stamp = self.stamps.draw();
            let (replaced, waits) = inbox.latest.get_or_insert_default().remove(key, stamp);
            if waits {
                // Counted under the lock: the driver may take the removal over at once. The number
                // of keys bounds the removals.
                self.budget.add(KeyTable::cost_of_removal(key));
            }
            replaced
        };
        self.bell.ring();
        self.budget.sub(replaced.map_or(0, |change| change.cost(key)));
        Ok(())
    }

    /// Appends to a feed's log if its slowest follower has room and there is memory.
    fn try_push(&self, topic: &Arc<Topic>, message: &Message) -> Option<Result<(), SendError>> {
        if self.is_closed() {
            return Some(Err(SendError::ShutDown));
        }
        if let Err(error) = self.check_size(message) {
            return Some(Err(error));
        }
        if topic.is_everyones() && self.is_for_nobody() {
            return Some(Ok(()));
        }
        let (cost, bound) = (Entry::cost(message), self.limits.feed);
        if !self.budget.try_add(cost) {
            return None;
        }
        let mut copied = None;
        let taken = {
            let mut inbox = topic.inbox.lock();
            match (inbox.accepts(), inbox.owed) {
                (Err(error), _) => Some(Err(error)),
                (Ok(()), Some(owed)) if owed == 0 || owed + cost <= bound => {
                    self.tell(topic, &mut inbox);
                    let stamp = self.stamps.draw();
                    copied = inbox.queue.push(Entry { stamp, message: message.clone().into() });
                    inbox.newest = inbox.newest.next();
                    inbox.owed = Some(owed + cost);
                    Some(Ok(()))
                }
                _ => None, // no room, or not known
            }
        };
        if taken == Some(Ok(())) {
            self.bell.ring();
        } else {
            self.budget.sub(cost);
        }
        drop(copied);
        taken
    }

    /// Pushes as [`push`](Self::push) does, when the feed's slowest follower has room.
    pub(crate) async fn push_wait(
        &self,
        topic: &Arc<Topic>,
        message: Message,
        within: Duration,
    ) -> Result<(), SendError> {
        let message = Payload::from(message);
        if let Err(error) = self.check_size(&message) {
            return self.noted(message.len(), Err(error)); // at once, and not at its turn
        }
        let attempt = || self.try_push(topic, &message);
        let mut is_known = false;
        let ask = || {
            if !std::mem::replace(&mut is_known, true) {
                self.tell(topic, &mut topic.inbox.lock()); // the driver may not know the feed yet
            }
            self.bell.wake_driver();
        };
        let (target, cost) = (Target::Feed(Arc::clone(topic)), Entry::cost(&message));
        let taken = self.waiters.wait(target, cost, within, attempt, ask).await;
        self.noted(message.len(), taken.unwrap_or(Err(SendError::TimedOut)))
    }

    /// Sends as [`send`](Self::send) does, when the client's mailbox has room.
    pub(crate) async fn send_timeout(
        &self,
        id: ClientId,
        message: Message,
        within: Duration,
    ) -> Result<(), SendError> {
        let message = Payload::from(message);
        if let Err(error) = self.check_size(&message) {
            return self.noted(message.len(), Err(error)); // at once, and not at its turn
        }
        let attempt = || match self.send_as(id, Message::clone(&message).into(), None) {
            Err(SendError::Full(_) | SendError::NoMemory) => None,
            answer => Some(answer),
        };
        let (target, cost) = (Target::Client(id), Entry::cost(&message));
        let ask = || self.bell.wake_driver();
        let taken = self.waiters.wait(target, cost, within, attempt, ask).await;
        self.noted(message.len(), taken.unwrap_or(Err(SendError::TimedOut)))
    }

    /// Whether, to the driver, a push that waits at this client gets an answer now.
    pub(crate) fn has_answer_at_client(&self, id: ClientId, cost: usize) -> bool {
        if self.is_closed() {
            return true;
        }
        let Some(client) = self.registry.get(id) else { return true };
        let mailbox = client.mailbox.lock();
        let has_room = |mail: &Mail| mail.has_room(cost, self.limits.mailbox);
        let has_memory =
            self.budget.has_room(cost) && (!mailbox.away || self.absent.has_room(cost));
        mailbox.closed || has_memory && mailbox.mail.as_deref().is_none_or(has_room)
    }

    /// Whether, as far as the driver knows, a push that waits at this feed gets an answer now.
    pub(crate) fn has_answer_at_feed(&self, topic: &Topic, cost: usize) -> bool {
        if self.is_closed() {
            return true;
        }
        let inbox = topic.inbox.lock();
        let has_room = |owed| owed == 0 || owed + cost <= self.limits.feed;
        inbox.accepts().is_err() || self.budget.has_room(cost) && inbox.owed.is_some_and(has_room)
    }

    pub(crate) fn send(&self, id: ClientId, message: Message) -> Result<(), SendError> {
        let bytes = message.len();
        self.noted(bytes, self.send_as(id, message.into(), Some(self.overflow)))
    }

    /// Sends to a client. `overflow` decides what a full mailbox does. Without `overflow` the
    /// caller can wait, so nothing makes room for the message.
    fn send_as(
        &self,
        id: ClientId,
        message: Payload,
        overflow: Option<Overflow>,
    ) -> Result<(), SendError> {
        if self.is_closed() {
            return Err(SendError::ShutDown);
        }
        self.check_size(&message)?;
        let (cost, bound) = (Entry::cost(&message), self.limits.mailbox);
        // Values whose destructors are the program's, dropped when no lock is held.
        let mut evicted = Evicted::default();
        let copied;
        let clients = self.registry.read();
        let client = clients.get(&id).ok_or(SendError::NoSuchClient(id))?;
        if !self.budget.try_add(cost) {
            drop(clients);
            if overflow.is_some() {
                self.ask_for_relief();
            }
            return Err(SendError::NoMemory);
        }
        {
            let mut mailbox = client.mailbox.lock();
            if mailbox.closed {
                self.budget.sub(cost);
                return Err(self.gone(id));
            }
            if !self.count_if_absent(&mailbox, cost) {
                drop(mailbox);
                drop(clients);
                if overflow.is_some() {
                    self.ask_for_relief();
                }
                return Err(SendError::NoMemory);
            }
            if mailbox.mail.as_ref().is_some_and(|mail| !mail.has_room(cost, bound)) {
                match overflow {
                    None | Some(Overflow::Refuse) => {
                        mailbox.free(cost, self.mail_budgets());
                        return Err(SendError::Full(id));
                    }
                    Some(Overflow::SkipOldest) => {
                        if let Some(mail) = &mut mailbox.mail {
                            evicted = mail.make_room(cost, bound);
                        }
                        mailbox.free(evicted.bytes, self.mail_budgets());
                    }
                    Some(Overflow::Disconnect) => {
                        mailbox.free(cost, self.mail_budgets());
                        mailbox.closed = true;
                        drop(mailbox);
                        drop(clients);
                        self.command(Command::TooSlow { id });
                        return Err(SendError::Full(id));
                    }
                }
            }
            let (stamp, mail) = self.open_mail(client, &mut mailbox);
            copied = mail.push(Entry { stamp, message });
        }
        if evicted.count > 0 {
            client.skipped.fetch_add(evicted.count as u64, Ordering::Relaxed);
            self.counters.skipped.add(evicted.count as u64);
        }
        drop(clients);
        self.bell.ring();
        drop(copied);
        Ok(())
    }

    /// Sets the latest value of a key for one client.
    pub(crate) fn set_for(
        &self,
        id: ClientId,
        key: &str,
        message: Message,
    ) -> Result<(), SendError> {
        let bytes = message.len();
        self.noted(bytes, self.set_in_mailbox(id, key, message.into()))
    }

    fn set_in_mailbox(&self, id: ClientId, key: &str, message: Payload) -> Result<(), SendError> {
        if self.is_closed() {
            return Err(SendError::ShutDown);
        }
        self.check_value(key, &message)?;
        let cost = KeyTable::cost(key, &message);
        let (keys, bytes) = (self.limits.keys, self.limits.mailbox);
        let taken = {
            let clients = self.registry.read();
            let client = clients.get(&id).ok_or(SendError::NoSuchClient(id))?;
            if !self.budget.try_add(cost) {
                drop(clients);
                self.ask_for_relief();
                return Err(SendError::NoMemory);
            }
            let mut mailbox = client.mailbox.lock();
            if mailbox.closed {
                self.budget.sub(cost);
                Err(self.gone(id))
            } else if !self.count_if_absent(&mailbox, cost) {
                Err(SendError::NoMemory)
            } else if !Mail::has_room_for_value(mailbox.mail.as_deref(), key, cost, keys, bytes) {
                mailbox.free(cost, self.mail_budgets());
                Err(SendError::TooManyValues { value: cost, keys, bytes })
            } else {
                let (stamp, mail) = self.open_mail(client, &mut mailbox);
                let replaced = mail.change(key, Change::new(stamp, Some(message)));
                Ok(mailbox.freed(replaced, key, self.mail_budgets()))
            }
        };
        match taken {
            Ok(_) => self.bell.ring(),
            Err(SendError::NoMemory) => self.ask_for_relief(),
            Err(_) => {}
        }
        taken.map(drop) // drops the program's value, while no lock is held
    }

    /// Removes the latest value of a key for one client.
    pub(crate) fn remove_for(&self, id: ClientId, key: &str) -> Result<(), SendError> {
        self.noted(0, self.remove_value_for(id, key))
    }

    fn remove_value_for(&self, id: ClientId, key: &str) -> Result<(), SendError> {
        if self.is_closed() {
            return Err(SendError::ShutDown);
        }
        if key.len() > KEY_MAX {
            return Ok(()); // no value has such a key
        }
        let (keys, bytes) = (self.limits.keys, self.limits.mailbox);
        let cost = KeyTable::cost_of_removal(key);
        let taken = {
            let clients = self.registry.read();
            let client = clients.get(&id).ok_or(SendError::NoSuchClient(id))?;
            let mut mailbox = client.mailbox.lock();
            if mailbox.closed {
                Err(self.gone(id))
            } else if !mailbox.mail.as_ref().is_some_and(|mail| mail.tells_removals()) {
                // The client has no value, or a value that stays: the plain wire has no keys.
                let forgotten = mailbox.mail.as_mut().and_then(|mail| mail.forget(key));
                Ok(mailbox.freed(forgotten, key, self.mail_budgets()))
            } else if !Mail::has_room_for_value(mailbox.mail.as_deref(), key, cost, keys, bytes) {
                Err(SendError::TooManyValues { value: cost, keys, bytes })
            } else {
                // The number of keys that may wait bounds the removals. Counted under the lock, as
                // above.
                mailbox.count(cost, self.mail_budgets());
                let (stamp, mail) = self.open_mail(client, &mut mailbox);
                let replaced = mail.change(key, Change::new(stamp, None));
                Ok(mailbox.freed(replaced, key, self.mail_budgets()))
            }
        };
        let replaced = taken?;
        self.bell.ring();
        drop(replaced);
        Ok(())
    }

    /// Moves bytes that the budget counts into the share of absent clients, if this mailbox belongs
    /// to one. Returns whether they fit; if not, they count nowhere any more.
    fn count_if_absent(&self, mailbox: &Mailbox, bytes: usize) -> bool {
        let fits = !mailbox.away || self.absent.try_add(bytes);
        if !fits {
            self.budget.sub(bytes);
        }
        fits
    }

    /// Returns the reason why a closed mailbox takes nothing.
    fn gone(&self, id: ClientId) -> SendError {
        if self.is_closed() { SendError::ShutDown } else { SendError::NoSuchClient(id) }
    }

    /// Returns the mail of a mailbox, to add something, and the stamp for that.
    fn open_mail<'a>(
        &self,
        client: &ClientState,
        mailbox: &'a mut Mailbox,
    ) -> (Stamp, &'a mut Mail) {
        if mailbox.mail.as_ref().is_none_or(|mail| !mail.waits()) {
            // Told under the mailbox's lock: a caller that finds a message here and then pushes to
            // everyone can rely on it that the driver has heard of this mailbox.
            let mut news = self.mail.lock();
            news.slots.push(client.slot());
            if mailbox.mail.is_none() {
                mailbox.mail = news.spare.take();
            }
        }
        (self.stamps.draw(), mailbox.mail.get_or_insert_default())
    }

    fn ask_for_relief(&self) {
        if !self.starved.swap(true, Ordering::Relaxed) {
            self.bell.wake_driver();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::feed::queue::ENTRY_OVERHEAD;
    use crate::hub::limits::Limits;
    use crate::hub::shared::state::tests::{shared_with, shared_with_a_client};

    #[test]
    fn a_broadcast_that_comes_while_the_hub_ends_is_counted_and_not_kept() {
        let (shared, _client) = shared_with_a_client(Limits::default());
        shared.topics.everyone().inbox.lock().closed = true;
        shared.broadcast("late".into());
        assert_eq!(shared.stats().refused_pushes.shut_down, 1);
        assert_eq!(
            (shared.budget.used(), shared.topics.everyone().inbox.lock().queue.is_empty()),
            (0, true)
        );
    }

    #[test]
    fn a_value_is_made_for_followers_and_without_any_where_the_driver_has_the_one_before() {
        let (shared, client) = shared_with_a_client(Limits::default());
        let topic = shared.topics.get("run").unwrap();
        let calls = std::cell::Cell::new(0);
        let set = |key| {
            let make = || {
                calls.set(calls.get() + 1);
                "value".into()
            };
            shared.set_with(&topic, key, make).unwrap();
            calls.get()
        };
        let take = || topic.inbox.lock().latest.as_mut().map(|latest| latest.take_pending());
        assert_eq!([set("k"), set("k"), set("l"), set("l"), set("k")], [1, 1, 2, 2, 2]);
        drop(take());
        assert_eq!([set("k"), set("k")], [3, 3]);
        drop(take());
        shared.remove(&topic, "k").unwrap();
        assert_eq!([set("k"), set("k")], [4, 4], "what waits is a removal");
        shared.follow(client.id, &topic).unwrap();
        assert_eq!([set("k"), set("k")], [5, 6]);
        shared.unfollow(client.id, &topic).unwrap();
        assert_eq!([set("k"), set("k")], [6, 6]);
    }

    #[test]
    fn what_nobody_is_there_for_is_not_kept() {
        let (shared, client) = shared_with_a_client(Limits::default());
        shared.registry.remove(client.id);
        shared.broadcast("to nobody".into());
        assert_eq!(
            (shared.budget.used(), shared.topics.everyone().inbox.lock().queue.is_empty()),
            (0, true)
        );
        assert_eq!(shared.stats().pushed, 0);
    }

    #[test]
    fn what_nobody_is_there_for_is_counted_behind_what_the_driver_has_not_taken_over() {
        let (shared, client) = shared_with_a_client(Limits::default());
        let state = || {
            let inbox = shared.topics.everyone().inbox.lock();
            (inbox.newest.get(), inbox.queue.len())
        };
        shared.broadcast("one".into());
        shared.registry.remove(client.id);
        shared.broadcast("two".into()); // the first may be anywhere: this one keeps its place
        assert_eq!(state(), (2, 2));
        let queue = std::mem::take(&mut shared.topics.everyone().inbox.lock().queue);
        drop(queue);
        shared.broadcast("three".into());
        assert_eq!(state(), (3, 0));
    }

    #[test]
    fn a_mailbox_and_a_feed_hold_ten_and_twenty_thousand_small_messages_by_default() {
        let (shared, client) = shared_with_a_client(Limits::default());
        for number in 0..20_000 {
            let message = format!("{number:060}");
            if number < 10_000 {
                shared.send(client.id, message.clone().into()).unwrap();
            }
            shared.broadcast(message.into());
        }
        let everyone = shared.topics.everyone().inbox.lock();
        assert_eq!((shared.stats().skipped, everyone.lost), (0, 0));
    }

    #[test]
    fn values_that_wait_for_a_client_are_counted_and_no_room_for_messages_is_taken_by_them() {
        let limits = Limits::default().mailbox(1000).keys(2);
        let (shared, client) = shared_with(limits, Overflow::Refuse);
        let (id, used) = (client.id, |shared: &Shared| shared.budget.used());
        shared.set_for(id, "k", vec![0; 900].into()).unwrap(); // alone it may be above the bound
        let value = 900 + ENTRY_OVERHEAD + 130;
        assert_eq!((used(&shared), client.info().queued_bytes), (value, value));
        assert_eq!(shared.mail.lock().slots[..], [0], "the driver is told");
        shared.send(id, vec![0; 900].into()).unwrap();
        let both = value + 900 + ENTRY_OVERHEAD;
        assert_eq!((used(&shared), client.info().queued_bytes), (both, both));
        assert_eq!(shared.send(id, vec![0; 100].into()), Err(SendError::Full(id)));
        let value = ENTRY_OVERHEAD + 130;
        let too_many = Err(SendError::TooManyValues { value, keys: 2, bytes: 1000 });
        assert_eq!(shared.set_for(id, "l", "".into()), too_many, "too many bytes");
        shared.set_for(id, "k", "small".into()).unwrap();
        shared.set_for(id, "l", "".into()).unwrap();
        assert_eq!(shared.set_for(id, "m", "".into()), too_many, "too many keys");
        assert_eq!(used(&shared), 900 + 5 + 3 * ENTRY_OVERHEAD + 2 * 130);
        assert_eq!(shared.mail.lock().slots[..], [0], "once");
    }

    #[test]
    fn a_value_that_there_is_no_memory_for_leaves_the_one_before() {
        let (shared, client) = shared_with_a_client(Limits::default().memory(8000));
        shared.set_for(client.id, "k", "before".into()).unwrap();
        let refused = shared.set_for(client.id, "k", vec![0; 8000].into());
        assert_eq!(refused, Err(SendError::NoMemory));
        assert!(shared.starved.load(Ordering::Relaxed), "the driver is to make room");
        let cost = 6 + ENTRY_OVERHEAD + 130;
        assert_eq!((shared.budget.used(), client.info().queued_bytes), (cost, cost));
    }

    #[test]
    fn a_client_that_is_too_slow_is_to_be_closed_once_and_takes_nothing_more() {
        let (shared, client) = shared_with(Limits::default().mailbox(1000), Overflow::Disconnect);
        shared.send(client.id, vec![0; 900].into()).unwrap();
        let full = shared.send(client.id, vec![0; 900].into());
        assert_eq!(full, Err(SendError::Full(client.id)));
        let late = shared.send(client.id, "small".into());
        assert_eq!(late, Err(SendError::NoSuchClient(client.id)));
        assert!(matches!(shared.commands.lock()[..], [Command::TooSlow { .. }]));
    }

    #[test]
    fn a_message_that_there_is_no_memory_for_costs_the_mailbox_nothing() {
        let (shared, client) = shared_with_a_client(Limits::default().mailbox(1000).memory(8000));
        shared.send(client.id, vec![0; 900].into()).unwrap();
        let cost = 900 + ENTRY_OVERHEAD;
        shared.budget.add(6000);
        let refused = shared.send(client.id, vec![0; 1500].into());
        assert_eq!(refused, Err(SendError::NoMemory));
        assert!(shared.starved.load(Ordering::Relaxed), "the driver is to make room");
        assert_eq!(client.mailbox.lock().mail.as_ref().unwrap().bytes(), cost);
        assert_eq!(shared.budget.used(), 6000 + cost);
        assert_eq!(shared.mail.lock().slots[..], [0], "the driver is told once");
    }
}
