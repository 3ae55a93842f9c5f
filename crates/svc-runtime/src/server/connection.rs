//! One connection after its handshake: HTTP until the peer goes, the watchdog barks or the process ends.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tower::ServiceExt;

use super::Limits;
use super::activity::{Activity, HeldBody, Observed, Phase};
use crate::shutdown::Shutdown;

/// The version of HTTP, fixed before the first byte so that no time-out depends on guessing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// From the name agreed by ALPN (RFC 7301); without one, HTTP/1.1 (RFC 9113 section 3.2 requires ALPN for HTTP/2).
    pub(super) fn negotiated(alpn: Option<&[u8]>) -> Self {
        if alpn == Some(b"h2") {
            Self::Http2
        } else {
            Self::Http1
        }
    }
}

/// Why a connection did not simply end.
#[derive(Debug, Error)]
pub(super) enum ConnectionEnded {
    /// The peer took too long.
    #[error("too long in phase {0:?}")]
    Overdue(Phase),
    /// The protocol was broken, or the transport.
    #[error("HTTP failed")]
    Http(#[source] Box<dyn StdError + Send + Sync>),
}

/// Serves requests on `stream`. After `shutdown` open requests still end; new ones are not taken.
pub(super) async fn serve_connection<S>(
    stream: S,
    peer: SocketAddr,
    protocol: Protocol,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
) -> Result<(), ConnectionEnded>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new(limits, protocol);
    let io = TokioIo::new(Observed::new(stream, Arc::clone(&activity)));
    let builder = builder(protocol, limits);
    let handler = Arc::clone(&activity);
    let service = service_fn(move |request| {
        answer(request, peer, router.clone(), Arc::clone(&handler), limits)
    });
    let mut connection = pin!(builder.serve_connection(io, service));

    let idle = tokio::select! {
        ended = connection.as_mut() => return ended.map_err(ConnectionEnded::Http),
        () = shutdown.requested() => false,
        phase = activity.overdue() => match phase {
            Phase::Idle => true,
            Phase::Busy | Phase::Head => return Err(ConnectionEnded::Overdue(phase)),
        },
    };
    connection.as_mut().graceful_shutdown();
    let ended = if idle {
        timeout(limits.header_timeout, connection).await.ok()
    } else {
        tokio::select! {
            ended = connection => Some(ended),
            _ = activity.overdue() => None,
        }
    };
    ended.unwrap_or(Ok(())).map_err(ConnectionEnded::Http)
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    router: Router,
    activity: Arc<Activity>,
    limits: Limits,
) -> Result<Response<HeldBody>, Infallible> {
    let open = activity.request();
    if is_too_large(request.headers(), limits) {
        let mut response = Response::new(open.hold_by(Body::empty()));
        *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Ok(response);
    }
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = router.oneshot(request).await?;
    Ok(response.map(|body| open.hold_by(body)))
}

/// hyper looks at its buffer only while an HTTP/1.1 head is incomplete, so that one that comes in a single read can be larger; and it
/// does not count the headers of HTTP/2.
fn is_too_large(headers: &HeaderMap, limits: Limits) -> bool {
    let sizes = headers
        .iter()
        .map(|(name, value)| name.as_str().len().saturating_add(value.len()));
    headers.len() > limits.max_headers || sizes.sum::<usize>() > largest_head(limits)
}

fn largest_head(limits: Limits) -> usize {
    usize::try_from(limits.max_header_bytes).unwrap_or(usize::MAX)
}

fn builder(protocol: Protocol, limits: Limits) -> auto::Builder<TokioExecutor> {
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    };
    let max_buffer = largest_head(limits).max(MIN_HTTP1_BUFFER);
    builder
        .http1()
        .timer(TokioTimer::new())
        .keep_alive(limits.keep_alive)
        // `Activity` does this, and tells a slow head from an idle connection.
        .header_read_timeout(None)
        .max_buf_size(max_buffer)
        .max_headers(limits.max_headers);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(limits.max_header_bytes)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(MAX_SEND_BUFFER)
        // CVE-2023-44487 ("rapid reset"): a peer that opens and resets streams is sent away after this many.
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_interval);
    builder
}

/// hyper panics below this (`max_buf_size`).
const MIN_HTTP1_BUFFER: usize = 8192;
/// What a peer may send ahead of our reading, per stream and per connection: enough for one large admission review in a few round
/// trips, little enough for 4096 connections.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;
const MAX_SEND_BUFFER: usize = 64 * 1024;
const MAX_PENDING_RESETS: usize = 20;
const MAX_ERROR_RESETS: usize = 100;
