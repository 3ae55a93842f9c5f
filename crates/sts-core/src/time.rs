//! Points in time and lifetimes, with checked arithmetic only: a wrapped number would be a token that never dies.

use std::time::Duration;

/// Seconds since 1970-01-01T00:00:00Z, leap seconds ignored: a `NumericDate` without a fraction (RFC 7519, section 2).
///
/// Invariant: at most [`UnixSeconds::LATEST`], so that adding any lifetime of ours cannot overflow.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct UnixSeconds(u64);

impl UnixSeconds {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// The last second of the year 9999, the last that RFC 3339 can write.
    pub const LATEST: Self = Self(253_402_300_799);

    /// The point in time, or `None` past the year 9999.
    pub const fn new(seconds: u64) -> Option<Self> {
        if seconds <= Self::LATEST.0 {
            Some(Self(seconds))
        } else {
            None
        }
    }

    /// Seconds since the epoch.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// This point plus `duration`, whole seconds, no later than [`UnixSeconds::LATEST`].
    #[must_use]
    pub const fn saturating_add(self, duration: Duration) -> Self {
        let sum = self.0.saturating_add(duration.as_secs());
        if sum <= Self::LATEST.0 {
            Self(sum)
        } else {
            Self::LATEST
        }
    }

    /// This point minus `duration`, whole seconds, no earlier than the epoch.
    #[must_use]
    pub const fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_secs()))
    }

    /// How long it is from `earlier` to this point; zero if it lies before.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

/// How far ahead another machine's clock may be for `iat` and `nbf`. `exp` gets no leeway: kube-apiserver gives none either.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// How long an issued token lives.
///
/// Invariant: between one minute and one day, whole seconds.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Lifetime(Duration);

impl Lifetime {
    /// The shortest life worth issuing: below it the caller would be back before it could use the token.
    pub const SHORTEST: Duration = Duration::from_secs(60);
    /// The longest: what the EKS webhook asks for by default.
    pub const LONGEST: Duration = Duration::from_secs(86_400);

    /// The lifetime, or `None` outside of one minute to one day.
    pub fn new(duration: Duration) -> Option<Self> {
        let whole = Duration::from_secs(duration.as_secs());
        (Self::SHORTEST..=Self::LONGEST)
            .contains(&whole)
            .then_some(Self(whole))
    }

    /// The lifetime as a duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}
