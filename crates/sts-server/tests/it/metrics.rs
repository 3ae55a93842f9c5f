//! What is counted, and that callers cannot make it much.

use test_support::TestKey;

use super::support::{Server, Setup, eventually, token, valid};

async fn exchanges(server: &Server) -> Vec<String> {
    let text = server.admin("/metrics").await.text().await.unwrap();
    let lines = text
        .lines()
        .filter(|line| line.starts_with("sts_exchange_total"));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn counts_by_endpoint_outcome_and_reason() {
    let server = Server::start().await;
    for _ in 0..2 {
        drop(server.exchange("/aws/token", &token()).await);
    }
    drop(server.exchange("/aws2/token", &token()).await);
    drop(server.bearer("/aws/token", "garbage").await);
    drop(server.exchange("/aws/token", "").await);
    assert_eq!(
        exchanges(&server).await,
        [
            r#"sts_exchange_total{endpoint="aws",outcome="allow",reason="granted"} 2"#,
            r#"sts_exchange_total{endpoint="aws",outcome="deny",reason="malformed"} 1"#,
            r#"sts_exchange_total{endpoint="aws",outcome="deny",reason="request_invalid"} 1"#,
            r#"sts_exchange_total{endpoint="aws2",outcome="deny",reason="aud_mismatch"} 1"#,
        ]
    );
}

#[tokio::test]
async fn http_024_no_caller_can_add_a_series() {
    let server = Server::start().await;
    for index in 0..50 {
        let canary = format!("canary-{index}");
        let token = valid()
            .claim("sub", format!("system:serviceaccount:{canary}:app"))
            .at("/kubernetes.io/namespace", canary.clone())
            .at("/kubernetes.io/pod/name", canary.clone());
        drop(
            server
                .exchange("/aws/token", &token.sign(TestKey::rsa()))
                .await,
        );
        drop(server.exchange("/aws/token", &canary).await);
        drop(server.exchange(&format!("/{canary}/token"), &canary).await);
        let form = [(canary.as_str(), canary.as_str())];
        drop(server.form("/aws/token", &form).await);
    }
    let series = exchanges(&server).await;
    assert_eq!(
        series,
        [
            r#"sts_exchange_total{endpoint="aws",outcome="deny",reason="malformed"} 50"#,
            r#"sts_exchange_total{endpoint="aws",outcome="deny",reason="policy_denied"} 50"#,
            r#"sts_exchange_total{endpoint="aws",outcome="deny",reason="request_invalid"} 50"#,
        ]
    );
    let text = server.admin("/metrics").await.text().await.unwrap();
    assert!(!text.contains("canary"), "{text}");
}

/// One cluster's outage is seen here, and is not the others' outage.
#[tokio::test]
async fn a_key_set_that_cannot_be_read_is_shown_and_stops_nobody() {
    let mut setup = Setup::new();
    setup.changes.push((
        "clusters:\n".to_owned(),
        "clusters:\n- {name: gone, issuer: \"https://gone.example.com\", jwks: {file: /nonexistent/jwks.json}}\n".to_owned(),
    ));
    let subject = "  path: /aws\n".to_owned();
    let names_cluster = format!("{subject}  subject: openunison\n");
    setup.changes.push((subject, names_cluster));
    let server = setup.start().await;
    assert_eq!(server.bearer("/aws/token", &token()).await.status(), 200);
    eventually("both gauges", async || {
        let text = server.admin("/metrics").await.text().await.unwrap();
        let both = text.contains(r#"sts_key_set_up{cluster="gone"} 0"#)
            && text.contains(r#"sts_key_set_up{cluster="elsewhere"} 1"#);
        both.then_some(())
    })
    .await;
    assert_eq!(server.admin("/readyz").await.status(), 200);
}
