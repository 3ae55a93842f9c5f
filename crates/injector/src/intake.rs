//! Takes in the bodies of reviews without taking in more bytes at once than there is memory for.
//!
//! Before it is read a body gets as many bytes of a budget as its `Content-Length` says, and keeps them
//! until it is answered. There is no queue: when the budget is used up a request is turned away at once,
//! and the API server does what its `failurePolicy` says. A part of the budget is for small bodies, which
//! nearly all reviews are, so large ones that come slowly take nothing from them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The budget. A clone is a handle on the same.
#[derive(Clone, Debug)]
pub struct Intake {
    shared: Arc<Semaphore>,
    small: Arc<Semaphore>,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            shared: Arc::new(Semaphore::new(BUDGET - BUDGET_OF_SMALL)),
            small: Arc::new(Semaphore::new(BUDGET_OF_SMALL)),
        }
    }
}

/// A body, and its bytes of the budget as long as it lives.
#[derive(Debug)]
pub(crate) struct TakenIn {
    pub(crate) bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

/// Why a body is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Declined {
    /// It ended too early, or is no HTTP.
    Broken,
    /// The budget is used up.
    Busy,
    /// It did not come in time.
    Slow,
    /// It is larger than any review.
    TooLarge,
}

impl Declined {
    /// Stable name for metrics.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Broken => "body",
            Self::Busy => "busy",
            Self::Slow => "slow",
            Self::TooLarge => "too_large",
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }
}

impl Intake {
    /// Reads a body as a whole.
    pub(crate) async fn take(&self, headers: &HeaderMap, body: Body) -> Result<TakenIn, Declined> {
        let length = declared_length(headers).unwrap_or(LARGEST_BODY);
        if length > LARGEST_BODY {
            return Err(Declined::TooLarge);
        }
        let permit = self.reserve(length).ok_or(Declined::Busy)?;
        let bytes = timeout(PATIENCE, read(body, length))
            .await
            .unwrap_or(Err(Declined::Slow))?;
        Ok(TakenIn {
            bytes,
            _permit: permit,
        })
    }

    fn reserve(&self, length: usize) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(length).ok()?;
        let reserve = |part: &Arc<Semaphore>| Arc::clone(part).try_acquire_many_owned(permits).ok();
        let of_small = (length <= SMALL_BODY).then(|| reserve(&self.small));
        of_small.flatten().or_else(|| reserve(&self.shared))
    }
}

/// Nothing for a body that says no length (chunked), or one that is none.
fn declared_length(headers: &HeaderMap) -> Option<usize> {
    let value = headers.get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

/// Copies what comes, since a frame kept would keep all of the buffer that it is a part of.
async fn read(mut body: Body, most: usize) -> Result<Vec<u8>, Declined> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.or(Err(Declined::Broken))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if data.len() > most.saturating_sub(bytes.len()) {
            return Err(Declined::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// More than the API server takes of an object (3 MiB), with room for the review around it.
const LARGEST_BODY: usize = 4 * 1024 * 1024;
/// Larger than the review of any pod that is not made to be large.
const SMALL_BODY: usize = 64 * 1024;
/// Bytes of all bodies; the chart's memory limit is four times as much.
const BUDGET: usize = 32 * 1024 * 1024;
/// Those of it that only small bodies get: 128 at once.
const BUDGET_OF_SMALL: usize = 8 * 1024 * 1024;
/// For a body, which the API server has in memory. It gives a webhook 10 s by default.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_leave_room_for_small_ones_and_give_back_theirs() {
        let intake = Intake::default();
        let large: Vec<_> = (0..40)
            .filter_map(|_| intake.reserve(LARGEST_BODY))
            .collect();
        assert_eq!(large.len(), 6);
        let small: Vec<_> = (0..500)
            .filter_map(|_| intake.reserve(SMALL_BODY))
            .collect();
        assert_eq!(small.len(), 128);
        drop((large, small));
        assert!(intake.reserve(LARGEST_BODY).is_some());
    }

    #[test]
    fn a_length_that_is_none_counts_as_the_largest() {
        let declared = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_LENGTH, text.parse().unwrap());
            declared_length(&headers)
        };
        assert_eq!(declared("17"), Some(17));
        for text in ["-1", "x", "", "99999999999999999999999"] {
            assert_eq!(declared(text), None, "{text}");
        }
        assert_eq!(declared_length(&HeaderMap::new()), None);
    }
}
