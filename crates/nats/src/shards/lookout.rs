//! What a tracker sees of the others: who shows signs of life, and whose queues are free.
//!
//! Nobody's clock is compared with another's. An owner is silent once nothing of it has changed over
//! several looks; what is then taken from it is taken on the condition that it has not changed since.

use std::collections::{HashMap, HashSet};

use foreplan_protocol::wire::{token, untoken};

/// Looks without a change after which an owner counts as gone.
const SILENT_LOOKS: u32 = 3;

/// Keys of signs of life of trackers that may have no queue: `tracker.{name}`.
const TRACKER: &str = "tracker.";

/// What stands in the bucket of owners.
pub(super) struct Note {
    /// A queue, or a tracker's sign of life.
    pub(super) key: String,
    pub(super) owner: String,
    pub(super) revision: u64,
}

/// Whose a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Nobody,
    /// This tracker's, whether or not it knows: a confirmation may have been lost.
    Own {
        revision: u64,
    },
    /// That of a tracker that counts as gone.
    Silent {
        revision: u64,
    },
    Other {
        revision: u64,
    },
}

/// What a tracker has seen, look by look.
pub(super) struct Lookout {
    own: String,
    seen: HashMap<String, Seen>,
}

struct Seen {
    owner: String,
    revision: u64,
    /// Looks since it changed.
    unchanged: u32,
}

impl Lookout {
    pub(super) fn new(own: &str) -> Self {
        Self { own: own.to_owned(), seen: HashMap::new() }
    }

    /// Takes in what stands in the bucket now.
    pub(super) fn note(&mut self, notes: impl IntoIterator<Item = Note>) {
        let mut before = std::mem::take(&mut self.seen);
        for Note { key, owner, revision } in notes {
            let last = before.remove(&key).filter(|last| last.revision == revision);
            let unchanged = last.map_or(0, |last| last.unchanged.saturating_add(1));
            self.seen.insert(key, Seen { owner, revision, unchanged });
        }
    }

    /// Returns how many trackers live, this one included.
    pub(super) fn living(&self) -> usize {
        let living = self.seen.values().filter(|seen| seen.unchanged < SILENT_LOOKS);
        let mut names: HashSet<&str> = living.map(|seen| seen.owner.as_str()).collect();
        names.insert(&self.own);
        names.len()
    }

    pub(super) fn holder(&self, queue: u8) -> Holder {
        match self.seen.get(&queue.to_string()) {
            None => Holder::Nobody,
            Some(seen) if seen.owner == self.own => Holder::Own { revision: seen.revision },
            Some(seen) if seen.unchanged >= SILENT_LOOKS => Holder::Silent { revision: seen.revision },
            Some(seen) => Holder::Other { revision: seen.revision },
        }
    }
}

/// Returns the key of a tracker's sign of life.
pub(super) fn sign_of(tracker: &str) -> String {
    format!("{TRACKER}{}", token(tracker))
}

/// Returns the tracker whose sign of life this is, however many queues it knows of.
pub(crate) fn tracker_of(key: &str) -> Option<String> {
    let (before, name) = key.rsplit_once('.')?;
    before.ends_with(TRACKER.trim_end_matches('.')).then(|| untoken(name))?
}

/// Reads a note; a sign of life names its tracker by its key.
pub(super) fn read(key: &str, value: &[u8], revision: u64) -> Option<Note> {
    let owner = match key.strip_prefix(TRACKER) {
        Some(name) => untoken(name)?,
        None => std::str::from_utf8(value).ok()?.to_owned(),
    };
    Some(Note { key: key.to_owned(), owner, revision })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(queue: u8, owner: &str, revision: u64) -> Note {
        Note { key: queue.to_string(), owner: owner.to_owned(), revision }
    }

    fn sign(tracker: &str, revision: u64) -> Note {
        read(&sign_of(tracker), b"", revision).expect("a sign of life")
    }

    #[test]
    fn an_owner_that_shows_no_sign_of_life_over_three_looks_counts_as_gone() {
        let mut lookout = Lookout::new("own");
        for look in 0..3 {
            lookout.note([queue(1, "dead", 7), sign("dead", 8), queue(2, "alive", 10 + look)]);
            assert_eq!((lookout.holder(1), lookout.living()), (Holder::Other { revision: 7 }, 3));
        }
        lookout.note([queue(1, "dead", 7), sign("dead", 8), queue(2, "alive", 20)]);
        assert_eq!(lookout.holder(1), Holder::Silent { revision: 7 });
        assert_eq!((lookout.holder(2), lookout.holder(3)), (Holder::Other { revision: 20 }, Holder::Nobody));
        assert_eq!(lookout.living(), 2);
        lookout.note([queue(1, "dead", 21), queue(2, "alive", 20)]);
        assert_eq!(lookout.holder(1), Holder::Other { revision: 21 }, "it was only late");
    }

    #[test]
    fn a_tracker_without_a_shard_counts_by_its_sign_of_life() {
        let mut lookout = Lookout::new("own.host 1");
        lookout.note([sign("new.host 2", 1), sign("own.host 1", 2), queue(5, "own.host 1", 3)]);
        assert_eq!(lookout.living(), 2);
        assert_eq!(lookout.holder(5), Holder::Own { revision: 3 });
        assert!(read("tracker.=zz", b"", 1).is_none());
        let sign = sign_of("own.host 1");
        for (key, tracker) in [(sign.as_str(), Some("own.host 1")), ("16.3", None), ("3", None)] {
            assert_eq!(tracker_of(key).as_deref(), tracker);
        }
        assert_eq!(tracker_of(&format!("16.{sign}")).as_deref(), Some("own.host 1"));
    }
}
