//! A public issuer: an HTTPS server of static documents, such as a bucket with a CDN before it, that a test writes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// Documents by their paths.
type Documents = Arc<Mutex<BTreeMap<String, String>>>;

pub(crate) struct PublicIssuer {
    address: SocketAddr,
    documents: Documents,
    held: watch::Sender<bool>,
    pub(crate) ca_file: PathBuf,
}

impl PublicIssuer {
    /// Serves nothing yet, on a free port of loopback; its certificate goes into the folder.
    pub(crate) async fn start(folder: &Path) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let ca_file = folder.join("public-issuer.crt");
        std::fs::write(&ca_file, cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let documents = Documents::default();
        let served = Arc::clone(&documents);
        let (held, is_held) = watch::channel(false);
        drop(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, documents) = (acceptor.clone(), Arc::clone(&served));
                let mut held = is_held.clone();
                drop(tokio::spawn(async move {
                    drop(held.wait_for(|held| !held).await);
                    answer(acceptor, stream, documents).await
                }));
            }
        }));
        Self {
            address,
            documents,
            held,
            ca_file,
        }
    }

    /// Where it is reached.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Answers nobody, or goes on.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Takes over what an endpoint serves: OpenUnison's bundle of both documents.
    pub(crate) fn publish(&self, issuer_docs: &serde_json::Value) {
        let text = |member: &str| issuer_docs[member].as_str().unwrap().to_owned();
        let mut documents = self.documents.lock().unwrap();
        documents.insert(
            "/.well-known/openid-configuration".to_owned(),
            text("discovery"),
        );
        documents.insert("/certs".to_owned(), text("keys"));
    }
}

/// One request, one answer: whoever asks again connects again.
async fn answer(acceptor: TlsAcceptor, stream: TcpStream, documents: Documents) -> Option<()> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.ok()?);
    }
    let request = String::from_utf8(request).ok()?;
    let path = request.split(' ').nth(1)?;
    let document = documents.lock().unwrap().get(path).cloned();
    let status = if document.is_some() {
        "200 OK"
    } else {
        "404 Not Found"
    };
    let body = document.unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}
