//! A list of things with names that only grows, and is read without a lock.

use std::sync::{Arc, OnceLock};

/// Things with names, in the order in which they were added.
#[derive(Debug)]
pub(crate) struct Named<T>(OnceLock<Box<Node<T>>>);

#[derive(Debug)]
struct Node<T> {
    name: Box<str>,
    thing: Arc<T>,
    next: Named<T>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> Named<T> {
    /// Returns the thing with this name, and makes it if there is none and the list has fewer than
    /// `most`. `None`: the list is full.
    #[inline]
    pub(crate) fn get_or_add(
        &self,
        name: &str,
        most: usize,
        make: impl Fn() -> Arc<T>,
    ) -> Option<&Arc<T>> {
        let mut list = self;
        for _ in 0..most {
            let node = match list.0.get() {
                Some(node) => node,
                None => list.add(name, &make),
            };
            if *node.name == *name {
                return Some(&node.thing);
            }
            list = &node.next; // also where another thread has added its thing first
        }
        None
    }

    #[cold]
    fn add(&self, name: &str, make: impl Fn() -> Arc<T>) -> &Node<T> {
        self.0.get_or_init(|| {
            Box::new(Node { name: name.into(), thing: make(), next: Self::default() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_thing_whoever_asks_and_a_full_list_has_no_more() {
        let list = Named::default();
        let first = Arc::clone(list.get_or_add("a", 2, || Arc::new(1)).unwrap());
        assert!(list.get_or_add("b", 2, || Arc::new(2)).is_some());
        assert_eq!(list.get_or_add("c", 2, || Arc::new(3)), None);
        assert!(Arc::ptr_eq(list.get_or_add("a", 2, || Arc::new(4)).unwrap(), &first));
    }

    #[test]
    fn threads_that_ask_for_names_at_once_get_one_thing_for_each() {
        let list = Named::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let list = &list;
                scope.spawn(move || {
                    for turn in 0..100 {
                        // Each thread begins elsewhere, and yields where another may add its thing.
                        let name = ((turn + 25 * thread) % 100).to_string();
                        let make = || {
                            std::thread::yield_now();
                            Arc::new(name.clone())
                        };
                        assert_eq!(**list.get_or_add(&name, 256, make).unwrap(), name);
                    }
                });
            }
        });
        for name in 0..100 {
            let name = name.to_string();
            assert_eq!(**list.get_or_add(&name, 256, || unreachable!()).unwrap(), name);
        }
        assert!(list.get_or_add("one more", 100, || unreachable!()).is_none());
    }
}
