//! Which ring counts: the one in memory, or the stored one.

use std::time::Duration;

use super::{Inputs, Phase, Ring, RingKey, Step, Terms};
use crate::ident::KeyId;
use crate::time::{Lifetime, UnixSeconds};

/// What is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stored {
    /// Something that is no ring, and what is wrong with it.
    Damaged(String),
    /// Nothing.
    Empty,
    /// A ring, of which each key that may sign has its private key.
    Whole(Ring),
}

/// The ring to go on with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reconciled {
    /// The ring.
    pub ring: Ring,
    /// What was wrong, if anything.
    pub steps: Vec<Step>,
    /// Whether the stored ring was deleted: [`Inputs::deleted`].
    pub deleted: bool,
}

/// There is no ring to go on with: what is stored is damaged, and nobody has it in memory. It is left alone, for a person to look at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Loss {
    /// What is wrong with it.
    pub damage: String,
}

/// Decides between the ring in memory and the stored one.
///
/// `ledger` is the public record of the ring, which counts where the stored one is gone: some of its keys nobody may have in memory. It is
/// other people's word, and believed within limits: beside a ring in memory it adds no key.
///
/// # Errors
/// [`Loss`].
pub fn reconcile(
    memory: Option<&Ring>,
    stored: &Stored,
    ledger: Option<&Ring>,
    terms: &Terms,
    now: UnixSeconds,
) -> Result<Reconciled, Loss> {
    let ledger = ledger.and_then(|ledger| believed(ledger, memory, now));
    let ledger = ledger.as_ref();
    let restored = |ours: &Ring, step, deleted| {
        let record = ledger.filter(|ledger| ledger.generation > ours.generation);
        let mut reconciled = record.map_or_else(
            || plain(ours),
            |ledger| keep_needed(ledger, ours, terms, now),
        );
        let latest = record.map_or(ours.generation, Ring::generation);
        reconciled.ring.generation = latest.saturating_add(1);
        reconciled.steps.insert(0, step);
        reconciled.deleted = deleted;
        reconciled
    };
    Ok(match (memory, stored) {
        (None, Stored::Damaged(damage)) => {
            return Err(Loss {
                damage: damage.clone(),
            });
        }
        (None, Stored::Whole(ring)) => plain(ring),
        (None, Stored::Empty) => match ledger {
            None => plain(&Ring::default()),
            Some(ledger) => start_anew(ledger, terms, now),
        },
        (Some(ours), Stored::Empty) => restored(ours, Step::PutBack, true),
        (Some(ours), Stored::Damaged(damage)) => {
            let damage = damage.clone();
            restored(ours, Step::Repaired { damage }, false)
        }
        (Some(ours), Stored::Whole(theirs)) if theirs.generation < ours.generation => {
            let (stored, ours_now) = (theirs.generation, ours.generation);
            let step = Step::RolledBack {
                stored,
                ours: ours_now,
            };
            restored(ours, step, false)
        }
        (Some(ours), Stored::Whole(theirs))
            if theirs.generation == ours.generation && theirs != ours =>
        {
            edited(ours, theirs, terms, now)
        }
        (Some(ours), Stored::Whole(theirs)) => keep_needed(ours, theirs, terms, now),
    })
}

/// What of the public record is believed: whoever may write the ConfigMap can put anything there. `None`: nothing.
fn believed(record: &Ring, memory: Option<&Ring>, now: UnixSeconds) -> Option<Ring> {
    let known = memory.map_or(0, Ring::generation);
    let ahead = record.generation.saturating_sub(known);
    if ahead > MOST_AHEAD || record.generation.checked_add(1).is_none() {
        return None;
    }
    let mut ring = record.clone();
    if let Some(ours) = memory {
        // A key that we never had in a ring does not enter the key set of a running server this way.
        ring.keys.retain(|key| ours.find(&key.id).is_some());
        // If that leaves nobody to sign, our own key goes on, provided that it was published all the time.
        let signer = ours.active().filter(|_| ring.active().is_none());
        let stayed = |key: &&mut RingKey| signer.is_some_and(|signer| signer.id == key.id);
        if let Some(key) = ring.keys.iter_mut().find(stayed)
            && matches!(key.phase, Phase::Retiring { .. })
            && !key.is_dead(now)
            && let Some(signer) = signer
        {
            key.phase = signer.phase;
        }
    }
    ring.sort();
    let latest = now.saturating_add(Lifetime::LONGEST).saturating_add(WEEK);
    for key in &mut ring.keys {
        // What a key is retired by later, and what a new key waits for, is capped with the rest.
        key.lifetime = key.lifetime.min(Lifetime::LONGEST);
        key.max_age = key.max_age.min(LONGEST_MAX_AGE);
        if let Phase::Retiring { removed_from, .. } = &mut key.phase {
            *removed_from = latest.min(*removed_from);
        }
    }
    Some(ring)
}

/// How many changes the public record may be ahead of what is known: more than any cluster makes.
const MOST_AHEAD: u64 = 1 << 32;

/// What is added to the longest lifetime for key sets kept, clocks apart, and replicas behind.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// The longest `maxAge` that the configuration allows.
const LONGEST_MAX_AGE: Duration = Duration::from_secs(86_400);

fn plain(ring: &Ring) -> Reconciled {
    Reconciled {
        ring: ring.clone(),
        steps: Vec::new(),
        deleted: false,
    }
}

/// `theirs` is the ring to go on with. Where it lacks a key of ours that a live token may need, and that nobody revoked, somebody cut
/// that out by hand: the key is published again until its tokens are dead.
fn keep_needed(ours: &Ring, theirs: &Ring, terms: &Terms, now: UnixSeconds) -> Reconciled {
    let needed = |key: &&RingKey| {
        let signed = !matches!(key.phase, Phase::Prepared { .. });
        signed && !key.is_dead(now) && theirs.find(&key.id).is_none() && !theirs.is_revoked(&key.id)
    };
    let mut lost: Vec<RingKey> = ours.keys.iter().filter(needed).cloned().collect();
    if lost.is_empty() {
        return plain(theirs);
    }
    for key in &mut lost {
        if !matches!(key.phase, Phase::Retiring { .. }) {
            key.retire(terms, now);
        }
    }
    let ids = lost.iter().map(|key| key.id.clone()).collect();
    let mut ring = theirs.later();
    ring.keys.extend(lost);
    ring.sort();
    Reconciled {
        ring,
        steps: vec![Step::KeptKeys { keys: ids }],
        deleted: false,
    }
}

/// Two rings of one generation: `theirs` was edited by hand, or restored from before such an edit. It is a change like any other and
/// counted as one, so that the ring of before the edit is known for an older one should it come back. A prepared key that we did not
/// publish waits from now on, whatever the text says.
fn edited(ours: &Ring, theirs: &Ring, terms: &Terms, now: UnixSeconds) -> Reconciled {
    let mut reconciled = keep_needed(ours, theirs, terms, now);
    reconciled.ring.generation = ours.generation.saturating_add(1);
    undo_unknown_signer(ours, &mut reconciled, terms, now);
    for key in &mut reconciled.ring.keys {
        if matches!(key.phase, Phase::Prepared { .. }) && ours.find(&key.id).is_none() {
            key.prepared = now;
            key.phase = Phase::Prepared {
                seen: None,
                signs_from: None,
            };
        }
    }
    reconciled
}

/// A key that signs and that we did not publish: a replica that had not heard of its removal took it from a restored ring. It stays
/// published for what it signed in between, and our own key goes on, if it may.
fn undo_unknown_signer(ours: &Ring, reconciled: &mut Reconciled, terms: &Terms, now: UnixSeconds) {
    let Reconciled { ring, steps, .. } = reconciled;
    let unknown = ring.active().map(|key| key.id.clone());
    let unknown = unknown.filter(|id| ours.find(id).is_none());
    let own = ours.active().filter(|own| ring.find(&own.id).is_some());
    let (Some(unknown), Some(own)) = (unknown, own) else {
        return;
    };
    for key in &mut ring.keys {
        if key.id == unknown {
            let removed_from = key.retire(terms, now);
            let key = key.id.clone();
            steps.push(Step::Retired { key, removed_from });
        } else if key.id == own.id {
            key.phase = own.phase;
        }
    }
    steps.push(Step::Activated {
        key: own.id.clone(),
    });
    ring.sort();
}

/// The private keys are gone for ever. The public ones stay published until their tokens are dead, and a new key waits its full time.
fn start_anew(ledger: &Ring, terms: &Terms, now: UnixSeconds) -> Reconciled {
    let mut ring = ledger.later();
    // A prepared key has signed nothing.
    ring.keys
        .retain(|key| !matches!(key.phase, Phase::Prepared { .. }) && !key.is_dead(now));
    for key in &mut ring.keys {
        if matches!(key.phase, Phase::Active { .. }) {
            key.retire(terms, now);
        }
    }
    let kept: Vec<KeyId> = ring.keys.iter().map(|key| key.id.clone()).collect();
    ring.urgent = false;
    Reconciled {
        ring,
        steps: vec![Step::StartedAnew { kept }],
        deleted: false,
    }
}

impl Ring {
    /// The same ring, one change later.
    pub(super) fn later(&self) -> Self {
        Self {
            generation: self.generation.saturating_add(1),
            ..self.clone()
        }
    }
}

impl Inputs<'_> {
    /// The same inputs after [`reconcile`].
    #[must_use]
    pub fn after(self, reconciled: &Reconciled) -> Self {
        Self {
            deleted: reconciled.deleted,
            ..self
        }
    }
}
