//! Who follows a feed, and whose turn it is to be looked at when it has something new.

use crate::hub::primitives::conn_id::ConnId;

/// Connections that follow a feed.
/// Those that do no longer are passed over, and taken out now and then.
///
/// When there is something new all are *called*, one after the other, from where the call before has stopped:
/// each connection is touched once, when it is its turn, however many there are.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    list: Vec<ConnId>,
    /// How many of these do follow it.
    pub(crate) count: usize,
    /// The index of who is next, and how many are left to be called.
    next: usize,
    left: usize,
    /// How many at the front of the list have been asked where they stand, since that was begun.
    asked: usize,
}

impl Followers {
    pub(crate) fn add(&mut self, connection: ConnId) {
        // Grown in small steps: for thousands of followers twice the room is much.
        if self.list.len() == self.list.capacity() {
            self.list.reserve_exact(16 + self.list.len() / 8);
        }
        self.list.push(connection);
        self.count += 1;
        // The call goes over the end of the list, and has one more before it comes back to where it began.
        self.left += usize::from(self.left > 0);
    }

    /// All are to be asked where they stand.
    pub(crate) fn ask(&mut self) {
        self.asked = 0;
    }

    /// Whether some are left to be asked, also of those that have come meanwhile.
    pub(crate) fn is_asking(&self) -> bool {
        self.asked < self.list.len()
    }

    /// The connection to be asked next, which may follow the feed no longer. `None`: all have been.
    pub(crate) fn next_asked(&mut self) -> Option<ConnId> {
        let connection = *self.list.get(self.asked)?;
        self.asked += 1;
        Some(connection)
    }

    /// Takes one, who is there once at most, from the list.
    pub(crate) fn forget(&mut self, gone: ConnId) {
        if let Some(mut index) = self.list.iter().position(|known| *known == gone) {
            if index < self.asked {
                // Those that have been asked stay at the front.
                self.asked -= 1;
                self.list.swap(index, self.asked);
                index = self.asked;
            }
            self.list.swap_remove(index); // which brings another to where the call may have been
            self.call_again();
        }
    }

    /// Whether there are more to be passed over than to be called.
    pub(crate) fn is_littered(&self) -> bool {
        self.list.len() > 2 * self.count + 16
    }

    /// Takes out who is none.
    pub(crate) fn retain(&mut self, mut is_one: impl FnMut(ConnId) -> bool) {
        let (mut index, asked) = (0, self.asked);
        self.list.retain(|connection| {
            let stays = is_one(*connection);
            self.asked -= usize::from(!stays && index < asked);
            index += 1;
            stays
        });
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

    /// There is something new for all of them. Whether nobody was left to be called before.
    pub(crate) fn call(&mut self) -> bool {
        let was_over = self.left == 0;
        self.left = self.list.len();
        was_over && self.left > 0
    }

    /// The connection to be looked at next. `None`: all have been.
    pub(crate) fn next_called(&mut self) -> Option<ConnId> {
        self.left = self.left.checked_sub(1)?;
        if self.next >= self.list.len() {
            self.next = 0;
        }
        let connection = *self.list.get(self.next)?;
        self.next += 1;
        Some(connection)
    }

    /// Whether some are left to be called.
    pub(crate) fn is_calling(&self) -> bool {
        self.left > 0
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
        while let Some(key) = followers.next_asked().map(ConnId::place) {
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
        // Whoever comes, goes, or is taken out meanwhile: who follows when there is something new, and
        // goes on following, is called after that. Who is there when all have been asked has been asked.
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
                        followers.count -= 1;
                        followers.forget(id(key));
                    }
                    3 => {
                        followers.call();
                        waits = there.clone();
                    }
                    4 => {
                        followers.retain(|known| known != id(key));
                        followers.count -= usize::from(there.remove(&key));
                        waits.remove(&key);
                        asked.remove(&key);
                    }
                    6 => {
                        followers.ask();
                        asked.clear();
                    }
                    7 | 8 => {
                        if let Some(key) = followers.next_asked().map(ConnId::place) {
                            prop_assert!(asked.insert(key), "{key} has been asked before");
                        }
                    }
                    _ => {
                        if let Some(key) = followers.next_called().map(ConnId::place) {
                            waits.remove(&key);
                        } else {
                            prop_assert!(waits.is_empty(), "{waits:?} have not been called");
                        }
                    }
                }
            }
            asked.extend(std::iter::from_fn(|| followers.next_asked()).map(ConnId::place));
            prop_assert_eq!(asked, there);
            while let Some(key) = followers.next_called().map(ConnId::place) {
                waits.remove(&key);
            }
            prop_assert!(waits.is_empty(), "{waits:?} have not been called");
        }
    }
}
