//! Serves sockets that are ready, and callers' commands.

use crate::hub::conn::phase::Connection;
use crate::hub::driver::state::{Driver, STEPS};
use crate::hub::events::DisconnectReason;
use crate::hub::shared::state::Command;

impl Driver {
    pub(super) fn serve_ready(&mut self) {
        self.ready.swap(&mut self.taken);
        self.todo.extend(self.taken.drain(..));
        let mut slice = self.slice();
        for _ in 0..STEPS {
            let Some(slot) = self.todo.pop_front() else { return };
            self.step(slot, Connection::ready);
            if self.is_over(&mut slice) {
                return;
            }
        }
    }

    pub(super) fn serve_commands(&mut self) {
        self.commands.extend(self.engine.shared.commands.lock().drain(..));
        for _ in 0..STEPS {
            let Some(command) = self.commands.pop_front() else { return };
            let (Command::Disconnect { id, .. } | Command::TooSlow { id }) = command;
            let Some(client) = self.engine.shared.registry.get(id) else { continue };
            let (closed, ended) = {
                let mailbox = client.mailbox.lock();
                (mailbox.closed, mailbox.ended)
            };
            let is_too_slow = matches!(command, Command::TooSlow { .. });
            if is_too_slow && (ended || !closed) {
                continue; // the program has closed it for good since, or it has come back
            }
            // The client may have come back since, so its current connection is looked up.
            let slot = client.slot();
            let there = self.connections.get(slot).and_then(Connection::client);
            if there.is_none_or(|there| there.id != id) {
                let reason =
                    if is_too_slow { DisconnectReason::TooSlow } else { DisconnectReason::ByHub };
                self.engine.end_detached(id, reason);
            } else {
                self.step(slot, |connection, engine| match command {
                    Command::Disconnect { close, .. } => {
                        let deadline = engine.clock.now + engine.clock.timeouts.close;
                        connection.begin_close(engine, close, deadline)
                    }
                    Command::TooSlow { .. } => connection.drop_too_slow(engine),
                });
            }
        }
    }
}
