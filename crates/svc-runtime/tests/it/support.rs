//! A server on loopback with a certificate of its own CA, and clients that trust that CA alone.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use svc_runtime::tls::{CaBundle, KeyPairPem, ServingCertificate, ephemeral};
use svc_runtime::{Limits, ServeError, Shutdown, clock, install_crypto_provider, serve_tls};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const NAME: &str = "server.test";
/// The size of the answer at `/large`: more than the kernel's buffers of a connection hold.
pub(crate) const LARGE: usize = 64 << 20;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: ServingCertificate,
    pub(crate) ca: CaBundle,
    pub(crate) shutdown: Shutdown,
    pub(crate) ended: JoinHandle<Result<(), ServeError>>,
    /// Told when the handler of `/slow` was entered.
    pub(crate) entered: Arc<Notify>,
    /// Tells the handler of `/slow` to answer.
    pub(crate) release: Arc<Notify>,
}

impl Server {
    pub(crate) async fn start(limits: Limits) -> Self {
        let (certificate, (pair, ca)) = (ServingCertificate::empty(), fresh_pair());
        certificate.replace(pair).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (config, shutdown) = (certificate.server_config(), Shutdown::new());
        let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let ended = background(serve_tls(
            listener,
            config,
            router(Arc::clone(&entered), Arc::clone(&release)),
            limits,
            shutdown.clone(),
        ));
        Self {
            address,
            certificate,
            ca,
            shutdown,
            ended,
            entered,
            release,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{NAME}:{}{path}", self.address.port())
    }

    /// A client that keeps its connections open.
    pub(crate) fn client(&self) -> reqwest::Client {
        client(self.address, &self.ca)
    }

    /// A TLS connection on which a test writes its own bytes.
    pub(crate) async fn connect(&self, alpn: &[u8]) -> TlsStream<TcpStream> {
        let mut config = tls_config(&[&self.ca], &[&TLS13, &TLS12]);
        config.alpn_protocols = vec![alpn.to_vec()];
        handshake(self.address, Arc::new(config)).await.unwrap()
    }
}

/// A client that trusts these CAs alone.
pub(crate) fn tls_config(
    cas: &[&CaBundle],
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    install_crypto_provider();
    let mut roots = RootCertStore::empty();
    for ca in cas {
        let certificate = CertificateDer::from_pem_slice(ca.as_pem().as_bytes()).unwrap();
        roots.add(certificate).unwrap();
    }
    ClientConfig::builder_with_protocol_versions(versions)
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub(crate) async fn handshake(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

pub(crate) fn fresh_pair() -> (KeyPairPem, CaBundle) {
    ephemeral(&[NAME.to_owned()], clock::now()).unwrap()
}

pub(crate) fn client(address: SocketAddr, ca: &CaBundle) -> reqwest::Client {
    install_crypto_provider();
    let root = reqwest::Certificate::from_pem(ca.as_pem().as_bytes()).unwrap();
    reqwest::Client::builder()
        .tls_certs_only([root])
        .resolve(NAME, address)
        .no_proxy()
        .build()
        .unwrap()
}

/// Short enough for a test, long enough for a busy machine.
pub(crate) fn quick() -> Limits {
    Limits {
        handshake_timeout: Duration::from_millis(300),
        header_timeout: Duration::from_millis(300),
        ..Limits::default()
    }
}

pub(crate) fn background<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    #[expect(
        clippy::disallowed_methods,
        reason = "the test itself stands for the process"
    )]
    tokio::task::spawn(future)
}

fn router(entered: Arc<Notify>, release: Arc<Notify>) -> Router {
    Router::new()
        .route(
            "/peer",
            get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string()),
        )
        .route("/large", get(async || vec![b'x'; LARGE]))
        .route(
            "/slow",
            get(async move || {
                entered.notify_one();
                release.notified().await;
                "slow"
            }),
        )
}
