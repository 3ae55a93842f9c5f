//! Waiting for a condition instead of for a time.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::progress::Stopwatch;

/// Probes until `probe` gives a value. An error of `probe` ends the waiting: use it for what will never get better.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let watch = Stopwatch::start();
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if watch.elapsed() > limit {
            bail!("gave up waiting for {what} after {} s", limit.as_secs());
        }
        std::thread::sleep(INTERVAL);
    }
}

const INTERVAL: Duration = Duration::from_millis(25);
