//! The feeds that a client follows, its cursor in each, and what it is owed next. This part has no
//! socket, so tests compare it with a naive model (`hub::testing::reference`).

use smallvec::SmallVec;

use std::sync::Arc;

use crate::hub::client::mail::{Due, Mail, Taken};
use crate::hub::client::state::{ClientState, Wanted};
use crate::hub::engine::feeds::Feeds;
use crate::hub::feed::item::{BEHIND, Cursor, Item, Why};
use crate::hub::feed::place::FeedPlace;
use crate::hub::feed::queue::PayloadCopy;
use crate::hub::feed::seq::Seq;
use crate::hub::feed::stamp::Stamp;
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::primitives::program::Payload;

/// One feed that a client follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Follow {
    /// The feed's place among the engine's logs.
    place: FeedPlace,
    /// On `stepcast.v1`: why the next messages are missing, if they are.
    pub(crate) why: Why,
    /// Whether the client is on `stepcast.v1`, where it is told of removed values.
    pub(crate) removals: bool,
    /// On `stepcast.v1`: the number of the last message that the client was given, or told to have
    /// missed.
    pub(crate) seen: Seq,
    pub(crate) cursor: Cursor,
}

impl Follow {
    pub(crate) fn new(place: FeedPlace, cursor: Cursor) -> Self {
        Self { place, why: Why::Slow, removals: false, seen: Seq::default(), cursor }
    }

    /// Makes this a follow on `stepcast.v1` that begins behind message `seen`.
    pub(crate) fn behind(self, seen: Seq, why: Why) -> Self {
        Self { why, seen, removals: true, ..self }
    }

    /// The feed's place among the engine's logs.
    pub(crate) fn place(&self) -> FeedPlace {
        self.place
    }

    /// Whether messages are missing before the one with this number.
    pub(crate) fn misses(&self, next: Seq) -> bool {
        next > self.seen.next()
    }

    /// Notes that the client was given, or told to have missed, the messages up to `number`.
    pub(crate) fn see(&mut self, number: Seq) {
        // Values may have come alone, before the next message.
        if number > self.seen {
            (self.seen, self.why) = (number, Why::Slow);
        }
    }
}

/// The feeds that a client follows. Nearly every client follows one feed, which needs no
/// allocation.
#[derive(Debug)]
pub(crate) struct Follows(SmallVec<[Follow; 1]>);

impl Follows {
    pub(crate) fn one(follow: Follow) -> Self {
        Self(SmallVec::from_buf([follow]))
    }

    pub(crate) fn none() -> Self {
        Self(SmallVec::new())
    }

    /// Returns the followed feed, if it is exactly one.
    pub(crate) fn only(&self) -> Option<Follow> {
        match *self.0 {
            [only] => Some(only),
            _ => None,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Follow> {
        self.0.iter()
    }

    /// Returns the client's state in the feed at this place.
    pub(crate) fn at(&mut self, place: FeedPlace) -> Option<&mut Follow> {
        self.0.iter_mut().find(|follow| follow.place() == place)
    }

    /// Moves the cursor in the feed at this place.
    pub(crate) fn set_cursor(&mut self, place: FeedPlace, cursor: Cursor) {
        if let Some(follow) = self.at(place) {
            follow.cursor = cursor;
        }
    }

    pub(crate) fn contains(&self, place: FeedPlace) -> bool {
        self.iter().any(|follow| follow.place() == place)
    }

    pub(crate) fn add(&mut self, follow: Follow) {
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(1); // many clients follow a few feeds
        }
        self.0.push(follow);
    }

    /// Follows what the program wants this client to follow, if that has changed. Returns the
    /// number of feeds looked at.
    pub(crate) fn follow_as_told(
        &mut self,
        client: &ClientState,
        feeds: &mut Feeds,
        connection: ConnId,
        now: u64,
    ) -> usize {
        let Some(wanted) = client.take_wishes() else { return 0 };
        let count = wanted.len();
        self.unfollow_unwanted(&wanted, feeds, connection);
        for wanted in wanted {
            let place = feeds.log_of(&wanted.topic);
            if !self.contains(place) {
                let cursor = feeds.follow(place, connection, wanted.stamp, now);
                self.add(Follow::new(place, cursor));
            }
        }
        count
    }

    /// Stops following feeds that are not wanted any more, or were followed before they were wanted
    /// again. Returns their places.
    pub(crate) fn unfollow_unwanted(
        &mut self,
        wanted: &[Wanted],
        feeds: &mut Feeds,
        connection: ConnId,
    ) -> Vec<FeedPlace> {
        let stay = wanted.iter().filter(|wanted| !wanted.fresh);
        let stay: Vec<FeedPlace> = stay.map(|wanted| feeds.log_of(&wanted.topic)).collect();
        let gone = self.take_unless(|place| stay.contains(&place));
        for follow in &gone {
            feeds.unfollow_early(follow.place(), connection);
        }
        gone.iter().map(Follow::place).collect()
    }

    /// Returns the feed that has something for the client, if it is exactly one.
    pub(crate) fn only_owed(&self, feeds: &Feeds) -> Option<Follow> {
        if let Some(only) = self.only() {
            return Some(only);
        }
        let owed = |follow: &&Follow| {
            let log = feeds.get(follow.place());
            log.is_some_and(|log| {
                log.next(follow.cursor, feeds.upto, false, follow.removals).is_some()
            })
        };
        let mut owed = self.iter().filter(owed);
        let first = owed.next().copied();
        if owed.next().is_some() { None } else { first }
    }

    /// Moves the cursor to the middle of each window that the client has fallen off. Returns the
    /// number of messages skipped.
    pub(crate) fn catch_up(&mut self, feeds: &Feeds) -> u64 {
        let mut skipped = 0;
        for follow in &mut self.0 {
            let log = feeds.get(follow.place());
            if let Some((log, count)) = log.and_then(|log| log.window.catch_up(follow.cursor.log)) {
                follow.cursor.log = log;
                skipped += count;
            }
        }
        skipped
    }

    /// Whether a client has so many log bytes before it that it gets the latest values first.
    pub(crate) fn is_behind(&self, feeds: &Feeds) -> bool {
        let before = |follow: &Follow| Some(feeds.get(follow.place())?.bytes_before(follow.cursor));
        self.iter().filter_map(before).sum::<usize>() > BEHIND
    }

    /// Returns the oldest message that the client is owed, or the oldest value if values go first,
    /// if it was stamped before `upto`. The result has the stamp, the message, the client's follow,
    /// and the cursor after the message.
    pub(crate) fn oldest<'a>(
        &self,
        feeds: &'a Feeds,
        upto: Stamp,
        values_first: bool,
    ) -> Option<(Stamp, &'a Item, Follow, Cursor)> {
        let next = |follow: &Follow| {
            let log = feeds.get(follow.place())?;
            let (stamp, item, cursor) =
                log.next(follow.cursor, upto, values_first, follow.removals)?;
            let waits = values_first && cursor.log != follow.cursor.log;
            (stamp < upto).then_some(((waits, stamp), item, *follow, cursor))
        };
        let first = self.iter().filter_map(next).min_by_key(|(order, ..)| *order);
        first.map(|((_, stamp), item, follow, cursor)| (stamp, item, follow, cursor))
    }

    /// Returns the next message of mailbox and feeds, in stamp order, if it was stamped before
    /// `upto`. A message of the mailbox is thereby handed over; that of a feed is when the caller
    /// moves the cursor.
    pub(crate) fn next<'a>(
        &self,
        client: &ClientState,
        has_mail: &mut bool,
        feeds: &'a Feeds,
        upto: Stamp,
    ) -> Option<Owed<'a>> {
        let behind = self.is_behind(feeds);
        let next = self.oldest(feeds, upto, behind);
        if *has_mail {
            let before = next.as_ref().map_or(upto, |(stamp, ..)| *stamp);
            let is_last = next.is_none();
            let due = Due { before, upto, values_first: behind, is_last };
            if let Some(mailed) = take_mail(client, has_mail, feeds, due) {
                return Some(Owed::Mail(mailed));
            }
        }
        let (stamp, item, follow, after) = next?;
        Some(Owed::Feed { stamp, item, follow, after })
    }

    /// Whether there is something for [`next`](Self::next).
    pub(crate) fn is_owed(
        &self,
        client: &ClientState,
        may_have_mail: bool,
        feeds: &Feeds,
        upto: Stamp,
    ) -> bool {
        let has_mail = || {
            let mailbox = client.mailbox.lock();
            mailbox.mail.as_ref().is_some_and(|mail| mail.begins_before(upto))
        };
        self.oldest(feeds, upto, false).is_some() || (may_have_mail && has_mail())
    }

    /// Removes the feeds that are not wanted any more, and returns them.
    pub(crate) fn take_unless(&mut self, wanted: impl Fn(FeedPlace) -> bool) -> Vec<Follow> {
        let mut taken = Vec::new();
        self.0.retain(|follow| {
            let stays = wanted(follow.place());
            if !stays {
                taken.push(*follow);
            }
            stays
        });
        self.0.shrink_to_fit();
        taken
    }
}

/// What a client is given next.
pub(crate) enum Owed<'a> {
    Mail(Mailed),
    Feed { stamp: Stamp, item: &'a Item, follow: Follow, after: Cursor },
}

/// A message, a value or a removal of the mailbox.
pub(crate) struct Mailed {
    pub(crate) stamp: Stamp,
    /// `None`: a removal.
    pub(crate) message: Option<Payload>,
    pub(crate) key: Option<Arc<str>>,
    /// What the message counts, if nothing in the mailbox counts it any more.
    pub(crate) cost: usize,
    /// See [`Taken::number`].
    pub(crate) number: Option<(Seq, Seq, Why)>,
    /// The box of the mail, if that is empty now.
    pub(crate) emptied: Option<Box<Mail>>,
}

/// Takes from the mailbox what is due.
fn take_mail(client: &ClientState, has_mail: &mut bool, feeds: &Feeds, due: Due) -> Option<Mailed> {
    let keeps = client.has_session().then(|| feeds.keeps());
    let mut copy = PayloadCopy::new();
    let (taken, emptied) = {
        let mut mailbox = client.mailbox.lock();
        let taken = mailbox.mail.as_mut().and_then(|mail| mail.take(due, keeps, &mut copy));
        if let Some(taken) = taken.as_ref().filter(|taken| taken.evicted.bytes > 0) {
            mailbox.free(taken.evicted.bytes, feeds.shared.mail_budgets());
        }
        let emptied = mailbox.mail.take_if(|mail| mail.is_over());
        *has_mail = mailbox.mail.as_ref().is_some_and(|mail| mail.waits());
        (taken, emptied)
    };
    let Taken { stamp, message, key, cost, number, .. } = taken?;
    let message = message.map(|slot| slot.into_entry(&copy).message);
    Some(Mailed { stamp, message, key, cost, number, emptied })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(index: usize) -> Follow {
        Follow::new(FeedPlace::at(index), Cursor { log: index as u64, latest: Stamp::FIRST })
    }

    fn places(follows: &Follows) -> Vec<usize> {
        follows.iter().map(|follow| follow.place().index()).collect()
    }

    #[test]
    fn feeds_come_and_go_and_the_others_stay_where_they_are() {
        let mut follows = Follows::one(follow(7));
        assert_eq!(follows.only().map(|only| only.place().index()), Some(7));
        follows.add(follow(8));
        follows.add(follow(9));
        assert!(follows.only().is_none());
        follows.set_cursor(FeedPlace::at(8), Cursor { log: 80, latest: Stamp::new(3) });
        let taken = follows.take_unless(|place| place.index() != 7);
        assert_eq!((taken.len(), places(&follows)), (1, vec![8, 9]));
        assert_eq!(
            follows.iter().next().unwrap().cursor,
            Cursor { log: 80, latest: Stamp::new(3) }
        );
        follows.take_unless(|_| false);
        assert!(follows.only().is_none() && places(&follows).is_empty());
        follows.add(follow(1));
        assert_eq!(follows.only().map(|only| only.place().index()), Some(1));
    }

    #[test]
    fn what_has_been_seen_does_not_go_back_and_what_is_missing_once_it_begins_is_its_own_fault() {
        let mut one = follow(0).behind(Seq::new(4), Why::Expired);
        assert!(!one.misses(Seq::new(5)) && one.misses(Seq::new(6)));
        one.see(Seq::new(3)); // what was before the values that came alone
        assert_eq!((one.seen.get(), one.why.name()), (4, "expired"));
        one.see(Seq::new(5));
        assert_eq!((one.seen.get(), one.why.name(), one.misses(Seq::new(6))), (5, "slow", false));
    }
}
