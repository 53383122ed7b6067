//! A handle that does not keep its hub alive.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Weak};

use crate::hub::ending::process_end;
use crate::hub::handle::{Hub, Inner};

/// A handle to a [`Hub`] that does not keep it alive, made by [`Hub::downgrade`].
///
/// Use it in places that outlive the run: a thread that reads [`Events`](crate::Events), a panic
/// hook, a `static`. A [`Hub`] there would keep the hub from ending with its last handle.
///
/// A thread that answers commands:
///
/// ```
/// use stepcast::{Event, Hub};
///
/// let hub = Hub::spawn_blocking("127.0.0.1:0")?;
/// let (mut events, weak) = (hub.events(), hub.downgrade());
/// let commands = std::thread::spawn(move || {
///     while let Some(event) = events.recv_blocking() {
///         let Event::Message { id, message, .. } = event else { continue };
///         let Some(hub) = weak.upgrade() else { break };
///         let _ = hub.send(id, format!("understood: {:?}", message.as_text()));
///     }
/// });
/// // the run
/// drop(hub); // ends the hub, which ends its events
/// commands.join().unwrap();
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
///
/// A panic hook that fails the hub, for programs that end with any panic:
///
/// ```
/// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let weak = hub.downgrade();
/// let before = std::panic::take_hook();
/// std::panic::set_hook(Box::new(move |panic| {
///     if let Some(hub) = weak.upgrade() {
///         hub.fail(&panic.to_string());
///     }
///     before(panic);
/// }));
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Clone)]
pub struct WeakHub {
    /// `None` where the hub is disabled.
    inner: Option<Weak<Inner>>,
}

impl WeakHub {
    pub(crate) fn new(inner: Option<&Arc<Inner>>) -> Self {
        Self { inner: inner.map(Arc::downgrade) }
    }

    /// Returns a handle to the hub, or `None` if its last handle has been dropped.
    ///
    /// A hub that has been [shut down](Hub::shutdown) and still has a handle is returned, but
    /// pushes to it fail. A [disabled](Hub::disabled) hub is always returned.
    ///
    /// ```
    /// let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let weak = hub.downgrade();
    /// assert_eq!(weak.upgrade().unwrap().url(), hub.url());
    /// drop(hub);
    /// assert!(weak.upgrade().is_none());
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn upgrade(&self) -> Option<Hub> {
        process_end::watch();
        match &self.inner {
            Some(inner) => Some(Hub { inner: Some(inner.upgrade()?) }),
            None => Some(Hub::disabled()),
        }
    }
}

// As of `Hub`.
impl UnwindSafe for WeakHub {}
impl RefUnwindSafe for WeakHub {}

impl fmt::Debug for WeakHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakHub").field("hub", &self.upgrade()).finish()
    }
}

impl Hub {
    /// Returns a handle that does not keep the hub alive, for a thread that reads events or for a
    /// panic hook.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let weak = hub.downgrade();
    /// drop(hub);
    /// assert!(weak.upgrade().is_none());
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn downgrade(&self) -> WeakHub {
        process_end::watch();
        WeakHub::new(self.inner.as_ref())
    }
}
