//! The ring of an endpoint's signing keys: which key signs, which keys are published, and when that changes.
//!
//! Pure: what was read from the cluster and seen outside comes in, the next ring and what happened go out. The invariant that all of
//! this serves: *at every instant, every unexpired token verifies against the key set as the outside world sees it*.
//!
//! ```text
//! (ring in memory, ring as stored) ─▶ [reconcile] ─▶ ring ─▶ [advance] ─▶ next ring, steps, when to look again
//! ```
//!
//! A key is *prepared* (published, signs nothing), then *active* (signs), then *retiring* (signs nothing, stays published until its last
//! token is dead), then gone. Any replica may take any step: the ring is written by compare-and-swap, and each step follows from the
//! ring, the terms and the time alone.

mod advance;
mod permit;
mod reconcile;
mod status;
mod text;

use std::collections::BTreeSet;
use std::time::Duration;

use super::Algorithm;
use crate::ident::KeyId;
use crate::time::{Lifetime, UnixSeconds};

pub use advance::{Advance, Inputs, advance};
pub use permit::{FURTHEST_APART, Outside, View, Withheld};
pub use reconcile::{Loss, Reconciled, Stored, reconcile};
pub use text::RingTextError;

/// The keys of one endpoint, their phases, and what of the user's wishes was fulfilled.
///
/// Invariant: at most one key is prepared, at most one is active, and no two have one id.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ring {
    generation: u64,
    keys: Vec<RingKey>,
    rotate: Option<String>,
    given: Option<KeyId>,
    revoked: Vec<Revocation>,
    urgent: bool,
}

/// One key of a ring. The key itself is elsewhere, under its id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RingKey {
    id: KeyId,
    algorithm: Algorithm,
    phase: Phase,
    prepared: UnixSeconds,
    /// The longest life of a token that anybody may have signed with it. It never shrinks.
    lifetime: Duration,
    /// The longest time that anybody was told to keep a key set with it. It never shrinks.
    max_age: Duration,
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Published, and not signing yet.
    Prepared {
        /// When the outside world was first seen to serve it, where that is looked at.
        seen: Option<UnixSeconds>,
        /// When no key set without it can be in use any more.
        signs_from: Option<UnixSeconds>,
    },
    /// Signing.
    Active {
        /// Since when.
        since: UnixSeconds,
    },
    /// Published for the tokens it signed.
    Retiring {
        /// Since when it signs no more.
        since: UnixSeconds,
        /// When the last of its tokens is dead for certain.
        removed_from: UnixSeconds,
    },
}

/// A key that was taken out by order. Kept so that nobody brings it back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revocation {
    id: KeyId,
    at: UnixSeconds,
}

/// The times and numbers a ring lives by; from the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Terms {
    /// What new keys sign with.
    pub algorithm: Algorithm,
    /// The longest life of an issued token.
    pub lifetime: Lifetime,
    /// How long relying parties may keep the key set.
    pub max_age: Duration,
    /// How old a replica's knowledge of the ring may be for it to sign, and how far its key set may be behind.
    pub lag: Duration,
    /// How far relying parties' clocks may be from ours.
    pub skew: Duration,
    /// After how long an active key is replaced; `None`: only when somebody asks.
    pub rotate_every: Option<Duration>,
    /// The most keys that are published at once.
    pub most_keys: usize,
    /// How it is known that the outside world has a key.
    pub sight: Sight,
}

/// How it is known that relying parties can find a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sight {
    /// They read it from us, or somebody publishes the key set by hand in time: nobody looks.
    ByTime,
    /// The documents are read back from the public issuer.
    Observed,
}

/// What the public issuer served when it was last read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sighting {
    /// The ids of the keys it served.
    pub key_ids: BTreeSet<KeyId>,
    /// When the reading began.
    pub at: UnixSeconds,
    /// How long it told relying parties to keep them; zero if it did not say.
    pub max_age: Duration,
}

/// What happened to a ring: a log line, a metric and an Event each.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// A prepared key became the active one.
    Activated {
        /// The key.
        key: KeyId,
    },
    /// Keys that live tokens may need were missing in the stored ring.
    KeptKeys {
        /// The keys, published again.
        keys: Vec<KeyId>,
    },
    /// The public issuer stopped serving a prepared key.
    LostFromSight {
        /// The key.
        key: KeyId,
    },
    /// A key is in the key set from now on.
    Prepared {
        /// The key.
        key: KeyId,
        /// Whose it is.
        origin: Origin,
    },
    /// The stored ring was gone while we had it in memory.
    PutBack,
    /// The stored ring could not be read and was written anew from memory.
    Repaired {
        /// What was wrong with it.
        damage: String,
    },
    /// A key's last token is dead: it is not published any more.
    Removed {
        /// The key.
        key: KeyId,
    },
    /// A key signs no more.
    Retired {
        /// The key.
        key: KeyId,
        /// When it will be removed.
        removed_from: UnixSeconds,
    },
    /// A key was taken out by order, and its tokens with it.
    Revoked {
        /// The key.
        key: KeyId,
        /// Whether it was the one that signs.
        was_active: bool,
    },
    /// The stored ring was older than the one in memory, as after a restore of etcd.
    RolledBack {
        /// Its generation.
        stored: u64,
        /// Ours.
        ours: u64,
    },
    /// The public issuer serves a prepared key.
    Seen {
        /// The key.
        key: KeyId,
    },
    /// The private keys are lost: the ring was deleted while nobody had it in memory.
    StartedAnew {
        /// The public keys that stay published for the tokens they signed.
        kept: Vec<KeyId>,
    },
}

/// Whose key it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// The user put it into the Secret.
    Given,
    /// We made it.
    Made,
}

impl Ring {
    /// Counts the ring's changes: the higher of two is the later.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The key that signs.
    pub fn active(&self) -> Option<&RingKey> {
        self.keys
            .iter()
            .find(|key| matches!(key.phase, Phase::Active { .. }))
    }

    /// The key that will sign next.
    pub fn prepared(&self) -> Option<&RingKey> {
        self.keys
            .iter()
            .find(|key| matches!(key.phase, Phase::Prepared { .. }))
    }

    /// All keys, which are the published ones: the active key, the prepared one, then the retiring ones, the latest first.
    pub fn keys(&self) -> impl Iterator<Item = &RingKey> {
        self.keys.iter()
    }

    /// The key of that id.
    pub fn find(&self, id: &KeyId) -> Option<&RingKey> {
        self.keys.iter().find(|key| key.id == *id)
    }

    /// Whether that key was taken out by order.
    pub fn is_revoked(&self, id: &KeyId) -> bool {
        self.revoked.iter().any(|revoked| revoked.id == *id)
    }

    /// The key the user gave last, so that a new one is told from it.
    pub fn given(&self) -> Option<&KeyId> {
        self.given.as_ref()
    }

    /// The longest time any key set in use may be kept.
    fn longest_max_age(&self) -> Duration {
        let ages = self.keys.iter().map(|key| key.max_age);
        ages.max().unwrap_or_default()
    }

    /// Keeps the order that documents are written in.
    fn sort(&mut self) {
        self.keys.sort_by_key(|key| match key.phase {
            Phase::Active { .. } => (0, 0),
            Phase::Prepared { .. } => (1, 0),
            Phase::Retiring { since, .. } => (2, u64::MAX.saturating_sub(since.get())),
        });
    }
}

impl RingKey {
    /// The key's id.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The longest life of a token it may sign.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// A retiring key whose last token is dead.
    fn is_dead(&self, now: UnixSeconds) -> bool {
        matches!(self.phase, Phase::Retiring { removed_from, .. } if removed_from <= now)
    }

    /// Retires the key.
    fn retire(&mut self, terms: &Terms, now: UnixSeconds) -> UnixSeconds {
        // Others may sign with it until they know, and their tokens live on from then.
        let removed_from = now
            .saturating_add(terms.lag)
            .saturating_add(self.lifetime)
            .saturating_add(self.max_age)
            .saturating_add(terms.skew);
        self.phase = Phase::Retiring {
            since: now,
            removed_from,
        };
        removed_from
    }
}

impl Phase {
    /// The phase's name, as the stored ring and metrics have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active { .. } => "active",
            Self::Prepared { .. } => "prepared",
            Self::Retiring { .. } => "retiring",
        }
    }
}

impl Terms {
    /// How long a newly published key must wait, so that no key set without it is in use any more.
    fn wait(&self, max_age: Duration) -> Duration {
        self.lag
            .saturating_add(max_age.max(self.max_age))
            .saturating_add(self.skew)
    }
}

/// How many revocations are remembered.
const MOST_REVOCATIONS: usize = 16;
