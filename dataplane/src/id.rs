//! Request ids: unique, sortable by time, and telling which replica gave them.

use std::{
    cell::Cell,
    fmt,
    num::NonZeroU32,
    time::{SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;

/// The digits of Crockford's base 32: no I, L, O, U.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Names one request in response headers, Events and logs.
///
/// 26 characters of Crockford's base 32 for 128 bits: 48 of milliseconds since 1970, 16 of the
/// replica, 64 that differ. No secret: nothing may be granted for knowing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u128);

impl RequestId {
    /// Marked so that HPACK does not index it (RFC 7541 section 6.2.3): none comes twice, and each
    /// would push out what does.
    pub(crate) fn header(self) -> HeaderValue {
        // The digits are all visible ASCII, so the fallback is never taken.
        let value = HeaderValue::from_bytes(&self.digits());
        let mut value = value.unwrap_or(HeaderValue::from_static("-"));
        value.set_sensitive(true);
        value
    }

    /// Whether it is the one of so many: the same answer wherever it is asked.
    pub(crate) fn is_one_in(self, many: NonZeroU32) -> bool {
        u64::try_from(self.0 & u128::from(u64::MAX))
            .is_ok_and(|number| number % u64::from(many.get()) == 0)
    }

    /// As it is printed, in ASCII.
    pub(crate) fn digits(self) -> [u8; 26] {
        let mut rest = self.0;
        let mut text = [b'0'; 26];
        for place in text.iter_mut().rev() {
            let digit = usize::try_from(rest & 31).unwrap_or(0);
            *place = DIGITS.get(digit).copied().unwrap_or(b'0');
            rest >>= 5;
        }
        text
    }
}

impl From<u128> for RequestId {
    fn from(bits: u128) -> Self {
        Self(bits)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).unwrap_or("-"))
    }
}

/// One thread's source of ids and of other numbers that need not be unpredictable.
pub(crate) struct Ids {
    replica: u16,
    state: Cell<u64>,
}

impl Ids {
    pub(crate) fn new(replica: u16) -> Self {
        let mut seed = [0; 8];
        // Without a seed ids are still unique by time and replica in all but one case of 2^64.
        if aws_lc_rs::rand::fill(&mut seed).is_err() {
            seed = since_epoch(SystemTime::now()).to_ne_bytes();
        }
        Self { replica, state: Cell::new(u64::from_ne_bytes(seed)) }
    }

    pub(crate) fn next(&self, now: SystemTime) -> RequestId {
        let milliseconds = u128::from(since_epoch(now)) << 80;
        let replica = u128::from(self.replica) << 64;
        RequestId(milliseconds | replica | u128::from(self.number()))
    }

    /// The next number of the `SplitMix64` sequence: all 2^64 of them, each once.
    pub(crate) fn number(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A position below `length`; 0 if there is none.
    pub(crate) fn below(&self, length: usize) -> usize {
        let length = u64::try_from(length).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.number() % length).unwrap_or(0)
    }
}

/// Milliseconds since 1970, 48 bits of them.
fn since_epoch(now: SystemTime) -> u64 {
    let elapsed = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    u64::try_from(elapsed & 0xffff_ffff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use super::*;

    #[test]
    fn an_id_has_26_characters_and_begins_with_its_time() {
        let ids = Ids::new(7);
        let early = ids.next(UNIX_EPOCH + Duration::from_millis(1)).to_string();
        let late = ids.next(UNIX_EPOCH + Duration::from_millis(2)).to_string();
        assert_eq!((early.len(), late.len()), (26, 26));
        assert!(early < late, "{early} {late}");
    }

    #[test]
    fn no_two_ids_of_a_moment_are_equal() {
        let ids = Ids::new(0);
        let all: HashSet<_> = (0..10_000).map(|_| ids.next(UNIX_EPOCH)).collect();
        assert_eq!(all.len(), 10_000);
    }
}
