//! Callers who want to take the service away from others, or the audit trail from the operator.

use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;

use super::support::{Server, eventually, token};

const HEADERS: u8 = 1;
pub(crate) const SETTINGS: u8 = 4;
const END_HEADERS: u8 = 4;

/// An HTTP/2 frame (RFC 9113, section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `POST /aws/token`, whose body is announced and never sent (RFC 7541: static table and literals).
fn headers_without_end(stream: u32) -> Vec<u8> {
    let mut block = vec![0x83, 0x87, 0x04, 10];
    block.extend(b"/aws/token");
    block.extend([0x01, 9]);
    block.extend(b"localhost");
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// A connection with HTTP/2's beginning said (RFC 9113, section 3.4).
pub(crate) async fn http_2(server: &Server) -> TlsStream<TcpStream> {
    let mut stream = server.connect(&[b"h2"]).await;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    stream.write_all(&bytes).await.unwrap();
    stream
}

/// More requests than can be worked on at once, none of which comes to its end.
#[tokio::test]
async fn requests_without_an_end_take_nobodys_place() {
    let server = Server::start().await;
    let mut held = Vec::new();
    for _ in 0..40 {
        let mut stream = http_2(&server).await;
        let mut bytes = Vec::new();
        for request in 0..16 {
            bytes.extend(headers_without_end(2 * request + 1));
        }
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
        held.push(stream);
    }
    for _ in 0..5 {
        let exchange = server.bearer("/aws/token", &token()).await;
        assert_eq!(exchange.status(), 200);
    }
    // The requests that do not end are refused after a short time, and counted like any other.
    let what = "the end of what has none";
    eventually(what, async || {
        let metrics = server.admin("/metrics").await.text().await.unwrap();
        let refused =
            r#"sts_exchange_total{endpoint="aws",outcome="deny",reason="request_invalid"} 640"#;
        metrics.contains(refused).then_some(())
    })
    .await;
}

/// Refusals of nobody known are cheap to cause: they must not push the other lines out of the log. Nothing is lost without a trace.
#[tokio::test]
async fn a_flood_of_garbage_is_few_audit_lines() {
    let server = Server::start().await;
    let begin = Instant::now();
    let mut allowed = 0;
    for index in 0..500 {
        drop(server.bearer("/aws/token", "garbage").await);
        if index % 100 == 0 {
            drop(server.bearer("/aws/token", &token()).await);
            allowed += 1;
        }
    }
    let seconds = usize::try_from(begin.elapsed().as_secs()).unwrap() + 2;
    let with = |lines: &[Value], reason: &str| {
        let lines = lines.iter().filter(|line| line["reason"] == reason);
        lines.cloned().collect::<Vec<_>>()
    };
    let lines = eventually("all refusals told", async || {
        let lines = server.audit_now();
        let told = with(&lines, "suppressed");
        let told = told.iter().map(|line| line["suppressed"].as_u64().unwrap());
        let written = with(&lines, "malformed").len();
        (told.sum::<u64>() + u64::try_from(written).unwrap() == 500).then_some(lines)
    })
    .await;
    assert!(with(&lines, "malformed").len() <= 20 * seconds);
    assert!(with(&lines, "suppressed").len() <= seconds);
    assert_eq!(with(&lines, "granted").len(), allowed);
    let metrics = server.admin("/metrics").await.text().await.unwrap();
    assert!(
        metrics.contains(r#"reason="malformed"} 500"#),
        "all are counted: {metrics}"
    );
}

/// One connection's idle neighbours do not matter to the probes of the real program either.
#[tokio::test]
async fn idle_connections_do_not_keep_probes_out() {
    let server = Server::start().await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(TcpStream::connect(server.admin).await.unwrap());
    }
    let probe = timeout(Duration::from_secs(3), server.admin("/livez")).await;
    assert_eq!(probe.unwrap().status(), 200);
}
