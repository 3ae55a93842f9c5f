//! One call of an API server, bounded in time and in what is read of the answer.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::Request;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube::Client;
use kube::client::Body;
use thiserror::Error;
use tokio::time::timeout;

/// Why there is no answer. Never a word of what was asked or answered, which can be a token.
#[derive(Debug, Error)]
pub enum CallError {
    /// As many calls as one cluster may take up wait for this one's API server already.
    #[error("too many calls wait for the API server")]
    Busy,
    /// The answer is not what it should be.
    #[error("the answer cannot be understood")]
    Malformed,
    /// How to reach the API server is not known yet.
    #[error("there is no client of the API server yet")]
    NoClient,
    /// An answer, but no good one.
    #[error("the answer has status {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// It took too long.
    #[error("no answer within {patience:?}")]
    Slow {
        /// How long it was waited.
        patience: Duration,
    },
    /// More than a good answer can have.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// How much would have been read.
        limit: usize,
    },
    /// No connection, or one that broke.
    #[error("the API server cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl CallError {
    /// Whether the API server said nothing: it could not be asked, or it failed. What it refuses, or says so that it cannot be
    /// understood, is a word of its own.
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            Self::Slow { .. } | Self::Unreachable(_) => true,
            Self::Refused { status } => (500..600).contains(status),
            // Whoever causes many calls must not choose so that an older word counts; and whoever takes a kubeconfig away means that
            // cluster's tokens to count no more.
            Self::Busy | Self::Malformed | Self::NoClient | Self::TooLarge { .. } => false,
        }
    }
}

/// Calls; the body of a 2xx answer.
pub(crate) async fn call(
    client: &Client,
    request: Request<Vec<u8>>,
    limit: usize,
    patience: Duration,
) -> Result<Bytes, CallError> {
    let answer = async {
        let response = client.send(request.map(Body::from)).await;
        let response = response.map_err(|error| CallError::Unreachable(error.into()))?;
        if !response.status().is_success() {
            return Err(CallError::Refused {
                status: response.status().as_u16(),
            });
        }
        let body = Limited::new(response.into_body(), limit).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                CallError::TooLarge { limit }
            } else {
                CallError::Unreachable(error)
            }
        })?;
        Ok(body.to_bytes())
    };
    timeout(patience, answer)
        .await
        .unwrap_or(Err(CallError::Slow { patience }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_017_a_kubeconfig_that_is_gone_is_no_silence_that_a_grace_would_cover() {
        assert!(!CallError::NoClient.is_silence());
        assert!(CallError::Refused { status: 503 }.is_silence());
        assert!(!CallError::Refused { status: 403 }.is_silence());
        let patience = Duration::from_secs(1);
        assert!(CallError::Slow { patience }.is_silence());
    }
}
