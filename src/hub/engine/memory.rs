//! Relief: frees memory when the hub's memory limit is reached.

use std::sync::Arc;

use crate::hub::client::state::ClientState;
use crate::hub::engine::parts::Engine;
use crate::hub::events::DisconnectReason;
use crate::hub::feed::queue::ENTRY_OVERHEAD;
use crate::hub::limits::Overflow;

/// The number of messages dropped in one turn.
const RELIEF: usize = 16 * 1024;

impl Engine {
    /// Relieves a hub over its memory limit: the fullest mailboxes lose their older half and, if
    /// that is not enough, the longest logs do too. A call drops a bounded number of messages.
    /// Returns whether more have to go.
    pub(crate) fn relieve(&mut self) -> bool {
        let mut left = RELIEF;
        if self.shared.overflow == Overflow::SkipOldest {
            self.relieve_mailboxes(&mut left);
        } // else messages taken from callers must not be lost
        let logs = self.feeds.logs.iter();
        let mut longest: Vec<_> = logs.map(|(place, log)| (log.bytes(), place)).collect();
        longest.sort_unstable();
        while let Some((_, place)) = longest.pop() {
            if !self.shared.budget.is_tight() {
                return false;
            }
            if left == 0 {
                return true;
            }
            left = left.saturating_sub(self.feeds.logs[place].halve());
        }
        false
    }

    fn relieve_mailboxes(&self, left: &mut usize) {
        let mut full: Vec<_> = self.shared.registry.all();
        let log_of =
            |client: &ClientState| client.mailbox.lock().mail.as_ref().map(|m| m.log_bytes());
        full.retain(|client| log_of(client).is_some());
        full.sort_by_cached_key(|client| std::cmp::Reverse(log_of(client)));
        for client in full {
            if !self.shared.budget.is_tight() || *left == 0 {
                return;
            }
            *left = left.saturating_sub(self.halve_mailbox(&client));
        }
    }

    /// Drops the older half of a client's messages. Returns their number.
    pub(crate) fn halve_mailbox(&self, client: &ClientState) -> usize {
        let (evicted, skipped) = {
            let mut mailbox = client.mailbox.lock();
            let Some(mail) = &mut mailbox.mail else { return 0 };
            let halved = mail.halve();
            mailbox.free(halved.0.bytes, self.shared.mail_budgets());
            halved
        };
        self.shared.count_skipped(client, skipped as u64);
        evicted.count
    }

    /// Relieves clients that are away and have filled their share. The clients with most mail lose
    /// the older half of their messages, until a quarter of the share is free. If that is not
    /// enough, or not permitted, and the share is exceeded, the clients with most mail are gone for
    /// good. A call drops a bounded number of messages. Returns whether more have to go.
    pub(crate) fn relieve_absent(&mut self) -> bool {
        let share = Arc::clone(&self.shared.absent);
        let may_lose = self.shared.overflow == Overflow::SkipOldest;
        if !share.is_tight() || !(may_lose || share.is_over()) {
            return false;
        }
        let fullest = self.clients.sessions.away.fullest();
        let mut left = if may_lose { RELIEF } else { 0 };
        for (_, client) in &fullest {
            if left == 0 || !share.is_tight() {
                break;
            }
            left = left.saturating_sub(self.halve_mailbox(client));
        }
        // Another half of the same mailboxes goes before any client is gone for good.
        if may_lose && left < RELIEF && share.is_tight() {
            return true;
        }
        if !share.is_over() {
            return false;
        }
        let mut left = RELIEF;
        for (bytes, client) in fullest {
            if left == 0 || !share.is_tight() {
                break;
            }
            self.dismiss(&client, DisconnectReason::TooSlow);
            left = left.saturating_sub(bytes / ENTRY_OVERHEAD);
        }
        share.is_over()
    }
}
