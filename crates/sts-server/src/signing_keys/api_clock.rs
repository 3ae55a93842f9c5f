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
    /// What it said at a moment by which all that it says later is measured. It moves back only: if each reading were the measure of the
    /// next, many of them would follow a clock that is ahead, tolerance by tolerance.
    anchor: Option<(UnixSeconds, Instant)>,
}

impl ApiClock {
    /// Whether anything is known of it, so that it can be told when it is set ahead.
    pub(super) fn is_known(&self) -> bool {
        self.anchor.is_some()
    }

    /// The time now, at `end`, when the answer to a question that was asked at `begun` says `date`.
    pub(super) fn read(&mut self, date: UnixSeconds, begun: Instant, end: Instant) -> UnixSeconds {
        let Some((time, then)) = self.anchor else {
            self.anchor = Some((date, begun));
            return date;
        };
        let expected = |at: Instant| {
            let elapsed = at.saturating_duration_since(then);
            time.saturating_add(elapsed)
        };
        // Not by an answer that only took long.
        if date < expected(begun) {
            self.anchor = Some((date, begun));
            return date;
        }
        let drift = end.saturating_duration_since(then) / SLOWEST_DRIFT;
        let latest = expected(end)
            .saturating_add(drift)
            .saturating_add(TOLERANCE);
        date.min(latest)
    }
}

/// `Date` has whole seconds, and answers take their time.
const TOLERANCE: Duration = Duration::from_secs(2);
/// A clock that is slewed, as NTP does it, gains at most one second in so many, twice over: our own may lose as much.
const SLOWEST_DRIFT: u32 = 1000;

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

    /// A clock whose answers come at once.
    fn reader() -> impl FnMut(u64, Duration) -> UnixSeconds {
        let (mut clock, start) = (ApiClock::default(), Instant::now());
        move |date, after| clock.read(at(date), start + after, start + after)
    }

    const SECOND: Duration = Duration::from_secs(1);
    const JUMP: u64 = 40 * 86_400;

    #[tokio::test]
    async fn rot_012_a_clock_that_is_set_ahead_is_not_followed() {
        let mut read = reader();
        assert_eq!(read(1000, Duration::ZERO), at(1000));
        assert_eq!(read(1010, SECOND * 10), at(1010));
        assert_eq!(read(1010 + JUMP, SECOND * 11), at(1013));
        assert_eq!(
            read(900, SECOND * 12),
            at(900),
            "back is waiting longer, which is safe"
        );
    }

    #[tokio::test]
    async fn rot_012_a_clock_that_is_set_ahead_is_not_followed_by_many_looks_either() {
        let mut read = reader();
        assert_eq!(read(1000, Duration::ZERO), at(1000));
        let mut last = at(1000);
        for look in 1..=4000_u32 {
            last = read(1000 + JUMP, SECOND / 4 * look);
        }
        assert_eq!(last, at(1000 + 1000 + 1 + 2));
    }

    #[tokio::test]
    async fn an_answer_that_took_long_sets_no_clock_back() {
        let (mut clock, start) = (ApiClock::default(), Instant::now());
        assert_eq!(clock.read(at(1000), start, start), at(1000));
        let (begun, end) = (start + SECOND * 10, start + SECOND * 18);
        assert_eq!(clock.read(at(1010), begun, end), at(1010));
        let later = start + SECOND * 20;
        assert_eq!(clock.read(at(1020), later, later), at(1020));
    }
}
