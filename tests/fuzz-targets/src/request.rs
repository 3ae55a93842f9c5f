//! What the token service reads of a request: its target, its headers, its form.

use sts_server::fuzzing::{is_routed, subject_token};

/// `Authorization`, `Content-Type` and body, on lines of their own. A token that is taken out stands there once, and nothing else could be
/// meant.
pub fn form(input: &[u8]) {
    let mut parts = input.splitn(3, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (authorization, content_type, body) = (part(), part(), part());
    let Some(token) = subject_token(authorization, content_type, body) else {
        return;
    };
    assert!(!token.is_empty());
    if !authorization.is_empty() {
        assert!(body.is_empty());
        let expected = [&b"bearer "[..], token.to_ascii_lowercase().as_bytes()].concat();
        assert_eq!(authorization.to_ascii_lowercase(), expected);
        return;
    }
    let pairs: Vec<_> = form_urlencoded::parse(body).collect();
    let given = |wanted: &str| -> Vec<&str> {
        let pairs = pairs.iter().filter(|(name, _)| name == wanted);
        pairs.map(|(_, value)| value.as_ref()).collect()
    };
    assert_eq!(given("subject_token"), [token.as_str()]);
    assert_eq!(given("grant_type").len(), 1);
    assert_eq!(given("subject_token_type").len(), 1);
    for other in ["actor_token", "actor_token_type", "resource", "scope"] {
        assert!(given(other).iter().all(|value| value.is_empty()));
    }
}

/// A request target. One that reaches a route is that route's path, byte for byte, whatever stands behind `?` or `#`.
pub fn path(input: &[u8]) {
    const ROUTES: [&str; 7] = [
        "/aws/.well-known/openid-configuration",
        "/aws/certs",
        "/aws/issuer-docs",
        "/aws/openid/v1/jwks",
        "/aws/reissue",
        "/aws/token",
        "/aws/token/user",
    ];
    let Ok(target) = std::str::from_utf8(input) else {
        return;
    };
    // The absolute form has a host in front, which decides nothing.
    if target.starts_with('/') {
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let known = ROUTES.contains(&path);
        // What no request line can hold behind the path is refused with it.
        assert!(known || !is_routed(target), "{target}");
        assert!(!ROUTES.contains(&target) || is_routed(target), "{target}");
    }
}
