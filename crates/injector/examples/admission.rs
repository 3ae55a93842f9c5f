//! Both sides of `cargo xtask bench admission`: the webhook's own router behind its own TLS listener, and a client that asks it over
//! kept connections. Two processes, so that each has a core of its own.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measuring program may fail loudly"
)]

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use injector::accounts::Accounts;
use injector::endpoint::{Webhook, router};
use injector::identity::Account;
use injector::intake::Intake;
use injector::metrics::Metrics;
use injector::server_ca::ServerCa;
use injector::settings::{Settings, SidecarForm};
use prometheus_client::registry::Registry;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sts_config::Config;
use svc_runtime::tls::{Authority, ServingCertificate};
use svc_runtime::{Limits, Shutdown};
use tokio::time::Instant;

#[derive(Debug, Parser)]
enum Command {
    /// Serve with the configuration until killed; the address goes to standard output, the CA into a file
    Serve { config: PathBuf, ca: PathBuf },
    /// Ask; what came of it goes to standard output as JSON
    Load {
        address: SocketAddr,
        ca: PathBuf,
        /// The path of the webhook
        path: String,
        /// The AdmissionReview
        body: PathBuf,
        seconds: u64,
        connections: usize,
        /// Requests a second of all connections together; 0 is as many as can be
        rate: f64,
    },
}

fn main() {
    svc_runtime::install_crypto_provider();
    match Command::parse() {
        Command::Serve { config, ca } => serve(&config, &ca),
        Command::Load {
            address,
            ca,
            path,
            body,
            seconds,
            connections,
            rate,
        } => {
            let request = request(&path, &std::fs::read(body).unwrap());
            let client = client(&ca);
            let load = Load {
                address,
                client,
                request,
                until: Instant::now() + Duration::from_secs(seconds),
                pause: (rate > 0.0).then(|| {
                    let connections = u32::try_from(connections).unwrap();
                    Duration::from_secs_f64(f64::from(connections) / rate)
                }),
            };
            println!("{}", load.run(connections));
        }
    }
}

/// Of certificates: longer than any measurement.
const LIFE: Duration = Duration::from_secs(86_400);

#[tokio::main]
async fn serve(config: &std::path::Path, ca: &std::path::Path) {
    let config = Config::load(config).unwrap();
    let injector = config.injector.unwrap();
    let accounts = injector.service_accounts.as_ref();
    let mut settings = Settings::new(&config.url, &config.endpoints, &injector.sidecar, accounts);
    settings.sidecar.form = SidecarForm::Native;
    let now = svc_runtime::clock::now();
    let authority = Authority::create("bench", LIFE, now).unwrap();
    let certificate = ServingCertificate::empty();
    let pair = authority
        .issue(&["localhost".to_owned()], LIFE, now)
        .unwrap();
    certificate.replace(pair).unwrap();
    std::fs::write(ca, authority.bundle().as_pem()).unwrap();
    let account = Account {
        role: Some("arn:aws:iam::123456789012:role/app".to_owned()),
        ..Account::default()
    };
    let webhook = Webhook {
        settings: injector::settings::LiveSettings::new(settings),
        server_ca: ServerCa::known(authority.bundle().clone()),
        accounts: Accounts::fixed([("apps/app".to_owned(), account)]),
        metrics: Metrics::register(&mut Registry::default()),
        intake: Intake::default(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let tls = certificate.server_config();
    let (limits, shutdown) = (Limits::default(), Shutdown::new());
    svc_runtime::serve_tls(listener, tls, router(webhook), limits, shutdown)
        .await
        .unwrap();
}

struct Load {
    address: SocketAddr,
    client: Arc<ClientConfig>,
    request: Vec<u8>,
    until: Instant,
    /// Between two requests of one connection, from start to start.
    pause: Option<Duration>,
}

impl Load {
    fn run(&self, connections: usize) -> serde_json::Value {
        let started = Instant::now();
        let mut spans: Vec<Duration> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..connections)
                .map(|_| scope.spawn(|| self.ask()))
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        let elapsed = started.elapsed().as_secs_f64();
        spans.sort_unstable();
        let at =
            |part: usize| spans[(spans.len() * part / 1000).min(spans.len() - 1)].as_secs_f64();
        serde_json::json!({
            "requests": spans.len(), "seconds": elapsed, "p50": at(500), "p99": at(990),
        })
    }

    /// The time of each request over one connection.
    fn ask(&self) -> Vec<Duration> {
        let name = ServerName::try_from("localhost").unwrap();
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_nodelay(true).unwrap();
        let session = ClientConnection::new(Arc::clone(&self.client), name).unwrap();
        let mut stream = StreamOwned::new(session, tcp);
        let (mut spans, mut buffer, mut next) = (Vec::new(), vec![0; 1 << 20], Instant::now());
        while Instant::now() < self.until {
            if let Some(pause) = self.pause {
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                next += pause;
            }
            let started = Instant::now();
            stream.write_all(&self.request).unwrap();
            read_answer(&mut stream, &mut buffer);
            spans.push(started.elapsed());
        }
        spans
    }
}

fn read_answer(stream: &mut impl std::io::Read, buffer: &mut [u8]) {
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).unwrap();
        assert!(count > 0, "the connection ended");
        filled += count;
        let text = &buffer[..filled];
        let Some(head) = text.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let lines = std::str::from_utf8(&text[..head])
            .unwrap()
            .to_ascii_lowercase();
        assert!(lines.starts_with("http/1.1 200"), "{lines}");
        let length = lines
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if filled >= head + 4 + length.unwrap().parse::<usize>().unwrap() {
            return;
        }
    }
}

fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn client(ca: &std::path::Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in rustls::pki_types::CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    Arc::new(
        ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}
