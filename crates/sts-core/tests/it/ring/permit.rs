//! Who may sign.

use std::collections::BTreeSet;
use std::time::Duration;

use sts_core::ident::KeyId;
use sts_core::keys::ring::{Outside, View, Withheld};
use sts_core::time::Lifetime;

use super::{LAG, LIFETIME, id, observed, terms, with_active};

fn view(age: u64, outside: Outside<'_>) -> View<'_> {
    View {
        age: Duration::from_secs(age),
        clock_apart: Duration::ZERO,
        outside,
    }
}

#[test]
fn rot_005_a_replica_that_did_not_look_for_long_does_not_sign() {
    let (ring, terms) = (with_active(&terms()), terms());
    let fresh = ring.signer(&terms, terms.lifetime, &view(LAG, Outside::NotLookedYet));
    assert_eq!(fresh.unwrap().id(), &id("a"));
    let stale = ring.signer(
        &terms,
        terms.lifetime,
        &view(LAG + 1, Outside::NotLookedYet),
    );
    assert_eq!(stale.unwrap_err(), Withheld::Stale);
}

#[test]
fn rot_010_a_key_that_the_public_issuer_does_not_serve_is_not_used() {
    let terms = observed();
    let ring = with_active(&terms);
    let keys = |names: &[&str]| -> BTreeSet<KeyId> { names.iter().map(|name| id(name)).collect() };
    let sign = |outside: Outside<'_>| {
        let signer = ring.signer(&terms, terms.lifetime, &view(0, outside));
        signer.map(|key| key.id().clone())
    };
    assert_eq!(
        sign(Outside::Serves(&keys(&["b"]))),
        Err(Withheld::NotServed)
    );
    assert_eq!(sign(Outside::Serves(&keys(&["a", "b"]))), Ok(id("a")));
    assert_eq!(sign(Outside::NotLookedYet), Err(Withheld::NotLookedYet));
    assert_eq!(
        sign(Outside::Silent),
        Ok(id("a")),
        "relying parties go on with what they have"
    );
}

#[test]
fn a_replica_with_a_longer_lifetime_waits_until_the_ring_knows_it() {
    let (ring, terms) = (with_active(&terms()), terms());
    let longer = Lifetime::new(Duration::from_secs(LIFETIME + 1)).unwrap();
    let signer = ring.signer(&terms, longer, &view(0, Outside::NotLookedYet));
    assert_eq!(signer.unwrap_err(), Withheld::LifetimeUnknown);
}

#[test]
fn a_replica_whose_clock_is_wrong_does_not_sign() {
    let (ring, terms) = (with_active(&terms()), terms());
    let view = View {
        clock_apart: Duration::from_secs(301),
        ..view(0, Outside::NotLookedYet)
    };
    assert_eq!(
        ring.signer(&terms, terms.lifetime, &view).unwrap_err(),
        Withheld::ClockApart
    );
}
