//! How long a CA and its certificates live, and how one CA follows another, by [`sts_config::CertificateRotation`].
//!
//! ```text
//!           made          found by all clients      issues               takes over the last
//! successor ├───────────────────┼──── overlap ───────▶├──────── rotate_every ────────▶ …
//! CA        ──────────────── issues ─────────────────▶├─ retire_after ─▶┤ clients find it no more
//! ```

use std::time::Duration;

use jiff::Timestamp;

/// `duration` later, or the end of all time.
pub(super) fn after(instant: Timestamp, duration: Duration) -> Timestamp {
    instant.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// `duration` earlier, or the beginning of all time.
pub(super) fn before(instant: Timestamp, duration: Duration) -> Timestamp {
    instant.checked_sub(duration).unwrap_or(Timestamp::MIN)
}
