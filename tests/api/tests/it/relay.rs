//! A road to a store on which writes can be held up: what comes between a replica's reading and its writing then has all the time it needs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Passes everything on unchanged, so that signatures hold.
pub(crate) struct Relay {
    address: SocketAddr,
    held: watch::Sender<bool>,
    writes: mpsc::UnboundedReceiver<String>,
}

/// What each connection needs.
#[derive(Clone)]
struct Road {
    store: SocketAddr,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    held: watch::Receiver<bool>,
    writes: mpsc::UnboundedSender<String>,
}

impl Relay {
    /// To a store whose certificate and key, for `localhost`, are in these files.
    pub(crate) async fn start(store: SocketAddr, certificate: &Path, key: &Path) -> Self {
        let certificate = CertificateDer::from_pem_file(certificate).unwrap();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (held, is_held) = watch::channel(false);
        let (sender, writes) = mpsc::unbounded_channel();
        let road = Road {
            store,
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            held: is_held,
            writes: sender,
        };
        drop(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(tokio::spawn(road.clone().connect(stream)));
            }
        }));
        Self {
            address,
            held,
            writes,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Holds writes up, or lets them go.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// The path of the next write, which may be waiting.
    pub(crate) async fn write(&mut self) -> String {
        self.writes.recv().await.unwrap()
    }
}

impl Road {
    async fn connect(self, stream: TcpStream) -> Option<()> {
        let near = self.acceptor.accept(stream).await.ok()?;
        let far = TcpStream::connect(self.store).await.ok()?;
        let name = ServerName::try_from("localhost").unwrap();
        let far = self.connector.connect(name, far).await.ok()?;
        let (near_in, mut near_out) = tokio::io::split(near);
        let (mut far_in, far_out) = tokio::io::split(far);
        let answers = tokio::io::copy(&mut far_in, &mut near_out);
        tokio::select! {
            _ = answers => {}
            _ = self.pass_on(near_in, far_out) => {}
        }
        Some(())
    }

    /// A client sends its next request when it has the answer to the last one: each begins a piece of its own.
    async fn pass_on(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Option<()> {
        let mut piece = vec![0; 64 << 10];
        loop {
            let length = from.read(&mut piece).await.ok().filter(|read| *read > 0)?;
            let text = String::from_utf8_lossy(&piece[..length]);
            if let Some(rest) = text.strip_prefix("PUT ") {
                let path = rest.split(' ').next().unwrap_or_default();
                self.writes.send(path.to_owned()).ok()?;
                drop(self.held.wait_for(|held| !held).await.ok()?);
            }
            to.write_all(&piece[..length]).await.ok()?;
            to.flush().await.ok()?;
        }
    }
}
