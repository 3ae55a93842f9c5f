//! etcd and kube-apiserver on loopback, as controller-runtime's envtest starts them, and calls to them as an administrator.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use reqwest::header::HeaderValue;
use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use super::wait::eventually;

/// Whose tokens they are, and whom they are for by default.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// The bearer token of an administrator.
pub(crate) const ADMINISTRATOR: &str = "administrator-of-the-tests";
/// How long the API server may take to start beside other builds.
const START: Duration = Duration::from_secs(90);

/// A running API server.
pub(crate) struct ControlPlane {
    pub(crate) url: String,
    pub(crate) ca_file: PathBuf,
    /// All files of the control plane and of what runs against it; removed with it.
    pub(crate) directory: PathBuf,
    /// For administrators' calls.
    token: String,
    /// Keeps the thread that the kernel watches.
    guardian: mpsc::Sender<()>,
}

impl ControlPlane {
    /// The one that all tests share. It ends with the process.
    pub(crate) async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// One of a test's own, to stop and to break. It ends when it is dropped.
    pub(crate) async fn start() -> Self {
        Self::start_as(ISSUER).await
    }

    /// The same, as an issuer of its own.
    pub(crate) async fn start_as(issuer: &str) -> Self {
        // Fails where another control plane of this process did it already.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let binaries = binaries();
        let directory = tempfile::Builder::new()
            .prefix("kube-sts-api-")
            .tempdir()
            .unwrap()
            .keep();
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let write = |name: &str, text: String| std::fs::write(directory.join(name), text).unwrap();
        write("accounts.key", key.serialize_pem());
        write("accounts.pub", key.public_key_pem());
        write(
            "tokens.csv",
            format!("{ADMINISTRATOR},admin,admin,system:masters\n"),
        );
        let ports = [free_port(), free_port(), free_port()];
        let guardian = guard(&directory, &binaries, ports, issuer);
        let this = Self {
            url: format!("https://127.0.0.1:{}", ports[2].port()),
            ca_file: directory.join("tls/apiserver.crt"),
            directory,
            token: ADMINISTRATOR.to_owned(),
            guardian,
        };
        this.becomes_ready().await;
        this
    }

    async fn becomes_ready(&self) {
        let deadline = Instant::now() + START;
        loop {
            // The certificate is there once kube-apiserver has made it.
            if self.ca_file.exists() && self.call("GET", "/readyz", None).await.0 == 200 {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "kube-apiserver is not ready: {}",
                self.log()
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        let text = [read("etcd.log"), read("kube-apiserver.log")].concat();
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.join("\n")
    }

    /// A client for the API server: made anew, since each test has a runtime of its own.
    pub(crate) fn client(&self) -> Option<Client> {
        let pem = std::fs::read(&self.ca_file).ok()?;
        let roots = Certificate::from_pem_bundle(&pem).ok()?;
        let client = Client::builder()
            .tls_certs_only(roots)
            .timeout(Duration::from_secs(30));
        client.build().ok()
    }

    /// A call as an administrator: the status and the answer. Status 0 if there is none.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let kind = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        self.send(method, path, kind, body).await
    }

    /// Server-side apply, forced, as helm 4 does it.
    pub(crate) async fn apply(&self, path: &str, manager: &str, object: &Value) -> (u16, Value) {
        let path = format!("{path}?fieldManager={manager}&force=true");
        let kind = "application/apply-patch+yaml";
        self.send("PATCH", &path, kind, Some(object)).await
    }

    /// The same by a client that keeps its connections, and only if nobody else is in the way.
    pub(crate) async fn apply_by(
        &self,
        client: &Client,
        path: &str,
        manager: &str,
        object: &Value,
    ) -> (u16, Value) {
        let path = format!("{path}?fieldManager={manager}");
        let kind = "application/apply-patch+yaml";
        self.send_with(client, &self.token, "PATCH", &path, kind, Some(object))
            .await
    }

    /// Server-side apply with somebody's token; the path has its parameters.
    pub(crate) async fn apply_as(&self, token: &str, path: &str, object: &Value) -> (u16, Value) {
        let Some(client) = self.client() else {
            return (0, Value::Null);
        };
        let kind = "application/apply-patch+yaml";
        self.send_with(&client, token, "PATCH", path, kind, Some(object))
            .await
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        match self.client() {
            Some(client) => {
                self.send_with(&client, &self.token, method, path, kind, body)
                    .await
            }
            None => (0, Value::Null),
        }
    }

    /// The same by a client that keeps its connections, for calls in great number. No body for `null`.
    pub(crate) async fn send_by(
        &self,
        client: &Client,
        method: &str,
        path: &str,
        body: &Value,
    ) -> (u16, Value) {
        let body = (!body.is_null()).then_some(body);
        let kind = "application/json";
        self.send_with(client, &self.token, method, path, kind, body)
            .await
    }

    async fn send_with(
        &self,
        client: &Client,
        token: &str,
        method: &str,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let mut request = client
            .request(method.parse().unwrap(), format!("{}{path}", self.url))
            .bearer_auth(token);
        if let Some(body) = body {
            request = request.header("content-type", kind).body(body.to_string());
        }
        let Ok(response) = request.send().await else {
            return (0, Value::Null);
        };
        let status = response.status().as_u16();
        let text = response.text().await.unwrap_or_default();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// The warnings that come with a creation, which has to succeed, as kubectl prints them.
    pub(crate) async fn warnings(&self, path: &str, object: &Value) -> Vec<String> {
        let request = self.client().unwrap().post(format!("{}{path}", self.url));
        let request = request
            .bearer_auth(&self.token)
            .header("content-type", "application/json");
        let response = request.body(object.to_string()).send().await.unwrap();
        let headers = response.headers().get_all("warning").iter();
        // RFC 9111 5.5: 299 - "text", in which quotes and backslashes are escaped.
        let text = |value: &HeaderValue| value.to_str().unwrap().replace('\\', "");
        let warnings = headers.map(text).collect();
        let status = response.status();
        assert_eq!(status, 201, "{}", response.text().await.unwrap());
        warnings
    }

    /// A call that has to succeed.
    pub(crate) async fn ok(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {answer}"
        );
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ok("GET", path, None).await
    }

    pub(crate) async fn create(&self, path: &str, object: Value) -> Value {
        self.ok("POST", path, Some(&object)).await
    }

    pub(crate) async fn delete(&self, path: &str) {
        let now = json!({"gracePeriodSeconds": 0});
        drop(self.ok("DELETE", path, Some(&now)).await);
    }

    /// An administrator's token.
    pub(crate) fn administrator(&self) -> &str {
        &self.token
    }

    /// A TokenRequest: for an audience or the API server's own, bound to a pod (name and uid) or to nothing.
    pub(crate) async fn token(
        &self,
        namespace: &str,
        account: &str,
        audience: Option<&str>,
        pod: Option<(&str, &str)>,
    ) -> String {
        // What the kubelet asks for: with it and its own audience kube-apiserver gives a token for a year.
        let mut spec = json!({"expirationSeconds": 3607});
        if let Some(audience) = audience {
            spec["audiences"] = json!([audience]);
        }
        if let Some((name, uid)) = pod {
            spec["boundObjectRef"] =
                json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
        }
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let answer = self.create(&path, json!({"spec": spec})).await;
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// Sends kube-apiserver a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid("kube-apiserver"), signal).unwrap();
    }

    fn pid(&self, of: &str) -> Pid {
        let pid = std::fs::read_to_string(self.directory.join(format!("{of}.pid"))).unwrap();
        Pid::from_raw(pid.trim().parse().unwrap())
    }

    /// Keeps a copy of etcd's store, for [`ControlPlane::put_back`].
    pub(crate) async fn keep_a_copy(&self) {
        kill(self.pid("script"), Signal::SIGUSR1).unwrap();
        eventually("a copy", async || {
            self.directory.join("copy").exists().then_some(())
        })
        .await;
    }

    /// Puts the copy in place of the store, as after a disaster: etcd knows nothing of what came after it, not even of its revisions.
    pub(crate) async fn put_back(&self) {
        let before = self.pid("kube-apiserver");
        kill(self.pid("script"), Signal::SIGUSR2).unwrap();
        eventually("another kube-apiserver", async || {
            (self.pid("kube-apiserver") != before).then_some(())
        })
        .await;
        self.becomes_ready().await;
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // It fails where the thread has ended already.
        self.guardian.send(()).unwrap_or_default();
    }
}

/// The folder that holds etcd and kube-apiserver.
fn binaries() -> PathBuf {
    let Some(folder) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else {
        panic!(
            "KUBEBUILDER_ASSETS names no folder with etcd and kube-apiserver: run `cargo xtask test --only api`, which makes one"
        );
    };
    for program in ["etcd", "kube-apiserver"] {
        assert!(
            folder.join(program).exists(),
            "{} has no {program}",
            folder.display()
        );
    }
    folder
}

/// A port that nobody listens at, given out once: below those that the kernel takes for outgoing connections, since one of these could
/// take a port between here and the program that is to have it.
pub(crate) fn free_port() -> SocketAddr {
    const FIRST: u16 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Two runs beside each other begin at different ports.
    let start = std::process::id();
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(step < COUNT, "no port is free");
        let offset = u16::try_from(start.wrapping_mul(97).wrapping_add(step) % COUNT).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], FIRST + offset));
        let anywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
        if TcpListener::bind(anywhere).is_ok() {
            return address;
        }
    }
}

/// Starts the script on a thread that lives as long as the control plane shall: the kernel signals the script when that thread ends, and
/// with it when the process ends, however it does. (A test's own thread ends with the test.)
fn guard(
    directory: &Path,
    binaries: &Path,
    ports: [SocketAddr; 3],
    issuer: &str,
) -> mpsc::Sender<()> {
    let (sender, receiver) = mpsc::channel();
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "TERM", "--", "sh"])
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/it/control-plane.sh"
        ))
        .arg(directory)
        .args([binaries.join("etcd"), binaries.join("kube-apiserver")])
        .args(ports.map(|address| address.port().to_string()))
        .arg(issuer);
    drop(std::thread::spawn(move || {
        let mut script: Child = command.spawn().unwrap();
        // Until the sender is used or dropped.
        receiver.recv().unwrap_or_default();
        let pid = Pid::from_raw(i32::try_from(script.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap_or_default();
        drop(script.wait());
    }));
    sender
}
