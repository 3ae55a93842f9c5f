use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::*;
use crate::schedule::{Retries, Urgency, exchange_limit};

#[track_caller]
fn check_date(seconds: u64, expected: &str) {
    assert_eq!(WallTime::from_unix_seconds(seconds).rfc3339(), expected);
}

#[test]
fn writes_dates_as_rfc_3339() {
    check_date(0, "1970-01-01T00:00:00.000Z");
    check_date(951_782_399, "2000-02-28T23:59:59.000Z");
    check_date(951_782_400, "2000-02-29T00:00:00.000Z");
    check_date(1_795_462_496, "2026-11-23T19:34:56.000Z");
    check_date(4_102_444_799, "2099-12-31T23:59:59.000Z");
}

#[tokio::test]
async fn the_wall_timer_ends_when_the_wall_clock_is_there() {
    let due = now().plus(Duration::from_millis(30));
    Kernel.is_at_or_is_set(due).await;
    assert!(now() >= due);
}

#[tokio::test]
async fn the_wall_timer_ends_at_once_when_the_instant_is_past() {
    Kernel.is_at_or_is_set(WallTime::from_unix_seconds(1)).await;
}

#[tokio::test]
async fn a_rest_ends_when_the_wall_clock_is_at_its_end_however_long_it_would_be_by_the_other() {
    // As if the clock had been set forward by an hour during the rest.
    let wall_end = now().plus(Duration::from_millis(30));
    let rest = rest_until(&Kernel, Duration::from_secs(3600), wall_end);
    let ended = tokio::time::timeout(Duration::from_secs(30), rest).await;
    assert!(ended.is_ok() && now() >= wall_end);
}

#[tokio::test]
async fn a_rest_ends_when_its_time_is_over_however_far_back_the_wall_clock_is() {
    let (begin, span) = (Instant::now(), Duration::from_millis(30));
    let rest = rest_until(&Kernel, span, now().plus(Duration::from_secs(3600)));
    let ended = tokio::time::timeout(Duration::from_secs(30), rest).await;
    assert!(ended.is_ok() && begin.elapsed() >= span);
}

#[tokio::test]
async fn a_rest_of_no_time_ends_at_once() {
    Kernel.has_passed(Duration::ZERO).await;
}

/// A wall clock that goes as tokio's does, which is paused, and that can be set. Who waits for it is told, as by a timer of the kernel with
/// `TFD_TIMER_CANCEL_ON_SET`.
struct Settable {
    start: Instant,
    /// Milliseconds.
    offset: AtomicI64,
    is_set: Notify,
}

impl Settable {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            offset: AtomicI64::new(0),
            is_set: Notify::new(),
        }
    }

    fn step(&self, milliseconds: i64) {
        self.offset.fetch_add(milliseconds, Ordering::Relaxed);
        self.is_set.notify_waiters();
    }

    /// Sets the clock each time so long after the last, and then never again.
    async fn step_on(&self, steps: &[Step]) {
        for (pause, milliseconds) in steps {
            sleep(Duration::from_millis(*pause)).await;
            self.step(*milliseconds);
        }
        std::future::pending::<()>().await;
    }
}

impl Clocks for Settable {
    fn now(&self) -> WallTime {
        let gone = i64::try_from(self.start.elapsed().as_millis()).unwrap();
        let now = NOON + gone + self.offset.load(Ordering::Relaxed);
        WallTime(Duration::from_millis(now.max(0).unsigned_abs()))
    }

    async fn has_passed(&self, span: Duration) {
        sleep(span).await;
    }

    async fn is_at_or_is_set(&self, due: WallTime) {
        let is_set = self.is_set.notified();
        let left = due.left_at(self.now());
        select! {
            () = sleep(left) => {}
            () = is_set => {}
        }
    }
}

/// How long after the last one, and by how much, in milliseconds.
type Step = (u64, i64);

/// Some day in 2026, in milliseconds.
const NOON: i64 = 1_795_600_000_000;

/// Of a few milliseconds, as an NTP client makes them, to years, as a wrong battery does.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let amount = prop_oneof![-500_i64..500, -600_000_i64..600_000, -NOON..NOON];
    proptest::collection::vec((0_u64..400_000, amount), 0..12)
}

/// When a rest is over that begins now: at its end, or at the first moment at which the clock shows that end or a later time. None where
/// that falls together with a step.
fn expected_rest(span: i64, steps: &[Step]) -> Option<i64> {
    let (mut begin, mut offset) = (0, 0);
    for (pause, amount) in steps {
        let end = begin + i64::try_from(*pause).unwrap();
        let over = (span - offset).max(begin).min(span);
        if over + EXACT < end {
            return Some(over);
        }
        if over <= end + EXACT {
            return None;
        }
        begin = end;
        offset += amount;
    }
    Some((span - offset).max(begin).min(span))
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ref_008_a_rest_ends_with_the_first_of_both_clocks_however_the_wall_clock_is_set(
        span in 1_u32..600_000, steps in steps(),
    ) {
        let rested = paused().block_on(async {
            let clock = Settable::new();
            select! {
                biased;
                () = clock.step_on(&steps) => {}
                () = rest_by(&clock, Duration::from_millis(span.into())) => {}
            }
            i64::try_from(clock.start.elapsed().as_millis()).unwrap()
        });
        if let Some(expected) = expected_rest(span.into(), &steps) {
            prop_assert!((rested - expected).abs() <= EXACT, "{rested}, not {expected}");
        }
    }

    /// However it is set while an STS is away: no two tries are further apart than the longest wait of all and an exchange, and none
    /// follows the one before at once but where the clock was set in between.
    #[test]
    fn ref_008_a_back_off_outlives_a_clock_that_is_set(
        seed: u64, life in 0_u64..7200, asked in proptest::option::of(0_u64..1000), is_silent: bool, steps in steps(),
    ) {
        let tries = paused().block_on(async {
            let clock = Settable::new();
            let mut rng = SmallRng::seed_from_u64(seed);
            let expires = clock.now().plus(Duration::from_secs(life));
            let urgency = if life == 0 { Urgency::Starving } else { Urgency::Calm };
            let mut retries = Retries::new(urgency);
            let mut tries = Vec::new();
            let back_off = async {
                for _ in 0..40 {
                    tries.push(clock.start.elapsed());
                    let left = || expires.left_at(clock.now());
                    if is_silent {
                        sleep(exchange_limit(left(), EXCHANGE)).await;
                    }
                    let asked = asked.map(Duration::from_secs);
                    rest_by(&clock, retries.next_delay(asked, left(), &mut rng)).await;
                }
            };
            select! {
                biased;
                () = clock.step_on(&steps) => {}
                () = back_off => {}
            }
            tries
        });
        let sets = steps.iter().scan(0, |at, (pause, _)| {
            *at += pause;
            Some(Duration::from_millis(*at))
        });
        let sets: Vec<_> = sets.collect();
        for pair in tries.windows(2) {
            let wait = pair[1].checked_sub(pair[0]).unwrap();
            prop_assert!(wait <= LONGEST + EXCHANGE, "{wait:?}");
            let exact = Duration::from_millis(EXACT.unsigned_abs());
            let is_set = sets.iter().any(|at| (pair[0]..=pair[1] + 2 * exact).contains(&(*at + exact)));
            prop_assert!(is_set || wait >= SHORTEST, "{wait:?}");
        }
    }
}

/// How exact tokio's timers are, in milliseconds, and one more.
const EXACT: i64 = 2;
/// What one exchange may take, by the default settings.
const EXCHANGE: Duration = Duration::from_secs(10);
/// Twice the longest that a server is believed.
const LONGEST: Duration = Duration::from_secs(600);
/// The first wait without a token.
const SHORTEST: Duration = Duration::from_millis(200);
