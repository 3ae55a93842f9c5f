//! What rules can ask about the labels of a subject's pod and of its namespace.
//!
//! Rules name the keys that they ask for, so that nobody has to carry more of an object than these. What nobody has looked for is not
//! known, which is something else than a label that is not there: it allows nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::ident::LabelKey;

/// The keys that rules ask for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LabelKeys {
    /// Of the pod.
    pub pod: BTreeSet<LabelKey>,
    /// Of its namespace.
    pub namespace: BTreeSet<LabelKey>,
}

impl LabelKeys {
    /// Whether no label is asked for.
    pub fn is_empty(&self) -> bool {
        self.pod.is_empty() && self.namespace.is_empty()
    }

    /// Adds the keys of others.
    pub fn extend(&mut self, others: &Self) {
        let Self { pod, namespace } = others;
        self.pod.extend(pod.iter().cloned());
        self.namespace.extend(namespace.iter().cloned());
    }
}

/// What is known of one object's labels: the value under each key that was looked for, or that there is none.
pub type Labels = BTreeMap<LabelKey, Option<String>>;

/// What is known of the labels around a subject. By default nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KnownLabels {
    /// Of the pod.
    pub pod: Labels,
    /// Of its namespace.
    pub namespace: Labels,
}

impl KnownLabels {
    /// That none of these labels is there.
    pub(super) fn absent(keys: &LabelKeys) -> Self {
        let absent = |keys: &BTreeSet<LabelKey>| -> Labels {
            keys.iter().map(|key| (key.clone(), None)).collect()
        };
        Self {
            pod: absent(&keys.pod),
            namespace: absent(&keys.namespace),
        }
    }

    /// Whether all of these keys were looked for.
    pub fn has(&self, keys: &LabelKeys) -> bool {
        knows(&self.pod, &keys.pod) && knows(&self.namespace, &keys.namespace)
    }
}

/// Whether all of these keys were looked for at one object.
pub(super) fn knows(labels: &Labels, keys: &BTreeSet<LabelKey>) -> bool {
    keys.iter().all(|key| labels.contains_key(key))
}
