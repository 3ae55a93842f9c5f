//! One exchange from the presented token to the issued one, and its audit line.

use std::net::SocketAddr;

use jiff::Timestamp;
use sts_config::Verification;
use sts_core::exchange::{Issuance, Issued, issue};
use sts_core::ident::{ClusterName, TokenId};
use sts_core::liveness::{LiveSubject, accept_offline, agree};
use sts_core::time::UnixSeconds;
use sts_core::token::RawToken;
use sts_core::verify::{Expectations, VerifiedToken, verify};
use uuid::Uuid;

use crate::audit::{self, Subject};
use crate::endpoint::EndpointState;
use crate::error::{ExchangeError, RequestError};

/// Exchanges a token, and writes the one audit line about it before anybody gets an answer.
pub(crate) async fn run(
    endpoint: &EndpointState,
    token: Result<RawToken, RequestError>,
    source: SocketAddr,
    now: Timestamp,
) -> Result<Issued, ExchangeError> {
    let mut subject = None;
    let outcome = match token {
        Ok(token) => decide(endpoint, &token, now, &mut subject).await,
        Err(error) => Err(ExchangeError::Request(error)),
    };
    endpoint.metrics.count(&endpoint.name, &outcome);
    audit::write(&endpoint.name, source, subject.as_ref(), &outcome);
    outcome
}

/// route → key set → verify → review → agree → issue. What is known of the subject is left in `subject` for the audit line.
async fn decide(
    endpoint: &EndpointState,
    token: &RawToken,
    now: Timestamp,
    subject: &mut Option<Subject>,
) -> Result<Issued, ExchangeError> {
    let now = unix_seconds(now)?;
    let key = endpoint.key.load_full().ok_or(ExchangeError::Unavailable {
        what: "signing key",
    })?;
    let (cluster, verified) = check(endpoint, token, now).await?;
    *subject = Some(Subject::of(&verified, &cluster));
    let live = confirm(endpoint, token, verified).await?;
    let issuance = Issuance {
        policy: &endpoint.policy,
        template: &endpoint.template,
        key: &key,
    };
    let id = TokenId::parse(&Uuid::new_v4().to_string())
        .or(Err(ExchangeError::Unavailable { what: "token id" }))?;
    issue(issuance, &cluster, live, id, now).map_err(ExchangeError::Issue)
}

/// The local check. Nothing is sent anywhere on behalf of a token that no configured issuer's key has signed, except that a key id we
/// do not know may make us read that issuer's own key set again, seldom.
async fn check(
    endpoint: &EndpointState,
    token: &RawToken,
    now: UnixSeconds,
) -> Result<(ClusterName, VerifiedToken), ExchangeError> {
    let unverified = token.route().map_err(ExchangeError::Parse)?;
    let source = endpoint
        .keys
        .of(unverified.unverified_issuer())
        .ok_or(ExchangeError::IssuerUnknown)?;
    let snapshot = source.keys_with(unverified.key_id()).await;
    let snapshot = snapshot.ok_or(ExchangeError::Unavailable {
        what: "the issuer's key set",
    })?;
    let expectations = Expectations {
        issuer: snapshot.issuer.clone(),
        audience: endpoint.token_audience.clone(),
        longest_life: Expectations::LONGEST_LIFE,
    };
    let verified =
        verify(unverified, &snapshot.keys, &expectations, now).map_err(ExchangeError::Verify)?;
    Ok((source.cluster().clone(), verified))
}

/// Asks the API server, where the endpoint wants that.
async fn confirm(
    endpoint: &EndpointState,
    token: &RawToken,
    verified: VerifiedToken,
) -> Result<LiveSubject, ExchangeError> {
    match (endpoint.verification, &endpoint.reviewer) {
        (Verification::Jwks, _) => Ok(accept_offline(verified)),
        (Verification::TokenReview, Some(reviewer)) => {
            let review = reviewer.review(token, &endpoint.token_audience).await;
            let review = review.or(Err(ExchangeError::Unavailable {
                what: "the API server",
            }))?;
            agree(verified, &review, &endpoint.token_audience).map_err(ExchangeError::Liveness)
        }
        (Verification::TokenReview, None) => Err(ExchangeError::Unavailable {
            what: "the API server",
        }),
    }
}

/// A clock before 1970 or after 9999 is broken: then nobody gets a token.
fn unix_seconds(now: Timestamp) -> Result<UnixSeconds, ExchangeError> {
    let seconds = u64::try_from(now.as_second())
        .ok()
        .and_then(UnixSeconds::new);
    seconds.ok_or(ExchangeError::Unavailable {
        what: "a clock that can be right",
    })
}
