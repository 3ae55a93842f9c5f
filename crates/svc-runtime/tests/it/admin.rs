use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use svc_runtime::{Readiness, ServeError, Shutdown, install_crypto_provider, serve_admin};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

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

/// A port that has nothing to tell.
async fn served() -> (SocketAddr, Shutdown, JoinHandle<Result<(), ServeError>>) {
    install_crypto_provider();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (readiness, shutdown) = (Readiness::new(), Shutdown::new());
    let metrics = Arc::new(Registry::default());
    let server = background(serve_admin(listener, readiness, metrics, shutdown.clone()));
    (address, shutdown, server)
}

/// However fast one pod opens connections again, the kubelet's probe finds a place at its first try.
#[tokio::test]
async fn one_address_cannot_take_all_places() {
    let (address, shutdown, server) = served().await;
    let mut held = Vec::new();
    for _ in 0..512 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        held.push(socket.connect(address).await.unwrap());
    }
    let probe = reqwest::get(format!("http://{address}/livez"));
    assert_eq!(probe.await.unwrap().status(), 200);
    shutdown.request();
    server.await.unwrap().unwrap();
}

/// Whoever holds connections open must not keep the kubelet out: it would restart the pod.
#[tokio::test]
async fn idle_connections_do_not_keep_probes_out() {
    let (address, shutdown, server) = served().await;
    let mut held = Vec::new();
    // More than the cap; half of them have asked once and would like to ask again.
    for index in 0..600 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if index % 2 == 0 {
            let request = b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: keep-alive\r\n\r\n";
            // A refused connection may be closed already.
            drop(stream.write_all(request).await);
        }
        held.push(stream);
    }
    let probe = async {
        while !reqwest::get(format!("http://{address}/livez"))
            .await
            .is_ok_and(|answer| answer.status() == 200)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(3), probe)
        .await
        .expect("the probe was starved");
    let mut answer = Vec::new();
    let read = held[0].read_to_end(&mut answer);
    drop(
        timeout(Duration::from_secs(3), read)
            .await
            .expect("kept open"),
    );
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("connection: close"), "{answer}");
    shutdown.request();
    server.await.unwrap().unwrap();
}
