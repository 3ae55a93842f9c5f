//! Tokens of what is gone.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::install::Install;
use super::process::Process;
use super::wait::eventually;

/// What we promise: the API server's own cache of token checks holds an answer for ten seconds.
const PROMISE: Duration = Duration::from_secs(15);

async fn is_refused_in_time(server: &Process, install: &Install, token: &str) {
    let begin = Instant::now();
    let status = eventually("refusal", async || {
        let status = server.exchange_status(install, token).await;
        (status != 200).then_some(status)
    })
    .await;
    assert_eq!(status, 401);
    assert!(begin.elapsed() < PROMISE, "{:?}", begin.elapsed());
    assert_eq!(server.first_refusal().await, "subject_gone");
}

#[tokio::test]
async fn live_003_a_deleted_pods_token_is_refused_in_time() {
    let install = Install::new().await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let (pod, token) = install.good_token().await;
    // The API server now remembers the token as good.
    assert_eq!(server.exchange_status(&install, &token).await, 200);
    install
        .plane
        .delete(&install.apps_path(&format!("pods/{}", pod.name)))
        .await;
    is_refused_in_time(&server, &install, &token).await;
}

/// TokenReview knows nothing of a pod's phase: what `docs/verification.md` says of this mode, and `watch` does better.
#[tokio::test]
async fn live_006_by_reviews_a_pod_that_has_finished_is_served_until_it_is_deleted() {
    let install = Install::new().await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let (pod, token) = install.good_token().await;
    let path = install.apps_path(&format!("pods/{}", pod.name));
    let finished = json!({"status": {"phase": "Succeeded"}});
    let status = format!("{path}/status");
    drop(install.plane.ok("PATCH", &status, Some(&finished)).await);
    assert_eq!(server.exchange_status(&install, &token).await, 200);
    install.plane.delete(&path).await;
    is_refused_in_time(&server, &install, &token).await;
}

#[tokio::test]
async fn live_002_a_pod_of_the_same_name_does_not_bring_the_token_back() {
    let install = Install::new().await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let (pod, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
    install
        .plane
        .delete(&install.apps_path(&format!("pods/{}", pod.name)))
        .await;
    let next = install.create_pod(&pod.name, "app").await;
    is_refused_in_time(&server, &install, &token).await;
    let token = install.pod_token(&next, Some(&install.audience())).await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
}

#[tokio::test]
async fn live_008_a_service_account_made_anew_does_not_bring_the_token_back() {
    let install = Install::new().await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let (_, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
    install
        .plane
        .delete(&install.apps_path("serviceaccounts/app"))
        .await;
    install.create_account(&install.apps, "app").await;
    is_refused_in_time(&server, &install, &token).await;
    let (_, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
}
