//! The tokens whose signatures a thread has verified before.

use std::{
    cell::RefCell,
    hash::{Hash, Hasher},
    sync::Arc,
};

use decision::{claims::Claims, token::VerifiedTokens};
use quick_cache::{Equivalent, Weighter, unsync::Cache};

use crate::settings::Limits;

/// One thread's memory of verified tokens, bounded in number and in bytes.
pub(crate) struct TokenCache(RefCell<Cache<Key, Arc<Claims>, Bytes>>);

/// A token as it was sent, under one generation of keys: a new key set forgets all of them.
#[derive(PartialEq, Eq)]
struct Key {
    generation: u64,
    token: Box<str>,
}

#[derive(Hash)]
struct Borrowed<'a> {
    generation: u64,
    token: &'a str,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Borrowed { generation: self.generation, token: &self.token }.hash(state);
    }
}

impl Equivalent<Key> for Borrowed<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.generation == key.generation && *self.token == *key.token
    }
}

/// Weighs an entry: the token, its claims (about as long again), and a fixed part.
#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Arc<Claims>> for Bytes {
    fn weight(&self, key: &Key, _: &Arc<Claims>) -> u64 {
        u64::try_from(2 * key.token.len() + 256).unwrap_or(u64::MAX)
    }
}

impl TokenCache {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self(RefCell::new(Cache::with_weighter(limits.tokens, limits.token_bytes, Bytes)))
    }
}

impl VerifiedTokens for TokenCache {
    fn get(&self, generation: u64, token: &str) -> Option<Arc<Claims>> {
        self.0.borrow().get(&Borrowed { generation, token }).cloned()
    }

    fn insert(&self, generation: u64, token: &str, claims: &Arc<Claims>) {
        self.0.borrow_mut().insert(Key { generation, token: token.into() }, Arc::clone(claims));
    }
}

#[cfg(test)]
mod tests {
    use decision::claims::Json;

    use super::*;

    #[test]
    fn a_token_is_remembered_for_one_generation_of_keys_only() {
        let cache = TokenCache::new(&Limits::default());
        let claims = Arc::new(Claims { payload: Json::Null });
        cache.insert(1, "a.b.c", &claims);
        assert!(cache.get(1, "a.b.c").is_some());
        assert!(cache.get(2, "a.b.c").is_none());
        assert!(cache.get(1, "a.b.d").is_none());
    }

    #[test]
    fn by_default_ten_thousand_tokens_of_the_usual_length_are_remembered() {
        let cache = TokenCache::new(&Limits::default());
        let claims = Arc::new(Claims { payload: Json::Null });
        let tokens: Vec<String> = (0..10_000).map(|number| format!("{number:0700}")).collect();
        for token in &tokens {
            cache.insert(1, token, &claims);
        }
        let known = tokens.iter().filter(|token| cache.get(1, token).is_some()).count();
        assert!(known > 9_900, "{known}");
    }

    #[test]
    fn a_flood_of_tokens_does_not_grow_the_memory() {
        let cache = TokenCache::new(&Limits { token_bytes: 64 * 1024, ..Limits::default() });
        let claims = Arc::new(Claims { payload: Json::Null });
        for number in 0..10_000 {
            cache.insert(1, &format!("{number:01000}"), &claims);
        }
        assert!(cache.0.borrow().weight() <= 64 * 1024);
    }
}
