//! Limits what is in flight to a client, so what the client sees is not stale.
//!
//! Bytes handed to the operating system cannot be taken back. The buffers of the system, the
//! network and the client hold megabytes: for a client that reads 50 KB/s that is a minute of
//! outdated values. A window therefore limits the bytes in flight to what the client reads in about
//! a quarter of a second.
//!
//! The client's answers measure how fast it reads. Behind every quarter of the window, or nearly a
//! third of a large one, goes a question: a Ping that says how many bytes went before it. Its Pong
//! (RFC 6455, section 5.5.3) is the receipt. Browsers answer Pings by themselves, as every client
//! has to. For a small window the part before a question differs from client to client, from an
//! eighth to a third. Thousands of clients that have had the same small messages since the same
//! moment are then not all asked behind the same message, which would delay that message for
//! everyone. A message as long as a twelfth of the window always has a question behind it: after
//! the next such message the question could be too late.
//!
//! The window follows from the time that a question took to come back. If `f` bytes were in flight
//! with the question and the answer took `t`, the client reads `f / t`. The window is that rate
//! times the wanted time plus the round-trip time, which is the least time that a question took
//! while little was in flight. The window grows fourfold at most, so one lucky answer opens it
//! little. Its largest size, for a client that reads at once, is a megabyte: a question then goes
//! behind some 320 KB, since a question costs as much as sending 20 KB.
//!
//! A new client may be sent a first burst of 96 KiB at once, without a question: of thousands of
//! newcomers, nearly all read the burst at once. The question goes behind the message after the
//! burst.
//!
//! A Pong should carry what its Ping did. The Pongs of many small clients are empty: the order of
//! TCP then says that the oldest question was answered, which takes a count of Pongs. A client with
//! empty Pongs is asked one question at a time, and has answered it when all Pings have been
//! answered. A client that claims more than it has read is sent more than it reads, and harms
//! nobody else: an answer to a question that was not asked counts for nothing.

use std::io::Write as _;

use bytes::Bytes;

use crate::codec::{self, Control, ControlPayload};
use crate::hub::primitives::moment::low_half;
use crate::wire::Wire;
use crate::wire::v1::Lines;

/// The window of an unknown client: a third of a second at 50 KB/s.
const INITIAL: u32 = 16 * 1024;

/// The most that a client is sent at once, unasked, as its first messages: a log that many
/// newcomers are given, such as 80 messages of 1 KiB. Four questions to each newcomer would cost as
/// much as the messages. A newcomer that reads 50 KB/s has the burst after 2 s.
const FIRST: u32 = 96 * 1024;

/// The smallest and the largest window. With a round trip of 100 ms the largest window allows 7 to
/// 10 MB/s. A client with that window that slows down to 50 KB/s reads its next question after 7 s,
/// 10 s at most, before the hub takes the client for dead.
const LEAST: u32 = 8 * 1024;
const MOST: u32 = 1024 * 1024;

/// The largest window of a client whose Pongs are empty. Such a client has one open question at a
/// time, and at 50 KB/s has to reach the next one within the stall timeout.
const MOST_UNSAID: u32 = 256 * 1024;

/// The window size from which on the spread between clients no longer grows.
const SPREAD: u32 = 256 * 1024;

/// The number of different moments at which clients with the same messages are asked.
pub(crate) const TURNS: u32 = 1 << TURN_BITS;
const TURN_BITS: u32 = 4;

/// The longest round trip assumed, in milliseconds.
const FAR: u16 = 1000;

/// Returns which of the [`TURNS`] a connection with this serial number has. The number is mixed
/// (Knuth, "Sorting and Searching", section 6.4): a viewer's page and script take a fixed number of
/// connections, which would leave only a few turns in use.
pub(crate) fn turn_of(serial: u32) -> u32 {
    serial.wrapping_mul(0x9E37_79B1) >> (u32::BITS - TURN_BITS)
}

/// The flow of bytes to one client. Byte counts and milliseconds count modulo 2^32, in which their
/// differences fit: one message, and a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The bytes of messages ever taken up for the client.
    taken: u32,
    /// How many of these bytes the client has read.
    had: u32,
    /// The value of `taken` at the last question.
    asked: u32,
    /// The window. Zero: no window, and no questions.
    window: u32,
    /// The time of the last question, in milliseconds.
    asked_at: u32,
    /// The least time that an answer took while little was in flight, in milliseconds.
    way: u16,
    /// The number of Pings without a Pong yet.
    unanswered: u8,
    pongs: Pongs,
}

/// The kind of Pongs that a client has sent so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pongs {
    Unknown,
    /// Pongs carry what their Pings did. A Pong with another payload answers nothing.
    Whole,
    /// Pongs are empty.
    Empty,
}

impl Pace {
    /// Creates a pace. `freshness` is the wanted time in milliseconds; zero: no window.
    pub(crate) fn new(freshness: u32) -> Self {
        let window = if freshness > 0 { INITIAL } else { 0 };
        let (taken, had, asked, asked_at) = (0, 0, 0, 0);
        let (way, unanswered, pongs) = (FAR, 0, Pongs::Unknown);
        Self { taken, had, asked, window, asked_at, way, unanswered, pongs }
    }

    /// The number of bytes that may still be taken up. A message that begins within them may end
    /// beyond.
    pub(crate) fn room(&self) -> usize {
        match self.window {
            0 => usize::MAX,
            _ if self.is_first() => FIRST as usize,
            window => window.saturating_sub(self.under_way()) as usize,
        }
    }

    /// Whether nothing has been taken up for the client yet.
    fn is_first(&self) -> bool {
        self.taken == 0 && self.window == INITIAL
    }

    /// The number of bytes that may be taken up before a question: a little more than until one is
    /// due, so a write is seldom cut for a question. `serial` is any number that stays the client's
    /// and differs between clients.
    pub(crate) fn stretch(&self, serial: u32) -> usize {
        match self.window {
            0 => usize::MAX,
            _ if self.is_first() => FIRST as usize,
            window => {
                (window / 16 + self.part(serial).saturating_sub(self.since())).max(1) as usize
            }
        }
    }

    /// The size from which on each message has a question behind it.
    pub(crate) fn long(&self) -> usize {
        if self.window == 0 || self.is_first() { usize::MAX } else { self.window as usize / 12 }
    }

    /// The number of bytes that may be lost with the connection, since the client has not
    /// acknowledged them. Zero where no questions are asked.
    pub(crate) fn unanswered(&self) -> u32 {
        if self.window == 0 { 0 } else { self.under_way() }
    }

    /// The bytes taken up since the last question.
    fn since(&self) -> u32 {
        self.taken.wrapping_sub(self.asked)
    }

    /// The number of bytes behind which a question is due.
    fn part(&self, serial: u32) -> u32 {
        let spread = self.window.min(SPREAD) / 24 * 5; // from an eighth to a third
        self.window / 3 - spread + spread / TURNS * turn_of(serial)
    }

    fn under_way(&self) -> u32 {
        self.taken.wrapping_sub(self.had)
    }

    /// Whether more than any window is in flight: one message that began within the window and is
    /// longer.
    pub(crate) fn is_in_a_long_message(&self) -> bool {
        self.under_way() > MOST
    }

    /// Notes that `bytes` have been taken up.
    pub(crate) fn take(&mut self, bytes: usize) {
        if self.is_first_burst(bytes) {
            self.window += low_half(bytes as u64); // the next message is asked about
        }
        self.taken = self.taken.wrapping_add(low_half(bytes as u64));
    }

    /// Whether `bytes` at once are the client's first burst, which has no question.
    fn is_first_burst(&self, bytes: usize) -> bool {
        self.is_first() && (INITIAL as usize..=FIRST as usize + INITIAL as usize).contains(&bytes)
    }

    /// Returns the question that is due behind `more` bytes taken up at once.
    pub(crate) fn question(&self, more: usize, now: u64, serial: u32) -> Option<Question> {
        if self.is_first_burst(more) {
            return None;
        }
        let mut then = *self;
        then.take(more);
        // A client with a full window is always asked: nothing else would make it go on.
        let unasked = then.room() == 0 && then.asked == then.had;
        let is_long = more >= self.long();
        let due = then.since() >= self.part(serial) || unasked || is_long;
        let may_ask = self.pongs != Pongs::Empty || self.unanswered == 0;
        (self.window > 0 && then.since() > 0 && due && may_ask).then(|| Question(then.numbers(now)))
    }

    /// The numbers of a question: the bytes before it, how many of them are in flight, and the
    /// time.
    pub(crate) fn numbers(&self, now: u64) -> [u32; 3] {
        [self.taken, self.under_way(), low_half(now)]
    }

    /// Notes that a question has been sent, or is in line behind what has been taken up.
    pub(crate) fn asked(&mut self, now: u64) {
        (self.asked, self.asked_at) = (self.taken, low_half(now));
        self.pinged();
    }

    /// The number of bytes before the last question.
    pub(crate) fn last_asked(&self) -> u32 {
        self.asked
    }

    /// Notes that a Ping has been sent, or is in line.
    pub(crate) fn pinged(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// Handles a Pong with this payload. Returns whether it answers a Ping.
    pub(crate) fn answer_with(&mut self, payload: &[u8], freshness: u32, now: u64) -> bool {
        if Question::parse(payload).is_some_and(|numbers| self.answer(numbers, freshness, now)) {
            self.pongs = Pongs::Whole;
            return true;
        }
        if self.pongs == Pongs::Whole || self.unanswered == 0 {
            return false;
        }
        self.unanswered -= 1;
        let under_way = self.under_question();
        if under_way > 0 {
            self.pongs = Pongs::Empty;
            if self.unanswered == 0 {
                self.have(self.asked, under_way, self.asked_at, freshness, now);
            }
        }
        true
    }

    /// The bytes taken up before the last question and after the last answer.
    fn under_question(&self) -> u32 {
        self.asked.wrapping_sub(self.had)
    }

    /// Handles the answer to a question with these numbers. Returns whether the question was asked
    /// and the answer acknowledges new bytes, or all of them.
    pub(crate) fn answer(&mut self, numbers: [u64; 3], freshness: u32, now: u64) -> bool {
        let [offset, under_way, at] = numbers.map(low_half);
        let more = offset.wrapping_sub(self.had);
        // A client cannot answer what it was not asked. Other made-up numbers only change how much
        // this client is sent. With nothing new before it, a ping only checks that the client is
        // alive.
        if self.window == 0 || (more == 0 && self.under_question() == 0) {
            let was_asked = self.unanswered > 0;
            self.unanswered = self.unanswered.saturating_sub(1);
            return was_asked;
        }
        if more == 0 || more > self.under_question() {
            return false;
        }
        let all = offset == self.asked;
        self.unanswered = if all { 0 } else { self.unanswered.saturating_sub(1) };
        self.have(offset, under_way, at, freshness, now);
        true
    }

    /// Notes that the client has read everything up to `offset`, with `under_way` bytes in flight
    /// when it was asked, at `at`.
    fn have(&mut self, offset: u32, under_way: u32, at: u32, freshness: u32, now: u64) {
        self.had = offset;
        let took = (low_half(now).wrapping_sub(at)).max(1);
        if under_way <= INITIAL {
            self.way = self.way.min(u16::try_from(took).unwrap_or(FAR));
        }
        // The round trip stays unknown until something small has been in flight.
        let way = if self.way == FAR { 0 } else { self.way };
        let wanted = u64::from(freshness) + u64::from(way);
        let target = u64::from(under_way) * wanted / u64::from(took);
        let target = u32::try_from(target).unwrap_or(u32::MAX);
        let most = if self.pongs == Pongs::Empty { MOST_UNSAID } else { MOST };
        self.window = if u64::from(took) <= wanted {
            self.window.max(target.min(4 * self.window)).min(most)
        } else {
            self.window.min(target).max(LEAST)
        };
    }
}

/// A Ping that says how many bytes went before it, how many of them were in flight, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question([u32; 3]);

impl Question {
    /// Parses the numbers in a Pong's payload, if the Pong can be an answer.
    pub(crate) fn parse(payload: &[u8]) -> Option<[u64; 3]> {
        let mut numbers = std::str::from_utf8(payload)
            .ok()?
            .split(',')
            .map(|number| number.parse::<u32>().ok().map(u64::from));
        let [a, b, c] = [numbers.next()??, numbers.next()??, numbers.next()??];
        numbers.next().is_none().then_some([a, b, c])
    }

    /// Encodes the question as a Ping whose payload is text, which all clients can handle. On
    /// `stepcast.v1` the question is a line, so the page answers and not the browser behind it.
    pub(crate) fn frame(&self, wire: Wire) -> Bytes {
        if wire == Wire::V1 {
            let mut lines = Lines::default();
            lines.ping(self.0);
            return lines.take().into();
        }
        let [taken, under_way, at] = self.0;
        let mut payload = Vec::with_capacity(3 * 10 + 2);
        let _ = write!(payload, "{taken},{under_way},{at}"); // the capacity suffices
        let payload = ControlPayload::new(payload).unwrap_or_default();
        codec::server_control(&Control::Ping(payload))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const FRESHNESS: u32 = 250;
    const FRAME: usize = 1000;

    /// A client behind a network: what is on its way, in the order of its coming.
    struct Link {
        /// Milliseconds there, and as many back.
        way: u64,
        /// Bytes in a millisecond that the client reads.
        rate: u64,
        /// How many bytes the client may still read in this millisecond, and the bytes it has not
        /// read.
        credit: u64,
        unread: VecDeque<(u64, Piece)>,
        answers: VecDeque<(u64, Vec<u8>)>,
        read: u64,
        oldest: u64,
        serial: u32,
        /// Whether its Pongs carry nothing.
        is_mute: bool,
    }

    #[derive(Clone)]
    enum Piece {
        Frame { left: u64, made: u64 },
        Ping(Vec<u8>),
    }

    impl Link {
        fn new(way: u64, rate: u64, serial: u32) -> Self {
            let (unread, answers) = (VecDeque::new(), VecDeque::new());
            let is_mute = false;
            Self { way, rate, credit: 0, unread, answers, read: 0, oldest: 0, serial, is_mute }
        }

        /// One millisecond of the client, who has all that was sent a way ago.
        fn pass(&mut self, now: u64) {
            self.credit = self.rate;
            while let Some((at, piece)) = self.unread.front_mut() {
                if *at + self.way > now {
                    return;
                }
                match piece {
                    Piece::Frame { left, made } => {
                        let read = (*left).min(self.credit);
                        self.credit -= read;
                        self.read += read;
                        *left -= read;
                        if *left > 0 {
                            return;
                        }
                        self.oldest = self.oldest.max(now - *made);
                    }
                    Piece::Ping(payload) => {
                        let payload = if self.is_mute { Vec::new() } else { payload.clone() };
                        self.answers.push_back((now + self.way, payload));
                    }
                }
                self.unread.pop_front();
            }
        }
    }

    /// Runs a client with always a newest value of this size for so many milliseconds. Returns the
    /// value's greatest age when it was read, after the start settled, and how much was read then.
    fn run(link: &mut Link, size: usize, settled: u64, end: u64) -> (u64, u64) {
        let mut pace = Pace::new(FRESHNESS);
        let serial = link.serial;
        let mut read = 0;
        for now in 0..end {
            if now == settled {
                (link.oldest, read) = (0, link.read);
            }
            while link.answers.front().is_some_and(|(at, _)| *at <= now) {
                let (_, payload) = link.answers.pop_front().unwrap();
                assert!(pace.answer_with(&payload, FRESHNESS, now));
            }
            let question = |pace: &mut Pace, link: &mut Link| {
                if let Some(question) = pace.question(0, now, serial) {
                    pace.asked(now);
                    link.unread
                        .push_back((now, Piece::Ping(question.frame(Wire::Plain)[2..].to_vec())));
                }
            };
            // As much in a millisecond as a fast network takes.
            let mut sent = 0;
            while pace.room() > 0 && sent < 2_000_000 {
                pace.take(size);
                sent += size;
                link.unread.push_back((now, Piece::Frame { left: size as u64, made: now }));
                question(&mut pace, link);
            }
            question(&mut pace, link);
            link.pass(now);
        }
        (link.oldest, (link.read - read) / (end - settled))
    }

    #[test]
    fn what_a_slow_reader_sees_is_never_half_a_second_old_and_it_has_all_that_it_reads() {
        for (rate, serial) in [(10, 0), (10, 15), (50, 0), (50, 7), (50, 15), (200, 0), (200, 15)] {
            let mut link = Link::new(0, rate, serial); // 10 KB/s, 50, 200
            let (oldest, read) = run(&mut link, FRAME, 0, 30_000);
            let first = u64::from(INITIAL) / rate; // until it is known
            let least = u64::from(LEAST) / rate;
            assert!(oldest <= 500.max(first).max(least) + 100, "{rate}, {serial}: {oldest} ms");
            assert!(read >= rate * 99 / 100, "{rate}, {serial}: {read}");
            let mut link = Link::new(0, rate, serial);
            let (oldest, _) = run(&mut link, FRAME, 5_000, 30_000);
            assert!(oldest <= 500.max(least + 200), "{rate}, {serial}: {oldest} ms later on");
        }
    }

    #[test]
    fn a_newcomers_first_burst_is_sent_at_once_and_asked_about_with_the_next_message() {
        const BURST: usize = 80 * 1028;
        let mut pace = Pace::new(FRESHNESS);
        assert!(pace.room() >= BURST && pace.stretch(0) >= BURST && pace.long() > BURST);
        assert!(pace.question(BURST, 0, 0).is_none());
        pace.take(BURST);
        assert!(pace.room() > 0, "the next message does not wait");
        let question = pace.question(100, 5, 0).expect("it is asked about");
        pace.take(100);
        pace.asked(5);
        // A newcomer that reads 50 KB/s has it after 1.6 s, and is known to be slow then.
        assert!(pace.answer(question.0.map(u64::from), FRESHNESS, 1_650));
        assert!(pace.window < INITIAL, "{}", pace.window);
    }

    #[test]
    fn a_newcomer_is_asked_about_what_is_no_burst_and_about_more_than_one() {
        for first in [5_000, 200_000] {
            let mut pace = Pace::new(FRESHNESS);
            assert!(pace.question(first, 0, 0).is_some(), "{first}");
            pace.take(first);
            assert_eq!(pace.window, INITIAL);
        }
        let mut pace = Pace::new(FRESHNESS);
        pace.take(FIRST as usize);
        pace.take(INITIAL as usize);
        assert_eq!(pace.room(), 0, "until it has answered");
        assert!(pace.question(0, 0, 0).is_some());
    }

    #[test]
    fn a_reader_far_away_has_all_that_it_reads() {
        for (way, serial) in [(1, 0), (20, 15), (75, 0), (75, 15), (150, 7), (300, 0), (300, 15)] {
            let (_, read) = run(&mut Link::new(way, 500, serial), FRAME, 10_000, 30_000);
            assert!(read >= 480, "{way} ms away, {serial}: {read} of 500 bytes in a millisecond");
        }
        for (way, rate, serial) in [(50, 5000, 0), (50, 5000, 15), (100, 2000, 0), (100, 2000, 15)]
        {
            let (_, read) = run(&mut Link::new(way, rate, serial), FRAME, 5_000, 10_000);
            assert!(read >= rate * 24 / 25, "{way} ms away, {serial}: {read} of {rate} bytes");
        }
    }

    #[test]
    fn those_who_have_had_the_same_are_not_all_asked_behind_the_same_message() {
        let mut paces = [Pace::new(FRESHNESS); 160];
        let mut most = 0;
        for message in 0..3000 {
            let mut questions = 0;
            for (pace, serial) in paces.iter_mut().zip(0..) {
                pace.take(FRAME);
                if let Some(question) = pace.question(0, message, serial) {
                    pace.asked(message);
                    questions += 1;
                    assert!(pace.answer(question.0.map(u64::from), FRESHNESS, message));
                }
            }
            most = questions.max(most);
        }
        assert!(most <= paces.len() / 3, "{most}");
    }

    #[test]
    fn a_fast_reader_has_the_largest_window_and_is_asked_behind_some_three_tenths_of_it() {
        let mut pace = Pace::new(FRESHNESS);
        let mut questions = 0;
        for message in 0..100_000_u64 {
            pace.take(1000);
            if let Some(question) = pace.question(0, message, 0) {
                pace.asked(message);
                questions += 1;
                assert!(pace.answer(question.0.map(u64::from), FRESHNESS, message));
            }
        }
        assert_eq!(pace.window, MOST);
        assert!(questions < 100_000_000 / (MOST / 18 * 5) + 20, "{questions}");
    }

    // At 50 KB/s, and with the stall timeout of 10 s.
    #[test]
    fn who_becomes_slow_has_a_question_in_time_however_long_the_messages_are() {
        const IN_TIME: usize = 500_000;
        for size in
            [1000, 16_400, 65_546, 87_380, 87_381, 131_100, 190_000, 262_160, 300_000, 480_000]
        {
            for serial in 0..64 {
                let mut pace = Pace::new(FRESHNESS);
                pace.window = MOST;
                let (mut since, mut questions) = (0, 0);
                while pace.room() > 0 {
                    // As many messages as begin in what may be taken up at once, or a long one.
                    let count =
                        if size < pace.long() { pace.stretch(serial).div_ceil(size) } else { 1 };
                    let chunk = count * size;
                    let question = pace.question(chunk, 0, serial);
                    pace.take(chunk);
                    since += chunk;
                    assert!(since <= IN_TIME, "{size}, {serial}: {since}");
                    if question.is_some() {
                        pace.asked(0);
                        (since, questions) = (0, questions + 1);
                    }
                }
                assert!(questions >= 2, "{size}, {serial}");
            }
        }
    }

    #[test]
    fn who_becomes_slow_is_given_less() {
        let mut pace = Pace::new(FRESHNESS);
        pace.window = MOST;
        pace.way = 1;
        pace.take(MOST as usize);
        let question = pace.question(0, 0, 0).expect("the window is full");
        pace.asked(0);
        assert!(pace.answer(question.0.map(u64::from), FRESHNESS, 20_000)); // 52 KB/s
        assert!(pace.window < 14_000, "{}", pace.window);
        assert_eq!(pace.room(), pace.window as usize);
    }

    #[test]
    fn an_answer_counts_once_and_only_to_a_question_that_was_asked() {
        let mut pace = Pace::new(FRESHNESS);
        pace.take(5000);
        let first = pace.question(0, 0, 0).expect("a quarter").0.map(u64::from);
        pace.asked(0);
        assert!(pace.question(0, 0, 0).is_none(), "asked already");
        pace.take(5000);
        assert!(!pace.answer([10_000, 0, 0], FRESHNESS, 1), "not asked");
        assert!(!pace.answer([0; 3], FRESHNESS, 1));
        for bad in ["", "1,2", "1,2,3,4", "1,2,-3", "1,2,4294967296", "\u{1}\0\0\0,2,3"] {
            assert!(Question::parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
        let ping = Question([5000, 5000, 7]).frame(Wire::Plain);
        assert_eq!(
            (&ping[2..], Question::parse(&ping[2..])),
            (&b"5000,5000,7"[..], Some([5000, 5000, 7]))
        );
        assert!(pace.answer(first, FRESHNESS, 1));
        assert!(!pace.answer(first, FRESHNESS, 2), "answered already");
        pace.asked(3);
        assert!(pace.answer([10_000, 5000, 3], FRESHNESS, 4));
        pace.asked(5); // to see who is alive
        assert!(pace.answer([10_000, 0, 5], FRESHNESS, 6));
        assert!(!pace.answer([10_000, 0, 5], FRESHNESS, 7));
        pace.take(5000);
        assert_eq!(pace.under_way(), 5000);
    }

    #[test]
    fn who_answers_with_empty_pongs_sees_what_is_fresh_and_has_most_of_what_it_can_read() {
        let mute = |way, rate, serial| Link { is_mute: true, ..Link::new(way, rate, serial) };
        for (rate, serial) in [(10, 0), (50, 0), (50, 7), (50, 15), (200, 0), (200, 15)] {
            let (oldest, read) = run(&mut mute(0, rate, serial), FRAME, 5_000, 30_000);
            let least = u64::from(LEAST) / rate;
            assert!(oldest <= 600.max(least + 200), "{rate}, {serial}: {oldest} ms");
            assert!(read >= rate * 99 / 100, "{rate}, {serial}: {read}");
        }
        for (way, serial) in [(1, 0), (20, 15), (75, 0), (75, 15)] {
            let (_, read) = run(&mut mute(way, 500, serial), FRAME, 10_000, 30_000);
            assert!(read >= 350, "{way} ms away, {serial}: {read} of 500 bytes in a millisecond");
        }
    }

    #[test]
    fn an_empty_pong_answers_the_oldest_question_and_the_last_of_them_all() {
        let mut pace = Pace::new(FRESHNESS);
        let ask = |pace: &mut Pace, now| {
            pace.take(6000);
            let question = pace.question(0, now, 0);
            question.inspect(|_| pace.asked(now)).is_some()
        };
        assert!(!pace.answer_with(b"", FRESHNESS, 0), "nothing was asked");
        assert!(ask(&mut pace, 1) && ask(&mut pace, 2));
        assert!(pace.answer_with(b"", FRESHNESS, 3));
        assert_eq!(pace.under_way(), 12_000, "the second may still be on its way");
        assert!(!ask(&mut pace, 4), "one at a time");
        assert!(pace.answer_with(b"?", FRESHNESS, 5));
        assert_eq!(pace.under_way(), 6_000);
        assert!(!pace.answer_with(b"", FRESHNESS, 6), "one more than was asked");
        // A Ping that is there to see who is alive has its Pong, too, whichever comes first.
        assert!(ask(&mut pace, 7));
        pace.pinged();
        assert!(pace.answer_with(b"", FRESHNESS, 8) && pace.under_way() > 0);
        assert!(pace.answer_with(b"", FRESHNESS, 9));
        assert_eq!(pace.under_way(), 0);
    }

    // RFC 6455, 5.5.3: "A Pong frame MAY be sent unsolicited."
    #[test]
    fn who_has_answered_with_what_it_was_asked_is_not_taken_at_an_empty_pong() {
        let mut pace = Pace::new(FRESHNESS);
        pace.pinged();
        assert!(pace.answer_with(b"", FRESHNESS, 0));
        pace.take(5000);
        let question = pace.question(0, 0, 0).expect("a quarter").frame(Wire::Plain);
        pace.asked(0);
        assert!(pace.answer_with(&question[2..], FRESHNESS, 1));
        pace.take(50_000);
        assert!(pace.question(0, 2, 0).is_some());
        pace.asked(2);
        assert!(!pace.answer_with(b"", FRESHNESS, 3));
        assert_eq!(pace.under_way(), 50_000);
    }

    #[test]
    fn without_a_window_nobody_is_asked() {
        let mut pace = Pace::new(0);
        pace.take(1 << 30);
        assert_eq!((pace.room(), pace.question(0, 0, 0).is_none()), (usize::MAX, true));
    }

    proptest! {
        // Whatever the client does to its answers: there is always a way on for one that answers.
        #[test]
        fn nobody_waits_with_no_question_under_way(
            steps in proptest::collection::vec((1..100_000usize, 0..3000u64, any::<bool>(), any::<u32>()), 1..200),
            serial: u32,
            is_mute: bool,
        ) {
            let mut pace = Pace::new(FRESHNESS);
            let mut asked = VecDeque::new();
            let mut now = 0;
            for (size, passed, answers, forged) in steps {
                now += passed;
                if pace.room() > 0 {
                    pace.take(size);
                }
                if let Some(question) = pace.question(0, now, serial) {
                    pace.asked(now);
                    asked.push_back(question.frame(Wire::Plain)[2..].to_vec());
                }
                if pace.room() == 0 {
                    prop_assert!(!asked.is_empty(), "{pace:?}");
                }
                if answers {
                    if let Some(payload) = asked.pop_front() {
                        let mut numbers = Question::parse(&payload).unwrap();
                        numbers[1] = forged.into();
                        let forged = format!("{},{},{}", numbers[0], numbers[1], numbers[2]);
                        let payload = if is_mute { b"" } else { forged.as_bytes() };
                        prop_assert!(pace.answer_with(payload, FRESHNESS, now));
                    }
                }
                prop_assert!((LEAST..=MOST).contains(&pace.window), "{pace:?}");
            }
        }
    }
}
