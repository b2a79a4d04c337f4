//! API keys and the subscriptions that they belong to. Keys exist here only as digests.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use aws_lc_rs::{constant_time, digest};

use crate::{lack::Lack, refs::ResourceRef, time::Timestamp};

/// Length of the public id in `wg_<id>_<secret>`.
pub const KEY_ID_LENGTH: usize = 8;
/// Length of the secret part: 256 bits in base64url without padding.
pub const KEY_SECRET_LENGTH: usize = 43;

/// SHA-256 of a whole API key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest(pub [u8; 32]);

impl KeyDigest {
    /// Reads 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let lower = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        if text.len() != 64 || !text.bytes().all(lower) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The digest of a key.
    pub fn of(key: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, key).as_ref());
        Self(bytes)
    }
}

impl std::fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyDigest(..)")
    }
}

/// An API key of the right form: `wg_<8 characters>_<43 characters>`. Never shown.
pub struct ApiKey<'a> {
    id: Cow<'a, str>,
    digest: KeyDigest,
}

impl<'a> ApiKey<'a> {
    /// Reads a key; anything of another form is none, and no part of it is kept.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (id, secret) = text.strip_prefix("wg_")?.split_at_checked(KEY_ID_LENGTH)?;
        let secret = secret.strip_prefix('_')?;
        let fine = id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            && secret.len() == KEY_SECRET_LENGTH
            && secret
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        fine.then(|| Self { id: Cow::Borrowed(id), digest: KeyDigest::of(bytes) })
    }

    /// The same key without the text that it was read from: its public id and its digest.
    pub(crate) fn into_owned(self) -> ApiKey<'static> {
        ApiKey { id: Cow::Owned(self.id.into_owned()), digest: self.digest }
    }

    /// The first four characters of the public id: enough to find the caller, too little to guess.
    pub fn public_start(&self) -> &str {
        self.id.get(..4).unwrap_or("")
    }
}

impl std::fmt::Debug for ApiKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// Whether a subscription counts, as far as its manifest tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It counts until it expires; the request's time decides.
    Active {
        /// `expiresAt`; without it the subscription does not expire.
        expires: Option<Timestamp>,
    },
    /// `suspend: true`.
    Suspended,
    /// It cannot count, for this reason.
    Invalid(Lack),
}

/// One `AccessSubscription`, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Which object it is.
    pub resource: ResourceRef,
    /// The plan that it subscribes to.
    pub plan: ResourceRef,
    /// Whether it counts.
    pub state: State,
}

/// Every API key of the installation.
#[derive(Debug, Default)]
pub struct Subscriptions {
    by_digest: HashMap<KeyDigest, Arc<Subscription>>,
}

impl Subscriptions {
    /// Keeps the first subscription of each digest: the caller puts the older one first.
    pub fn new(keys: impl IntoIterator<Item = (KeyDigest, Arc<Subscription>)>) -> Self {
        let mut by_digest = HashMap::new();
        for (digest, subscription) in keys {
            by_digest.entry(digest).or_insert(subscription);
        }
        Self { by_digest }
    }

    /// The subscription that a key belongs to, whatever its state.
    ///
    /// The table is searched by digest, of which a caller cannot choose a prefix; the digest that
    /// was found is compared in constant time.
    pub fn find(&self, key: &ApiKey<'_>) -> Option<&Subscription> {
        let (digest, subscription) = self.by_digest.get_key_value(&key.digest)?;
        constant_time::verify_slices_are_equal(&digest.0, &key.digest.0).ok()?;
        Some(subscription)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "wg_7f3k9q2m_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn only_the_one_form_of_a_key_is_looked_up() {
        assert!(ApiKey::parse(KEY.as_bytes()).is_some());
        let longer = format!("{KEY}A");
        for text in [
            "",
            "wg_",
            "7f3k9q2m",
            KEY.split_at(40).0,
            &longer,
            &KEY.replace("7f3", "7F3"),
            &KEY.replace('A', "="),
        ] {
            assert!(ApiKey::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn digests_are_read_in_one_spelling() {
        let text = "b1c2".repeat(16);
        assert_eq!(KeyDigest::parse(&text).unwrap().0[..2], [0xb1, 0xc2]);
        assert!(KeyDigest::parse(&text.to_uppercase()).is_none());
        assert!(KeyDigest::parse("b1c2").is_none());
    }
}
