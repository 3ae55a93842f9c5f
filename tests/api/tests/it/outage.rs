//! An API server that does not answer, or not us: nobody gets a token, and everybody is told to come back.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::control_plane::ControlPlane;
use super::install::{Install, Variant};
use super::process::Process;
use super::wait::eventually;

#[tokio::test]
async fn live_016_without_the_right_to_review_it_is_503_not_401() {
    let variant = Variant {
        without_reviews: true,
        ..Variant::default()
    };
    let install = Install::variant(variant).await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let (_, token) = install.good_token().await;
    let response = server.exchange(&install, &token).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "5");
    assert!(!response.headers().contains_key("www-authenticate"));
    assert_eq!(server.reason(1).await, "backend_unavailable");
    let log = server.lines().join("\n");
    assert!(log.contains("the answer has status 403"), "{log}");
    assert!(!log.contains(&token), "{log}");
}

/// Where reviews are asked for one by one, each caller is told to come back instead, as above.
#[tokio::test]
async fn rbac_007_without_the_right_to_follow_pods_the_server_is_not_ready_and_says_so() {
    let variant = Variant {
        without_reviews: true,
        ..Variant::default()
    };
    let install = Install::variant(variant).await;
    install.tune(&serde_json::json!({"verification": "watch"}));
    let server = Process::server(&install);
    eventually("it is not ready", async || {
        let (status, text) = server.readiness().await;
        (status == 503 && text.contains("cluster kubernetes is not listed yet")).then_some(())
    })
    .await;
    eventually("it says why", async || {
        let log = server.lines().join("\n");
        (log.contains("403") && log.contains("pods")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn live_017_a_silent_api_server_is_503_within_our_patience() {
    // Of this test alone: nobody else's server may fall silent. It ends with the process, as the shared one does.
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await));
    let install = Install::on(plane, Variant::default()).await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let (_, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
    let client = server.client(&install).await;
    let exchange = |token: &str| {
        client
            .post(server.url(&install, "/aws/token"))
            .bearer_auth(token)
            .send()
    };
    plane.signal(Signal::SIGSTOP);
    // What nobody has signed is refused without a question, to which there would be no answer.
    let (message, signature) = token.rsplit_once('.').unwrap();
    let mut signature = signature.chars();
    let first = if signature.next() == Some('A') {
        'B'
    } else {
        'A'
    };
    let forged = format!("{message}.{first}{}", signature.as_str());
    assert_eq!(exchange(&forged).await.unwrap().status(), 401);
    assert_eq!(server.reason(2).await, "sig_invalid");
    for reason in [3, 4] {
        let begin = Instant::now();
        let response = exchange(&token).await.unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "5");
        assert!(
            begin.elapsed() < Duration::from_secs(8),
            "{:?}",
            begin.elapsed()
        );
        assert_eq!(server.reason(reason).await, "backend_unavailable");
    }
    // What needs no API server goes on.
    let keys = client
        .get(server.url(&install, "/aws/certs"))
        .send()
        .await
        .unwrap();
    assert_eq!(keys.status(), 200);
    assert_eq!(
        server.readiness().await.0,
        200,
        "the others are no better off"
    );
    plane.signal(Signal::SIGCONT);
    eventually("tokens again", async || {
        (exchange(&token).await.unwrap().status() == 200).then_some(())
    })
    .await;
}
