//! The objects of one kind, by their fingerprints.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use sts_core::time::UnixSeconds;

/// Fingerprint → what is known of the object. About 70 bytes for each object, and the values of its labels that rules ask for.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: RwLock<Entries>,
}

pub(super) type Entries = HashMap<u128, Entry>;

/// What is kept of an object.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Entry {
    /// Since when it is being deleted.
    pub(super) deletion: Option<UnixSeconds>,
    pub(super) labels: Kept,
}

/// The values of the labels that are asked for, in the order of their keys; `None` where it has none.
pub(super) type Kept = Box<[Option<Box<str>>]>;

impl Index {
    /// What the index has of an object; `None` if it does not have it.
    pub(super) fn find(&self, object: u128) -> Option<Entry> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(&object).cloned()
    }

    pub(super) fn len(&self) -> usize {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.len()
    }

    /// An object was added or changed.
    pub(super) fn insert(&self, object: u128, entry: Entry) {
        self.write().insert(object, entry);
    }

    /// An object is gone.
    pub(super) fn remove(&self, object: u128) {
        self.write().remove(&object);
    }

    /// All objects were listed anew. In one step: an index that is empty for a moment would refuse everybody, one that kept what is not
    /// listed any more would let the dead live.
    pub(super) fn replace(&self, entries: Entries) {
        *self.write() = entries;
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_021_a_new_list_forgets_what_it_does_not_have() {
        let index = Index::default();
        let ending = Entry {
            deletion: UnixSeconds::new(7),
            labels: Box::new([Some("web".into()), None]),
        };
        index.insert(1, Entry::default());
        index.insert(2, ending.clone());
        assert_eq!(index.find(1), Some(Entry::default()));
        index.replace(Entries::from([(2, ending.clone())]));
        assert_eq!(index.find(1), None);
        assert_eq!(index.find(2), Some(ending));
        index.remove(2);
        assert_eq!(index.find(2), None);
    }
}
