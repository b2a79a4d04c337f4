//! Tokens: who issues them, with which keys they are verified, and what was verified before.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey};

use crate::{claims::Claims, refs::ResourceRef};

/// Longest token that is looked at, in bytes.
pub const TOKEN_LIMIT: usize = 8 * 1024;

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
    pub keys: Result<KeySet, (ResourceRef, Arc<str>)>,
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
    /// Hash of the provider and its keys: tokens that were verified under another one are verified anew.
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
