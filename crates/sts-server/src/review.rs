//! TokenReview (`authentication.k8s.io/v1`): asks the API server about a token whose signature we have checked.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use sts_core::ident::Audience;
use sts_core::liveness::Review;
use sts_core::token::RawToken;
use thiserror::Error;
use tokio::time::timeout;

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the API server.
#[derive(Clone)]
pub(crate) struct Reviewer {
    api: Api<TokenReview>,
}

/// The API server gave no answer about the token. Not the caller's fault, and no reason to give or to refuse a token.
#[derive(Debug, Error)]
#[error("TokenReview got no answer")]
pub(crate) struct ReviewError;

impl Reviewer {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            api: Api::all(client),
        }
    }

    /// Reviews a token for one audience. The API server is never asked without one: then it would check for its own.
    pub(crate) async fn review(
        &self,
        token: &RawToken,
        audience: &Audience,
    ) -> Result<Review, ReviewError> {
        let request = TokenReview {
            spec: TokenReviewSpec {
                token: token.expose().to_owned(),
                audiences: Some(vec![audience.as_str().to_owned()]),
            },
            ..TokenReview::default()
        };
        let parameters = PostParams::default();
        match timeout(PATIENCE, self.api.create(&parameters, &request)).await {
            Ok(Ok(review)) => review.status.map(into_review).ok_or(ReviewError),
            // A kube error can quote the server's answer, and that the token: only its kind is logged.
            Ok(Err(kube::Error::Api(status))) => {
                tracing::error!(status = status.code, reason = %status.reason, "TokenReview was refused");
                Err(ReviewError)
            }
            Ok(Err(_)) => {
                tracing::error!(
                    "TokenReview failed: the API server cannot be reached or understood"
                );
                Err(ReviewError)
            }
            Err(_) => {
                tracing::error!(patience = ?PATIENCE, "TokenReview got no answer in time");
                Err(ReviewError)
            }
        }
    }
}

fn into_review(status: TokenReviewStatus) -> Review {
    let user = status.user.unwrap_or_default();
    let mut extra = user.extra.unwrap_or_default();
    Review {
        authenticated: status.authenticated.unwrap_or(false),
        error: status.error.filter(|error| !error.is_empty()),
        audiences: status.audiences.unwrap_or_default(),
        username: user.username,
        uid: user.uid,
        pod_name: take(&mut extra, "authentication.kubernetes.io/pod-name"),
        pod_uid: take(&mut extra, "authentication.kubernetes.io/pod-uid"),
    }
}

fn take(extra: &mut BTreeMap<String, Vec<String>>, key: &str) -> Vec<String> {
    extra.remove(key).unwrap_or_default()
}
