//! The objects of one kind, by their fingerprints.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use sts_core::liveness::Existence;
use sts_core::time::UnixSeconds;

/// Fingerprint → since when it is being deleted. About 50 bytes for each object.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: RwLock<Entries>,
}

pub(super) type Entries = HashMap<u128, Option<UnixSeconds>>;

impl Index {
    /// What the index has of an object; `None` if it does not have it.
    pub(super) fn find(&self, object: u128) -> Option<Existence> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries
            .get(&object)
            .map(|deletion| super::existence(*deletion))
    }

    pub(super) fn len(&self) -> usize {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.len()
    }

    /// An object was added or changed.
    pub(super) fn insert(&self, object: u128, deletion: Option<UnixSeconds>) {
        self.write().insert(object, deletion);
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
        index.insert(1, None);
        index.insert(2, UnixSeconds::new(7));
        assert_eq!(index.find(1), Some(Existence::Present));
        index.replace(Entries::from([(2, UnixSeconds::new(7))]));
        assert_eq!(index.find(1), None);
        let ending = Existence::Ending(UnixSeconds::new(7).unwrap());
        assert_eq!(index.find(2), Some(ending));
        index.remove(2);
        assert_eq!(index.find(2), None);
    }
}
