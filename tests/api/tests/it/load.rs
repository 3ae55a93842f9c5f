//! The same thing over and over, beside a test, and what went wrong meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// What is going on beside the test. Dropped, it ends.
#[derive(Default)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Outcome>,
}

/// What came of one kind of attempt.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) what: &'static str,
    pub(crate) attempts: usize,
    pub(crate) failures: Vec<String>,
    pub(crate) slowest: Duration,
}

impl Load {
    /// Tries at that pace until [`Load::stop`]. The attempt gets its number.
    pub(crate) fn add<F, A>(&mut self, what: &'static str, every: Duration, attempt: F)
    where
        F: Fn(usize) -> A + Send + 'static,
        A: Future<Output = Result<(), String>> + Send,
    {
        let stop = Arc::clone(&self.stop);
        drop(self.tasks.spawn(async move {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut outcome = Outcome {
                what,
                attempts: 0,
                failures: Vec::new(),
                slowest: Duration::ZERO,
            };
            while !stop.load(Ordering::Relaxed) {
                ticks.tick().await;
                let start = Instant::now();
                if let Err(failure) = attempt(outcome.attempts).await {
                    outcome.failures.push(failure);
                }
                outcome.attempts += 1;
                outcome.slowest = outcome.slowest.max(start.elapsed());
            }
            outcome
        }));
    }

    /// Ends it, prints its figures and those of the test, and fails the test if any attempt failed.
    pub(crate) async fn stop_without_failures(self, figures: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let outcomes = self.tasks.join_all().await;
        report(figures, &outcomes);
        let failures = outcomes
            .iter()
            .flat_map(|outcome| outcome.failures.iter().take(5));
        let failures: Vec<&String> = failures.collect();
        assert!(failures.is_empty(), "{failures:#?}");
        assert!(outcomes.iter().all(|outcome| outcome.attempts > 0));
    }
}

#[expect(
    clippy::print_stdout,
    reason = "a test's figures are for who runs it with --nocapture"
)]
fn report(figures: &str, outcomes: &[Outcome]) {
    println!("{figures}");
    for outcome in outcomes {
        let Outcome {
            what,
            attempts,
            failures,
            slowest,
        } = outcome;
        println!(
            "{what}: {attempts} attempts, {} failed, the slowest took {slowest:?}",
            failures.len()
        );
    }
}
