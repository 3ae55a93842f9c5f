//! Our own accept loop: TLS by tokio-rustls, HTTP/1.1 and HTTP/2 by hyper, with a bound on everything a peer can hold.
//!
//! ```text
//! accept ─▶ under the cap? ─▶ TLS handshake (timed) ─▶ ALPN picks h1 or h2 ─▶ connection (watched by `Activity`) ─▶ router
//! ```
//!
//! The router gets the peer's address as `axum::extract::ConnectInfo<SocketAddr>`. Limits on a request's body and on a handler's time
//! are layers of the router, not of this module.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::server::connection::{Protocol, serve_connection};
use crate::server::peers::{Peers, Place};
use crate::server::refusals::Refusals;
use crate::shutdown::Shutdown;

mod activity;
mod connection;
mod peers;
mod refusals;

pub use peers::network;

/// What one listener and one connection may take. The defaults suit both services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From accepting the connection to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// For a request's head: from the connection's start, or on HTTP/1.1 from a later request's first byte, until it is complete.
    /// Stops clients that send a byte now and then ("slowloris").
    pub header_timeout: Duration,
    /// How long a connection may lie idle between requests. Longer than the clients' own patience, so that they close first.
    pub idle_timeout: Duration,
    /// How long a connection with open requests may go without one of them starting or ending. Ends clients that do not read.
    pub stall_timeout: Duration,
    /// Open connections, handshakes included; one more is closed at once.
    pub max_connections: usize,
    /// Of them, those of one IPv4 address or one IPv6 /64.
    pub max_connections_of_peer: usize,
    /// Bytes of a request's head: the read buffer of HTTP/1.1 (at least 8192) and the header list of HTTP/2 (RFC 9113 section 6.5.2).
    pub max_header_bytes: u32,
    /// Headers of a request.
    pub max_headers: usize,
    /// Whether an HTTP/1.1 connection may serve more than one request.
    pub keep_alive: bool,
    /// Requests open at once on one HTTP/2 connection (RFC 9113 section 5.1.2).
    pub max_concurrent_streams: u32,
    /// How often an HTTP/2 peer is asked for a sign of life; it has as long again to answer.
    pub ping_interval: Duration,
    /// From the request of shutdown until open connections are cut.
    pub drain: Duration,
}

impl Limits {
    /// For the admin port: a handful of clients, all nearby, and nothing worth waiting for at the end.
    ///
    /// Every pod of the cluster may reach this port, and a probe that finds no place restarts the pod: so a connection is one request
    /// and ends soon, whatever its peer does, and there are many more places than clients.
    pub fn for_admin() -> Self {
        Self {
            header_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            stall_timeout: Duration::from_secs(5),
            keep_alive: false,
            max_connections: 512,
            // More than the kubelet and a Prometheus need, and so few that one pod, or three, cannot take all places.
            max_connections_of_peer: 128,
            drain: Duration::from_secs(1),
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(5),
            // Go's transport, and with it kube-apiserver, closes idle connections after 90 s.
            idle_timeout: Duration::from_secs(120),
            stall_timeout: Duration::from_secs(60),
            max_connections: 4096,
            // A node that hides its pods behind one address is a peer as well.
            max_connections_of_peer: 1024,
            max_header_bytes: 16 * 1024,
            max_headers: 100,
            keep_alive: true,
            max_concurrent_streams: 64,
            ping_interval: Duration::from_secs(20),
            drain: Duration::from_secs(20),
        }
    }
}

/// Why a listener could not be served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The operating system does not say where the listener listens.
    #[error("the listener is not usable")]
    Listener(#[source] io::Error),
}

/// Serves `router` over TLS until shutdown is requested; then lets open requests end for at most [`Limits::drain`].
///
/// An error of one connection never ends the loop, and neither does one of accepting (such as no free file descriptors).
///
/// # Errors
///
/// [`ServeError`] if the listener is not usable.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    let service = Service {
        transport: Transport::Tls(TlsAcceptor::from(tls)),
        router,
        limits,
        shutdown,
    };
    service.serve(listener).await
}

/// The same without TLS, for the admin port.
pub(crate) async fn serve_plain(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    Service {
        transport: Transport::Plain,
        router,
        limits,
        shutdown,
    }
    .serve(listener)
    .await
}

/// What every connection of a listener shares.
#[derive(Clone)]
struct Service {
    transport: Transport,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
}

#[derive(Clone)]
enum Transport {
    Plain,
    Tls(TlsAcceptor),
}

impl Service {
    async fn serve(self, listener: TcpListener) -> Result<(), ServeError> {
        let address = listener.local_addr().map_err(ServeError::Listener)?;
        tracing::info!(%address, "listening");
        let mut connections = JoinSet::new();
        let mut refusals = Refusals::default();
        let peers = Peers::default();
        loop {
            tokio::select! {
                // Ended connections are taken off first: the cap counts what is left.
                biased;
                () = self.shutdown.requested() => break,
                Some(ended) = connections.join_next() => report(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let free = connections.len() < self.limits.max_connections;
                        let most = self.limits.max_connections_of_peer;
                        if let Some(place) = free.then(|| peers.admit(peer.ip(), most)).flatten() {
                            connections.spawn(self.clone().connection(stream, peer, place));
                        } else if let Some(refused) = refusals.add(Instant::now()) {
                            tracing::warn!(%address, %peer, refused, "connections refused: too many are open");
                        }
                    }
                    Err(error) => back_off(&error).await,
                },
            }
        }
        // New connections must be refused by the kernel from now on, not wait in its queue.
        drop(listener);
        drain(connections, self.limits.drain).await;
        tracing::info!(%address, "no longer listening");
        Ok(())
    }

    async fn connection(self, stream: TcpStream, peer: SocketAddr, _place: Place) {
        // Answers are small: waiting for a full segment only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "no TCP_NODELAY");
        }
        match self.transport.clone() {
            Transport::Plain => self.http(stream, peer, Protocol::Http1).await,
            Transport::Tls(acceptor) => {
                match timeout(self.limits.handshake_timeout, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let protocol = Protocol::negotiated(stream.get_ref().1.alpn_protocol());
                        self.http(stream, peer, protocol).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                    Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
                }
            }
        }
    }

    async fn http<S>(self, stream: S, peer: SocketAddr, protocol: Protocol)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            transport: _,
            router,
            limits,
            shutdown,
        } = self;
        if let Err(ended) = serve_connection(stream, peer, protocol, router, limits, shutdown).await
        {
            tracing::debug!(%peer, reason = %crate::log::chain(&ended), "connection ended");
        }
    }
}

/// Without free file descriptors `accept` fails again at once: wait until somebody may have closed one. A connection that was gone
/// before we took it is no reason to wait.
async fn back_off(error: &io::Error) {
    if matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    ) {
        return;
    }
    tracing::warn!(%error, "connection not accepted");
    sleep(ACCEPT_BACK_OFF).await;
}

async fn drain(mut connections: JoinSet<()>, limit: Duration) {
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if timeout(limit, all_ended).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "connections cut at the end of the drain"
        );
        connections.shutdown().await;
    }
}

/// A handler that panics takes its connection with it unless the router has a layer for that; the others live on.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection's task panicked");
    }
}

const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);
