//! What a key set's server may do, over real TLS.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Redirect};
use axum::routing::get;
use svc_runtime::tls::{ServingCertificate, ephemeral};
use svc_runtime::{Limits, Shutdown, clock, install_crypto_provider, serve_tls};
use tempfile::TempDir;
use test_support::{TestKey, TokenBuilder};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use super::*;

/// A server that answers in many ways, and how often it was asked where it redirects to.
struct KeyServer {
    base: String,
    directory: TempDir,
    followed: Arc<AtomicU32>,
}

impl KeyServer {
    async fn start() -> Self {
        install_crypto_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (pair, bundle) = ephemeral(&["localhost".to_owned()], clock::now()).unwrap();
        let certificate = ServingCertificate::empty();
        certificate.replace(pair).unwrap();
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("ca.crt"), bundle.as_pem()).unwrap();
        let followed = Arc::new(AtomicU32::new(0));
        let router = router(&format!("https://localhost:{port}"), Arc::clone(&followed));
        let config = certificate.server_config();
        let serving = serve_tls(listener, config, router, Limits::default(), Shutdown::new());
        #[expect(
            clippy::disallowed_methods,
            reason = "the test itself stands for the process"
        )]
        drop(tokio::task::spawn(serving));
        Self {
            base: format!("https://localhost:{port}"),
            directory,
            followed,
        }
    }

    async fn fetch(&self, path: &str) -> Result<Fetched, FetchError> {
        let ca = self.directory.path().join("ca.crt");
        let fetcher = Fetcher::url(&format!("{}{path}", self.base), Some(&ca)).unwrap();
        fetcher
            .fetch(Some(&TokenBuilder::ISSUER.parse().unwrap()))
            .await
    }
}

fn router(base: &str, followed: Arc<AtomicU32>) -> Router {
    let redirect = |status: StatusCode, to: String| {
        get(async move || (status, [(header::LOCATION, to)], "").into_response())
    };
    let there = format!("{base}/followed");
    let slow = async || {
        let bytes = futures_util::stream::unfold((), async |()| {
            sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, Infallible>("x"), ()))
        });
        Body::from_stream(bytes)
    };
    Router::new()
        .route("/good", get(async || TestKey::jwks(&[TestKey::rsa()])))
        .route(
            "/301",
            redirect(StatusCode::MOVED_PERMANENTLY, there.clone()),
        )
        .route(
            "/302",
            redirect(StatusCode::FOUND, "http://169.254.169.254/".to_owned()),
        )
        .route("/307", get(async move || Redirect::temporary(&there)))
        .route(
            "/followed",
            get(async move || {
                followed.fetch_add(1, Ordering::Relaxed);
                TestKey::jwks(&[TestKey::rsa()])
            }),
        )
        .route("/large", get(async || "x".repeat(2 << 20)))
        .route("/slow", get(slow))
        // A reader that unpacks would find a key set.
        .route(
            "/packed",
            get(async || ([(header::CONTENT_ENCODING, "gzip")], vec![0x1f, 0x8b, 8, 0])),
        )
        .route("/empty", get(async || r#"{"keys":[]}"#))
        .route("/html", get(async || "<html>"))
}

#[tokio::test]
async fn jwks_005_redirects_are_not_followed() {
    let server = KeyServer::start().await;
    assert!(server.fetch("/good").await.is_ok());
    for (path, status) in [("/301", 301), ("/302", 302), ("/307", 307)] {
        let refused = server.fetch(path).await.err();
        let is = matches!(refused, Some(FetchError::Status { status: is }) if is == status);
        assert!(is, "{path}: {refused:?}");
    }
    assert_eq!(server.followed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn jwks_006_documents_that_are_too_large_slow_or_packed_are_given_up() {
    let server = KeyServer::start().await;
    let large = server.fetch("/large").await.err();
    assert!(matches!(
        large,
        Some(FetchError::Set(KeySetError::TooLarge))
    ));
    for path in ["/packed", "/html"] {
        let refused = server.fetch(path).await.err();
        let is = matches!(refused, Some(FetchError::Set(KeySetError::Malformed)));
        assert!(is, "{path}: {refused:?}");
    }
    let begin = Instant::now();
    let slow = server.fetch("/slow").await.err();
    assert!(
        matches!(slow, Some(FetchError::Slow | FetchError::Http { .. })),
        "{slow:?}"
    );
    assert!(begin.elapsed() < PATIENCE + Duration::from_secs(2));
}

#[tokio::test]
async fn jwks_007_an_empty_set_is_none() {
    let server = KeyServer::start().await;
    let empty = server.fetch("/empty").await.err();
    assert!(matches!(
        empty,
        Some(FetchError::Set(KeySetError::NoUsableKey))
    ));
}
