//! A TLS server on loopback that answers as it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::{HandshakeKind, ServerConfig, ServerConnection, Stream};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::watched::Watched;

/// A name in its certificate that no name server knows.
pub(crate) const NAME: &str = "sts.invalid";

/// What the server does with a request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// Nothing, and the connection stays open.
    Hang,
    /// A token of this life in seconds.
    Token(u64),
}

impl Answer {
    pub(crate) fn new(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        Self::Bytes([head.as_bytes(), body].concat())
    }

    pub(crate) fn json(status: &str, body: &str) -> Self {
        Self::new(status, "Content-Type: application/json\r\n", body)
    }

    pub(crate) fn token_text(text: &str) -> Self {
        Self::token_text_for(text, 900)
    }

    fn token_text_for(text: &str, life: u64) -> Self {
        let body = format!(
            r#"{{"access_token":"{text}","token_type":"N_A","expires_in":{life},
                "issued_token_type":"urn:ietf:params:oauth:token-type:jwt"}}"#
        );
        Self::json("200 OK", &body)
    }
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) resumed: bool,
}

/// The server. Its threads end with the test's process.
pub(crate) struct Sts {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Mutex<Answer>,
    seen: Watched<Vec<Seen>>,
    tls: Mutex<(Arc<ServerConfig>, String)>,
}

impl Sts {
    pub(crate) fn start(answer: Answer) -> Self {
        Self::with_tls(answer, new_tls(&certificate()))
    }

    /// Its certificate ended in 2020; it is its own CA.
    pub(crate) fn with_expired_certificate(answer: Answer) -> Self {
        let mut certificate = certificate();
        certificate.not_after = rcgen::date_time_ymd(2020, 1, 1);
        Self::with_tls(answer, new_tls(&certificate))
    }

    /// Its certificate is good, and the CA that signed it ended in 2020.
    pub(crate) fn with_expired_ca(answer: Answer) -> Self {
        let mut ca = authority("expired");
        ca.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        Self::with_chain(answer, &[&server_by(&ca)], &ca)
    }

    /// It presents this chain; who trusts that CA is to trust it.
    pub(crate) fn with_chain(answer: Answer, chain: &[&Certified], ca: &Certified) -> Self {
        Self::with_tls(answer, (serve_with(chain), ca.pem()))
    }

    /// The same at an address of loopback that is none of the others'.
    pub(crate) fn with_chain_at(
        address: impl ToSocketAddrs,
        answer: Answer,
        chain: &[&Certified],
        ca: &Certified,
    ) -> Self {
        Self::at(address, answer, (serve_with(chain), ca.pem()))
    }

    fn with_tls(answer: Answer, tls: (Arc<ServerConfig>, String)) -> Self {
        Self::at("127.0.0.1:0", answer, tls)
    }

    fn at(address: impl ToSocketAddrs, answer: Answer, tls: (Arc<ServerConfig>, String)) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer: Mutex::new(answer),
            seen: Watched::default(),
            tls: Mutex::new(tls),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let shared = Arc::clone(&accepting);
                // A client that goes away in the middle is part of the tests.
                thread::spawn(move || drop(serve(&shared, connection.unwrap())));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn answer_from_now_on(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// The certificate of its CA, which is itself.
    pub(crate) fn ca(&self) -> String {
        self.shared.tls.lock().unwrap().1.clone()
    }

    /// Presents another chain from now on, and knows no session of before.
    pub(crate) fn present(&self, chain: &[&Certified]) {
        self.shared.tls.lock().unwrap().0 = serve_with(chain);
    }

    /// Serves with a new certificate that nobody knows yet.
    pub(crate) fn replace_certificate(&self) {
        *self.shared.tls.lock().unwrap() = new_tls(&certificate());
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.read(Clone::clone)
    }

    /// The requests, as soon as there are so many.
    #[track_caller]
    pub(crate) fn wait_for_requests(&self, count: usize) -> Vec<Seen> {
        self.wait_for_request(&format!("{count} requests"), |seen| seen.len() >= count)
    }

    /// The requests, as soon as they are as they should be.
    #[track_caller]
    pub(crate) fn wait_for_request(
        &self,
        what: &str,
        is_so: impl Fn(&[Seen]) -> bool,
    ) -> Vec<Seen> {
        self.shared.seen.wait_until(what, |seen| is_so(seen));
        self.seen()
    }
}

/// A token that looks like ours. Each is another one.
pub(crate) fn mint(life: i64) -> String {
    let now = Duration::from_secs(refresher::clock::now().unix_seconds());
    let exp = i64::try_from(now.as_secs()).unwrap() + life;
    let signature: [u8; 96] = rand::random();
    let payload = URL_SAFE_NO_PAD.encode(format!(r#"{{"iss":"https://issuer","exp":{exp}}}"#));
    format!(
        "eyJhbGciOiJFUzI1NiJ9.{payload}.{}",
        URL_SAFE_NO_PAD.encode(signature)
    )
}

/// A certificate and its key, which can sign others, be it a CA's or not.
pub(crate) type Certified = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn new_ca(name: &str) -> Certified {
    CertifiedIssuer::self_signed(authority(name), KeyPair::generate().unwrap()).unwrap()
}

/// A CA that the holder of another key gives his word for.
pub(crate) fn ca_by(voucher: &Certified, name: &str) -> Certified {
    CertifiedIssuer::signed_by(authority(name), KeyPair::generate().unwrap(), voucher).unwrap()
}

/// The STS's certificate.
pub(crate) fn server_by(ca: &Certified) -> Certified {
    CertifiedIssuer::signed_by(certificate(), KeyPair::generate().unwrap(), ca).unwrap()
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn certificate() -> CertificateParams {
    let names = ["localhost", "127.0.0.1", NAME].map(str::to_owned);
    CertificateParams::new(names).unwrap()
}

fn new_tls(certificate: &CertificateParams) -> (Arc<ServerConfig>, String) {
    let key = KeyPair::generate().unwrap();
    let own = CertifiedIssuer::self_signed(certificate.clone(), key).unwrap();
    (serve_with(&[&own]), own.pem())
}

/// The first one's key is the server's.
fn serve_with(chain: &[&Certified]) -> Arc<ServerConfig> {
    let key = chain[0].key().serialize_pem();
    let chain = chain.iter().map(|certified| certified.der().clone());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            chain.collect(),
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    Arc::new(config)
}

fn serve(shared: &Shared, mut socket: TcpStream) -> std::io::Result<()> {
    let config = Arc::clone(&shared.tls.lock().unwrap().0);
    let mut connection = ServerConnection::new(config).unwrap();
    let mut stream = Stream::new(&mut connection, &mut socket);
    let (head, body) = read_request(&mut stream)?;
    let resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
    let request = Seen {
        at: Instant::now(),
        head,
        body,
        resumed,
    };
    shared.seen.change(|seen| seen.push(request));
    let answer = shared.answer.lock().unwrap().clone();
    let answer = match answer {
        Answer::Token(life) => Answer::token_text_for(&mint(life.try_into().unwrap()), life),
        Answer::Bytes(_) | Answer::Hang => answer,
    };
    if let Answer::Bytes(bytes) = answer {
        stream.write_all(&bytes)?;
        stream.conn.send_close_notify();
        return stream.flush();
    }
    // Until the client has had enough.
    stream.read_to_end(&mut Vec::new()).map(drop)
}

fn read_request(stream: &mut impl Read) -> std::io::Result<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        let Some(end) = text.find("\r\n\r\n") else {
            continue;
        };
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        if bytes.len() >= end + 4 + length {
            let text = String::from_utf8(bytes).unwrap();
            return Ok((text[..end].to_owned(), text[end + 4..].to_owned()));
        }
    }
}
