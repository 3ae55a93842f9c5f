//! The wall clock, and how to rest until it reaches an instant. The only module that reads the time of day.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::select;
use tokio::time::sleep;

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
/// Two timers of the kernel: one that counts the time, also that for which the machine is suspended, and one that follows the wall clock and
/// is told when somebody sets it. Whichever is first ends the rest: so a clock set forward and a resume are seen at once, a clock set back
/// does not prolong the rest, and nothing wakes up in between, as tokio's own timers do, some times in some minutes.
pub async fn rest(span: Duration) {
    rest_by(&Kernel, span).await;
}

/// The clocks as rests see them. A test has some that it can set.
trait Clocks {
    /// The time of day.
    fn now(&self) -> WallTime;

    /// Ends when so much time has passed.
    async fn has_passed(&self, span: Duration);

    /// Ends when the wall clock is there, or when it has been set.
    async fn is_at_or_is_set(&self, due: WallTime);
}

struct Kernel;

impl Clocks for Kernel {
    fn now(&self) -> WallTime {
        now()
    }

    /// Where the kernel has no such timer (a sandbox), tokio's decides.
    async fn has_passed(&self, span: Duration) {
        // Nothing would be no timer at all.
        let value = span.max(Duration::from_nanos(1));
        match timer(TimerfdClockId::Boottime, TimerfdTimerFlags::empty(), value) {
            Ok(timer) => drop(timer.readable().await),
            Err(_) => sleep(span).await,
        }
    }

    /// Where the kernel has no such timer, this never ends.
    async fn is_at_or_is_set(&self, due: WallTime) {
        let when = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        let Ok(timer) = timer(TimerfdClockId::Realtime, when, due.0) else {
            return std::future::pending().await;
        };
        // The read that would follow says "expired" or ECANCELED (set); the caller looks at the clock in either case.
        drop(timer.readable().await);
    }
}

async fn rest_by(clocks: &impl Clocks, span: Duration) {
    rest_until(clocks, span, clocks.now().plus(span)).await;
}

async fn rest_until(clocks: &impl Clocks, span: Duration, wall_end: WallTime) {
    let mut has_passed = pin!(clocks.has_passed(span));
    loop {
        select! {
            () = &mut has_passed => return,
            () = clocks.is_at_or_is_set(wall_end) => if clocks.now() >= wall_end { return },
        }
    }
}

fn timer(
    clock: TimerfdClockId,
    when: TimerfdTimerFlags,
    value: Duration,
) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = timerfd_create(clock, flags)?;
    let zero = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let value = Timespec {
        tv_sec: value.as_secs().try_into().map_err(io::Error::other)?,
        tv_nsec: value.subsec_nanos().into(),
    };
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
mod tests;
