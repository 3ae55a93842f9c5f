//! TokenReview (`authentication.k8s.io/v1`): asks the API server about a token whose signature we have checked.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{Request, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use sts_core::ident::{Audience, ClusterName};
use sts_core::liveness::Review;
use sts_core::token::RawToken;
use svc_runtime::log::chain;

use crate::api_server::{ApiServer, CallError};

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer read: it repeats the token and names a user, some groups and some extra values.
const LARGEST_ANSWER: usize = 256 * 1024;
const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// Asks one cluster's API server.
#[derive(Clone)]
pub(crate) struct Reviewer {
    cluster: ClusterName,
    api_server: ApiServer,
}

impl Reviewer {
    pub(crate) fn new(cluster: ClusterName, api_server: ApiServer) -> Self {
        Self {
            cluster,
            api_server,
        }
    }

    /// Reviews a token for one audience. The API server is never asked without one: then it would check for its own.
    ///
    /// An error is not the caller's fault, and no reason to give or to refuse a token.
    pub(crate) async fn review(
        &self,
        token: &RawToken,
        audience: &Audience,
    ) -> Result<Review, CallError> {
        let review = self.ask(token, audience).await;
        if let Err(error) = &review {
            tracing::error!(cluster = %self.cluster, error = %chain(error), "TokenReview got no answer");
        }
        review
    }

    async fn ask(&self, token: &RawToken, audience: &Audience) -> Result<Review, CallError> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.expose().to_owned(),
                audiences: Some(vec![audience.as_str().to_owned()]),
            },
            ..TokenReview::default()
        };
        let body = serde_json::to_vec(&review).or(Err(CallError::Malformed))?;
        let request = Request::post(PATH).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(body).or(Err(CallError::Malformed))?;
        let caller = self.api_server.caller()?;
        let answer = caller.call(request, LARGEST_ANSWER, PATIENCE).await?;
        let answer: TokenReview = serde_json::from_slice(&answer).or(Err(CallError::Malformed))?;
        answer.status.map(into_review).ok_or(CallError::Malformed)
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
