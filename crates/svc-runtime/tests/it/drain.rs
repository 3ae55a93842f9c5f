use std::time::Duration;

use svc_runtime::Limits;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::support::{Server, background};

#[tokio::test]
async fn request_in_flight_completes_and_no_new_connection_is_taken() {
    let server = Server::start(Limits::default()).await;
    let request = server.client().get(server.url("/slow"));
    let in_flight = background(async move { request.send().await.unwrap().text().await.unwrap() });
    server.entered.notified().await;
    server.shutdown.request();
    server.release.notify_one();
    assert_eq!(in_flight.await.unwrap(), "slow");
    timeout(Duration::from_secs(5), server.ended)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_drain_up() {
    let server = Server::start(Limits::default()).await;
    let client = server.client();
    client
        .get(server.url("/peer"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let start = Instant::now();
    server.shutdown.request();
    server.ended.await.unwrap().unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn what_does_not_end_is_cut() {
    let server = Server::start(Limits {
        drain: Duration::from_millis(100),
        ..Limits::default()
    })
    .await;
    let mut silent = server.connect(b"http/1.1").await;
    let request = server.client().get(server.url("/slow"));
    let in_flight = background(async move { request.send().await });
    server.entered.notified().await;
    server.shutdown.request();
    server.ended.await.unwrap().unwrap();
    assert!(in_flight.await.unwrap().is_err());
    let mut rest = Vec::new();
    assert!(
        timeout(Duration::from_secs(5), silent.read_to_end(&mut rest))
            .await
            .is_ok()
    );
}
