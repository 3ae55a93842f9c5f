//! How long a CA and its certificates live, and how one CA follows another.
//!
//! ```text
//!           made          found by all clients      issues               takes over the last
//! successor ├───────────────────┼──── overlap ───────▶├──────── rotate_every ────────▶ …
//! CA        ──────────────── issues ─────────────────▶├─ retire_after ─▶┤ clients find it no more
//! ```

use std::time::Duration;

use jiff::Timestamp;

/// The times of a CA and its certificates. That they fit each other is for the configuration to see to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// How long a CA's own certificate is valid: longer than all that comes below together.
    pub authority_lifetime: Duration,
    /// How long a serving certificate is valid. It is renewed when two thirds of that are over.
    pub certificate_lifetime: Duration,
    /// How long a CA issues certificates before its successor does.
    pub rotate_every: Duration,
    /// How long clients have been finding a successor before they meet a certificate of it.
    pub overlap: Duration,
    /// How long clients go on finding a CA after its successor took over.
    pub retire_after: Duration,
}

/// `duration` later, or the end of all time.
pub(super) fn after(instant: Timestamp, duration: Duration) -> Timestamp {
    instant.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// `duration` earlier, or the beginning of all time.
pub(super) fn before(instant: Timestamp, duration: Duration) -> Timestamp {
    instant.checked_sub(duration).unwrap_or(Timestamp::MIN)
}
