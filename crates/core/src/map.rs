//! Maps that every step looks into several times.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

/// A map with a hash that is cheap for short keys. For ids: how many there are is bounded before they get
/// here, and its seed differs from process to process.
pub type IdMap<K, V> = HashMap<K, V, RandomState>;

/// A set of the same kind.
pub type IdSet<K> = HashSet<K, RandomState>;
