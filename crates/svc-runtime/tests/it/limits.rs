use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use svc_runtime::Limits;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::support::{LARGE, Server, background, quick};

const PATIENCE: Duration = Duration::from_secs(10);

/// What the server says before it closes; fails the test if it does not close.
async fn read_to_close(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut said = Vec::new();
    // How it closes (with or without a TLS close_notify, or a reset) is not the point here.
    let _outcome = timeout(PATIENCE, stream.read_to_end(&mut said))
        .await
        .expect("not closed");
    said
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"127.0.0.1") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap()
}

const GET: &[u8] = b"GET /peer HTTP/1.1\r\nhost: server.test\r\n\r\n";

#[tokio::test]
async fn silent_handshake_is_closed() {
    let server = Server::start(quick()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert!(read_to_close(&mut stream).await.is_empty());
}

#[tokio::test]
async fn plaintext_on_the_tls_port_is_closed_without_an_http_answer() {
    let server = Server::start(Limits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    let said = read_to_close(&mut stream).await;
    // At most one TLS alert record (RFC 8446 section 6).
    assert!(said.len() <= 7 && !said.starts_with(b"HTTP"), "{said:?}");
}

#[tokio::test]
async fn connection_without_a_request_is_closed() {
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let server = Server::start(quick()).await;
        let mut stream = server.connect(alpn).await;
        assert!(!read_to_close(&mut stream).await.starts_with(b"HTTP"));
    }
}

#[tokio::test]
async fn head_that_drips_is_closed() {
    let server = Server::start(quick()).await;
    let (mut reader, mut writer) = tokio::io::split(server.connect(b"http/1.1").await);
    let drip = background(async move {
        for byte in b"GET /peer HTTP/1.1\r\nx: "
            .iter()
            .chain(std::iter::repeat_n(&b'x', 1000))
        {
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let start = Instant::now();
    assert!(read_to_close(&mut reader).await.is_empty());
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    drip.abort();
}

#[tokio::test]
async fn second_head_that_stalls_is_closed_but_idling_is_not() {
    let server = Server::start(quick()).await;
    let mut stream = server.connect(b"http/1.1").await;
    for _ in 0..2 {
        stream.write_all(GET).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
        // Three times the time a head may take.
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    stream.write_all(b"GET /peer HTT").await.unwrap();
    assert!(read_to_close(&mut stream).await.is_empty());
}

#[tokio::test]
async fn idle_connection_is_closed_in_the_end() {
    let server = Server::start(Limits {
        idle_timeout: Duration::from_millis(300),
        ..Limits::default()
    })
    .await;
    let mut stream = server.connect(b"http/1.1").await;
    stream.write_all(GET).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert!(read_to_close(&mut stream).await.is_empty());
}

#[tokio::test]
async fn handler_that_stalls_is_cut() {
    let server = Server::start(Limits {
        stall_timeout: Duration::from_millis(100),
        ..Limits::default()
    })
    .await;
    assert!(
        server
            .client()
            .get(server.url("/slow"))
            .send()
            .await
            .is_err()
    );
}

/// The answer does not fit into the buffers on the way, and its reader reads nothing. hyper has taken the whole of it, so that the
/// connection counts as idle: that is what bounds it.
#[tokio::test]
async fn http_017_a_reader_that_does_not_read_is_cut() {
    let server = Server::start(Limits {
        idle_timeout: Duration::from_millis(300),
        max_connections: 1,
        ..quick()
    })
    .await;
    let mut stream = server.connect(b"http/1.1").await;
    let request = b"GET /large HTTP/1.1\r\nhost: server.test\r\n\r\n";
    stream.write_all(request).await.unwrap();
    place_is_freed(&server).await;
    let said = read_to_close(&mut stream).await;
    assert!(said.len() < LARGE, "all of it was kept for the reader");
}

#[tokio::test]
async fn connection_over_the_cap_is_closed_at_once() {
    let server = Server::start(Limits {
        max_connections: 2,
        ..Limits::default()
    })
    .await;
    let first = server.connect(b"http/1.1").await;
    let _second = server.connect(b"http/1.1").await;
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert!(read_to_close(&mut third).await.is_empty());

    drop(first);
    place_is_freed(&server).await;
}

/// Waits until there is room for one more connection.
async fn place_is_freed(server: &Server) {
    let client = server.client();
    let served = async {
        while client.get(server.url("/peer")).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, served)
        .await
        .expect("the place was not freed");
}

#[tokio::test]
async fn head_over_the_limit_gets_431() {
    let server = Server::start(Limits::default()).await;
    let large = server
        .client()
        .get(server.url("/peer"))
        .header("x", "y".repeat(20 * 1024));
    assert_eq!(large.send().await.unwrap().status(), 431);
    let many = (0..200).fold(
        server.client().get(server.url("/peer")),
        |request, index| request.header(format!("x-{index}"), "y"),
    );
    assert_eq!(many.send().await.unwrap().status(), 431);
}

#[tokio::test]
async fn http2_is_served_after_alpn() {
    let server = Server::start(Limits::default()).await;
    let stream = TokioIo::new(server.connect(b"h2").await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
            .await
            .unwrap();
    let driver = background(connection);
    for _ in 0..3 {
        let request = hyper::Request::get(server.url("/peer"))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.into_body().collect().await.unwrap().to_bytes(),
            "127.0.0.1"
        );
    }
    // The process ends: a GOAWAY, and the connection with it.
    server.shutdown.request();
    timeout(PATIENCE, driver).await.unwrap().unwrap().unwrap();
    timeout(PATIENCE, server.ended)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
