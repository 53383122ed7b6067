//! How a hub ends, as its clients are told.

use std::time::Duration;

use crate::codec::{CloseCode, CloseFrame};

/// How long the driver may go on delivering after the last handle was dropped on a thread that
/// waits for it; with the grace below it waits at most a second.
pub(crate) const LINGER: Duration = Duration::from_millis(900);

/// How much longer than the driver's own deadline its end is waited for.
pub(crate) const GRACE: Duration = Duration::from_millis(100);

/// Close codes of `stepcast.v1` for the end of a hub (`docs/protocol.md`).
pub(crate) const COME_BACK: u16 = 4000;
const FINISHED: u16 = 4503;
const FAILED: u16 = 4504;

/// The last words of a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Goodbye {
    how: How,
    reason: Box<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// The program has not said how; clients may come back, to its next start.
    Ended,
    Finished,
    Failed,
}

impl Goodbye {
    /// Bytes of a reason that clients on `stepcast.v1` are told; a Close frame holds 123.
    pub(crate) const MAX_REASON: usize = 1024;

    pub(crate) fn ended() -> Self {
        Self::new(How::Ended, "the hub has ended")
    }

    #[cfg(all(feature = "signal", unix))]
    pub(crate) fn ended_by(signal: &str) -> Self {
        Self::new(How::Ended, &format!("ended by {signal}"))
    }

    pub(crate) fn finished(message: &str) -> Self {
        Self::new(How::Finished, message)
    }

    pub(crate) fn failed(message: &str) -> Self {
        Self::new(How::Failed, message)
    }

    fn new(how: How, reason: &str) -> Self {
        Self { how, reason: cut(reason, Self::MAX_REASON).into() }
    }

    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// How the run has ended, if the program has said so.
    pub(crate) fn how(&self) -> Option<&'static str> {
        match self.how {
            How::Ended => None,
            How::Finished => Some("finished"),
            How::Failed => Some("failed"),
        }
    }

    /// The reason, if the run has failed.
    pub(crate) fn failure(&self) -> Option<&str> {
        (self.how == How::Failed).then_some(&*self.reason)
    }

    /// The code on `stepcast.v1`.
    pub(crate) fn v1_code(&self) -> u16 {
        match self.how {
            How::Ended => COME_BACK,
            How::Finished => FINISHED,
            How::Failed => FAILED,
        }
    }

    /// The Close on the plain wire.
    pub(crate) fn close(&self) -> CloseFrame {
        let code = match self.how {
            How::Ended => CloseCode::GOING_AWAY,
            How::Finished => CloseCode::NORMAL,
            How::Failed => CloseCode::INTERNAL_ERROR,
        };
        CloseFrame::new(code, &self.reason)
    }
}

/// The beginning of a text, of at most so many bytes, which ends where a character does.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goodbye_has_a_code_of_its_own_on_each_wire_and_its_reason_is_bounded() {
        let long = "ü".repeat(1000);
        for (goodbye, v1, plain) in [
            (Goodbye::ended(), 4000, 1001),
            (Goodbye::finished(&long), 4503, 1000),
            (Goodbye::failed(&long), 4504, 1011),
        ] {
            assert_eq!((goodbye.v1_code(), goodbye.close().code().get()), (v1, plain));
            assert!(goodbye.reason().len() <= Goodbye::MAX_REASON);
            assert!(goodbye.reason().starts_with(goodbye.close().reason()));
        }
    }
}
