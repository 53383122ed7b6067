//! Runs code of the program's: a rule, the destructor of a payload, a waker. A panic in that code
//! ends here.
//!
//! The code may call the hub, so it runs while this thread holds no lock of the hub's. The code may
//! do anything else, too: if it blocks, it holds up the thread that runs it.

use std::any::Any;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::codec::Message;
use crate::hub::primitives::lock;

/// The number of panics in all hubs of this process: a destructor does not know its hub.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// The number of panics in code of the program's that were caught in this process.
pub(crate) fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Runs code of the program's.
///
/// # Errors
///
/// The panic's message, if it has one.
pub(crate) fn run<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    lock::assert_none_held();
    // The program has to look after what its code left half done.
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        let message = message_of(&*panic);
        let_go(panic); // which is the program's, too
        message
    })
}

/// Drops a value of the program's.
pub(crate) fn let_go<T>(value: T) {
    lock::assert_none_held();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        PANICS.fetch_add(1, Ordering::Relaxed);
        // A panic whose own destructor panics could do so for ever.
        std::mem::forget(panic);
    }
}

/// A message that was pushed. The destructor of its payload may be code of the program's
/// ([`Bytes::from_owner`]). Which payloads have one cannot be seen, so all are dropped here.
#[derive(Debug)]
pub(crate) struct Payload(Message);

impl Payload {
    pub(crate) fn into_message(mut self) -> Message {
        std::mem::replace(&mut self.0, Message::Binary(Bytes::new()))
    }
}

impl From<Message> for Payload {
    fn from(message: Message) -> Self {
        Self(message)
    }
}

impl Deref for Payload {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.0
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        let_go(std::mem::replace(&mut self.0, Message::Binary(Bytes::new())));
    }
}

/// Returns the message of a panic.
pub(crate) fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic_any(Bomb); // another one, for ever
        }
    }

    #[test]
    fn a_panic_is_caught_and_counted_and_so_is_that_of_what_it_carries() {
        assert_eq!(run(|| 7), Ok(7));
        let before = panics();
        assert_eq!(run(|| panic!("step {}", 41)), Err::<(), _>("step 41".to_owned()));
        assert_eq!(run(|| panic!("still")), Err::<(), _>("still".to_owned()));
        assert_eq!(run(|| panic_any(Bomb)), Err::<(), _>("a panic without a message".to_owned()));
        let_go(Bomb);
        assert!(panics() >= before + 5, "{}", panics() - before);
    }
}
