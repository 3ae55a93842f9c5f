//! What is asked of the API server and when. It is a stand-in: the real one cannot be made to give no answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use test_support::TestKey;
use tokio::net::TcpListener;

use super::support::{Server, Setup, eventually, refused, token, valid};

/// A server whose endpoint `aws` asks an API server that has keys and never answers a TokenReview; and the number of those reviews.
async fn start() -> (Server, Arc<AtomicUsize>) {
    let mut setup = Setup::new();
    let reviews = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&reviews);
    let review = async move || {
        counter.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<()>().await;
    };
    let keys = TestKey::jwks(&[TestKey::rsa()]);
    let router = Router::new()
        .route("/openid/v1/jwks", get(async move || keys))
        .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "the test itself stands for the process"
    )]
    drop(tokio::task::spawn(async move {
        axum::serve(listener, router).await.unwrap();
    }));
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: a, cluster: {{server: \"http://{address}\"}}}}]\n\
         contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\nusers: [{{name: a, user: {{}}}}]\n"
    );
    let path = setup.path("kubeconfig");
    std::fs::write(&path, kubeconfig).unwrap();
    setup.kubeconfig = Some(path);
    let file = format!("{{file: {}}}", setup.path("jwks.json").display());
    setup.changes = vec![
        (file, "{apiServer: {}}".to_owned()),
        (
            "verification: jwks".to_owned(),
            "verification: tokenReview".to_owned(),
        ),
    ];
    (setup.start().await, reviews)
}

#[tokio::test]
async fn nobody_is_reviewed_whom_no_rule_allows() {
    let (server, reviews) = start().await;
    let token = valid()
        .claim("sub", "system:serviceaccount:team-b:app")
        .at("/kubernetes.io/namespace", "team-b")
        .sign(TestKey::rsa());
    let response = server.bearer("/aws/token", &token).await;
    refused(response, 403, "insufficient_scope").await;
    assert_eq!(reviews.load(Ordering::Relaxed), 0);
}

/// A caller that goes away before the answer leaves its trace like any other.
#[tokio::test]
async fn an_abandoned_exchange_is_recorded() {
    let (server, reviews) = start().await;
    let request = server.request("POST", "/aws/token").bearer_auth(token());
    let request = request.timeout(Duration::from_millis(300));
    assert!(request.send().await.is_err(), "nobody answers the review");
    eventually("the review", async || {
        (reviews.load(Ordering::Relaxed) == 1).then_some(())
    })
    .await;
    let lines = server.audit(1).await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["reason"], "backend_unavailable");
    assert_eq!(lines[0]["namespace"], "team-a");
    let metrics = server.admin("/metrics").await.text().await.unwrap();
    let count =
        r#"sts_exchange_total{endpoint="aws",outcome="deny",reason="backend_unavailable"} 1"#;
    assert!(metrics.contains(count), "{metrics}");
}
