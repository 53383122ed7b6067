//! Client ids: unguessable, never reused, and plain JSON numbers.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use siphasher::sip::SipHasher24;
use siphasher::sip128::SipHasher24 as SipHasher128;

/// 2^53. An IEEE double, and so JSON in a browser, holds all smaller integers exactly.
const END: u64 = 1 << 53;

/// The id of a client.
///
/// A client gets its id in its first message, and sends the id in later HTTP requests, so that the
/// program can push to that browser alone.
///
/// An id is an unguessable number from 1 to 2^53 - 1, a plain number in JSON and in JavaScript. A
/// hub never gives an id twice.
///
/// `ClientId` serialises with `serde` as that number.
///
/// ```
/// use stepcast::ClientId;
///
/// let id: ClientId = "4711".parse().unwrap();
/// assert_eq!(id.to_string(), "4711");
/// assert_eq!(id.get(), 4711);
/// assert!("0".parse::<ClientId>().is_err());
/// assert!("9007199254740992".parse::<ClientId>().is_err()); // 2^53
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(NonZeroU64);

impl ClientId {
    /// Returns the id as a number, from 1 to 2^53 - 1.
    ///
    /// ```
    /// # use stepcast::ClientId;
    /// assert_eq!("7".parse::<ClientId>().unwrap().get(), 7);
    /// ```
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// Makes an id of a number, or returns `None` if the number is not from 1 to 2^53 - 1.
    ///
    /// ```
    /// # use stepcast::ClientId;
    /// assert!(ClientId::new(1).is_some());
    /// assert!(ClientId::new(0).is_none());
    /// assert!(ClientId::new(1 << 53).is_none());
    /// ```
    pub fn new(number: u64) -> Option<Self> {
        if number < END { NonZeroU64::new(number).map(Self) } else { None }
    }
}

impl TryFrom<u64> for ClientId {
    type Error = InvalidClientId;

    fn try_from(number: u64) -> Result<Self, InvalidClientId> {
        Self::new(number).ok_or(InvalidClientId)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({})", self.0)
    }
}

/// The error for a text that is not a client id.
///
/// ```
/// # use stepcast::ClientId;
/// let error = "browser".parse::<ClientId>().unwrap_err();
/// assert_eq!(error.to_string(), "a client id is a whole number from 1 to 9007199254740991");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a client id is a whole number from 1 to 9007199254740991")]
#[non_exhaustive]
pub struct InvalidClientId;

impl FromStr for ClientId {
    type Err = InvalidClientId;

    fn from_str(text: &str) -> Result<Self, InvalidClientId> {
        text.parse().map_err(|_| InvalidClientId).and_then(u64::try_into)
    }
}

impl serde::Serialize for ClientId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.get())
    }
}

impl<'de> serde::Deserialize<'de> for ClientId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}

/// Draws ids that look random and never repeat: a secret permutation of a counter.
///
/// Random numbers of 53 bits would collide after some ten million clients, and remembering every id
/// given costs memory. A Feistel network (Luby and Rackoff, "How to construct pseudorandom
/// permutations from pseudorandom functions", 1988) with a pseudorandom function in its rounds
/// (`SipHash-2-4`, Aumasson and Bernstein, "`SipHash`: a fast short-input PRF", 2012) is a
/// permutation of 53 bits. Distinct counters give distinct ids, and nobody can predict an id from
/// others without the secret. A zero, which is no id, is fed through again ("cycle walking", Black
/// and Rogaway 2002), so the result is still a permutation.
pub(crate) struct IdSource {
    function: SipHasher24,
    keys: SipHasher128,
    next: AtomicU64,
}

impl IdSource {
    /// The rounds change one half, then the other. Their sizes differ, since 53 is odd.
    const LOW_BITS: u32 = 27;
    const LOW: u64 = (1 << Self::LOW_BITS) - 1;
    const HIGH: u64 = (1 << (53 - Self::LOW_BITS)) - 1;
    const ROUNDS: u8 = 8;

    /// # Errors
    ///
    /// Where the operating system gives no random bytes.
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let (mut key, mut other) = ([0; 16], [0; 16]);
        getrandom::fill(&mut key)?;
        getrandom::fill(&mut other)?;
        Ok(Self {
            function: SipHasher24::new_with_key(&key),
            keys: SipHasher128::new_with_key(&other),
            next: AtomicU64::new(1),
        })
    }

    /// Returns the proof of who has this id: a pseudorandom function of the id, under a secret of
    /// its own, so the hub stores no keys.
    pub(crate) fn session_key_of(&self, id: ClientId) -> [u8; 16] {
        self.keys.hash(&id.get().to_le_bytes()).as_bytes()
    }

    pub(crate) fn draw(&self) -> ClientId {
        let mut number = self.next.fetch_add(1, Ordering::Relaxed);
        loop {
            number = self.permute(number);
            if let Some(id) = ClientId::new(number) {
                return id;
            }
        }
    }

    fn permute(&self, number: u64) -> u64 {
        let (mut high, mut low) = (number >> Self::LOW_BITS & Self::HIGH, number & Self::LOW);
        for round in (0..Self::ROUNDS).step_by(2) {
            high ^= self.round(round, low) & Self::HIGH;
            low ^= self.round(round + 1, high) & Self::LOW;
        }
        high << Self::LOW_BITS | low
    }

    fn round(&self, round: u8, half: u64) -> u64 {
        self.function.hash(&(u64::from(round) << 32 | half).to_le_bytes())
    }
}

impl fmt::Debug for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdSource").finish_non_exhaustive() // the key is a secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_never_repeat() {
        let source = IdSource::new().unwrap();
        let ids: HashSet<_> = (0..20_000).map(|_| source.draw()).collect();
        assert_eq!(ids.len(), 20_000);
    }

    #[test]
    fn each_id_has_a_key_of_its_own_and_another_at_another_hub() {
        let source = IdSource::new().unwrap();
        let ids: Vec<_> = (0..1000).map(|_| source.draw()).collect();
        let keys: HashSet<_> = ids.iter().map(|id| source.session_key_of(*id)).collect();
        assert_eq!(keys.len(), ids.len());
        assert!(keys.contains(&source.session_key_of(ids[0])), "and it stays");
        assert!(!keys.contains(&IdSource::new().unwrap().session_key_of(ids[0])));
    }

    #[test]
    fn the_permutation_is_one() {
        // Each round can be undone, so no two numbers share an image: walk one back.
        let source = IdSource::new().unwrap();
        for number in [0, 1, 2, 1 << 26, (1 << 27) - 1, 1 << 27, 1 << 52, (1 << 53) - 1] {
            let image = source.permute(number);
            let (mut high, mut low) = (image >> 27, image & IdSource::LOW);
            for round in (0..IdSource::ROUNDS).step_by(2).rev() {
                low ^= source.round(round + 1, high) & IdSource::LOW;
                high ^= source.round(round, low) & IdSource::HIGH;
            }
            assert_eq!(high << 27 | low, number);
        }
    }

    #[test]
    fn ids_cover_their_range_evenly_and_differ_from_hub_to_hub() {
        let source = IdSource::new().unwrap();
        let mut sixteenths = [0; 16];
        for _ in 0..16_000 {
            sixteenths[usize::try_from(source.draw().get() >> 49).unwrap()] += 1;
        }
        // Binomial with mean 1000 and deviation 31: eight deviations either way.
        assert!(sixteenths.iter().all(|n| (750..1250).contains(n)), "{sixteenths:?}");
        assert_ne!(IdSource::new().unwrap().draw(), IdSource::new().unwrap().draw());
    }
}
