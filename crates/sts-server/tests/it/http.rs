//! HTTP itself: methods, paths, and bytes that no client would send.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::{Server, header, status_of, token};

#[tokio::test]
async fn http_002_another_method_is_405_with_allow() {
    let server = Server::start().await;
    let documents = [
        "/aws/.well-known/openid-configuration",
        "/aws/certs",
        "/aws/issuer-docs",
        "/aws/openid/v1/jwks",
    ];
    let get = documents.map(|path| {
        (
            path,
            "GET,HEAD",
            &["POST", "PUT", "DELETE", "OPTIONS", "TRACE"][..],
        )
    });
    let post = ["/aws/token", "/aws/reissue"].map(|path| {
        (
            path,
            "POST",
            &["GET", "HEAD", "PUT", "PATCH", "OPTIONS", "TRACE"][..],
        )
    });
    // A HEAD that is answered like a GET would issue a token that nobody receives.
    let user = (
        "/aws/token/user",
        "GET",
        &["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"][..],
    );
    for (path, allow, methods) in get.into_iter().chain(post).chain([user]) {
        for method in methods {
            let request = server.request(method, path).header("x-canary", "canary");
            let response = request.bearer_auth(token()).send().await.unwrap();
            assert_eq!(response.status(), 405, "{method} {path}");
            assert_eq!(header(&response, "allow"), allow, "{method} {path}");
            assert_eq!(response.text().await.unwrap(), "", "{method} {path}");
        }
    }
    for (target, status) in [
        ("CONNECT localhost:443", 404),
        ("CONNECT /aws/token", 405),
        ("OPTIONS *", 404),
    ] {
        let request = format!(
            "{target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            token()
        );
        let answer = server.raw(request.as_bytes()).await;
        assert_eq!(status_of(&answer), status, "{target}: {answer}");
    }
    assert_eq!(server.audit_now().len(), 0);
}

#[tokio::test]
async fn http_003_a_path_has_one_spelling() {
    let server = Server::start().await;
    assert_eq!(server.raw_exchange("/aws/token").await, 200);
    for target in [
        "/aws/token/",
        "//aws/token",
        "/aws//token",
        "/AWS/token",
        "/aws/Token",
        "/aws%2ftoken",
        "/aws%2Ftoken",
        "/%61ws/token",
        "/aws;a=b/token",
        "/aws/./token",
        "/gcp/../aws/token",
        "/aws/token/..",
        "/aws/token%00",
        "/aws/token%20",
        "/awsx/token",
        "/token",
        "/aws",
        "/",
    ] {
        assert_eq!(server.raw_exchange(target).await, 404, "{target}");
    }
    for target in ["/aws\\token", "aws/token", "/aws/\u{74}oken\u{e9}"] {
        let status = server.raw_exchange(target).await;
        assert!(matches!(status, 400 | 404), "{target}: {status}");
    }
    assert_eq!(server.raw_exchange("/aws/token?x=1").await, 400);
    assert_eq!(server.audit(2).await.len(), 2);
}

#[tokio::test]
async fn http_005_the_host_decides_nothing() {
    let server = Server::start().await;
    for (target, hosts) in [
        ("/aws/token", "Host: localhost\r\n"),
        ("/aws/token", "Host: evil.example\r\n"),
        ("/aws/token", "Host: localhost:1\r\n"),
        ("/aws/token", "Host: a\r\nHost: b\r\n"),
        ("/aws/token", ""),
        ("https://evil.example/aws/token", "Host: localhost\r\n"),
    ] {
        let request = format!(
            "POST {target} HTTP/1.1\r\n{hosts}Authorization: Bearer {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            token()
        );
        let answer = server.raw(request.as_bytes()).await;
        assert_eq!(status_of(&answer), 200, "{target} {hosts}");
    }
    assert_eq!(server.raw_exchange("https://localhost/nowhere").await, 404);
}

/// Two lengths of one body: whoever counts by the other one must not find a second request in it.
#[tokio::test]
async fn http_015_what_follows_an_ambiguous_body_is_not_executed() {
    let server = Server::start().await;
    let second = "GET /aws/token/user HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
    ] {
        let request = format!(
            "POST /aws/token HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n0\r\n\r\n{second}"
        );
        let answer = server.raw(request.as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert_eq!(server.audit(2).await.len(), 2);
}

/// What a smuggler hides behind another request.
fn last_exchange() -> String {
    format!(
        "POST /aws/token HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        token()
    )
}

#[tokio::test]
async fn http_015_framing_that_can_be_read_in_two_ways() {
    let server = Server::start().await;
    let second = last_exchange();
    for headers in [
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3, 4",
        "Content-Length: +3",
        "Content-Length: 0x3",
        "Content-Length: -1",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Content-Length : 3",
        "X: a\r\n folded: b\r\nContent-Length: 3",
        "X: a\0b\r\nContent-Length: 3",
    ] {
        let request =
            format!("POST /aws/token HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\nabc{second}");
        let answer = server.raw(request.as_bytes()).await;
        assert!(matches!(status_of(&answer), 0 | 400), "{headers}: {answer}");
        assert!(!answer.contains("application/jwt"), "{headers}: {answer}");
    }
    assert_eq!(server.audit_now().len(), 0);
}

/// Lengths of chunks that another reader might take for others: what follows them is not executed.
#[tokio::test]
async fn http_015_chunks_that_can_be_read_in_two_ways() {
    let server = Server::start().await;
    let second = last_exchange();
    let extended = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(40 << 10));
    for chunks in [
        "FFFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3 3\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3;\nabc\r\n0\r\n\r\n",
        &extended,
    ] {
        let request = format!(
            "POST /aws/token HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{second}"
        );
        let answer = server.raw(request.as_bytes()).await;
        let shown: String = chunks.chars().take(20).collect();
        assert!(!answer.contains("application/jwt"), "{shown:?}: {answer}");
    }
}

/// Odd, but with one reading (RFC 9112, sections 2.2, 5 and 6.3): refused, or read in that way.
#[tokio::test]
async fn http_015_odd_framing_with_one_reading_has_that_one() {
    let server = Server::start().await;
    let second = last_exchange();
    for head in [
        "POST /aws/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "POST /aws/token HTTP/1.1\r\nHost: localhost\r\nContent-Length:\t3\r\n\r\nabc",
        "POST /aws/token HTTP/1.1\nHost: localhost\nContent-Length: 3\n\nabc",
        "POST /aws/token HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
    ] {
        let answer = server.raw(format!("{head}{second}").as_bytes()).await;
        let answers: Vec<u16> = answer
            .split("HTTP/1.1 ")
            .skip(1)
            .map(|one| one.get(..3).unwrap().parse().unwrap())
            .collect();
        let as_one = matches!(answers[..], [400..=415]);
        let as_two = matches!(answers[..], [400..=415, 200]);
        assert!(as_one || as_two, "{head}: {answer}");
    }
}

#[tokio::test]
async fn http_019_too_much_of_a_head() {
    let server = Server::start().await;
    let one = format!("X: {}", "x".repeat(20 * 1024));
    let many = (0..200)
        .map(|index| format!("X-{index}: x"))
        .collect::<Vec<_>>()
        .join("\r\n");
    for headers in [one, many] {
        let request = format!(
            "GET /aws/certs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n\r\n"
        );
        let answer = server.raw(request.as_bytes()).await;
        assert_eq!(status_of(&answer), 431, "{answer}");
    }
}

#[tokio::test]
async fn http_021_no_answer_repeats_what_was_asked() {
    let server = Server::start().await;
    for (path, body) in [
        ("/aws/token", "grant_type=canary"),
        ("/aws/token", "canary=1&canary=2"),
        ("/aws/canary", ""),
        ("/aws/token?canary=1", ""),
    ] {
        let request = server
            .request("POST", path)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-canary", "canary")
            .body(body);
        let text = request.send().await.unwrap().text().await.unwrap();
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn http_024_each_port_has_its_own_routes() {
    let server = Server::start().await;
    for path in [
        "/metrics",
        "/livez",
        "/readyz",
        "/healthz",
        "/debug",
        "/aws/metrics",
    ] {
        assert_eq!(server.get(path).await.status(), 404, "{path}");
    }
    for path in ["/", "/aws/certs", "/aws/token", "/debug/pprof", "/metrics/"] {
        assert_eq!(server.admin(path).await.status(), 404, "{path}");
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(server.admin(path).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn http_025_plaintext_on_the_tls_port_gets_no_data() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.listen).await.unwrap();
    let request = b"GET /aws/certs HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert!(answer.len() <= 7, "at most one TLS alert: {answer:?}");
    assert_eq!(server.get("/aws/certs").await.status(), 200);
}

#[tokio::test]
async fn http_2_is_offered() {
    let server = Server::start().await;
    for (offer, chosen) in [
        (&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let stream = server.connect(offer).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
    }
}
