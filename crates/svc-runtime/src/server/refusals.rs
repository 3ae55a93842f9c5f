//! Counts refused connections, so that a flood of them is a line now and then and not a flood of lines.

use std::time::Duration;

use tokio::time::Instant;

/// How often refused connections are worth a line.
const INTERVAL: Duration = Duration::from_secs(10);

/// The refusals that no line has told yet.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    untold: u64,
    told: Option<Instant>,
}

impl Refusals {
    /// Counts one. When a line is due, says how many there were since the last one: at once for the first, then after [`INTERVAL`].
    pub(super) fn add(&mut self, now: Instant) -> Option<u64> {
        self.untold = self.untold.saturating_add(1);
        if self
            .told
            .is_some_and(|told| now.duration_since(told) < INTERVAL)
        {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_in_ten_seconds() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        assert_eq!(refusals.add(start), Some(1));
        for _ in 0..1000 {
            assert_eq!(refusals.add(start + Duration::from_secs(9)), None);
        }
        assert_eq!(refusals.add(start + INTERVAL), Some(1001));
    }
}
