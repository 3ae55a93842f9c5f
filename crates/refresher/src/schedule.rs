//! When to refresh, and when to try again. Pure: no clock, no I/O, randomness is passed in.

use std::time::Duration;

use rand::Rng;
use reliakit_backoff::decorrelated_jitter;

use crate::clock::WallTime;

/// What a failure puts at risk, hence how soon to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// There is a live token: nobody waits.
    Calm,
    /// There is none: an application waits for its start, or fails.
    Starving,
}

/// The delays between the tries of one outage: decorrelated jitter. Each is drawn evenly between the first and three times the one
/// before, so that pods which failed together have nothing in common a few tries later, not even how often they have tried.
///
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>; which crate does this for us and why:
/// docs/decisions/0009-decorrelated-delays.md.
#[derive(Debug)]
pub struct Retries {
    shortest: Duration,
    previous: Duration,
}

impl Retries {
    /// A new outage.
    pub const fn new(urgency: Urgency) -> Self {
        let shortest = match urgency {
            Urgency::Calm => Duration::from_secs(1),
            Urgency::Starving => Duration::from_millis(200),
        };
        Self {
            shortest,
            previous: shortest,
        }
    }

    /// How long to wait before the next try. The server's `Retry-After` is the least and twice as much the most, evenly between them:
    /// every pod is told the same, and pods that all came back in one second would only be told it again.
    ///
    /// `left` is what is left of the token in the file. While there is one, no wait is longer than half of it: however long
    /// an outage was, a try comes before the token's end.
    pub fn next_delay(
        &mut self,
        retry_after: Option<Duration>,
        left: Duration,
        rng: &mut impl Rng,
    ) -> Duration {
        let own = self.draw(rng);
        let wanted = retry_after.map_or(own, |asked| {
            // Clamped first: a server may ask for more than a multiplication holds.
            let spread = asked
                .min(MAX_RETRY_AFTER)
                .mul_f64(rng.random_range(1.0..2.0));
            own.max(spread)
        });
        if left.is_zero() {
            wanted
        } else {
            wanted.min((left / 2).max(MIN_DELAY))
        }
    }

    fn draw(&mut self, rng: &mut impl Rng) -> Duration {
        // No more than a third of the longest delay: so the range ends with that one. A range that went beyond it would be cut after
        // the draw, and two pods of three would draw the very same delay, the longest.
        let previous = self.previous.min(MAX_DELAY / 3);
        self.previous = decorrelated_jitter(self.shortest, previous, MAX_DELAY, rng.random());
        self.previous
    }
}

/// How long to rest after a token came that has `life` left: between a quarter and 45 hundredths of it.
///
/// So an outage of the STS of half the lifetime is never felt: it begins at the worst just before a refresh is due, and then
/// leaves a twentieth of the life for the tries after it. The range is wide so that pods that started together drift
/// apart within two refreshes.
pub fn refresh_after(life: Duration, rng: &mut impl Rng) -> Duration {
    life.mul_f64(rng.random_range(EARLIEST_REFRESH..LATEST_REFRESH))
        .max(MIN_REST)
}

/// How long the next exchange may take, of what is left of the token and of what the settings allow.
///
/// A quarter of what is left: an STS that takes connections and says nothing must not use up the token's end with one try. Without a token
/// there is nothing to lose by waiting.
pub fn exchange_limit(left: Duration, most: Duration) -> Duration {
    if left.is_zero() {
        most
    } else {
        (left / 4).max(SHORTEST_LIMIT).min(most)
    }
}

/// The instant by which `run` has left its next trace, if it works: a new token, or the reason of a failure.
///
/// `token` is when the token in the file was written and when it ends, `failure` when the last failure was noted, and `begun`, where there is
/// neither, when the volume was last touched: the first exchange was due then.
pub fn next_trace_by(
    token: Option<(WallTime, WallTime)>,
    failure: Option<WallTime>,
    begun: Option<WallTime>,
) -> WallTime {
    let after_token = token.map(|(written, expires)| {
        let life = expires.left_at(written);
        written.plus(life.mul_f64(LATEST_REFRESH))
    });
    let after_failure = failure.map(|noted| noted.plus(LONGEST_WAIT));
    after_token
        .max(after_failure)
        .or(begun)
        .map_or(WallTime::END, |trace| trace.plus(LONGEST_EXCHANGE))
}

const EARLIEST_REFRESH: f64 = 0.25;
const LATEST_REFRESH: f64 = 0.45;

/// The longest wait that we choose ourselves.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// Near the end of a token, tries come no faster than this.
const MIN_DELAY: Duration = Duration::from_secs(1);

/// The longest wait that a server may ask for: it must not be able to silence a pod for good.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The longest wait of all: what a server may ask for, spread.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Near the end of a token, an exchange is given no less than this.
const SHORTEST_LIMIT: Duration = Duration::from_secs(1);

/// A token that ends in an instant must not make us spin.
const MIN_REST: Duration = Duration::from_millis(200);

/// Longer than an exchange and the writing of its result take, by far.
const LONGEST_EXCHANGE: Duration = Duration::from_secs(60);

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
        let mut retries = Retries::new(urgency);
        (0..count)
            .map(|_| retries.next_delay(None, Duration::ZERO, &mut rng))
            .collect()
    }

    #[test]
    fn refreshes_between_a_quarter_and_45_hundredths_of_the_life() {
        let mut rng = rng();
        let life = Duration::from_secs(1000);
        let rests: Vec<_> = (0..10_000)
            .map(|_| refresh_after(life, &mut rng).as_secs_f64())
            .collect();
        assert!(rests.iter().all(|rest| (250.0..450.0).contains(rest)));
        let mean = rests.iter().sum::<f64>() / 10_000.0;
        assert!((345.0..355.0).contains(&mean), "{mean}");
        assert!(rests.iter().any(|rest| *rest < 252.0) && rests.iter().any(|rest| *rest > 448.0));
    }

    #[test]
    fn an_outage_of_half_the_lifetime_is_never_felt() {
        // Each exchange takes all the time it may, as when connections are taken and nobody answers; the one that works at last does too.
        // A minute is the shortest life that the server issues.
        let most = Duration::from_secs(10);
        for life in [60.0, 61.0, 90.0, 120.0, 180.0, 300.0, 900.0, 86_400.0] {
            for seed in 0..2000 {
                let mut rng = SmallRng::seed_from_u64(seed);
                let whole = Duration::from_secs_f64(life);
                let begin = refresh_after(whole, &mut rng).as_secs_f64();
                let mut retries = Retries::new(Urgency::Calm);
                let left = |now: f64| Duration::from_secs_f64((life - now).max(0.0));
                let exchange = |now| exchange_limit(left(now), most).as_secs_f64();
                let mut now = begin;
                while now < begin + life / 2.0 {
                    now += exchange(now);
                    let asked = (seed % 2 == 0).then_some(MAX_RETRY_AFTER);
                    now += retries.next_delay(asked, left(now), &mut rng).as_secs_f64();
                }
                now += exchange(now);
                assert!(now < life, "a token of {life} s was dead at {now} s");
            }
        }
    }

    #[test]
    fn an_exchange_may_take_a_quarter_of_what_is_left_and_at_least_a_second() {
        let of = |left| exchange_limit(Duration::from_secs(left), Duration::from_secs(10));
        for (left, limit) in [(0, 10), (1, 1), (4, 1), (12, 3), (40, 10), (900, 10)] {
            assert_eq!(of(left), Duration::from_secs(limit), "{left} s left");
        }
        let settings_say_less = exchange_limit(Duration::ZERO, Duration::from_millis(100));
        assert_eq!(settings_say_less, Duration::from_millis(100));
    }

    #[test]
    fn a_trace_is_due_after_the_latest_refresh_or_the_longest_wait() {
        let at = WallTime::from_unix_seconds;
        let token = Some((at(1000), at(2000)));
        let begun = Some(at(5));
        assert_eq!(next_trace_by(token, None, begun), at(1000 + 450 + 60));
        let failed = next_trace_by(token, Some(at(1400)), begun);
        assert_eq!(failed, at(1400 + 600 + 60));
        assert_eq!(next_trace_by(None, Some(at(10)), begun), at(10 + 600 + 60));
        assert_eq!(next_trace_by(None, None, begun), at(5 + 60));
        assert_eq!(next_trace_by(None, None, None), WallTime::END);
    }

    #[test]
    fn a_token_without_life_does_not_make_us_spin() {
        assert_eq!(refresh_after(Duration::ZERO, &mut rng()), MIN_REST);
    }

    #[test]
    fn tries_again_quickly_when_there_is_no_token() {
        let delays = delays(Urgency::Starving, 1);
        assert!((0.2..=0.6).contains(&delays[0].as_secs_f64()), "{delays:?}");
    }

    #[test]
    fn takes_its_time_when_there_is_a_token() {
        let delays = delays(Urgency::Calm, 1);
        assert!((1.0..=3.0).contains(&delays[0].as_secs_f64()), "{delays:?}");
    }

    #[test]
    fn ref_003_each_delay_is_drawn_between_the_first_and_three_times_the_one_before() {
        for (urgency, shortest) in [(Urgency::Calm, 1.0), (Urgency::Starving, 0.2)] {
            let delays = delays(urgency, 10_000);
            let pairs = delays.windows(2).map(|pair| (pair[0], pair[1]));
            for (before, delay) in pairs {
                let longest = (before * 3).min(MAX_DELAY).as_secs_f64();
                assert!((shortest..=longest).contains(&delay.as_secs_f64()));
            }
            // Long and short ones to the end: no two pods come into step, and nobody gives up.
            let late = delays[5000..].iter().map(Duration::as_secs_f64);
            let (short, long) = late.partition::<Vec<_>, _>(|delay| *delay < 20.0);
            assert!(short.len() > 1000 && long.len() > 1000);
            assert!(long.iter().filter(|delay| **delay > 59.9).count() < 100);
        }
    }

    fn delays_asked_for(asked: Duration, left: Duration) -> Vec<f64> {
        let mut rng = rng();
        let delay = |_| {
            let mut retries = Retries::new(Urgency::Calm);
            retries.next_delay(Some(asked), left, &mut rng)
        };
        (0..1000)
            .map(delay)
            .map(|delay| delay.as_secs_f64())
            .collect()
    }

    #[test]
    fn waits_as_long_as_the_server_asks_and_up_to_twice_as_long() {
        let delays = delays_asked_for(Duration::from_secs(100), Duration::ZERO);
        assert!(delays.iter().all(|delay| (100.0..200.0).contains(delay)));
        // Evenly: a tenth of the pods in each tenth of the time.
        for tenth in 0..10 {
            let begin = 100.0 + 10.0 * f64::from(tenth);
            let in_it = delays
                .iter()
                .filter(|delay| (begin..begin + 10.0).contains(*delay));
            assert!((60..140).contains(&in_it.count()));
        }
    }

    #[test]
    fn waits_as_long_as_the_server_asks_while_there_is_a_token_too() {
        // Half of what is left is more than it asks for: that it asks is what counts.
        let delays = delays_asked_for(Duration::from_secs(100), Duration::from_secs(900));
        assert!(delays.iter().all(|delay| (100.0..200.0).contains(delay)));
        // Half of what is left is less: the token comes first.
        let delays = delays_asked_for(Duration::from_secs(100), Duration::from_secs(120));
        assert!(delays.iter().all(|delay| (60.0..=60.0).contains(delay)));
    }

    #[test]
    fn a_server_cannot_silence_a_pod_for_good() {
        for seconds in [301, u64::MAX / 1_000_000, u64::MAX] {
            let delays = delays_asked_for(Duration::from_secs(seconds), Duration::ZERO);
            assert!(delays.iter().all(|delay| (300.0..600.0).contains(delay)));
        }
    }

    #[test]
    fn pods_that_fail_together_do_not_try_together() {
        let firsts: std::collections::BTreeSet<_> = (0..1000)
            .map(|seed| {
                let mut rng = SmallRng::seed_from_u64(seed);
                Retries::new(Urgency::Calm)
                    .next_delay(None, Duration::ZERO, &mut rng)
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
