//! One exchange from the presented token to the issued one, and its audit line.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use sts_core::authorize::{Request, authorize, wants_labels};
use sts_core::exchange::{Issuance, Issued, issue};
use sts_core::ident::TokenId;
use sts_core::time::UnixSeconds;
use sts_core::token::RawToken;
use sts_core::verify::{Expectations, VerifiedToken, verify};
use tokio::time::timeout;
use uuid::Uuid;

use crate::audit::Subject;
use crate::cluster::{Cluster, RouteError};
use crate::endpoint::EndpointState;
use crate::error::ExchangeError;
use crate::extract::Presented;

/// How long a decision may take: a TokenReview's patience, and some for a key set that must be read first.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

/// Exchanges a token, and records that before anybody gets an answer. What was begun is decided and recorded, also when the caller is
/// gone by then.
pub(crate) async fn run(
    endpoint: &Arc<EndpointState>,
    presented: Result<Presented, ExchangeError>,
    source: SocketAddr,
    now: Timestamp,
) -> Result<Issued, ExchangeError> {
    let refuse = |error| record(endpoint, source, None, Err(error));
    let presented = match presented {
        Ok(presented) => presented,
        Err(error) => return refuse(error),
    };
    let Some(slot) = endpoint.capacity.slot() else {
        return refuse(ExchangeError::Unavailable { what: "capacity" });
    };
    let conclusion = conclude(Arc::clone(endpoint), presented, source, now);
    // `None` says that the process ends: nothing inside panics that is not caught.
    slot.run(conclusion)
        .await
        .unwrap_or(Err(ExchangeError::Unavailable {
            what: "this process",
        }))
}

/// Decides and records, whatever happens to the decision.
async fn conclude(
    endpoint: Arc<EndpointState>,
    presented: Presented,
    source: SocketAddr,
    now: Timestamp,
) -> Result<Issued, ExchangeError> {
    let mut subject = None;
    // Boxed: with what it asks the API server it is too large to be moved about on the stack.
    let decision = Box::pin(decide(&endpoint, &presented, now, &mut subject));
    let outcome = bounded(decision).await;
    record(&endpoint, source, subject.as_ref(), outcome)
}

/// What comes of a decision that takes too long, or panics, is no token.
async fn bounded<T>(
    decision: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, ExchangeError> {
    let unavailable = |what| Err(ExchangeError::Unavailable { what });
    match timeout(PATIENCE, AssertUnwindSafe(decision).catch_unwind()).await {
        Ok(Ok(outcome)) => outcome,
        // Its message is on stderr.
        Ok(Err(_panic)) => unavailable("a part that panicked"),
        Err(_elapsed) => unavailable("a decision in time"),
    }
}

/// Exactly one count and one audit line for each exchange. Without an `await`, so that it cannot happen by half.
fn record(
    endpoint: &EndpointState,
    source: SocketAddr,
    subject: Option<&Subject>,
    outcome: Result<Issued, ExchangeError>,
) -> Result<Issued, ExchangeError> {
    endpoint.metrics.count(&endpoint.name, &outcome);
    endpoint.trail.write(source, subject, &outcome);
    outcome
}

/// route → key set → verify → (labels) → authorize → confirm → issue. What is known of the subject is left in `subject` for the audit line.
async fn decide(
    endpoint: &EndpointState,
    presented: &Presented,
    now: Timestamp,
    subject: &mut Option<Subject>,
) -> Result<Issued, ExchangeError> {
    let Presented { token, role } = presented;
    let arrived = now;
    let now = unix_seconds(now)?;
    let signer = || {
        endpoint
            .ring
            .signer(arrived)
            .map_err(ExchangeError::Withheld)
    };
    // Whom nobody could sign for need not be looked at.
    drop(signer()?);
    let (cluster, verified) = check(endpoint, token, now).await?;
    let subject = subject.insert(Subject::of(&verified, cluster.name()));
    endpoint.limits.pod(cluster.name(), &verified.pod().uid)?;
    let mut request = Request {
        role: role.as_ref(),
        ..Request::of(cluster.name())
    };
    let EndpointState {
        policy, confirming, ..
    } = endpoint;
    if wants_labels(policy, &request, &verified) {
        request.labels = confirming
            .labels(cluster, policy.labels(), &verified)
            .await?;
    }
    let permission = authorize(policy, request, verified);
    subject.note(&permission);
    let permission = permission.map_err(ExchangeError::Refused)?;
    let grant = confirming.confirm(cluster, token, permission, now).await?;
    // Asked again, since a key may have been revoked meanwhile.
    let key = signer()?;
    let issuance = Issuance {
        template: &endpoint.template,
        key: &key,
    };
    let id = TokenId::parse(&Uuid::new_v4().to_string())
        .or(Err(ExchangeError::Unavailable { what: "token id" }))?;
    issue(issuance, &grant, id, now).map_err(ExchangeError::Issue)
}

/// The local check. Nothing is sent anywhere on behalf of a token that no configured issuer's key has signed, except that a key id we
/// do not know may make us read that issuer's own key set again, seldom.
async fn check<'e>(
    endpoint: &'e EndpointState,
    token: &RawToken,
    now: UnixSeconds,
) -> Result<(&'e Cluster, VerifiedToken), ExchangeError> {
    let unverified = token.route().map_err(ExchangeError::Parse)?;
    let unavailable = |what| ExchangeError::Unavailable { what };
    let cluster = endpoint.clusters.of(unverified.unverified_issuer());
    let cluster = cluster.map_err(|error| match error {
        RouteError::Ambiguous => unavailable("a cluster that alone has the token's issuer"),
        RouteError::Unknown => ExchangeError::IssuerUnknown,
    })?;
    let snapshot = cluster.keys.keys_with(unverified.key_id()).await;
    let snapshot = snapshot.ok_or_else(|| unavailable("the issuer's key set"))?;
    // The configuration is refused where it shows this; here the API server has said it.
    if snapshot.issuer.as_str() == endpoint.token_audience.as_str() {
        return Err(unavailable(
            "a token audience that is not the API server's own",
        ));
    }
    let expectations = Expectations {
        issuer: snapshot.issuer.clone(),
        audience: endpoint.token_audience.clone(),
        api_server_audiences: endpoint.danger.api_server_audiences.clone(),
        longest_life: Expectations::LONGEST_LIFE,
    };
    let verified =
        verify(unverified, &snapshot.keys, &expectations, now).map_err(ExchangeError::Verify)?;
    Ok((cluster, verified))
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

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::ConnectInfo;
    use axum::http::Request as HttpRequest;
    use sts_config::Config;
    use svc_runtime::log::chain;
    use svc_runtime::{Shutdown, Tasks};
    use tower::ServiceExt as _;

    use super::*;
    use crate::app;
    use crate::capacity::Slot;
    use crate::reload::tests::{count_settles, directory, server, text};

    /// What comes while all are at work is answered in the moment it comes: nothing waits, so that nothing can pile up.
    #[tokio::test(start_paused = true)]
    async fn when_all_slots_are_taken_callers_are_sent_away_at_once() {
        let directory = directory();
        let tasks = Tasks::new(Shutdown::new());
        let config = Config::parse(&text(directory.path(), 0)).unwrap();
        let server = server(&tasks, config);
        count_settles(&server, 1).await;
        let router = app::router(Arc::clone(&server.serving));
        let ask = || {
            let request = HttpRequest::post("/first/token")
                .header("authorization", "Bearer a.b.c")
                .extension(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1))));
            router.clone().oneshot(request.body(Body::empty()).unwrap())
        };
        assert_eq!(ask().await.unwrap().status(), 401);
        let serving = server.serving.load_full();
        let slots: Vec<Slot> = std::iter::from_fn(|| serving.capacity().slot()).collect();
        assert_eq!(slots.len(), 512);
        for _ in 0..1000 {
            let answer = ask().now_or_never().expect("it waits").unwrap();
            assert_eq!(answer.status(), 503);
            assert_eq!(answer.headers()["retry-after"], "5");
        }
        drop(slots);
        assert_eq!(ask().await.unwrap().status(), 401);
    }

    /// What is said of it to the caller, the log and the counter is the same as of anything that is not available, and nothing of the panic.
    #[tokio::test]
    async fn http_023_a_panic_in_a_decision_gives_no_token_and_says_nothing() {
        let panics = async || -> Result<(), ExchangeError> { panic!("canary") };
        let error = bounded(panics()).await.unwrap_err();
        assert_eq!(error.code(), "backend_unavailable");
        assert_eq!(
            chain(&error).to_string(),
            "a part that panicked is not available"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_decision_that_does_not_come_gives_no_token() {
        let never = std::future::pending::<Result<(), ExchangeError>>();
        let error = bounded(never).await.unwrap_err();
        assert_eq!(
            chain(&error).to_string(),
            "a decision in time is not available"
        );
    }
}
