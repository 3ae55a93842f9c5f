//! The API server's clock, which all replicas have in common: the times of a ring are by it, whatever a node's own clock says.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use sts_core::time::UnixSeconds;
use tokio::time::Instant;

/// Reads the clock from answers, and does not follow it when it is set ahead: a key must not be removed before its time because somebody
/// made a mistake.
#[derive(Debug, Default)]
pub(super) struct ApiClock {
    last: Option<(UnixSeconds, Instant)>,
}

impl ApiClock {
    /// The time now, when an answer that just came says `date`.
    pub(super) fn read(&mut self, date: UnixSeconds, at: Instant) -> UnixSeconds {
        let latest = self.last.map(|(time, then)| {
            let elapsed = at.saturating_duration_since(then);
            time.saturating_add(elapsed).saturating_add(TOLERANCE)
        });
        let now = latest.map_or(date, |latest| date.min(latest));
        self.last = Some((now, at));
        now
    }
}

/// `Date` has whole seconds, and answers take their time.
const TOLERANCE: Duration = Duration::from_secs(2);

/// What a `Date` header says (RFC 9110, section 6.6.1).
pub(super) fn parse_date(header: &str) -> Option<UnixSeconds> {
    DateTimeParser::new()
        .parse_timestamp(header)
        .ok()
        .and_then(seconds)
}

/// Whole seconds since the epoch, of a clock that can be right.
pub(super) fn seconds(time: Timestamp) -> Option<UnixSeconds> {
    u64::try_from(time.as_second())
        .ok()
        .and_then(UnixSeconds::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixSeconds {
        UnixSeconds::new(seconds).unwrap()
    }

    #[test]
    fn a_date_header_is_read() {
        assert_eq!(parse_date("Thu, 01 Jan 1970 00:01:40 GMT"), Some(at(100)));
        assert_eq!(parse_date("yesterday"), None);
    }

    #[tokio::test]
    async fn rot_012_a_clock_that_is_set_ahead_is_not_followed() {
        let mut clock = ApiClock::default();
        let start = Instant::now();
        assert_eq!(clock.read(at(1000), start), at(1000));
        let later = start + Duration::from_secs(10);
        assert_eq!(clock.read(at(1010), later), at(1010));
        let jump = at(1010 + 40 * 86_400);
        assert_eq!(clock.read(jump, later + Duration::from_secs(1)), at(1013));
        assert_eq!(
            clock.read(at(900), later + Duration::from_secs(2)),
            at(900),
            "back is waiting longer, which is safe"
        );
    }
}
