//! Maps for the tables of a compilation, which is mostly looking things up by names.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

/// A map with a fast hasher. Its seed is another one in each process, so whoever may write manifests
/// cannot choose names that meet in one place.
pub(crate) type Map<K, V> = HashMap<K, V, RandomState>;

/// The same as a set.
pub(crate) type Set<K> = HashSet<K, RandomState>;

/// A map with room for so many, which need not be moved while it grows.
pub(crate) fn with_room<K, V>(count: usize) -> Map<K, V> {
    Map::with_capacity_and_hasher(count, RandomState::default())
}
