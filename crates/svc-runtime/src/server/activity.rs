//! What a connection is doing and since when, so that one watchdog can say when it has taken too long.
//!
//! hyper's own header time-out also counts the idle time between two requests, so it cannot be short without closing connections under
//! clients that are about to use them again.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Limits, connection::Protocol};

/// The activity of one connection. Shared by its transport, its requests and its watchdog.
pub(super) struct Activity {
    state: watch::Sender<State>,
    limits: Limits,
    protocol: Protocol,
}

impl Activity {
    pub(super) fn new(limits: Limits, protocol: Protocol) -> Arc<Self> {
        let start = State {
            phase: Phase::Head,
            since: Instant::now(),
            open: 0,
        };
        Arc::new(Self {
            state: watch::Sender::new(start),
            limits,
            protocol,
        })
    }

    /// A request's head is complete. The request is open until the value is dropped.
    pub(super) fn request(self: &Arc<Self>) -> OpenRequest {
        self.state.send_modify(|state| {
            *state = State {
                phase: Phase::Busy,
                since: Instant::now(),
                open: state.open + 1,
            };
        });
        OpenRequest {
            activity: Arc::clone(self),
        }
    }

    /// Completes when the connection has been in one phase for too long, and says in which.
    pub(super) async fn overdue(&self) -> Phase {
        let mut changes = self.state.subscribe();
        loop {
            let State {
                phase,
                since,
                open: _,
            } = *changes.borrow_and_update();
            let limit = match phase {
                Phase::Head => self.limits.header_timeout,
                Phase::Busy => self.limits.stall_timeout,
                Phase::Idle => self.limits.idle_timeout,
            };
            tokio::select! {
                () = sleep_until(since + limit) => return phase,
                changed = changes.changed() => if changed.is_err() { return phase },
            }
        }
    }

    /// Bytes arrived. Between HTTP/1.1 requests they start a head; on HTTP/2 they may be a ping.
    fn received(&self) {
        if self.protocol == Protocol::Http2 {
            return;
        }
        self.state.send_if_modified(|state| {
            let starts_head = state.phase == Phase::Idle;
            if starts_head {
                (state.phase, state.since) = (Phase::Head, Instant::now());
            }
            starts_head
        });
    }

    fn request_ended(&self) {
        self.state.send_modify(|state| {
            state.open = state.open.saturating_sub(1);
            state.phase = if state.open == 0 {
                Phase::Idle
            } else {
                Phase::Busy
            };
            state.since = Instant::now();
        });
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A request's head is on its way, or must come because the connection is new.
    Head,
    /// At least one request is open.
    Busy,
    /// Between requests.
    Idle,
}

struct State {
    phase: Phase,
    since: Instant,
    open: usize,
}

/// A request from its complete head to the end of its response's body.
pub(super) struct OpenRequest {
    activity: Arc<Activity>,
}

impl OpenRequest {
    /// A response body that keeps the request open until it is sent or given up.
    pub(super) fn hold_by(self, body: Body) -> HeldBody {
        HeldBody { body, _open: self }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.activity.request_ended();
    }
}

/// See [`OpenRequest::hold_by`].
pub(super) struct HeldBody {
    body: Body,
    _open: OpenRequest,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A transport that reports what arrives on it.
pub(super) struct Observed<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Observed<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.received();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
