//! Over loopback: bodies that come slowly, and many at once.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::StatusCode;
use injector::accounts::Accounts;
use injector::endpoint::{Webhook, router};
use injector::intake::Intake;
use injector::metrics::Metrics;
use injector::server_ca::ServerCa;
use injector::settings::LiveSettings;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::support::{CA, fixture, review, settings};

#[expect(
    clippy::disallowed_methods,
    reason = "the server ends with the test's runtime"
)]
async fn serve(registry: &mut Registry) -> SocketAddr {
    let router = router(Webhook {
        settings: LiveSettings::new(settings()),
        server_ca: ServerCa::known(CA.clone()),
        accounts: Accounts::fixed([]),
        metrics: Metrics::register(registry),
        intake: Intake::default(),
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(tokio::spawn(async move {
        axum::serve(listener, router).await.unwrap();
    }));
    address
}

async fn send(address: SocketAddr, framing: &str, media_type: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /mutate/aws HTTP/1.1\r\nhost: x\r\ncontent-type: {media_type}\r\n{framing}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    stream
}

/// The status, as soon as it comes.
async fn status(stream: &mut TcpStream) -> StatusCode {
    let mut head = [0; 12];
    let reading = stream.read_exact(&mut head);
    let read = timeout(Duration::from_secs(10), reading).await;
    read.unwrap().unwrap();
    StatusCode::from_bytes(&head[9..]).unwrap()
}

/// Whether the server ends the connection.
async fn is_cut(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let end = timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    end.is_ok()
}

async fn honest(address: SocketAddr) -> StatusCode {
    let body = serde_json::to_vec(&review(&fixture("bare"))).unwrap();
    let framing = format!("content-length: {}", body.len());
    let mut stream = send(address, &framing, "application/json", &body).await;
    status(&mut stream).await
}

#[tokio::test]
async fn slow_large_bodies_are_turned_away_or_cut_and_take_nothing_from_a_small_review() {
    let mut registry = Registry::default();
    let address = serve(&mut registry).await;
    let started = Instant::now();
    let mut slow = Vec::new();
    for index in 0..40 {
        let framing = if index % 2 == 0 {
            "content-length: 4194304"
        } else {
            "transfer-encoding: chunked"
        };
        slow.push(send(address, framing, "application/json", b"1\r\n{\r\n").await);
    }
    assert_eq!(honest(address).await, StatusCode::OK);
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "while they are still slow"
    );
    let mut statuses = Vec::new();
    for stream in &mut slow {
        statuses.push(status(stream).await);
        assert!(is_cut(stream).await);
    }
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!(count(StatusCode::REQUEST_TIMEOUT), 6, "{statuses:?}");
    assert_eq!(count(StatusCode::SERVICE_UNAVAILABLE), 34, "{statuses:?}");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for (reason, count) in [("busy", 34), ("slow", 6)] {
        let line = format!(
            r#"injector_decisions_total{{endpoint="",decision="unreadable",reason="{reason}"}} {count}"#
        );
        assert!(text.contains(&line), "{line} is not in {text}");
    }
}

/// Without reading the body: its first byte never comes.
#[tokio::test]
async fn a_request_is_refused_by_its_head_where_that_is_enough() {
    let address = serve(&mut Registry::default()).await;
    for (framing, media_type, expected) in [
        (
            "content-length: 4194304",
            "text/plain",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (
            "content-length: 4194305",
            "application/json",
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
    ] {
        let started = Instant::now();
        let mut stream = send(address, framing, media_type, b"").await;
        assert_eq!(status(&mut stream).await, expected);
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}
