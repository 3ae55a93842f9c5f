//! Pods' default tokens: taken where the operator has written the API server's audience out, and nowhere else.

use serde_json::{Value, json};

use super::control_plane::ISSUER;
use super::install::{Install, WATCH};
use super::process::Process;

fn dangerous(config: &mut Value) {
    config["endpoints"][0]["danger"] = json!({"apiServerAudiences": [ISSUER]});
}

#[tokio::test]
async fn a_default_token_is_taken_where_it_is_written_out_with_a_warning() {
    let install = Install::new().await;
    let mut server = Process::server_with(&install, dangerous);
    server.becomes_ready().await;
    let pod = install.create_pod("p", "app").await;
    // As in every pod's default volume: for the API server, and good for a year.
    let default = install.pod_token(&pod, None).await;
    assert_eq!(server.exchange_status(&install, &default).await, 200);
    assert_eq!(server.audit_line(1).await["confirmed_by"], "tokenReview");
    let own = install.pod_token(&pod, Some(&install.audience())).await;
    assert_eq!(server.exchange_status(&install, &own).await, 200);
    let other = install.pod_token(&pod, Some("other")).await;
    assert_eq!(server.exchange_status(&install, &other).await, 401);
    assert_eq!(server.reason(3).await, "aud_mismatch");
    let log = server.lines().join("\n");
    assert!(log.contains("takes pods' default tokens"), "{log}");
    let metric = r#"sts_danger{endpoint="aws",setting="apiServerAudiences"} 1"#;
    assert!(server.metrics().await.contains(metric));
}

/// The danger is the audience, not the liveness of who presents it.
#[tokio::test]
async fn a_deleted_pods_default_token_is_refused_as_any() {
    let install = Install::variant(WATCH).await;
    let mut server = Process::server_with(&install, |config| {
        dangerous(config);
        config["endpoints"][0]["verification"] = json!("watch");
    });
    server.becomes_ready().await;
    let pod = install.create_pod("p", "app").await;
    let default = install.pod_token(&pod, None).await;
    assert_eq!(server.exchange_status(&install, &default).await, 200);
    install.plane.delete(&install.apps_path("pods/p")).await;
    super::wait::eventually("refusal", async || {
        (server.exchange_status(&install, &default).await == 401).then_some(())
    })
    .await;
    assert_eq!(server.first_refusal().await, "pod_gone");
}
