//! Waiting for conditions, never for time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long anything may take that should take little.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is asked.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// Asks until there is an answer; the test fails if there is none in time.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        sleep(POLL).await;
    }
}
