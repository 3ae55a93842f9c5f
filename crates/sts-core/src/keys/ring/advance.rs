//! The rules by which a ring changes.

use std::time::Duration;

use super::{
    MOST_REVOCATIONS, Origin, Phase, Revocation, Ring, RingKey, Sight, Sighting, Step, Terms,
};
use crate::ident::KeyId;
use crate::keys::Algorithm;
use crate::time::UnixSeconds;

/// What a ring may react to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// What the rotate annotation says: each new value is one wish for a new key.
    pub rotate: Option<&'a str>,
    /// The keys that the revoke annotation names.
    pub revoke: &'a [KeyId],
    /// The key that the user put into the Secret.
    pub given: Option<(&'a KeyId, Algorithm)>,
    /// Whether the stored ring was deleted, which is a wish for a new key too.
    pub deleted: bool,
    /// What the public issuer served last; of the last 60 s or so, or nothing.
    pub sighting: Option<&'a Sighting>,
    /// A key that was made for this ring, to be taken if one is wanted.
    pub spare: Option<(&'a KeyId, Algorithm)>,
}

/// What became of a ring.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advance {
    /// The ring now; equal to the one before if nothing happened.
    pub ring: Ring,
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// Whether a key is to be made: advance again with it as [`Inputs::spare`].
    pub wants_key: bool,
    /// Whether a wanted key waits for one to be removed, since the most that may be published are.
    pub is_full: bool,
    /// When the passing of time alone will change the ring next.
    pub wake: Option<UnixSeconds>,
}

/// Advances a ring as far as it goes at `now`. Twice is once: the result does not advance any further with the same inputs.
pub fn advance(ring: &Ring, terms: &Terms, inputs: &Inputs<'_>, now: UnixSeconds) -> Advance {
    let mut walk = Walk {
        ring: ring.clone(),
        steps: Vec::new(),
        terms,
        inputs,
        now,
    };
    walk.revoke();
    walk.raise();
    walk.remove_dead();
    let begun = walk.begin();
    walk.look();
    walk.activate();
    let wake = walk.wake();
    let Walk {
        ring: mut next,
        steps,
        ..
    } = walk;
    next.sort();
    if next != *ring {
        next = next.later();
    }
    Advance {
        ring: next,
        steps,
        wants_key: begun == Begun::WithoutKey,
        is_full: begun == Begun::Full,
        wake,
    }
}

/// The longest time to keep a key set that is believed: nobody shall stop all rotations by one header.
const LONGEST_TOLD: Duration = Duration::from_secs(7 * 86_400);

/// What came of a wish for a new key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Begun {
    /// The most keys that may be published are.
    Full,
    /// There is nothing to do, or it is done.
    Well,
    /// A key must be made first.
    WithoutKey,
}

struct Walk<'a> {
    ring: Ring,
    steps: Vec<Step>,
    terms: &'a Terms,
    inputs: &'a Inputs<'a>,
    now: UnixSeconds,
}

impl Walk<'_> {
    /// A compromised key goes at once. If it was the one that signs, its successor need not wait for old key sets to run out: every
    /// token of the revoked key is worthless anyway, so that waiting would only make the gap longer.
    fn revoke(&mut self) {
        for id in self.inputs.revoke {
            let Some(at) = self.ring.keys.iter().position(|key| key.id == *id) else {
                continue;
            };
            let gone = self.ring.keys.remove(at);
            let was_active = matches!(gone.phase, Phase::Active { .. });
            self.ring.urgent |= was_active;
            self.ring.revoked.push(Revocation {
                id: id.clone(),
                at: self.now,
            });
            self.steps.push(Step::Revoked {
                key: gone.id,
                was_active,
            });
        }
        let surplus = self.ring.revoked.len().saturating_sub(MOST_REVOCATIONS);
        self.ring.revoked.drain(..surplus);
    }

    /// What is promised for a key only ever grows, also while replicas with different configurations run side by side.
    fn raise(&mut self) {
        // What the outside world is told in truth counts too: a CDN may say another time than we do.
        let told = self.inputs.sighting.map(|sighting| sighting.max_age);
        let told = told.unwrap_or_default().min(LONGEST_TOLD);
        for key in &mut self.ring.keys {
            if !matches!(key.phase, Phase::Retiring { .. }) {
                key.lifetime = key.lifetime.max(self.terms.lifetime.get());
                key.max_age = key.max_age.max(self.terms.max_age).max(told);
            }
        }
    }

    fn remove_dead(&mut self) {
        let (now, steps) = (self.now, &mut self.steps);
        self.ring.keys.retain(|key| {
            let dead = key.is_dead(now);
            if dead {
                steps.push(Step::Removed {
                    key: key.id.clone(),
                });
            }
            !dead
        });
    }

    /// Prepares a key if one is wanted.
    fn begin(&mut self) -> Begun {
        let given = self.new_given();
        let asked = self
            .inputs
            .rotate
            .is_some_and(|value| self.ring.rotate.as_deref() != Some(value));
        if self.ring.prepared().is_some() {
            // Whoever asks for a new key while one is on its way gets that one.
            if asked {
                self.ring.rotate = self.inputs.rotate.map(str::to_owned);
            }
            return Begun::Well;
        }
        let wanted = given.is_some()
            || asked
            || self.inputs.deleted
            || self.is_due()
            || self.ring.active().is_none();
        if !wanted {
            return Begun::Well;
        }
        if self.ring.keys.len() >= self.terms.most_keys {
            return Begun::Full;
        }
        let made = self
            .inputs
            .spare
            .map(|(id, algorithm)| (id, algorithm, Origin::Made));
        let Some((id, algorithm, origin)) = given.or(made) else {
            return Begun::WithoutKey;
        };
        self.prepare(id.clone(), algorithm, origin);
        Begun::Well
    }

    fn prepare(&mut self, id: KeyId, algorithm: Algorithm, origin: Origin) {
        if origin == Origin::Given {
            self.ring.given = Some(id.clone());
        }
        self.ring.rotate = self
            .inputs
            .rotate
            .map(str::to_owned)
            .or_else(|| self.ring.rotate.take());
        // The very first key of an issuer that nobody knows need not wait for key sets without it to run out: there are none.
        if self.ring.generation == 0 && self.ring.keys.is_empty() {
            let unknown =
                |sighting: &Sighting| sighting.key_ids.is_empty() || sighting.key_ids.contains(&id);
            // Where that is looked at, silence does not say that nobody knows the issuer.
            self.ring.urgent = match self.terms.sight {
                Sight::ByTime => true,
                Sight::Observed => self.inputs.sighting.is_some_and(unknown),
            };
        }
        self.ring.keys.push(RingKey {
            id: id.clone(),
            algorithm,
            phase: Phase::Prepared {
                seen: None,
                signs_from: None,
            },
            prepared: self.now,
            lifetime: self.terms.lifetime.get(),
            max_age: self.terms.max_age,
        });
        self.steps.push(Step::Prepared { key: id, origin });
    }

    fn new_given(&self) -> Option<(&KeyId, Algorithm, Origin)> {
        let (id, algorithm) = self.inputs.given?;
        let known = self.ring.given.as_ref() == Some(id)
            || self.ring.find(id).is_some()
            || self.ring.is_revoked(id);
        (!known).then_some((id, algorithm, Origin::Given))
    }

    fn is_due(&self) -> bool {
        self.due().is_some_and(|due| due <= self.now)
    }

    fn due(&self) -> Option<UnixSeconds> {
        match self.ring.active()?.phase {
            Phase::Active { since } => Some(since.saturating_add(self.terms.rotate_every?)),
            Phase::Prepared { .. } | Phase::Retiring { .. } => None,
        }
    }

    /// Notes whether the outside world has the prepared key, and from when on nobody can be without it.
    fn look(&mut self) {
        let wait = self.terms.wait(self.ring.longest_max_age());
        let urgent = self.ring.urgent;
        let Some(key) = self
            .ring
            .keys
            .iter_mut()
            .find(|key| matches!(key.phase, Phase::Prepared { .. }))
        else {
            return;
        };
        let Phase::Prepared {
            mut seen,
            mut signs_from,
        } = key.phase
        else {
            return;
        };
        let base = match (self.terms.sight, self.inputs.sighting) {
            (Sight::ByTime, _) => Some(key.prepared),
            (Sight::Observed, None) => seen,
            (Sight::Observed, Some(sighting)) => {
                let served = sighting.key_ids.contains(&key.id) && sighting.at >= key.prepared;
                if served && seen.is_none() {
                    seen = Some(sighting.at);
                    self.steps.push(Step::Seen {
                        key: key.id.clone(),
                    });
                } else if !served && seen.is_some_and(|seen| seen < sighting.at) {
                    (seen, signs_from) = (None, None);
                    self.steps.push(Step::LostFromSight {
                        key: key.id.clone(),
                    });
                }
                seen
            }
        };
        if let Some(base) = base {
            let wanted = if urgent {
                base
            } else {
                base.saturating_add(wait)
            };
            // Later, never earlier: replicas with different terms must agree in the end.
            signs_from = Some(
                signs_from
                    .filter(|_| !urgent)
                    .map_or(wanted, |before| before.max(wanted)),
            );
        }
        key.phase = Phase::Prepared { seen, signs_from };
    }

    /// Never with a key that the outside world does not serve at this moment, where that is looked at.
    fn activate(&mut self) {
        let Some(id) = self.ready() else { return };
        let now = self.now;
        for key in &mut self.ring.keys {
            if key.id == id {
                key.phase = Phase::Active { since: now };
            } else if matches!(key.phase, Phase::Active { .. }) {
                let removed_from = key.retire(self.terms, now);
                self.steps.push(Step::Retired {
                    key: key.id.clone(),
                    removed_from,
                });
            }
        }
        self.ring.urgent = false;
        self.steps.push(Step::Activated { key: id });
    }

    /// The prepared key, if it may sign.
    fn ready(&self) -> Option<KeyId> {
        let key = self.ring.prepared()?;
        let Phase::Prepared { seen, signs_from } = key.phase else {
            return None;
        };
        let served = match self.terms.sight {
            Sight::ByTime => true,
            Sight::Observed => {
                seen.is_some()
                    && self
                        .inputs
                        .sighting
                        .is_some_and(|sighting| sighting.key_ids.contains(&key.id))
            }
        };
        (served && signs_from? <= self.now).then(|| key.id.clone())
    }

    fn wake(&self) -> Option<UnixSeconds> {
        let keys = self.ring.keys.iter().filter_map(|key| match key.phase {
            Phase::Active { .. } => None,
            Phase::Prepared { signs_from, .. } => signs_from,
            Phase::Retiring { removed_from, .. } => Some(removed_from),
        });
        let due = self.due().filter(|_| self.ring.prepared().is_none());
        // What is past waits for something else than time.
        keys.chain(due).filter(|at| *at > self.now).min()
    }
}
