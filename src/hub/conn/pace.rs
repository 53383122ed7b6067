//! How much may be on its way to a client, so that what it sees is not stale.
//!
//! What has been handed to the operating system cannot be taken back, and its buffers, those of
//! the network and those of the client hold megabytes: to a client that reads 50 KB/s that is a minute of
//! what was the newest once. So there is a window of bytes under way, as large as the client reads in
//! about a quarter of a second. How fast that is, it says itself, without knowing: behind every quarter of the window,
//! or nearly a third of a large one, goes a question, a Ping that says how much has gone before it, and its Pong (RFC 6455, section
//! 5.5.3) is the receipt. Browsers answer Pings by themselves, as every client has to. How much it is, of a small window from an eighth
//! to a third, differs from client to client: thousands that have had the same small messages since the same moment are not all
//! asked behind the same one, which would come late to everyone. Behind what is as long as a twelfth of the window there is always one:
//! with the next of that kind it could be too late.
//!
//! The window follows from what a question took to come back. Where `f` bytes were under way
//! with it and it took `t`, the client takes `f / t`, and that for the time wanted is the window: the time
//! wanted, and what the way there and back takes by itself, which is the least that a question took
//! while little was under way. The window grows fourfold at most, so that one lucky answer opens it little, and
//! to a megabyte for whoever reads at once: then a question goes behind some 320 KB, since it costs as much as sending 20 KB.
//!
//! A client that nothing has been sent to yet may be sent a burst of 96 KiB at once, without a question: of thousands that have just
//! come, nearly all read it at once. The question goes behind the message after it.
//!
//! A Pong is to carry what its Ping did. Those of many small clients are empty: then the order of TCP says which question was
//! answered, which is the oldest. What that needs to know is a number of Pongs: a client whose Pongs say nothing is asked one thing
//! at a time, and has answered it when all Pings have been answered. A client that says more than is true is sent more
//! than it reads, and harms nobody else: nothing is answered that was not asked.

use std::io::Write as _;

use bytes::Bytes;

use crate::codec::{self, Control, ControlPayload};
use crate::hub::primitives::moment::low_half;
use crate::wire::Wire;
use crate::wire::v1::Lines;

/// The window of a client that nothing is known about: at 50 KB/s a third of a second.
const INITIAL: u32 = 16 * 1024;

/// The most that a client is sent at once, unasked, when nothing has been sent to it before: a log that many
/// newcomers are given, such as 80 messages of 1 KiB. Four questions to each of them would cost as much as the messages.
/// A newcomer that reads 50 KB/s has it after 2 s.
const FIRST: u32 = 96 * 1024;

/// The smallest and the largest window. At 100 ms there and back the largest is 7 to 10 MB/s, and who has it and becomes
/// slow, at 50 KB/s, has its next question after 7 s, and 10 at the most, before it is taken for dead.
const LEAST: u32 = 8 * 1024;
const MOST: u32 = 1024 * 1024;

/// The largest of a client whose Pongs are empty: while it answers one question there is no other, and at 50 KB/s it
/// has to come to the next within the stall timeout.
const MOST_UNSAID: u32 = 256 * 1024;

/// Of a window larger than this the moments differ by no more than of this one.
const SPREAD: u32 = 256 * 1024;

/// Clients who have had the same are asked at so many moments.
pub(crate) const TURNS: u32 = 1 << TURN_BITS;
const TURN_BITS: u32 = 4;

/// The most that the way there and back is taken to last by itself, in milliseconds.
const FAR: u16 = 1000;

/// Which of [`TURNS`] a connection of this serial number has. Mixed (Knuth, "Sorting and Searching", section 6.4): a
/// viewer's page and script take a fixed number of connections, which would leave a few turns of them.
pub(crate) fn turn_of(serial: u32) -> u32 {
    serial.wrapping_mul(0x9E37_79B1) >> (u32::BITS - TURN_BITS)
}

/// What is under way to one client. Numbers of bytes and milliseconds count modulo 2^32, in which their
/// differences fit: one message, and a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Bytes of messages taken up for it, ever.
    taken: u32,
    /// Of these it has had so many.
    had: u32,
    /// So many had been taken up when it was last asked.
    asked: u32,
    /// Zero: there is none, and nothing is asked.
    window: u32,
    /// When it was last asked, in milliseconds.
    asked_at: u32,
    /// The least that an answer took while little was under way, in milliseconds.
    way: u16,
    /// Pings without a Pong yet.
    unanswered: u8,
    pongs: Pongs,
}

/// What is known of a client's Pongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pongs {
    Unknown,
    /// They carry what their Pings did. What carries something else answers nothing.
    Whole,
    /// They do not.
    Empty,
}

impl Pace {
    /// `freshness`: for how many milliseconds' worth the window is; zero: there is none.
    pub(crate) fn new(freshness: u32) -> Self {
        let window = if freshness > 0 { INITIAL } else { 0 };
        let (taken, had, asked, asked_at) = (0, 0, 0, 0);
        let (way, unanswered, pongs) = (FAR, 0, Pongs::Unknown);
        Self { taken, had, asked, window, asked_at, way, unanswered, pongs }
    }

    /// How many bytes more may be taken up. A message that begins within them may end beyond.
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

    /// How many bytes may be taken up before there is a question: a little more than until one is due, so that what is
    /// written at once is seldom cut for it. `serial` is any number that stays the client's and is another's for others.
    pub(crate) fn stretch(&self, serial: u32) -> usize {
        match self.window {
            0 => usize::MAX,
            _ if self.is_first() => FIRST as usize,
            window => {
                (window / 16 + self.part(serial).saturating_sub(self.since())).max(1) as usize
            }
        }
    }

    /// From this size on there is a question behind each message.
    pub(crate) fn long(&self) -> usize {
        if self.window == 0 || self.is_first() { usize::MAX } else { self.window as usize / 12 }
    }

    /// Bytes that may be lost with its connection: it has not said that it has them. (Zero where it is not asked.)
    pub(crate) fn unanswered(&self) -> u32 {
        if self.window == 0 { 0 } else { self.under_way() }
    }

    /// What has been taken up since it was last asked.
    fn since(&self) -> u32 {
        self.taken.wrapping_sub(self.asked)
    }

    /// Behind how much a question is due.
    fn part(&self, serial: u32) -> u32 {
        let spread = self.window.min(SPREAD) / 24 * 5; // from an eighth to a third
        self.window / 3 - spread + spread / TURNS * turn_of(serial)
    }

    fn under_way(&self) -> u32 {
        self.taken.wrapping_sub(self.had)
    }

    /// Whether more is under way than any window: a message that began within it and is longer.
    pub(crate) fn is_in_a_long_message(&self) -> bool {
        self.under_way() > MOST
    }

    /// So many bytes have been taken up.
    pub(crate) fn take(&mut self, bytes: usize) {
        if self.is_first_burst(bytes) {
            self.window += low_half(bytes as u64); // the next message does not wait, and is asked about
        }
        self.taken = self.taken.wrapping_add(low_half(bytes as u64));
    }

    /// Whether so much at once is the first that the client is sent, and is not asked about.
    fn is_first_burst(&self, bytes: usize) -> bool {
        self.is_first() && (INITIAL as usize..=FIRST as usize + INITIAL as usize).contains(&bytes)
    }

    /// The question that is due when `more` bytes have been taken up at once: it goes behind them.
    pub(crate) fn question(&self, more: usize, now: u64, serial: u32) -> Option<Question> {
        if self.is_first_burst(more) {
            return None;
        }
        let mut then = *self;
        then.take(more);
        // Who may have no more is to be asked in any case: nothing else would bring it on again.
        let unasked = then.room() == 0 && then.asked == then.had;
        let is_long = more >= self.long();
        let due = then.since() >= self.part(serial) || unasked || is_long;
        let may_ask = self.pongs != Pongs::Empty || self.unanswered == 0;
        (self.window > 0 && then.since() > 0 && due && may_ask).then(|| Question(then.numbers(now)))
    }

    /// What a question says: how much goes before it, how much of that is under way, and when it is.
    pub(crate) fn numbers(&self, now: u64) -> [u32; 3] {
        [self.taken, self.under_way(), low_half(now)]
    }

    /// The question has gone, or is in line behind what has been taken up.
    pub(crate) fn asked(&mut self, now: u64) {
        (self.asked, self.asked_at) = (self.taken, low_half(now));
        self.pinged();
    }

    /// How much goes before the last question.
    pub(crate) fn last_asked(&self) -> u32 {
        self.asked
    }

    /// A Ping has gone, or is in line.
    pub(crate) fn pinged(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// A Pong has come with these bytes: whether it answers a Ping.
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

    /// What has been taken up before the last question, and after the last answer.
    fn under_question(&self) -> u32 {
        self.asked.wrapping_sub(self.had)
    }

    /// A question has been answered with these numbers: whether it was asked, and says more than those before or all that
    /// there is.
    pub(crate) fn answer(&mut self, numbers: [u64; 3], freshness: u32, now: u64) -> bool {
        let [offset, under_way, at] = numbers.map(low_half);
        let more = offset.wrapping_sub(self.had);
        // What it was not asked, it cannot answer. (What else it makes up is its own affair: it is
        // sent more, or less.)
        // There to see who is alive, with nothing new before it.
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

    /// The client has all up to here, with so much of it under way when it was asked, at that time.
    fn have(&mut self, offset: u32, under_way: u32, at: u32, freshness: u32, now: u64) {
        self.had = offset;
        let took = (low_half(now).wrapping_sub(at)).max(1);
        if under_way <= INITIAL {
            self.way = self.way.min(u16::try_from(took).unwrap_or(FAR));
        }
        // As long as nothing small has been under way, nothing is known of the way.
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

/// A Ping that says how much has gone before it, how much of that was under way, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question([u32; 3]);

impl Question {
    /// The numbers in the payload of a Pong, if it can be an answer.
    pub(crate) fn parse(payload: &[u8]) -> Option<[u64; 3]> {
        let mut numbers = std::str::from_utf8(payload)
            .ok()?
            .split(',')
            .map(|number| number.parse::<u32>().ok().map(u64::from));
        let [a, b, c] = [numbers.next()??, numbers.next()??, numbers.next()??];
        numbers.next().is_none().then_some([a, b, c])
    }

    /// A Ping, whose payload is text, which all clients can handle; on `stepcast.v1` a line, so that what answers is the page and not the browser behind it.
    pub(crate) fn frame(&self, wire: Wire) -> Bytes {
        if wire == Wire::V1 {
            let mut lines = Lines::default();
            lines.ping(self.0);
            return lines.take().into();
        }
        let [taken, under_way, at] = self.0;
        let mut payload = Vec::with_capacity(3 * 10 + 2);
        let _ = write!(payload, "{taken},{under_way},{at}"); // there is room
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
        /// How many it may still read in this millisecond, and what it has not read.
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

    /// So many milliseconds in which there is always a newest value, of this size: its greatest age when
    /// it was read, from when it had settled, and how much was read then.
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
