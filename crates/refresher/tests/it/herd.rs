//! Ten thousand pods and one STS, in paused time, by the schedule that the sidecar runs by.
//!
//! `cargo test -p refresher --test it herd -- --nocapture` prints the rates over time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use refresher::schedule::{Retries, Urgency, refresh_after};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

const PODS: u32 = 10_000;
/// The default of an issued token.
const LIFE: Duration = Duration::from_secs(900);

/// The STS: when it answers, and how many it serves in a second; others get 503 with the real
/// server's `Retry-After`.
struct Sts {
    start: Instant,
    away: std::ops::Range<u64>,
    capacity: u32,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Vec<u32>,
    served: Vec<u32>,
    /// Seconds for which a pod had a token that was over.
    dead: Vec<u32>,
    /// When the last pod got its first token.
    last_first: u64,
}

impl Sts {
    fn new(away: std::ops::Range<u64>, capacity: u32) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            away,
            capacity,
            seen: Mutex::default(),
        })
    }

    fn second(&self) -> u64 {
        self.start.elapsed().as_secs()
    }

    /// A token, or what the answer says about when to come back.
    async fn exchange(&self) -> Result<(), Option<Duration>> {
        let second = self.second();
        let is_served = {
            let mut seen = self.seen.lock().unwrap();
            *slot(&mut seen.requests, second) += 1;
            let served = slot(&mut seen.served, second);
            let is_served = !self.away.contains(&second) && *served < self.capacity;
            *served += u32::from(is_served);
            is_served
        };
        sleep(Duration::from_millis(5)).await;
        if is_served {
            Ok(())
        } else if self.away.contains(&second) {
            Err(None)
        } else {
            Err(Some(Duration::from_secs(sts_api::RETRY_AFTER.into())))
        }
    }

    fn requests(&self) -> Vec<u32> {
        self.seen.lock().unwrap().requests.clone()
    }

    fn deaths(&self) -> u32 {
        self.seen.lock().unwrap().dead.iter().sum()
    }
}

fn slot(seconds: &mut Vec<u32>, second: u64) -> &mut u32 {
    let second = usize::try_from(second).unwrap();
    if seconds.len() <= second {
        seconds.resize(second + 1, 0);
    }
    &mut seconds[second]
}

/// The sidecar's loop, with nothing in it but its times.
async fn pod(sts: Arc<Sts>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    sleep(Duration::from_secs_f64(rng.random_range(0.0..1.0))).await;
    let mut expires: Option<Instant> = None;
    let left = |expires: Option<Instant>| {
        expires.map_or(Duration::ZERO, |end| end.duration_since(Instant::now()))
    };
    loop {
        let urgency = if left(expires).is_zero() {
            Urgency::Starving
        } else {
            Urgency::Calm
        };
        let mut retries = Retries::new(urgency);
        while let Err(asked) = sts.exchange().await {
            sleep(retries.next_delay(asked, left(expires), &mut rng)).await;
            if expires.is_some_and(|end| end <= Instant::now()) {
                expires = None;
                *slot(&mut sts.seen.lock().unwrap().dead, sts.second()) += 1;
            }
        }
        if expires.is_none() {
            let mut seen = sts.seen.lock().unwrap();
            seen.last_first = seen.last_first.max(sts.second());
        }
        expires = Some(Instant::now() + LIFE);
        sleep(refresh_after(LIFE, &mut rng)).await;
    }
}

/// Ten thousand pods that start within a second, for so long.
async fn simulate(sts: &Arc<Sts>, seconds: u64) {
    let mut pods = JoinSet::new();
    for seed in 0..u64::from(PODS) {
        pods.spawn(pod(Arc::clone(sts), seed));
    }
    sleep_until(sts.start + Duration::from_secs(seconds)).await;
}

#[expect(clippy::print_stdout, reason = "the rates are for people too")]
fn show(title: &str, requests: &[u32]) {
    println!("{title}: requests per second, the most of each minute");
    for (minute, seconds) in requests.chunks(60).enumerate() {
        println!("  {minute:>3} min {:>6}", seconds.iter().max().unwrap());
    }
}

#[expect(clippy::print_stdout, reason = "the rates are for people too")]
fn peak(when: &str, requests: &[u32]) -> u32 {
    let most = requests.iter().copied().max().unwrap_or_default();
    println!("  most in a second {when}: {most}");
    most
}

#[expect(clippy::print_stdout, reason = "the wait is for people too")]
fn show_wait(seconds: u64, when: &str) {
    println!("  the last pod has its token {seconds} s after {when}");
}

#[tokio::test(start_paused = true)]
async fn ref_006_a_herd_that_starts_at_once_spreads_within_two_refreshes() {
    let sts = Sts::new(0..0, u32::MAX);
    simulate(&sts, 3600).await;
    let requests = sts.requests();
    show("ten thousand pods that start within a second", &requests);
    let settled = &requests[2 * 405..3599];
    let mean = settled.iter().sum::<u32>() / u32::try_from(settled.len()).unwrap();
    assert!((28..=34).contains(&mean), "{mean}/s");
    let most = peak("after two refreshes", settled);
    assert!(most <= 3 * mean, "{most}/s of {mean}/s");
}

#[tokio::test(start_paused = true)]
async fn ref_006_a_herd_that_starts_at_once_is_served_by_an_sts_that_can_do_500_a_second() {
    let sts = Sts::new(0..0, 500);
    simulate(&sts, 120).await;
    let requests = sts.requests();
    show("the same, at 500 a second", &requests);
    let last = sts.seen.lock().unwrap().last_first;
    show_wait(last, "they started");
    assert!(last <= 40, "the last pod waited {last} s");
    // All but 500 are told to come back, and come within as many seconds as they were told to wait.
    let told = (PODS - 500) / u32::from(sts_api::RETRY_AFTER);
    let most = peak("in seconds 1 to 19", &requests[1..20]);
    assert!(most <= told + told / 5, "{most}/s of {told}/s");
    let most = peak("from second 20 on", &requests[20..]);
    assert!(most <= 700, "{most}/s");
}

#[tokio::test(start_paused = true)]
async fn ref_006_a_herd_does_not_feel_half_a_lifetime_without_an_sts() {
    let sts = Sts::new(3000..3450, 500);
    simulate(&sts, 4200).await;
    let requests = sts.requests();
    show(
        "an STS that is away from minute 50 for half a lifetime",
        &requests,
    );
    assert_eq!(sts.deaths(), 0, "pods without a token");
    let away = peak("while it is away", &requests[3000..3450]);
    assert!(away <= 700, "{away}/s");
    let back = peak("after it is back", &requests[3450..]);
    assert!(back <= 600, "{back}/s");
}

#[tokio::test(start_paused = true)]
async fn ref_006_a_herd_that_an_outage_has_starved_comes_back_within_two_minutes() {
    let sts = Sts::new(3000..4800, 500);
    simulate(&sts, 5400).await;
    let requests = sts.requests();
    show(
        "an STS that is away from minute 50 for two lifetimes",
        &requests,
    );
    assert_eq!(sts.deaths(), PODS, "each pod says so once");
    let away = peak("while it is away", &requests[3000..4800]);
    assert!(away <= 850, "{away}/s");
    let back = peak("after it is back", &requests[4800..]);
    assert!(back <= 600, "{back}/s");
    let last = sts.seen.lock().unwrap().last_first;
    show_wait(last - 4800, "the STS is back");
    assert!(last <= 4800 + 120, "the last pod waited {} s", last - 4800);
}
