use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use svc_runtime::{Readiness, Shutdown, install_crypto_provider, serve_admin};
use tokio::net::TcpListener;

use crate::support::background;

#[tokio::test]
async fn admin_port_tells_life_readiness_and_metrics() {
    install_crypto_provider();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (readiness, shutdown) = (Readiness::new(), Shutdown::new());
    let (keys, certificate) = (
        readiness.condition("keys"),
        readiness.condition("certificate"),
    );
    let mut metrics = Registry::default();
    metrics.register("exchanges", "Exchanges", Counter::<u64>::default());
    let server = background(serve_admin(
        listener,
        readiness,
        Arc::new(metrics),
        shutdown.clone(),
    ));
    let fetch = async |path: &str| {
        let response = reqwest::get(format!("{base}{path}")).await.unwrap();
        let kind = response.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        (
            response.status().as_u16(),
            kind,
            response.text().await.unwrap(),
        )
    };

    assert_eq!(fetch("/livez").await.0, 200);
    keys.unmet("none fetched");
    let (status, _, text) = fetch("/readyz").await;
    assert_eq!(
        (status, text.as_str()),
        (503, "keys: none fetched\ncertificate: starting")
    );
    keys.met();
    certificate.met();
    let (status, _, text) = fetch("/readyz").await;
    assert_eq!((status, text.as_str()), (200, "ok"));
    let (status, kind, text) = fetch("/metrics").await;
    assert_eq!(
        (status, text.contains("exchanges_total 0")),
        (200, true),
        "{text}"
    );
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );

    shutdown.request();
    server.await.unwrap().unwrap();
}
