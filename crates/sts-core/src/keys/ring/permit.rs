//! Whether a replica may sign with what it knows of its ring.

use std::collections::BTreeSet;
use std::time::Duration;

use thiserror::Error;

use super::{Ring, RingKey, Sight, Terms};
use crate::ident::KeyId;
use crate::time::Lifetime;

/// What a replica knows beside its ring.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// How long ago the ring was known to be the stored one.
    pub age: Duration,
    /// How far our clock is from the API server's.
    pub clock_apart: Duration,
    /// What the public issuer served last.
    pub outside: Outside<'a>,
}

/// What is known of the public issuer.
#[derive(Clone, Copy, Debug)]
pub enum Outside<'a> {
    /// It was not read yet.
    NotLookedYet,
    /// It cannot be read: relying parties go on with what they have.
    Silent,
    /// It serves these keys.
    Serves(&'a BTreeSet<KeyId>),
}

/// Why nobody gets a token, though there is a ring.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Withheld {
    /// Our clock is so wrong that our tokens would be.
    #[error("clock differs from the API server's by more than {FURTHEST_APART:?}")]
    ClockApart,
    /// The configured lifetime is longer than the ring says, so that the key might be removed before its last token is dead.
    #[error("signing key's ring does not know the configured lifetime yet")]
    LifetimeUnknown,
    /// A key is on its way, but relying parties would not know it yet.
    #[error("no signing key is active yet")]
    NoActiveKey,
    /// The public issuer was not read yet.
    #[error("public issuer was not read yet")]
    NotLookedYet,
    /// Relying parties would refuse our tokens.
    #[error("public issuer does not serve the active key")]
    NotServed,
    /// Another replica may have retired the key meanwhile.
    #[error("signing keys were not confirmed for too long")]
    Stale,
}

impl Withheld {
    /// The stable code for metrics and logs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::ClockApart => "clock_apart",
            Self::LifetimeUnknown => "lifetime_unknown",
            Self::NoActiveKey => "no_active_key",
            Self::NotLookedYet => "not_looked_yet",
            Self::NotServed => "not_served",
            Self::Stale => "stale",
        }
    }
}

impl Ring {
    /// The key that may sign a token of `lifetime` now.
    ///
    /// # Errors
    /// [`Withheld`]: a token would not verify at some relying party, or not for the whole of its life.
    pub fn signer(
        &self,
        terms: &Terms,
        lifetime: Lifetime,
        view: &View<'_>,
    ) -> Result<&RingKey, Withheld> {
        let key = self.active().ok_or(Withheld::NoActiveKey)?;
        if view.age > terms.lag {
            return Err(Withheld::Stale);
        }
        if view.clock_apart > FURTHEST_APART {
            return Err(Withheld::ClockApart);
        }
        if key.lifetime < lifetime.get() {
            return Err(Withheld::LifetimeUnknown);
        }
        match (terms.sight, view.outside) {
            (Sight::ByTime, _) | (Sight::Observed, Outside::Silent) => Ok(key),
            (Sight::Observed, Outside::NotLookedYet) => Err(Withheld::NotLookedYet),
            (Sight::Observed, Outside::Serves(key_ids)) => {
                if key_ids.contains(&key.id) {
                    Ok(key)
                } else {
                    Err(Withheld::NotServed)
                }
            }
        }
    }
}

/// How far our clock may be from the API server's. Beyond this a token's times mean nothing to others.
pub const FURTHEST_APART: Duration = Duration::from_secs(300);
