//! What the STS may answer, and that only a token is ever written.

use crate::pod::Pod;
use crate::sts::{Answer, Sts, mint};

/// The answer leads to this failure; the file that was there stays, and nothing is left beside it.
#[track_caller]
fn check_failure(answer: Answer, code: &str, detail: &str) {
    let sts = Sts::start(Answer::Token(900));
    let mut pod = Pod::new(&sts);
    let before = pod.get_token();
    if matches!(answer, Answer::Hang) {
        pod.set("STS_REQUEST_TIMEOUT", "500ms");
    }
    sts.answer_from_now_on(answer);
    let line = pod.first_try(&[]);
    check_line(&line, code, detail);
    assert!(line.contains(" token_left=8") || line.contains(" token_left=900s"));
    assert_eq!(pod.token().unwrap(), before);
    assert_eq!(pod.files(), [".status", "token"]);
}

#[track_caller]
fn check_line(line: &str, code: &str, detail: &str) {
    let code = format!(" endpoint=aws code={code} ");
    assert!(line.contains(&code) && line.contains(detail), "{line}");
}

#[test]
fn exchanges_as_the_standard_says() {
    let sts = Sts::start(Answer::Token(900));
    let pod = Pod::new(&sts);
    let subject = mint(3600);
    pod.project_subject_token("aws", &format!("{subject}\n"));
    pod.get_token();
    let seen = sts.seen();
    assert_eq!(seen.len(), 1);
    assert!(
        seen[0].head.starts_with("POST /aws/token HTTP/1.1\r\n"),
        "{}",
        seen[0].head
    );
    assert!(
        seen[0].head.contains("application/x-www-form-urlencoded"),
        "{}",
        seen[0].head
    );
    let expected = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
         &subject_token={subject}\
         &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt"
    );
    assert_eq!(seen[0].body, expected);
    assert_eq!(pod.files(), ["token"]);
}

/// A role may have commas and equal signs in it.
#[test]
fn the_role_travels_with_the_exchange() {
    let sts = Sts::start(Answer::Token(900));
    let mut pod = Pod::new(&sts);
    pod.set("STS_ROLES", "aws=arn:aws:iam::123456789012:role/a,b=c");
    pod.get_token();
    let body = &sts.seen()[0].body;
    let role = "&role=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fa%2Cb%3Dc";
    assert!(body.ends_with(role), "{body}");
}

#[test]
fn ref_002_a_refusal_keeps_the_old_token() {
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
    ] {
        let body = r#"{"error":"access_denied","error_description":"no rule lets it"}"#;
        let detail = format!("the STS refused ({status}): access_denied: no rule lets it");
        check_failure(Answer::json(status, body), "refused", &detail);
    }
    check_failure(
        Answer::new("401 Unauthorized", "", "<html>"),
        "refused",
        "no reason given",
    );
}

#[test]
fn ref_003_an_outage_keeps_the_old_token() {
    let body = r#"{"error":"temporarily_unavailable","error_description":"busy"}"#;
    for status in [
        "429 Too Many Requests",
        "500 Internal Server Error",
        "503 Service Unavailable",
    ] {
        check_failure(Answer::json(status, body), "unavailable", "busy");
    }
    check_failure(Answer::Hang, "timeout", "did not answer in time");
    check_failure(
        Answer::Bytes(Vec::new()),
        "connection_lost",
        "connection closed",
    );
    let half = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    check_failure(
        Answer::Bytes(half.to_vec()),
        "connection_lost",
        "end of file",
    );
}

#[test]
fn ref_003_nobody_there_is_a_failure_to_connect() {
    let sts = Sts::start(Answer::Token(900));
    let unresolvable = Pod::at("https://sts.invalid/aws/token", &sts.ca());
    check_line(&unresolvable.first_try(&[]), "connect_failed", "dns error");
    let refused = Pod::at("https://127.0.0.1:1/aws/token", &sts.ca());
    check_line(
        &refused.first_try(&[]),
        "connect_failed",
        "Connection refused",
    );
}

#[test]
fn ref_003_tls_008_another_ca_is_a_failure_of_tls() {
    let (sts, other) = (
        Sts::start(Answer::Token(900)),
        Sts::start(Answer::Token(900)),
    );
    let pod = Pod::at(&format!("https://{}/", sts.address), &other.ca());
    check_line(&pod.first_try(&[]), "tls_failed", "certificate");
    assert!(
        sts.seen().is_empty(),
        "no token leaves us before TLS stands"
    );
    assert_eq!(
        Pod::at(&format!("https://{}/", sts.address), &sts.ca())
            .call(&["once"])
            .code,
        Some(0)
    );
}

#[test]
fn ref_004_what_is_not_a_token_is_not_written() {
    let html = "Content-Type: text/html; charset=utf-8\r\n";
    check_failure(
        Answer::new("200 OK", html, "<html>"),
        "answer_not_json",
        "text/html",
    );
    let answer = Answer::new("200 OK", "", r#"{"access_token":"x"}"#);
    check_failure(answer, "answer_not_json", "");
    for body in ["", "{}", "garbage", r#"{"access_token":1}"#] {
        check_failure(
            Answer::json("200 OK", body),
            "answer_malformed",
            "no token in it",
        );
    }
    check_failure(
        Answer::json("200 OK", &"x".repeat(10 << 20)),
        "answer_too_large",
        "65536",
    );
    check_failure(Answer::json("201 Created", "{}"), "refused", "201");
    check_failure(Answer::json("204 No Content", ""), "refused", "204");
    for text in ["", "a.b.c\\n", "a.b", "<a>.<b>.<c>"] {
        check_failure(
            Answer::token_text(text),
            "token_malformed",
            "three base64url segments",
        );
    }
    check_failure(
        Answer::token_text("YQ.e30.YQ"),
        "token_without_expiry",
        "exp",
    );
    check_failure(
        Answer::token_text(&mint(-1)),
        "token_expired",
        "this node's clock",
    );
    let long = format!("{}{}", mint(900), "A".repeat(16 << 10));
    check_failure(Answer::token_text(&long), "token_too_long", "16384");
}

#[test]
fn ref_004_a_redirect_is_not_followed() {
    let elsewhere = Sts::start(Answer::Token(900));
    let location = format!("Location: https://{}/\r\n", elsewhere.address);
    check_failure(
        Answer::new("307 Temporary Redirect", &location, ""),
        "refused",
        "307",
    );
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn ref_013_no_byte_of_a_token_is_logged() {
    let subject = mint(3600);
    let issued = mint(-5);
    let echo = format!(r#"{{"error":"invalid_{subject}","error_description":"bad {subject}"}}"#);
    let html_of_token = format!("Content-Type: text/{}\r\n", issued.replace('.', "-"));
    for answer in [
        Answer::Token(900),
        Answer::json("400 Bad Request", &echo),
        Answer::json("503 Service Unavailable", &echo),
        Answer::json("200 OK", &format!("{{\"access_token\":{issued}}}")),
        Answer::new("200 OK", &html_of_token, ""),
        Answer::token_text(&issued),
    ] {
        let sts = Sts::start(answer);
        let pod = Pod::new(&sts);
        pod.project_subject_token("aws", &subject);
        let texts = [
            pod.first_try(&[]),
            pod.first_try(&["--log-format", "json"]),
            pod.call(&["once", "--timeout", "900ms"]).log,
            pod.call(&["wait", "--timeout", "20ms"]).log,
            std::fs::read_to_string(pod.path("tokens/aws/.status")).unwrap_or_default(),
            std::fs::read_to_string(pod.path("termination-log")).unwrap(),
        ];
        let written = pod.token().unwrap_or_default();
        for part in [&subject, &issued, &written]
            .iter()
            .flat_map(|token| token.split('.'))
        {
            assert!(
                part.is_empty() || !texts.concat().contains(part),
                "{texts:?}"
            );
        }
    }
}

#[test]
fn json_log_lines_are_json() {
    let sts = Sts::start(Answer::json(
        "403 Forbidden",
        r#"{"error":"access_denied"}"#,
    ));
    let line = Pod::new(&sts).first_try(&["--log-format", "json"]);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "error");
    assert_eq!(line["code"], "refused");
    assert_eq!(line["endpoint"], "aws");
}
