//! What a CDN does for a bucket: serves the objects under `--origin` to anybody over HTTPS, read only, and keeps them for `--cache`
//! seconds if it is told to. It holds no credentials: the bucket lets anybody read what it should serve.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use clap::Parser;
use tokio::time::Instant;
use verifiers::Listen;

#[derive(Debug, Parser)]
#[command(about)]
struct Arguments {
    #[command(flatten)]
    listen: Listen,
    /// Where the objects are, up to and including the bucket
    #[arg(long, value_name = "URL")]
    origin: String,
    /// CA certificates trusted when the origin is asked, PEM; needed for an https origin
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Seconds for which an object is served without asking the origin again
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    cache: u64,
}

/// What the origin answered, as far as it is passed on.
#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

struct Cdn {
    origin: String,
    client: reqwest::Client,
    keep: Duration,
    kept: Mutex<HashMap<String, (Instant, Answer)>>,
}

impl Cdn {
    async fn get(&self, path: &str) -> Result<Answer> {
        if let Some(answer) = self.kept(path) {
            return Ok(answer);
        }
        let answer = self.fetch(path).await?;
        if answer.status.is_success() && !self.keep.is_zero() {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.insert(path.to_owned(), (Instant::now(), answer.clone()));
        }
        Ok(answer)
    }

    fn kept(&self, path: &str) -> Option<Answer> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, answer) = kept.get(path)?;
        (since.elapsed() < self.keep).then(|| answer.clone())
    }

    async fn fetch(&self, path: &str) -> Result<Answer> {
        let url: reqwest::Url = format!("{}{path}", self.origin).parse()?;
        // `..` is resolved by now: it must not lead out of the bucket.
        ensure!(
            url.as_str().starts_with(&format!("{}/", self.origin)),
            "{path} is not in the bucket"
        );
        let answer = self
            .client
            .get(url.clone())
            .send()
            .await
            .with_context(|| format!("get {url}"))?;
        let status = answer.status();
        let mut headers = HeaderMap::new();
        for name in [header::CONTENT_TYPE, header::CACHE_CONTROL, header::ETAG] {
            if let Some(value) = answer.headers().get(&name) {
                headers.insert(name, value.clone());
            }
        }
        let body = answer
            .bytes()
            .await
            .with_context(|| format!("read {url}"))?;
        Ok(Answer {
            status,
            headers,
            body,
        })
    }
}

async fn any_path(State(cdn): State<Arc<Cdn>>, method: Method, uri: Uri) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return (
            StatusCode::METHOD_NOT_ALLOWED,
            [(header::ALLOW, "GET, HEAD")],
        )
            .into_response();
    }
    // The bare `/` would be the bucket's listing, and a query can be a request of another kind.
    if uri.path() == "/" || uri.query().is_some() {
        return StatusCode::FORBIDDEN.into_response();
    }
    match cdn.get(uri.path()).await {
        Ok(answer) => {
            eprintln!("{method} {} {}", uri.path(), answer.status.as_u16());
            // To a HEAD hyper sends the headers alone, with the body's length.
            (answer.status, answer.headers, Body::from(answer.body)).into_response()
        }
        Err(error) => {
            eprintln!("{method} {} {error:#}", uri.path());
            (StatusCode::BAD_GATEWAY, "the origin does not answer\n").into_response()
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    verifiers::install_provider()?;
    let origin = arguments.origin.trim_end_matches('/').to_owned();
    ensure!(
        arguments.ca.is_some() || !origin.starts_with("https://"),
        "an https origin needs --ca"
    );
    let cdn = Arc::new(Cdn {
        client: verifiers::client_trusting(arguments.ca.as_deref())?,
        keep: Duration::from_secs(arguments.cache),
        kept: Mutex::default(),
        origin,
    });
    let what = format!("cdn of {}", cdn.origin);
    let routes = Router::new().fallback(any_path).with_state(cdn);
    verifiers::serve(&arguments.listen, what, routes).await
}
