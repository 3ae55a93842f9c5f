//! Relying parties of other make, for the tests: they judge the tokens that we issue, and share no code with what issues them.
//!
//! * `strict-sts` turns a web identity token into credentials as AWS does, and checks what AWS checks.
//! * `cdn` stands where a CDN stands in front of a bucket: it serves our published documents to the world.
//!
//! This library holds what both need: an HTTPS server on a certificate from files, and an HTTPS client that trusts one CA.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use axum::Router;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{net::TcpListener, signal::unix, task::JoinSet};
use tokio_rustls::TlsAcceptor;

/// Where a program listens, and as whom.
#[derive(Debug, clap::Args)]
pub struct Listen {
    /// Address to listen on; port 0 takes any free one, and the line at start names it
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// Certificate chain to serve, PEM, leaf first
    #[arg(long, value_name = "FILE")]
    pub certificate: PathBuf,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

/// Chooses the crypto provider. Two of them are in this program's graph, so rustls cannot choose on its own.
///
/// # Errors
/// A provider was installed before.
pub fn install_provider() -> Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a crypto provider is installed already"))
}

/// A client that trusts the certificates in `ca` and nothing else.
///
/// # Errors
/// The file cannot be read or holds no PEM certificates.
pub fn client_trusting(ca: Option<&Path>) -> Result<reqwest::Client> {
    let roots = match ca {
        None => Vec::new(),
        Some(file) => {
            let pem = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
            reqwest::Certificate::from_pem_bundle(&pem)
                .with_context(|| format!("read the certificates in {}", file.display()))?
        }
    };
    reqwest::Client::builder()
        .tls_certs_only(roots)
        .timeout(Duration::from_secs(10))
        .build()
        .context("set up the HTTPS client")
}

/// Serves `routes` over HTTPS until SIGTERM or SIGINT. Prints one line, ending in the address, when it listens.
///
/// # Errors
/// The certificate or the key cannot be used, or the address is taken.
pub async fn serve(listen: &Listen, what: impl fmt::Display, routes: Router) -> Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(listen)?));
    let listener = TcpListener::bind(listen.listen)
        .await
        .with_context(|| format!("listen on {}", listen.listen))?;
    println!("{what}: listening on https://{}", listener.local_addr()?);

    let mut terminated = unix::signal(unix::SignalKind::terminate())?;
    let mut interrupted = unix::signal(unix::SignalKind::interrupt())?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = terminated.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(acceptor.clone(), stream, routes.clone()))),
                Err(error) => {
                    eprintln!("accept: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn connection(acceptor: TlsAcceptor, stream: tokio::net::TcpStream, routes: Router) {
    let handshake = tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return eprintln!("handshake: {error}"),
        Err(_) => return eprintln!("handshake: nothing said for 10 s"),
    };
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .await;
    if let Err(error) = served {
        eprintln!("connection: {error}");
    }
}

fn tls(listen: &Listen) -> Result<rustls::ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&listen.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("read the certificate {}", listen.certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(&listen.key)
        .with_context(|| format!("read the key {}", listen.key.display()))?;
    rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate and the key do not fit")
}
