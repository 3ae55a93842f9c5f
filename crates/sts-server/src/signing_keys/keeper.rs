//! Keeps one ring: reads its Secret, decides by [`sts_core::keys::ring`], writes by compare-and-swap, swaps the ring in memory.

mod fresh;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use sts_core::keys::Algorithm;
use sts_core::keys::ring::{
    Advance, FURTHEST_APART, Inputs, Reconciled, Ring, Sight, Sighting, Step, Stored, advance,
    reconcile,
};
use sts_core::sign::SigningKey;
use sts_core::time::UnixSeconds;
use svc_runtime::log::chain;
use svc_runtime::{Condition, follow_object};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::api_clock::{ApiClock, seconds};
use super::ledger::{Ledger, Record};
use super::report::Report;
use super::secret::{self, Content};
use super::store::{Labels, Reading, Store};
use super::{Confirmed, Key, KeyRing, Keys, Seen, SigningKeyError, Surroundings};

/// Keeps a ring until shutdown.
pub(super) async fn keep(
    ring: Arc<KeyRing>,
    name: String,
    surroundings: Surroundings,
) -> Result<(), SigningKeyError> {
    let Surroundings {
        client,
        namespace,
        ledger,
        condition,
        metrics,
        shutdown,
    } = surroundings;
    let client = client.ok_or_else(|| SigningKeyError::NoApiServer { name: name.clone() })?;
    let store = Store::new(client.clone(), &namespace, &name);
    let mut states = Box::pin(follow_object(store.api(), &name));
    let mut outside = ring.outside.subscribe();
    let ledger =
        ledger.map(|config_map| Ledger::new(client.clone(), &namespace, &config_map, &name));
    let report = Report::new(&ring.endpoint, &name, metrics, client);
    let mut keeper = Keeper {
        name,
        ring,
        store,
        ledger,
        report,
        clock: ApiClock::default(),
        labels: Labels::default(),
        orphaned: None,
        failing: None,
    };
    let mut next_look = Duration::ZERO;
    loop {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = sleep(next_look) => {}
            // What it says is read again, since only an answer to a question of ours says how old it is.
            Some(_) = states.next() => {}
            Ok(()) = outside.changed() => {}
        }
        let outcome = keeper.look().await;
        next_look = keeper.tell(outcome, &condition);
    }
}

struct Keeper {
    name: String,
    ring: Arc<KeyRing>,
    store: Store,
    ledger: Option<Ledger>,
    report: Report,
    clock: ApiClock,
    /// What others wrote on the Secret.
    labels: Labels,
    /// Since when the Secret is gone and nobody puts it back.
    orphaned: Option<Instant>,
    /// What was said last about a failure.
    failing: Option<String>,
}

/// What one reading led to.
struct Look {
    /// How long until time alone changes something.
    wake: Option<Duration>,
}

impl Keeper {
    /// Reads the Secret and takes the ring as far as it goes.
    async fn look(&mut self) -> Result<Look, SigningKeyError> {
        let mut spare = None;
        let mut has_waited = false;
        for _ in 0..MOST_SWAPS {
            let reading = self.store.read().await?;
            let now = self.now(&reading)?;
            let content = secret::read(reading.secret.as_ref(), self.ring.terms.algorithm);
            let confirmed = confirmed(&reading, now);
            self.ring.confirm(&content.stored, confirmed);
            let record = self.record(&content.stored).await?;
            let reconciled = self.reconcile(&content, record.as_ref(), now)?;
            let next = self.advance(&reconciled, &content, spare.as_ref(), now);
            // What is gone comes back first: making a key takes its time, in which the private keys would be in memory alone.
            let asks = reconciled.deleted && next.ring.prepared().is_none();
            if next.wants_key && spare.is_none() && !asks {
                self.wait_for_first_sight()?;
                if !mem::replace(&mut has_waited, true) && self.ring.state.load().is_some() {
                    sleep(self.head_start()).await;
                    continue;
                }
                // Meanwhile others may have been faster: so it begins anew.
                spare = Some(self.make_key().await?);
                continue;
            }
            let keys = self.collect(
                &next.ring,
                [
                    content.keys,
                    given_keys(content.given),
                    spare_keys(spare.as_ref()),
                ],
                record,
            );
            let settled = content.stored == Stored::Whole(next.ring.clone())
                && reading
                    .secret
                    .as_ref()
                    .is_some_and(|secret| secret::is_labelled(secret, &next.ring));
            if settled {
                self.remember(reading.secret.as_ref());
                return self.settle(&next, keys, confirmed, now).await;
            }
            let Some(read) = reading.secret else {
                self.store.create_empty(self.labels.clone()).await?;
                continue;
            };
            let mut wanted = secret::render(read, &next.ring, &keys)?;
            if asks {
                secret::ask_after_deletion(&mut wanted, &next.ring);
            }
            if let Some(written) = self.store.replace(&wanted).await? {
                self.remember(Some(&written));
                let look = self.settle(&next, keys, confirmed, now).await;
                let steps: Vec<Step> = reconciled.steps.into_iter().chain(next.steps).collect();
                self.tell_steps(&written, &steps).await;
                return look;
            }
        }
        Err(SigningKeyError::Contended {
            name: self.name.clone(),
        })
    }

    /// The time, by the clock that all replicas share.
    fn now(&mut self, reading: &Reading) -> Result<UnixSeconds, SigningKeyError> {
        let date = reading.date.ok_or(SigningKeyError::Silence)?;
        // Whoever has just started has nothing but its own clock to tell by that the common one is set ahead.
        let wall = seconds(reading.begun_wall).unwrap_or(date);
        if !self.clock.is_known() && wall.since(date).max(date.since(wall)) > FURTHEST_APART {
            return Err(SigningKeyError::ClocksApart);
        }
        Ok(self.clock.read(date, reading.begun, Instant::now()))
    }

    /// The public record, where what is stored is not what it should be.
    async fn record(&self, stored: &Stored) -> Result<Option<Record>, SigningKeyError> {
        let memory = self.ring.state.load();
        let behind = match (stored, memory.as_ref()) {
            (Stored::Whole(ring), Some(state)) => ring.generation() < state.ring.generation(),
            (Stored::Whole(_), None) => false,
            (Stored::Damaged(_) | Stored::Empty, _) => true,
        };
        match &self.ledger {
            Some(ledger) if behind => ledger.read().await,
            Some(_) | None => Ok(None),
        }
    }

    fn reconcile(
        &mut self,
        content: &Content,
        record: Option<&Record>,
        now: UnixSeconds,
    ) -> Result<Reconciled, SigningKeyError> {
        let memory = self.ring.state.load();
        let memory = memory.as_ref().map(|state| &state.ring);
        let ledger = record.map(|record| &record.ring);
        if memory.is_none() && ledger.is_some() && content.stored == Stored::Empty {
            let since = *self.orphaned.get_or_insert_with(Instant::now);
            if since.elapsed() < GRACE {
                return Err(SigningKeyError::Orphaned {
                    name: self.name.clone(),
                });
            }
        } else {
            self.orphaned = None;
        }
        reconcile(memory, &content.stored, ledger, &self.ring.terms, now).map_err(|loss| {
            SigningKeyError::Damaged {
                name: self.name.clone(),
                damage: loss.damage,
            }
        })
    }

    fn advance(
        &self,
        reconciled: &Reconciled,
        content: &Content,
        spare: Option<&Arc<SigningKey>>,
        now: UnixSeconds,
    ) -> Advance {
        let sighting = self.sighting(now);
        let of = |key: &'_ Arc<SigningKey>| -> Algorithm { key.algorithm() };
        let given = content.given.as_ref().and_then(|given| given.as_ref().ok());
        let inputs = Inputs {
            rotate: content.rotate.as_deref(),
            revoke: &content.revoke,
            given: given.map(|key| (key.key_id(), of(key))),
            deleted: false,
            sighting: sighting.as_ref(),
            spare: spare.map(|key| (key.key_id(), of(key))),
        };
        advance(
            &reconciled.ring,
            &self.ring.terms,
            &inputs.after(reconciled),
            now,
        )
    }

    /// What the public issuer served last, by the shared clock.
    fn sighting(&self, now: UnixSeconds) -> Option<Sighting> {
        let seen = self.ring.outside.borrow();
        let Seen::Serves {
            key_ids,
            max_age,
            begun,
        } = &*seen
        else {
            return None;
        };
        Some(Sighting {
            key_ids: key_ids.clone(),
            at: now.saturating_sub(begun.elapsed()),
            max_age: max_age.unwrap_or_default(),
        })
    }

    /// How long this replica leaves it to others to make the key that all want: one is enough, and making it costs much CPU.
    fn head_start(&self) -> Duration {
        let [spread, ..] = Uuid::new_v4().into_bytes();
        MOST_HEAD_START.min(self.ring.regularly()) * u32::from(spread) / u32::from(u8::MAX)
    }

    /// Whether an issuer is new shows at its public address: no first key is made before somebody looked there.
    fn wait_for_first_sight(&self) -> Result<(), SigningKeyError> {
        let observed = self.ring.terms.sight == Sight::Observed;
        if observed && matches!(*self.ring.outside.borrow(), Seen::NotLookedYet) {
            return Err(SigningKeyError::NotLookedYet);
        }
        Ok(())
    }

    /// The keys of a ring, from wherever they are known.
    fn collect(&self, ring: &Ring, sources: [Keys; 3], record: Option<Record>) -> Keys {
        let memory = self.ring.state.load();
        let memory = memory
            .as_ref()
            .map(|state| state.keys.clone())
            .unwrap_or_default();
        let public = record.map(|record| record.keys).unwrap_or_default();
        let [stored, given, spare] = sources;
        let mut keys = Keys::new();
        for source in [memory, stored, given, spare] {
            for (id, key) in source {
                let known = matches!(keys.get(&id), Some(Key::Private(_)));
                if ring.find(&id).is_some() && !known {
                    keys.insert(id, key);
                }
            }
        }
        // The record is other people's word: it fills gaps, and replaces nothing, not even a public key.
        for (id, key) in public {
            if ring.find(&id).is_some() {
                keys.entry(id).or_insert(key);
            }
        }
        keys
    }

    fn remember(&mut self, secret: Option<&Secret>) {
        if let Some(secret) = secret {
            self.labels = secret::foreign_labels(secret);
        }
    }

    /// Takes over what is stored now.
    async fn settle(
        &mut self,
        next: &Advance,
        keys: Keys,
        confirmed: Confirmed,
        now: UnixSeconds,
    ) -> Result<Look, SigningKeyError> {
        if let Some(ledger) = &mut self.ledger
            && let Err(error) = ledger.write(&next.ring, &keys).await
        {
            // The record is for the worst case; it does not stop anybody.
            tracing::warn!(secret = self.name, error = %chain(&error), "the keys' public record cannot be written");
        }
        self.ring.install(&next.ring, keys, Some(confirmed))?;
        let withheld = self.ring.signer(svc_runtime::clock::now()).err();
        self.report.state(&next.ring, withheld, next.is_full);
        // A second more: the shared clock has whole ones.
        let wake = next
            .wake
            .map(|wake| wake.since(now).saturating_add(Duration::from_secs(1)));
        Ok(Look { wake })
    }

    /// Says how it went. Returns when to look again.
    fn tell(&mut self, outcome: Result<Look, SigningKeyError>, condition: &Condition) -> Duration {
        match outcome {
            Ok(Look { wake }) => {
                self.failing = None;
                condition.met();
                let regular = self.ring.regularly();
                wake.unwrap_or(regular).min(regular)
            }
            Err(error) => {
                let text = chain(&error).to_string();
                if self.failing.as_ref() != Some(&text) {
                    tracing::error!(secret = self.name, error = %text, "signing keys are not settled");
                }
                if self.ring.is_behind(svc_runtime::clock::now()) {
                    condition.unmet(error.to_string());
                }
                self.failing = Some(text);
                RETRY
            }
        }
    }
}

/// A reading makes what is in memory as fresh as its beginning.
fn confirmed(reading: &Reading, now: UnixSeconds) -> Confirmed {
    let wall = seconds(svc_runtime::clock::now()).unwrap_or(now);
    Confirmed {
        at: reading.begun,
        wall: reading.begun_wall,
        clock_apart: wall.since(now).max(now.since(wall)),
    }
}

fn given_keys(given: Option<Result<Arc<SigningKey>, String>>) -> Keys {
    given.and_then(Result::ok).iter().map(by_id).collect()
}

fn spare_keys(spare: Option<&Arc<SigningKey>>) -> Keys {
    spare.into_iter().map(by_id).collect()
}

fn by_id(key: &Arc<SigningKey>) -> (sts_core::ident::KeyId, Key) {
    (key.key_id().clone(), Key::Private(Arc::clone(key)))
}

/// Each replica that is faster costs one more round, and so do a key that is made and a Secret that is.
const MOST_SWAPS: usize = 12;
/// An RSA key takes up to 0.3 s.
const MOST_HEAD_START: Duration = Duration::from_secs(1);
/// How soon it is tried again after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// How long a replica without the ring leaves it to others to put it back.
const GRACE: Duration = Duration::from_secs(10);
