//! Tokens: who issues them, with which keys they are verified, and what was verified before.

pub(crate) mod compact;
mod key_set;

use std::{sync::Arc, time::Duration};

use jsonwebtoken::DecodingKey;

use crate::{claims::Claims, lack::Lack, refs::ResourceRef};

pub use jsonwebtoken::Algorithm;
pub use key_set::{KEY_COUNT_LIMIT, KEY_SET_LIMIT};

/// Longest token that is looked at, in bytes.
pub const TOKEN_LIMIT: usize = 8 * 1024;

/// Every algorithm that a provider may list, by the names that tokens and key sets use (RFC 7518
/// section 3.1, RFC 8037, RFC 9864). All are asymmetric: a key that verifies cannot sign.
pub const ALGORITHMS: [(&str, Algorithm); 10] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
    ("Ed25519", Algorithm::EdDSA),
];

/// The algorithm of a name, character by character; none for `none`, for HMAC and for unknown names.
pub fn algorithm(name: &str) -> Option<Algorithm> {
    ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
}

/// The name of an algorithm, for refusals and findings.
pub(crate) fn algorithm_name(algorithm: Algorithm) -> &'static str {
    let found = ALGORITHMS.iter().find(|(_, known)| *known == algorithm);
    found.map_or("an algorithm that is never accepted", |(name, _)| name)
}

/// An entry of `jwtProviders`, compiled.
#[derive(Debug)]
pub struct Provider {
    /// Its name.
    pub name: Arc<str>,
    /// The exact value of `iss`.
    pub issuer: Arc<str>,
    /// Whom tokens must be for.
    pub audiences: Audiences,
    /// The algorithms that are accepted; the token's header only selects among them.
    pub algorithms: Box<[Algorithm]>,
    /// How far clocks may differ.
    pub skew: Duration,
    /// The keys, or the object that should hold them and what is wrong with it.
    pub keys: Result<KeySet, (ResourceRef, Lack)>,
}

/// Whom tokens must be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audiences {
    /// At least one of these.
    OneOf(Box<[Arc<str>]>),
    /// `anyAudience: true` was spelled out.
    Any,
}

/// The keys of a provider.
#[derive(Debug)]
pub struct KeySet {
    /// Hash of the key set's text and the provider's algorithms: tokens that were verified under another one are verified anew.
    pub generation: u64,
    /// The keys that can verify signatures.
    pub keys: Box<[VerificationKey]>,
}

/// One key that can verify signatures.
pub struct VerificationKey {
    /// `kid`, which tokens select it by.
    pub id: Option<Box<str>>,
    /// The algorithms that this key may be used with.
    pub algorithms: Box<[Algorithm]>,
    /// The key itself.
    pub key: DecodingKey,
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerificationKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Tokens whose signature a thread has verified before.
///
/// An entry says nothing but that the signature holds: expiry, audience and claims are judged again
/// at every request.
pub trait VerifiedTokens {
    /// The claims of a token that was verified under this generation of keys.
    fn get(&self, generation: u64, token: &str) -> Option<Arc<Claims>>;

    /// Remembers a verified token. What to forget when room is short is the implementer's choice.
    fn insert(&self, generation: u64, token: &str, claims: &Arc<Claims>);
}

/// Remembers nothing: for explanations and tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTokens;

impl VerifiedTokens for NoTokens {
    fn get(&self, _: u64, _: &str) -> Option<Arc<Claims>> {
        None
    }

    fn insert(&self, _: u64, _: &str, _: &Arc<Claims>) {}
}
