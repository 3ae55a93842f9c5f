//! The only place that reads the wall clock. Everything else takes `now` as a value, so that tests choose it.

use jiff::Timestamp;

/// The present instant by the node's wall clock, in UTC.
///
/// Read it once per request or per decision, at the edge, and pass it down.
#[expect(
    clippy::disallowed_methods,
    reason = "the one clock everybody else is told to use"
)]
pub fn now() -> Timestamp {
    Timestamp::now()
}
