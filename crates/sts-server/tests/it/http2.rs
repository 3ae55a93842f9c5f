//! HTTP/2 requests that no client would send: each carries a good token, and none is taken.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::abuse::{frame, http_2};
use super::support::{Server, token};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

/// A literal header field that no table learns (RFC 7541, section 6.2.2), none of it compressed.
fn field(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(text(name.as_bytes()));
    bytes.extend(text(value));
    bytes
}

/// A text with its length as an integer with a prefix of 7 bits (RFC 7541, sections 5.1 and 5.2).
fn text(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if text.len() < 127 {
        bytes.push(u8::try_from(text.len()).unwrap());
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).unwrap());
    }
    bytes.extend(text);
    bytes
}

type Fields<'f> = Vec<(&'f str, &'f [u8])>;

/// What a client sends.
fn good(authorization: &str) -> Fields<'_> {
    vec![
        (":method", b"POST"),
        (":scheme", b"https"),
        (":path", b"/aws/token"),
        (":authority", b"localhost"),
        ("authorization", authorization.as_bytes()),
    ]
}

/// Sends one request and waits until it is answered, reset, or the connection ends; its status line's field as it is encoded, if there is
/// an answer.
async fn ask(server: &Server, fields: &Fields<'_>) -> Option<Vec<u8>> {
    let mut stream = http_2(server).await;
    let block: Vec<u8> = fields
        .iter()
        .flat_map(|(name, value)| field(name, value))
        .collect();
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block);
    // It may have been sent away before the last byte.
    drop(stream.write_all(&request).await);
    drop(stream.flush().await);
    let answer = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut payload).await.ok()?;
            match head[3] {
                HEADERS => return Some(payload),
                RST_STREAM | GOAWAY => return None,
                _ => {}
            }
        }
    };
    timeout(Duration::from_secs(10), answer).await.unwrap()
}

/// `:status: 200` of the static table (RFC 7541, appendix A).
const OK: u8 = 0x88;

fn is_ok(answer: Option<&Vec<u8>>) -> bool {
    answer.is_some_and(|block| block.first() == Some(&OK))
}

/// Beside the good ones.
const ADDED: [(&str, &[u8]); 14] = [
    (":path", b"/aws/token"),
    (":method", b"POST"),
    (":unknown", b"x"),
    ("transfer-encoding", b"chunked"),
    ("connection", b"close"),
    ("te", b"chunked"),
    ("upgrade", b"h2c"),
    ("X-Upper", b"x"),
    ("x y", b"x"),
    ("x", b"a\r\nb: c"),
    ("x", b"a\0b"),
    ("content-length", b"5"),
    ("content-length", b"-1"),
    ("authorization", b"Bearer a.b.c"),
];
/// Instead of one of the good ones.
const REPLACED: [(&str, &[u8]); 10] = [
    (":path", b""),
    (":path", b"*"),
    (":path", b"aws/token"),
    (":path", b"/aws/token\r\n"),
    (":path", b"/aws/token HTTP/1.1"),
    (":path", b"//aws/token"),
    (":path", b"https://localhost/aws/token"),
    (":method", b"CONNECT"),
    (":method", b"POST\r\n"),
    (":method", b""),
];
const LEFT_OUT: [&str; 3] = [":method", ":path", ":scheme"];

#[tokio::test]
async fn http_015_http_2_requests_that_can_be_read_in_two_ways() {
    let server = Server::start().await;
    let authorization = format!("Bearer {}", token());
    let good = || good(&authorization);
    let added = ADDED.map(|field| [good(), vec![field]].concat());
    let replaced = REPLACED.map(|(name, value)| {
        let change = |field: (_, _)| {
            if field.0 == name {
                (name, value)
            } else {
                field
            }
        };
        good().into_iter().map(change).collect::<Fields<'_>>()
    });
    let left_out = LEFT_OUT.map(|name| {
        let mut fields = good();
        fields.retain(|field| field.0 != name);
        fields
    });
    let split = [authorization.as_bytes(), b"\r\nx: y"].concat();
    let mut divided = good();
    divided.pop();
    divided.push(("authorization", &split));
    let cases = added.into_iter().chain(replaced).chain(left_out);
    for fields in cases.chain([divided]) {
        let answer = ask(&server, &fields).await;
        let shown = fields.iter().filter(|field| field.0 != "authorization");
        let shown: Vec<_> = shown.collect();
        assert!(!is_ok(answer.as_ref()), "{shown:?}");
    }
    let granted = |line: &serde_json::Value| line["decision"] == "allow";
    assert!(!server.audit_now().iter().any(granted));
    let answer = ask(&server, &good()).await;
    assert!(is_ok(answer.as_ref()), "the good one is taken");
}
