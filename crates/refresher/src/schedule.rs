//! When to refresh, and when to try again. Pure: no clock, no I/O, randomness is passed in.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use rand::Rng;

/// What a failure puts at risk, hence how soon to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// There is a live token: nobody waits.
    Calm,
    /// There is none: an application waits for its start, or fails.
    Starving,
}

/// The delays between the tries of one outage.
#[derive(Debug)]
pub struct Retries(ExponentialBackoff);

impl Retries {
    /// A new outage.
    pub fn new(urgency: Urgency, rng: &mut impl Rng) -> Self {
        let first = match urgency {
            Urgency::Calm => Duration::from_secs(1),
            Urgency::Starving => Duration::from_millis(200),
        };
        // backon adds up to the delay itself as jitter, so the longest delay is twice this maximum.
        let builder = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_factor(2.0)
            .with_max_delay(MAX_DELAY / 2)
            .without_max_times()
            .with_jitter()
            .with_jitter_seed(rng.random());
        Self(builder.build())
    }

    /// How long to wait before the next try. The server's `Retry-After` is the least, plus up to a tenth of it,
    /// because every pod is told the same.
    pub fn next_delay(&mut self, retry_after: Option<Duration>, rng: &mut impl Rng) -> Duration {
        let own = self.0.next().unwrap_or(MAX_DELAY);
        let Some(asked) = retry_after else { return own };
        // Clamped first: a server may ask for more than a multiplication holds.
        let spread = asked
            .min(MAX_RETRY_AFTER)
            .mul_f64(rng.random_range(1.0..1.1));
        own.max(spread).min(MAX_RETRY_AFTER)
    }
}

/// How long to rest after a token came that has `life` left: half of it, give or take a tenth of it.
///
/// So an outage of the STS of 0.4 of the lifetime is never felt, and pods that started together drift apart.
pub fn refresh_after(life: Duration, rng: &mut impl Rng) -> Duration {
    life.mul_f64(rng.random_range(0.4..0.6)).max(MIN_REST)
}

/// The longest wait that we choose ourselves.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// The longest wait that a server may ask for: it must not be able to silence a pod for good.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A token that ends in an instant must not make us spin.
const MIN_REST: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn rng() -> SmallRng {
        SmallRng::seed_from_u64(7)
    }

    fn delays(urgency: Urgency, count: usize) -> Vec<Duration> {
        let mut rng = rng();
        let mut retries = Retries::new(urgency, &mut rng);
        (0..count)
            .map(|_| retries.next_delay(None, &mut rng))
            .collect()
    }

    #[test]
    fn refreshes_at_half_of_the_life_give_or_take_a_tenth() {
        let mut rng = rng();
        let life = Duration::from_secs(1000);
        let rests: Vec<_> = (0..10_000)
            .map(|_| refresh_after(life, &mut rng).as_secs_f64())
            .collect();
        assert!(rests.iter().all(|rest| (400.0..600.0).contains(rest)));
        let mean = rests.iter().sum::<f64>() / 10_000.0;
        assert!((495.0..505.0).contains(&mean), "{mean}");
        assert!(rests.iter().any(|rest| *rest < 402.0) && rests.iter().any(|rest| *rest > 598.0));
    }

    #[test]
    fn a_token_without_life_does_not_make_us_spin() {
        assert_eq!(refresh_after(Duration::ZERO, &mut rng()), MIN_REST);
    }

    #[test]
    fn tries_again_quickly_when_there_is_no_token() {
        let delays = delays(Urgency::Starving, 6);
        assert!((0.2..0.4).contains(&delays[0].as_secs_f64()), "{delays:?}");
        assert!(
            delays[..4].iter().sum::<Duration>() < Duration::from_secs(6),
            "{delays:?}"
        );
    }

    #[test]
    fn takes_its_time_when_there_is_a_token() {
        let delays = delays(Urgency::Calm, 1);
        assert!((1.0..2.0).contains(&delays[0].as_secs_f64()), "{delays:?}");
    }

    #[test]
    fn never_waits_longer_than_a_minute_and_never_gives_up() {
        let delays = delays(Urgency::Calm, 5000);
        assert!(delays.iter().all(|delay| *delay <= MAX_DELAY));
        assert!(delays[100..].iter().all(|delay| *delay >= MAX_DELAY / 2));
    }

    #[test]
    fn waits_as_long_as_the_server_asks_and_a_little_more() {
        let mut rng = rng();
        let mut retries = Retries::new(Urgency::Calm, &mut rng);
        let delay = retries
            .next_delay(Some(Duration::from_secs(100)), &mut rng)
            .as_secs_f64();
        assert!((100.0..110.0).contains(&delay), "{delay}");
    }

    #[test]
    fn a_server_cannot_silence_a_pod_for_longer_than_five_minutes() {
        let mut rng = rng();
        let mut retries = Retries::new(Urgency::Calm, &mut rng);
        for seconds in [301, u64::MAX / 1_000_000, u64::MAX] {
            let asked = Some(Duration::from_secs(seconds));
            assert_eq!(retries.next_delay(asked, &mut rng), MAX_RETRY_AFTER);
        }
    }

    #[test]
    fn pods_that_fail_together_do_not_try_together() {
        let firsts: std::collections::BTreeSet<_> = (0..1000)
            .map(|seed| {
                let mut rng = SmallRng::seed_from_u64(seed);
                Retries::new(Urgency::Calm, &mut rng)
                    .next_delay(None, &mut rng)
                    .as_millis()
                    / 10
            })
            .collect();
        assert!(
            firsts.len() > 95,
            "{} of 100 hundredths of a second",
            firsts.len()
        );
    }
}
