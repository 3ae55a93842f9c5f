//! The wall clock, and how to rest until it reaches an instant. The only module that reads the time of day.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::select;
use tokio::time::{Instant, sleep_until};

/// An instant of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(Duration);

impl WallTime {
    /// An instant that never comes.
    pub const END: Self = Self(Duration::MAX);

    /// What a file's metadata say; before 1970 counts as 1970.
    pub fn of(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// The instant that a JWT's `exp` names.
    pub const fn from_unix_seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Whole seconds since 1970.
    pub const fn unix_seconds(self) -> u64 {
        self.0.as_secs()
    }

    /// How long it is from `now` until this instant; zero if that is past.
    pub const fn left_at(self, now: Self) -> Duration {
        self.0.saturating_sub(now.0)
    }

    /// This instant and `span` more.
    #[must_use]
    pub const fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// As RFC 3339 in UTC with milliseconds.
    pub fn rfc3339(self) -> String {
        let seconds = self.0.as_secs();
        let (days, of_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        let millis = self.0.subsec_millis();
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// Reads the wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clock"
)]
pub fn now() -> WallTime {
    WallTime::of(SystemTime::now())
}

/// Rests for `span`, or less if the wall clock passes the end of it sooner.
///
/// A timer of the kernel that follows the wall clock, and that is told when somebody sets it, runs beside tokio's,
/// which does not count the time a machine was suspended. Whichever is first ends the rest: so a clock set forward
/// and a resume are seen at once, a clock set back does not prolong the rest, and nothing wakes up in between.
pub async fn rest(span: Duration) {
    rest_until(Instant::now() + span, now().plus(span)).await;
}

async fn rest_until(end: Instant, wall_end: WallTime) {
    loop {
        select! {
            () = sleep_until(end) => return,
            () = wall_clock_reaches_or_is_set(wall_end) => if now() >= wall_end { return },
        }
    }
}

/// Where the kernel has no such timer (a sandbox), this never ends and tokio's timer alone decides.
async fn wall_clock_reaches_or_is_set(due: WallTime) {
    let Ok(timer) = wall_timer(due) else {
        return std::future::pending().await;
    };
    // The read that would follow says "expired" or ECANCELED (set); the caller looks at the clock in either case.
    drop(timer.readable().await);
}

fn wall_timer(due: WallTime) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
    let zero = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let value = Timespec {
        tv_sec: due.0.as_secs().try_into().map_err(io::Error::other)?,
        tv_nsec: due.0.subsec_nanos().into(),
    };
    let when = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(
        &timer,
        when,
        &Itimerspec {
            it_interval: zero,
            it_value: value,
        },
    )?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that may close the descriptor; an OwnedFd does not"
    )]
    AsyncFd::new(timer)
}

/// The Gregorian date of a day counted from 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms").
const fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let january_or_february = if month <= 2 { 1 } else { 0 };
    (era * 400 + year_of_era + january_or_february, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        wall_clock_reaches_or_is_set(due).await;
        assert!(now() >= due);
    }

    #[tokio::test]
    async fn the_wall_timer_ends_at_once_when_the_instant_is_past() {
        wall_clock_reaches_or_is_set(WallTime::from_unix_seconds(1)).await;
    }

    #[tokio::test]
    async fn a_rest_ends_when_the_wall_clock_is_at_its_end_however_long_it_would_be_by_the_other() {
        // As if the clock had been set forward by an hour during the rest, or the machine suspended for one.
        let begin = Instant::now();
        let wall_end = now().plus(Duration::from_millis(30));
        let rest = rest_until(begin + Duration::from_secs(3600), wall_end);
        let ended = tokio::time::timeout(Duration::from_secs(30), rest).await;
        assert!(ended.is_ok() && now() >= wall_end);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_ends_by_the_monotonic_clock_when_the_wall_clock_stands_still() {
        // Paused time runs ahead of the wall clock: as if that had been set back.
        let before = Instant::now();
        rest(Duration::from_secs(450)).await;
        assert_eq!(before.elapsed().as_secs(), 450);
    }
}
