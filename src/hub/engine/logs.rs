//! The driver's table of logs.

use std::ops::{Index, IndexMut};

use slab::Slab;

use crate::hub::feed::log::Log;
use crate::hub::feed::place::FeedPlace;

/// The logs by their places.
#[derive(Default)]
pub(crate) struct Logs(Slab<Log>);

impl Logs {
    pub(crate) fn insert(&mut self, log: Log) -> FeedPlace {
        FeedPlace::at(self.0.insert(log))
    }

    pub(crate) fn get(&self, place: FeedPlace) -> Option<&Log> {
        self.0.get(place.index())
    }

    pub(crate) fn get_mut(&mut self, place: FeedPlace) -> Option<&mut Log> {
        self.0.get_mut(place.index())
    }

    /// Removes a log. Gives capacity back, if much is left.
    pub(crate) fn remove(&mut self, place: FeedPlace) {
        self.0.remove(place.index());
        if self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to_fit();
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (FeedPlace, &Log)> {
        self.0.iter().map(|(index, log)| (FeedPlace::at(index), log))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The number of places, taken or not.
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Returns the place with this index, if there is one.
    pub(crate) fn place(&self, index: usize) -> Option<FeedPlace> {
        (index < self.capacity()).then(|| FeedPlace::at(index))
    }
}

impl Index<FeedPlace> for Logs {
    type Output = Log;

    fn index(&self, place: FeedPlace) -> &Log {
        &self.0[place.index()]
    }
}

impl IndexMut<FeedPlace> for Logs {
    fn index_mut(&mut self, place: FeedPlace) -> &mut Log {
        &mut self.0[place.index()]
    }
}
