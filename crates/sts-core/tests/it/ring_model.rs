//! A model of everything that can happen to a ring: replicas that lag, crash and look in any order; people who delete, restore and damage
//! what is stored; relying parties whose key sets are as old as we promise. After each second of it, every live token must verify
//! with every key set that anybody may still have.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use sts_core::ident::KeyId;
use sts_core::keys::Algorithm;
use sts_core::keys::ring::{
    Inputs, Outside, Ring, Sight, Sighting, Stored, Terms, View, advance, reconcile,
};
use sts_core::time::{Lifetime, UnixSeconds};

const LIFETIME: u64 = 60;
const MAX_AGE: u64 = 20;
const LAG: u64 = 8;
const SKEW: u64 = 4;
const REPLICAS: usize = 3;

/// What can happen.
#[derive(Clone, Debug)]
enum Transition {
    /// Time passes, and every replica that runs signs once a second.
    Pass(u64),
    /// A replica reads what is stored, and does what follows.
    Look(usize),
    /// A replica is killed and started anew.
    Crash(usize),
    /// Somebody asks for a new key.
    Rotate,
    /// Somebody deletes the Secret.
    Delete,
    /// Somebody revokes the key that signs.
    Revoke,
    /// Somebody edits the Secret into nonsense.
    Damage,
    /// Somebody restores what was stored some changes ago.
    Restore(usize),
    /// Somebody cuts the oldest key out of the stored ring.
    Cut,
    /// The public issuer takes over the key set, or cannot be reached.
    Publish(bool),
}

/// The transitions do not depend on each other: any order can happen.
struct Anything;

impl ReferenceStateMachine for Anything {
    type State = ();
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<()> {
        Just(()).boxed()
    }

    fn transitions((): &()) -> BoxedStrategy<Transition> {
        let replica = 0..REPLICAS;
        prop_oneof![
            8 => (1..40_u64).prop_map(Transition::Pass),
            12 => replica.clone().prop_map(Transition::Look),
            1 => replica.prop_map(Transition::Crash),
            3 => Just(Transition::Rotate),
            1 => Just(Transition::Delete),
            1 => Just(Transition::Revoke),
            1 => Just(Transition::Damage),
            1 => (0..6_usize).prop_map(Transition::Restore),
            1 => Just(Transition::Cut),
            3 => any::<bool>().prop_map(Transition::Publish),
        ]
        .boxed()
    }

    fn apply((): (), _: &Transition) {}
}

#[derive(Clone, Default)]
struct Replica {
    ring: Option<Ring>,
    confirmed: u64,
}

/// The world: everything that is not the code under test, simulated.
struct World {
    terms: Terms,
    now: u64,
    stored: Stored,
    ledger: Option<Ring>,
    /// What was stored before, for restores.
    before: Vec<Ring>,
    replicas: [Replica; REPLICAS],
    wish: u64,
    revoke: Vec<KeyId>,
    made: u64,
    /// Key sets that were served, and until when somebody may still have them.
    in_use: VecDeque<(u64, BTreeSet<KeyId>)>,
    /// The public issuer's key set, where there is one.
    public: Option<BTreeSet<KeyId>>,
    /// Live tokens: how many of each key and end there are does not matter.
    tokens: BTreeSet<(u64, KeyId)>,
}

impl World {
    fn new(sight: Sight) -> Self {
        Self {
            terms: Terms {
                algorithm: Algorithm::Es256,
                lifetime: Lifetime::new(Duration::from_secs(LIFETIME)).unwrap(),
                max_age: Duration::from_secs(MAX_AGE),
                lag: Duration::from_secs(LAG),
                skew: Duration::from_secs(SKEW),
                rotate_every: Some(Duration::from_secs(400)),
                most_keys: 5,
                sight,
            },
            now: 1_000_000,
            stored: Stored::Empty,
            ledger: None,
            before: Vec::new(),
            replicas: std::array::from_fn(|_| Replica::default()),
            wish: 0,
            revoke: Vec::new(),
            made: 0,
            in_use: VecDeque::new(),
            public: None,
            tokens: BTreeSet::new(),
        }
    }

    fn time(&self) -> UnixSeconds {
        UnixSeconds::new(self.now).unwrap()
    }

    fn key_ids(ring: &Ring) -> BTreeSet<KeyId> {
        ring.keys().map(|key| key.id().clone()).collect()
    }

    /// What a replica does, as the keeper in `sts-server` does it.
    fn look(&mut self, at: usize) {
        let memory = self.replicas[at].ring.clone();
        let ledger = self.ledger.as_ref();
        let found = reconcile(
            memory.as_ref(),
            &self.stored,
            ledger,
            &self.terms,
            self.time(),
        );
        let Ok(found) = found else { return };
        let sighting = self.public.as_ref().map(|key_ids| Sighting {
            key_ids: key_ids.clone(),
            at: self.time(),
            max_age: Duration::ZERO,
        });
        let wish = self.wish.to_string();
        let spare = KeyId::parse(&format!("key-{}", self.made)).unwrap();
        self.made += 1;
        let inputs = Inputs {
            rotate: Some(&wish),
            revoke: &self.revoke,
            sighting: sighting.as_ref(),
            spare: Some((&spare, Algorithm::Es256)),
            ..Inputs::default()
        };
        let next = advance(&found.ring, &self.terms, &inputs.after(&found), self.time()).ring;
        if self.stored != Stored::Whole(next.clone()) {
            self.stored = Stored::Whole(next.clone());
            self.ledger = Some(next.clone());
            self.before.push(next.clone());
        }
        self.replicas[at] = Replica {
            ring: Some(next),
            confirmed: self.now,
        };
        // Whoever was revoked is gone, with everything it signed.
        let revoked = |id: &KeyId| self.revoke.contains(id);
        self.tokens.retain(|(_, id)| !revoked(id));
    }

    /// A replica that knows what is stored: if nobody does, what is lost is lost, and that is another test's.
    fn informed(&self) -> Option<usize> {
        let Stored::Whole(stored) = &self.stored else {
            return None;
        };
        let knows = |replica: &Replica| replica.ring.as_ref() == Some(stored);
        self.replicas.iter().position(knows)
    }

    /// Changes what is stored behind the replicas' backs. A replica that knows better sees it before one is started that does not: the
    /// watch brings it within milliseconds.
    fn meddle(&mut self, stored: Stored) {
        if let Some(informed) = self.informed() {
            self.stored = stored;
            self.look(informed);
        }
    }

    fn cut(&mut self) {
        let Stored::Whole(ring) = &self.stored else {
            return;
        };
        let mut text: serde_json::Value = serde_json::from_str(&ring.render()).unwrap();
        let keys = text["keys"].as_array_mut().unwrap();
        // Not the one that signs: that is a key pair cut out by half, which is damage.
        if keys.len() > 1 {
            keys.pop();
            let ring = Ring::parse(&text.to_string()).unwrap();
            self.meddle(Stored::Whole(ring));
        }
    }

    /// One second: replicas serve and sign, relying parties forget.
    fn tick(&mut self) {
        self.now += 1;
        self.tokens.retain(|(end, _)| *end > self.now);
        self.in_use.retain(|(until, _)| *until > self.now);
        let mut signers = Vec::new();
        for replica in &self.replicas {
            let Some(ring) = &replica.ring else { continue };
            let age = self.now - replica.confirmed;
            if self.terms.sight == Sight::ByTime && age <= LAG {
                self.in_use
                    .push_back((self.now + MAX_AGE, Self::key_ids(ring)));
            }
            let outside = match &self.public {
                Some(key_ids) => Outside::Serves(key_ids),
                None => Outside::NotLookedYet,
            };
            let view = View {
                age: Duration::from_secs(age),
                clock_apart: Duration::ZERO,
                outside,
            };
            if let Ok(key) = ring.signer(&self.terms, self.terms.lifetime, &view) {
                signers.push(key.id().clone());
            }
        }
        if let (Sight::Observed, Some(public)) = (self.terms.sight, &self.public) {
            self.in_use.push_back((self.now + MAX_AGE, public.clone()));
        }
        for id in signers {
            if !self.revoke.contains(&id) {
                self.tokens.insert((self.now + LIFETIME, id));
            }
        }
        self.in_use.make_contiguous().sort();
        let mut sets: BTreeMap<&BTreeSet<KeyId>, u64> = BTreeMap::new();
        for (until, set) in &self.in_use {
            sets.insert(set, *until);
        }
        for (end, id) in &self.tokens {
            for (set, until) in &sets {
                assert!(
                    set.contains(id),
                    "at {}: a token of {id} until {end} does not verify with a key set in use until {until}: {set:?}\n{:?}",
                    self.now,
                    self.stored
                );
            }
        }
    }

    fn apply(&mut self, transition: &Transition) {
        match *transition {
            Transition::Pass(seconds) => (0..seconds).for_each(|_| self.tick()),
            Transition::Look(at) => self.look(at),
            Transition::Crash(at) => self.replicas[at] = Replica::default(),
            Transition::Rotate => self.wish += 1,
            Transition::Delete => self.meddle(Stored::Empty),
            Transition::Damage => self.meddle(Stored::Damaged("nonsense".to_owned())),
            Transition::Restore(back) => {
                let then = self.before.iter().rev().nth(back).cloned();
                if let Some(then) = then {
                    self.meddle(Stored::Whole(then));
                }
            }
            Transition::Cut => self.cut(),
            // With a public issuer the successor signs as soon as it is seen, which is sooner than old key sets are forgotten: the one
            // exception, and documented as such.
            Transition::Revoke if self.terms.sight == Sight::Observed => {}
            Transition::Revoke => {
                let Some(informed) = self.informed() else {
                    return;
                };
                let ring = self.replicas[informed].ring.as_ref().unwrap();
                let Some(active) = ring.active() else { return };
                self.revoke = vec![active.id().clone()];
                self.look(informed);
                self.forget_revoked();
            }
            Transition::Publish(works) => self.publish(works),
        }
    }

    /// A revocation breaks what it breaks: relying parties are taken to have read the key set again.
    fn forget_revoked(&mut self) {
        self.in_use.clear();
        for at in 0..REPLICAS {
            self.look(at);
        }
        self.tokens.clear();
    }

    fn publish(&mut self, works: bool) {
        if let (Sight::Observed, true, Some(at)) = (self.terms.sight, works, self.informed()) {
            let ring = self.replicas[at].ring.as_ref().unwrap();
            self.public = Some(Self::key_ids(ring));
        }
    }

    fn check(&self) {
        for ring in self
            .replicas
            .iter()
            .filter_map(|replica| replica.ring.as_ref())
        {
            let count = |phase: &str| {
                ring.keys()
                    .filter(|key| key.phase().name() == phase)
                    .count()
            };
            assert!(count("active") <= 1 && count("prepared") <= 1, "{ring:?}");
            assert!(ring.keys().count() <= self.terms.most_keys + 1, "{ring:?}");
            assert_eq!(Ring::parse(&ring.render()).as_ref(), Ok(ring));
        }
    }
}

struct ByTime;
struct Observed;

impl StateMachineTest for ByTime {
    type SystemUnderTest = World;
    type Reference = Anything;

    fn init_test((): &()) -> World {
        World::new(Sight::ByTime)
    }

    fn apply(mut world: World, (): &(), transition: Transition) -> World {
        world.apply(&transition);
        world
    }

    fn check_invariants(world: &World, (): &()) {
        world.check();
    }
}

impl StateMachineTest for Observed {
    type SystemUnderTest = World;
    type Reference = Anything;

    fn init_test((): &()) -> World {
        World::new(Sight::Observed)
    }

    fn apply(mut world: World, (): &(), transition: Transition) -> World {
        world.apply(&transition);
        world
    }

    fn check_invariants(world: &World, (): &()) {
        world.check();
    }
}

prop_state_machine! {
    #![proptest_config(Config { cases: 300, failure_persistence: None, ..Config::default() })]

    #[test]
    fn rot_004_008_to_011_every_live_token_verifies_with_every_key_set_in_use(sequential 1..120 => ByTime);

    #[test]
    fn rot_002_010_and_with_every_key_set_of_the_public_issuer(sequential 1..120 => Observed);
}
