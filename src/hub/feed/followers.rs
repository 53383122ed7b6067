//! The followers of a feed, and whose turn it is when the feed has news.

use crate::hub::primitives::conn_id::ConnId;

/// Connections that follow a feed. Connections that no longer follow it are skipped, and removed
/// now and then.
///
/// News *calls* all followers one after the other, from where the call before has stopped. Each
/// connection is touched once, at its turn, however many there are.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    list: Vec<ConnId>,
    /// The number of entries in the list that no longer follow the feed. They stay until they are
    /// swept: a connection that goes would otherwise search the list for itself.
    departed: usize,
    /// The index of the next follower to call, and the number left to call.
    next: usize,
    left: usize,
    /// The number of entries at the front of the list that have been asked for their cursor in this
    /// survey.
    asked: usize,
}

impl Followers {
    pub(crate) fn add(&mut self, connection: ConnId) {
        // Grows in small steps: for thousands of followers twice the capacity is much.
        if self.list.len() == self.list.capacity() {
            self.list.reserve_exact(16 + self.list.len() / 8);
        }
        self.list.push(connection);
        // The call wraps around the end of the list, and has one more follower before it is back at
        // its start.
        self.left += usize::from(self.left > 0);
    }

    /// The number of followers.
    pub(crate) fn count(&self) -> usize {
        self.list.len() - self.departed
    }

    /// Notes that an entry of the list no longer follows the feed.
    pub(crate) fn depart(&mut self) {
        self.departed += 1;
    }

    /// Begins to ask all followers for their cursors.
    pub(crate) fn ask(&mut self) {
        self.asked = 0;
    }

    /// Whether some followers are left to ask, including new ones.
    pub(crate) fn is_asking(&self) -> bool {
        self.asked < self.list.len()
    }

    /// Returns the next connection to ask, which may no longer follow the feed. `None`: all have
    /// been asked.
    pub(crate) fn next_asked(&mut self) -> Option<ConnId> {
        let connection = *self.list.get(self.asked)?;
        self.asked += 1;
        Some(connection)
    }

    /// Removes a follower, which is in the list at most once.
    pub(crate) fn forget(&mut self, gone: ConnId) {
        if let Some(mut index) = self.list.iter().position(|known| *known == gone) {
            if index < self.asked {
                // Connections that have been asked stay at the front.
                self.asked -= 1;
                self.list.swap(index, self.asked);
                index = self.asked;
            }
            self.list.swap_remove(index); // which may move another across the call's position
            self.call_again();
        }
    }

    /// Whether the list has more entries to skip than to call.
    pub(crate) fn is_littered(&self) -> bool {
        self.list.len() > 2 * self.count() + 16
    }

    /// Removes the entries for which `is_one` returns false: those that have departed.
    pub(crate) fn retain(&mut self, mut is_one: impl FnMut(ConnId) -> bool) {
        let (mut index, asked, before) = (0, self.asked, self.list.len());
        self.list.retain(|connection| {
            let stays = is_one(*connection);
            self.asked -= usize::from(!stays && index < asked);
            index += 1;
            stays
        });
        let removed = before - self.list.len();
        debug_assert_eq!(removed, self.departed, "who follows a feed and what says so agree");
        self.departed = self.departed.saturating_sub(removed);
        if self.list.len() < self.list.capacity() / 4 {
            self.list.shrink_to_fit();
        }
        self.call_again();
    }

    fn call_again(&mut self) {
        if self.left > 0 {
            self.left = self.list.len();
        }
    }

    /// Calls all followers, because there is news. Returns whether no earlier call was under way.
    pub(crate) fn call(&mut self) -> bool {
        let was_over = self.left == 0;
        self.left = self.list.len();
        was_over && self.left > 0
    }

    /// Returns the next connection to look at. `None`: all have been.
    pub(crate) fn next_called(&mut self) -> Option<ConnId> {
        self.left = self.left.checked_sub(1)?;
        if self.next >= self.list.len() {
            self.next = 0;
        }
        let connection = *self.list.get(self.next)?;
        self.next += 1;
        Some(connection)
    }

    /// Whether some followers are left to call.
    pub(crate) fn is_calling(&self) -> bool {
        self.left > 0
    }

    /// How often this connection is in the list.
    #[cfg(test)]
    pub(crate) fn lists(&self, connection: ConnId) -> usize {
        self.list.iter().filter(|known| **known == connection).count()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;

    fn id(place: usize) -> ConnId {
        ConnId::new(place, 0)
    }

    #[test]
    fn who_has_been_called_is_called_again_only_for_what_is_new() {
        let mut followers = Followers::default();
        (0..3).for_each(|key| followers.add(id(key)));
        assert!(followers.call());
        assert_eq!(followers.next_called(), Some(id(0)));
        assert!(!followers.call(), "some were left");
        let called: Vec<_> = std::iter::from_fn(|| followers.next_called()).collect();
        assert_eq!(called, [id(1), id(2), id(0)]);
        assert!(followers.call());
    }

    #[test]
    fn who_comes_and_goes_has_nobody_asked_twice() {
        let mut followers = Followers::default();
        (0..10).for_each(|key| followers.add(id(key)));
        followers.ask();
        let mut asked = Vec::new();
        while let Some(key) = followers.next_asked().map(ConnId::slot) {
            asked.push(key);
            if asked.len() <= 5 {
                followers.forget(id(0)); // asked first, and then last
                followers.add(id(0));
            }
        }
        asked.sort_unstable();
        assert_eq!(asked, [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    proptest! {
        // Connections come, go and are removed meanwhile. A connection that follows when there is
        // news, and goes on following, is called after that. A connection in the list when all have
        // been asked was asked.
        #[test]
        fn all_who_stay_are_called_and_asked(
            steps in proptest::collection::vec((0..9u8, 0..20usize), 1..200),
        ) {
            let mut followers = Followers::default();
            let (mut there, mut waits) = (BTreeSet::new(), BTreeSet::new());
            let mut asked = BTreeSet::new();
            for (step, key) in steps {
                match step {
                    0 | 1 if there.insert(key) => followers.add(id(key)),
                    2 if there.remove(&key) => {
                        waits.remove(&key);
                        asked.remove(&key);
                        followers.forget(id(key));
                    }
                    3 => {
                        followers.call();
                        waits = there.clone();
                    }
                    4 => {
                        if there.remove(&key) {
                            followers.depart();
                        }
                        followers.retain(|known| known != id(key));
                        waits.remove(&key);
                        asked.remove(&key);
                    }
                    6 => {
                        followers.ask();
                        asked.clear();
                    }
                    7 | 8 => {
                        if let Some(key) = followers.next_asked().map(ConnId::slot) {
                            prop_assert!(asked.insert(key), "{key} has been asked before");
                        }
                    }
                    _ => {
                        if let Some(key) = followers.next_called().map(ConnId::slot) {
                            waits.remove(&key);
                        } else {
                            prop_assert!(waits.is_empty(), "{waits:?} have not been called");
                        }
                    }
                }
            }
            asked.extend(std::iter::from_fn(|| followers.next_asked()).map(ConnId::slot));
            prop_assert_eq!(asked, there);
            while let Some(key) = followers.next_called().map(ConnId::slot) {
                waits.remove(&key);
            }
            prop_assert!(waits.is_empty(), "{waits:?} have not been called");
        }
    }
}
