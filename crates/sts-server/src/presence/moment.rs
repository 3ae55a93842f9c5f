//! When something was, by two clocks.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// A point in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Never goes back, and stands still while the machine sleeps.
    steady: Instant,
    /// Goes on while the machine sleeps, and can be set.
    wall: Timestamp,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            steady: Instant::now(),
            wall: svc_runtime::clock::now(),
        }
    }

    /// How long ago it was, by the clock that says longer: what nobody has fed while the machine slept is old, and a clock that is set back
    /// makes nothing younger. One that is set forward makes everything old until the next sign of life.
    pub(super) fn age(self) -> Duration {
        self.until(Self::now())
    }

    fn until(self, now: Self) -> Duration {
        let steady = now.steady.saturating_duration_since(self.steady);
        let wall = now.wall.duration_since(self.wall);
        steady.max(Duration::try_from(wall).unwrap_or_default())
    }

    /// The same as a point of the clock that timers go by.
    pub(super) fn steady(self) -> Instant {
        self.steady
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_020_what_a_machine_has_slept_through_counts() {
        let then = Moment::now();
        let after = |steady, wall: i64| {
            then.until(Moment {
                steady: then.steady + Duration::from_secs(steady),
                wall: Timestamp::from_second(then.wall.as_second() + wall).unwrap(),
            })
        };
        let close = |age: Duration, seconds| age.as_secs_f64() - f64::from(seconds) < 1.0;
        assert!(close(after(5, 5), 5));
        assert!(after(5, 3600) > Duration::from_secs(3590), "slept");
        assert_eq!(after(5, -3600), Duration::from_secs(5), "set back");
    }
}
