//! The real program as a process, and what is asked of it.

use std::io::BufReader;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Client, RequestBuilder, Response};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tempfile::TempDir;
use test_support::{TestKey, TokenBuilder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_sts-server");
pub(crate) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(crate) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// How long anything may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks until there is an answer; the test fails if there is none in time.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn now() -> u64 {
    u64::try_from(svc_runtime::clock::now().as_second()).unwrap()
}

/// A token that endpoint `aws` takes.
pub(crate) fn valid() -> TokenBuilder {
    TokenBuilder::valid(now())
}

pub(crate) fn token() -> String {
    valid().sign(TestKey::rsa())
}

/// A configuration's text and files. Endpoints: `aws` at `/aws` for namespace team-a, `aws2` at `/aws2` for everybody.
pub(crate) struct Setup {
    pub(crate) directory: TempDir,
    /// Replacements in the configuration's text.
    pub(crate) changes: Vec<(String, String)>,
    pub(crate) kubeconfig: Option<PathBuf>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let setup = Self {
            directory,
            changes: Vec::new(),
            kubeconfig: None,
        };
        setup.write_jwks(&[TestKey::rsa()]);
        setup
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces the file as a volume of the kubelet does: in one step.
    pub(crate) fn write_jwks(&self, keys: &[&TestKey]) {
        let new = self.path("jwks.json.new");
        std::fs::write(&new, TestKey::jwks(keys)).unwrap();
        std::fs::rename(new, self.path("jwks.json")).unwrap();
    }

    pub(crate) fn text(&self, listen: SocketAddr, admin: SocketAddr) -> String {
        let directory = self.directory.path().display();
        let text = format!(
            r#"
url: https://sts.test
clusters:
- name: elsewhere
  issuer: {issuer}
  jwks: {{file: {directory}/jwks.json}}
endpoints:
- name: aws
  path: /aws
  audience: sts.amazonaws.com
  issuer: https://issuer.example.com
  key: {{file: {directory}/keys/aws.pem, algorithm: RS256, create: true}}
  verification: jwks
  rules:
  - filter: "(namespace=team-a)"
- name: aws2
  path: /aws2
  audience: sts.amazonaws.com
  issuer: https://second.example.com/k8s
  key: {{file: {directory}/keys/aws2.pem, algorithm: ES256, create: true}}
  verification: jwks
  subject: openunison
  lifetime: 5m
  allowAll: true
server:
  listen: "{listen}"
  adminListen: "{admin}"
  rateLimit: {{perAddress: 0, perPod: 0}}
  tls:
    ephemeral: {{names: [localhost], caFile: {directory}/ca.crt}}
"#,
            issuer = TokenBuilder::ISSUER,
        );
        self.changes
            .iter()
            .fold(text, |text, (from, to)| text.replace(from, to))
    }

    pub(crate) fn write_config(&self, text: &str) -> PathBuf {
        let path = self.path("config.yaml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts the program and waits until it is ready.
    pub(crate) async fn start(self) -> Server {
        svc_runtime::install_crypto_provider();
        // Somebody else may take a port that was free just now.
        for _ in 0..5 {
            let (listen, admin) = (free_port(), free_port());
            let config = self.write_config(&self.text(listen, admin));
            let (child, lines) = spawn(&config, self.kubeconfig.as_deref());
            let mut process = Process { child, lines };
            if process.becomes_ready(admin).await {
                return Server::new(self, process, listen, admin);
            }
        }
        panic!("the server could not bind a port five times");
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
}

fn spawn(config: &Path, kubeconfig: Option<&Path>) -> (Child, Arc<Mutex<Vec<String>>>) {
    let mut command = Command::new(PROGRAM);
    command.env_remove("KUBECONFIG");
    if let Some(kubeconfig) = kubeconfig {
        command.env("KUBECONFIG", kubeconfig);
    }
    let mut child = command
        .arg("--config")
        .arg(config)
        .args(["--log", "debug"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let out = BufReader::new(child.stdout.take().unwrap());
    let err = BufReader::new(child.stderr.take().unwrap());
    collect(out, Arc::clone(&lines));
    collect(err, Arc::clone(&lines));
    (child, lines)
}

fn collect(pipe: impl std::io::BufRead + Send + 'static, into: Arc<Mutex<Vec<String>>>) {
    drop(std::thread::spawn(move || {
        for line in pipe.lines().map_while(Result::ok) {
            into.lock().unwrap().push(line);
        }
    }));
}

/// A running program; killed when it is dropped.
struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Whether it is ready in the end; `false` if it could not bind its ports.
    async fn becomes_ready(&mut self, admin: SocketAddr) -> bool {
        let client = Client::new();
        eventually("readiness", async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                let said = self.lines.lock().unwrap().join("\n");
                assert!(said.contains("cannot be bound"), "{status}: {said}");
                return Some(false);
            }
            let answer = client.get(format!("http://{admin}/readyz")).send().await;
            answer
                .is_ok_and(|answer| answer.status() == 200)
                .then_some(true)
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A running server and a client that trusts it.
pub(crate) struct Server {
    pub(crate) setup: Setup,
    pub(crate) admin: SocketAddr,
    pub(crate) listen: SocketAddr,
    process: Process,
    client: Client,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Setup::new().start().await
    }

    fn new(setup: Setup, process: Process, listen: SocketAddr, admin: SocketAddr) -> Self {
        let pem = std::fs::read(setup.path("ca.crt")).unwrap();
        let roots = reqwest::Certificate::from_pem_bundle(&pem).unwrap();
        let client = Client::builder()
            .tls_certs_only(roots)
            .resolve("localhost", listen)
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self {
            setup,
            admin,
            listen,
            process,
            client,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.listen.port())
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse().unwrap(), self.url(path))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request("GET", path).send().await.unwrap()
    }

    pub(crate) async fn admin(&self, path: &str) -> Response {
        let url = format!("http://{}{path}", self.admin);
        self.client.get(url).send().await.unwrap()
    }

    /// RFC 8693.
    pub(crate) async fn form(&self, path: &str, parameters: &[(&str, &str)]) -> Response {
        let request = self.request("POST", path).form(parameters);
        request.send().await.unwrap()
    }

    pub(crate) async fn exchange(&self, path: &str, token: &str) -> Response {
        self.form(path, &parameters(token)).await
    }

    /// JWTReissuer.
    pub(crate) async fn bearer(&self, path: &str, token: &str) -> Response {
        let request = self.request("POST", path).bearer_auth(token);
        request.send().await.unwrap()
    }

    /// A TLS connection that offers these protocols.
    pub(crate) async fn connect(&self, offer: &[&[u8]]) -> TlsStream<TcpStream> {
        let pem = std::fs::read(self.setup.path("ca.crt")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(&pem).unwrap())
            .unwrap();
        let mut config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = offer.iter().map(|name| name.to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(self.listen).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        connector.connect(name, stream).await.unwrap()
    }

    /// Bytes as they are, over TLS; the answer until the server closes the connection, or an empty text if it does without one.
    pub(crate) async fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect(&[]).await;
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A connection that is cut after the answer is an answer too.
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        drop(read.unwrap());
        String::from_utf8(answer).unwrap()
    }

    /// A POST of a valid exchange to a path that no client would send so.
    pub(crate) async fn raw_exchange(&self, target: &str) -> u16 {
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            token()
        );
        status_of(&self.raw(request.as_bytes()).await)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.process.lines.lock().unwrap().clone()
    }

    /// The audit lines so far. They are written before the answer, but read by another thread.
    pub(crate) fn audit_now(&self) -> Vec<Value> {
        let lines = self.lines();
        let values = lines
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok());
        values
            .filter(|line: &Value| line["target"] == "audit")
            .collect()
    }

    /// The audit lines once there are that many.
    pub(crate) async fn audit(&self, count: usize) -> Vec<Value> {
        eventually("audit lines", async || {
            let lines = self.audit_now();
            (lines.len() >= count).then_some(lines)
        })
        .await
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.process.child;
        eventually("the end", async || child.try_wait().unwrap()).await
    }

    /// Ends the server at once and gives back its files.
    pub(crate) async fn stop(mut self) -> Setup {
        self.signal(Signal::SIGKILL);
        assert_eq!(self.ended().await.signal(), Some(9));
        self.setup
    }
}

pub(crate) fn parameters(token: &str) -> [(&str, &str); 3] {
    [
        ("grant_type", GRANT_TYPE),
        ("subject_token", token),
        ("subject_token_type", JWT),
    ]
}

pub(crate) fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

/// The status of a raw HTTP/1.1 answer; 0 for none.
pub(crate) fn status_of(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1);
    status.map_or(0, |status| status.parse().unwrap())
}

/// Asserts a refusal: its status, its standard code, and that nobody may cache it. Gives the response's headers back.
#[track_caller]
pub(crate) fn refused(
    response: Response,
    status: u16,
    code: &'static str,
) -> impl Future<Output = reqwest::header::HeaderMap> {
    let caller = std::panic::Location::caller();
    async move {
        let headers = response.headers().clone();
        let actual = response.status();
        let body = response.text().await.unwrap();
        assert_eq!(actual, status, "{caller}: {body}");
        let json: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["error"], code, "{caller}: {body}");
        // RFC 6749, section 5.2: what may stand in a description.
        let sentence = json["error_description"].as_str().unwrap();
        let fits = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        assert!(sentence.bytes().all(fits), "{caller}: {sentence}");
        assert_eq!(headers["content-type"], "application/json", "{caller}");
        assert_eq!(headers["cache-control"], "no-store", "{caller}");
        headers
    }
}
