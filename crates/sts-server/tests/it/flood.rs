//! Many, slow and broken connections to the real program, and what they cost the others.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Certificate, Client, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::abuse::{SETTINGS, frame, http_2};
use super::support::{Server, Setup, token, valid};
use test_support::TestKey;

/// A client at another address of loopback.
fn client_at(server: &Server, address: &str) -> Client {
    let pem = std::fs::read(server.setup.path("ca.crt")).unwrap();
    let roots = Certificate::from_pem_bundle(&pem).unwrap();
    Client::builder()
        .tls_certs_only(roots)
        .resolve("localhost", server.listen)
        .local_address(address.parse::<IpAddr>().unwrap())
        .build()
        .unwrap()
}

async fn limited(per_address: u32, per_pod: u32) -> Server {
    let mut setup = Setup::new();
    setup.changes.push((
        "{perAddress: 0, perPod: 0}".to_owned(),
        format!("{{perAddress: {per_address}, perPod: {per_pod}}}"),
    ));
    setup.start().await
}

async fn post(client: &Client, server: &Server, token: &str) -> Response {
    let request = client.post(server.url("/aws/token")).bearer_auth(token);
    request.send().await.unwrap()
}

#[tokio::test]
async fn http_020_a_flood_from_one_address_is_limited_and_others_do_not_notice() {
    let server = limited(20, 0).await;
    let flooding = client_at(&server, "127.0.0.2");
    let other = client_at(&server, "127.0.0.3");
    let begin = Instant::now();
    let mut limited = 0;
    for index in 0..300 {
        let answer = post(&flooding, &server, "garbage").await;
        if answer.status() == 429 {
            limited += 1;
            let wait: u64 = answer.headers()["retry-after"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!((1..=2).contains(&wait), "{wait}");
            let text = answer.text().await.unwrap();
            assert!(text.contains("temporarily_unavailable"), "{text}");
        } else {
            assert_eq!(answer.status(), 401);
        }
        if index % 50 == 0 {
            assert_eq!(post(&other, &server, &token()).await.status(), 200);
        }
    }
    let allowed = 40 + 20 * (begin.elapsed().as_secs() + 1);
    assert!(
        u64::try_from(300 - limited).unwrap() <= allowed,
        "{limited}"
    );
    assert!(limited > 0);
    let metrics = server.admin("/metrics").await.text().await.unwrap();
    let counted = format!(r#"outcome="deny",reason="rate_limited"}} {limited}"#);
    assert!(metrics.contains(&counted), "{metrics}");
}

#[tokio::test]
async fn http_020_a_pod_is_limited_wherever_it_comes_from() {
    let server = limited(0, 1).await;
    let token = token();
    for (address, status) in [("127.0.0.2", 200), ("127.0.0.3", 200), ("127.0.0.4", 429)] {
        let client = client_at(&server, address);
        assert_eq!(
            post(&client, &server, &token).await.status(),
            status,
            "{address}"
        );
    }
    let other = valid().at(
        "/kubernetes.io/pod/uid",
        "22222222-2222-4333-8444-555555555555",
    );
    let other = other.sign(TestKey::rsa());
    assert_eq!(server.bearer("/aws/token", &other).await.status(), 200);
    let lines = server.audit(3).await;
    assert_eq!(lines[2]["reason"], "rate_limited");
    assert_eq!(lines[2]["pod"], "p1", "a verified subject is named");
}

#[tokio::test]
async fn http_020_a_pod_that_no_rule_allows_is_limited_as_well() {
    let server = limited(0, 1).await;
    let stranger = valid()
        .at("/kubernetes.io/namespace", "team-b")
        .claim("sub", "system:serviceaccount:team-b:app")
        .sign(TestKey::rsa());
    for status in [403, 403, 429] {
        let answer = server.bearer("/aws/token", &stranger).await;
        assert_eq!(answer.status(), status);
    }
}

/// Connections that never come to a request. 300 of them, each with a byte of its head a second.
#[tokio::test]
async fn http_016_heads_that_drip_are_closed_and_hold_nobody_up() {
    const MANY: usize = 300;
    let server = Server::start().await;
    let drip = async |index: usize| {
        let mut stream = server.connect(&[b"http/1.1"]).await;
        let begin = Instant::now();
        let mut head = format!("GET /aws/certs HTTP/1.1\r\nX-{index}: ").into_bytes();
        head.extend([b'x'; 60]);
        let mut byte = [0];
        for sent in head {
            // Whether a write fails or a read ends first: it is closed.
            if stream.write_all(&[sent]).await.is_err() {
                break;
            }
            if timeout(Duration::from_secs(1), stream.read(&mut byte))
                .await
                .is_ok()
            {
                break;
            }
        }
        begin.elapsed()
    };
    let honest = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let begin = Instant::now();
            let answer = server.bearer("/aws/token", &token()).await;
            assert_eq!(answer.status(), 200);
            slowest = slowest.max(begin.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        slowest
    };
    let (held, slowest) = tokio::join!(join_all((0..MANY).map(drip)), honest);
    let longest = held.into_iter().max().unwrap();
    assert!(longest < Duration::from_secs(12), "{longest:?}");
    // 250 ms on a machine of its own; handshakes of a debug build go on beside it here.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

#[tokio::test]
async fn http_017_a_slow_body_is_given_up() {
    let server = Server::start().await;
    let mut stream = server.connect(&[b"http/1.1"]).await;
    let head = "POST /aws/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                Content-Length: 1000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let begin = Instant::now();
    let mut answer = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        // A failed write says that it is closed, as the read then does too.
        drop(stream.write_all(b"x").await);
        match timeout(Duration::from_millis(100), stream.read(&mut chunk)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(count)) => answer.extend_from_slice(&chunk[..count]),
            Err(_) => assert!(
                begin.elapsed() < Duration::from_secs(8),
                "it waits for ever"
            ),
        }
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(server.audit(1).await[0]["reason"], "request_invalid");
}

/// Resident memory of the program, in KiB: `VmRSS`, or `VmHWM`, the most it ever was.
fn memory(server: &Server, which: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let line = lines.find_map(|(name, line)| (name == which).then_some(line));
    line.unwrap().trim_end_matches("kB").trim().parse().unwrap()
}

/// Sends frames until the server closes or they are all sent; whether it closed.
async fn send_all(server: &Server, frames: impl Iterator<Item = Vec<u8>>) -> bool {
    let (mut reader, mut writer) = tokio::io::split(http_2(server).await);
    let send = async {
        for bytes in frames {
            if writer.write_all(&bytes).await.is_err() {
                return true;
            }
        }
        writer.flush().await.is_err()
    };
    // Whoever floods may read what comes back or not; here it does, so that only the server's own limits end it.
    let mut sink = vec![0; 64 * 1024];
    let read = async { while matches!(reader.read(&mut sink).await, Ok(1..)) {} };
    let work = async {
        tokio::select! {
            closed = send => closed,
            () = read => true,
        }
    };
    timeout(Duration::from_secs(30), work).await.unwrap()
}

/// `GET /aws/certs` as a header block (RFC 7541: static table and one literal).
fn request_block() -> Vec<u8> {
    let mut block = vec![0x82, 0x87, 0x04, 10];
    block.extend(b"/aws/certs");
    block.extend([0x01, 9]);
    block.extend(b"localhost");
    block
}

/// Requests whose answers have no window to be sent in: they wait, and their number is bounded.
fn answers_without_a_window() -> Vec<u8> {
    let mut bytes = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    for index in 0..16 {
        let flags = END_HEADERS | END_STREAM;
        bytes.extend(frame(HEADERS, flags, 2 * index + 1, &request_block()));
    }
    bytes
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

#[tokio::test]
async fn http_018_http_2_floods_are_ended_or_cost_nothing() {
    let server = Server::start().await;
    assert_eq!(server.get("/aws/certs").await.status(), 200);
    let before = memory(&server, "VmRSS");
    let resets = (0..20_000_u32).map(|index| {
        let stream = 2 * index + 1;
        let mut bytes = frame(HEADERS, END_HEADERS, stream, &request_block());
        bytes.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        bytes
    });
    assert!(
        send_all(&server, resets).await,
        "rapid reset goes on for ever"
    );
    let literal = [&[0x00, 1, b'x', 100][..], &[b'y'; 100]].concat();
    let headers = [request_block(), literal.clone()].concat();
    let continuations = std::iter::once(frame(HEADERS, 0, 1, &headers))
        .chain((0..20_000).map(|_| frame(CONTINUATION, 0, 1, &literal.repeat(10))));
    assert!(
        send_all(&server, continuations).await,
        "an endless head is taken"
    );
    let huge = frame(
        HEADERS,
        END_HEADERS,
        1,
        &[request_block(), literal.repeat(150)].concat(),
    );
    let floods: [Box<dyn Iterator<Item = Vec<u8>>>; 4] = [
        Box::new(std::iter::once(huge)),
        // These are answered one by one: a flood of them is as fast as its sender reads.
        Box::new((0..50_000).map(|_| frame(SETTINGS, 0, 0, &[]))),
        Box::new((0..50_000).map(|_| frame(PING, 0, 0, &[0; 8]))),
        Box::new(std::iter::once(answers_without_a_window())),
    ];
    for flood in floods {
        // Whether they end with the connection or with their last frame: the others live on.
        send_all(&server, flood).await;
    }
    assert_eq!(server.bearer("/aws/token", &token()).await.status(), 200);
    let most = memory(&server, "VmHWM").saturating_sub(before);
    assert!(most < 64 * 1024, "{most} KiB more than at rest");
}
