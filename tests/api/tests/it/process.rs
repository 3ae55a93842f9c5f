//! The programs as processes.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Certificate, Client, Response};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::control_plane::free_port;
use super::install::Install;
use super::wait::{PATIENCE, POLL, eventually};

/// The folder of the programs, which are built once. `cargo test -p api-tests` builds no other package's programs.
pub(crate) fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["programs", "--quiet"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(built.success(), "the programs cannot be built");
        // CARGO_TARGET_TMPDIR is target/tmp.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        target.join("debug")
    })
}

/// The build of a program that is measured, on a core of its own.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment is how `cargo xtask bench` names it"
)]
fn measured(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("KUBE_STS_BENCH_PROGRAM").map(PathBuf::from);
    path.filter(|path| path.ends_with(program))
}

/// Runs `kubectl sts` as an administrator: whether it ended well, and what it wrote to stdout and stderr.
pub(crate) async fn kubectl_sts(install: &Install, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(programs().join("kubectl-sts"));
    command
        .args(["--namespace", &install.namespace])
        .args(arguments)
        .env("KUBECONFIG", install.administrator());
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
    let ended = ended.await.unwrap();
    let text = [ended.stdout, ended.stderr].concat();
    (ended.status.success(), String::from_utf8(text).unwrap())
}

/// The uid of the pods that programs take themselves for.
const POD_UID: &str = "8b9e4f2a-0c1d-4e5f-8a9b-0c1d2e3f4a5b";

/// A running program; killed when it is dropped, and by the kernel if the test's thread ends otherwise.
pub(crate) struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    pub(crate) admin: SocketAddr,
    pub(crate) listen: SocketAddr,
    /// Its configuration file.
    pub(crate) config: PathBuf,
}

impl Process {
    /// `sts-server` on free ports of loopback.
    pub(crate) fn server(install: &Install) -> Self {
        Self::server_with(install, |_| {})
    }

    /// The same with another configuration.
    pub(crate) fn server_with(install: &Install, adjust: impl FnOnce(&mut Value)) -> Self {
        Self::spawn(install, "sts-server", "server", free_port(), adjust)
    }

    /// `injector` at an address that the API server takes for an endpoint of a Service.
    pub(crate) fn injector(install: &Install, listen: SocketAddr) -> Self {
        Self::injector_with(install, listen, |_| {})
    }

    /// The same with another configuration.
    pub(crate) fn injector_with(
        install: &Install,
        listen: SocketAddr,
        adjust: impl FnOnce(&mut Value),
    ) -> Self {
        Self::spawn(install, "injector", "injector", listen, adjust)
    }

    fn spawn(
        install: &Install,
        program: &str,
        part: &str,
        listen: SocketAddr,
        adjust: impl FnOnce(&mut Value),
    ) -> Self {
        let admin = free_port();
        let config = install.config_file(listen, admin, adjust);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        match measured(program) {
            Some(measured) => command.args(["taskset", "-c", "0"]).arg(measured),
            None => command.arg(programs().join(program)),
        };
        let mut child = command
            .arg("--config")
            .arg(&config)
            .args(["--namespace", &install.namespace])
            .args(["--pod-name", part, "--pod-uid", POD_UID])
            .env("KUBECONFIG", install.kubeconfig(part))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        collect(
            BufReader::new(child.stdout.take().unwrap()),
            Arc::clone(&lines),
        );
        collect(
            BufReader::new(child.stderr.take().unwrap()),
            Arc::clone(&lines),
        );
        Self {
            child,
            lines,
            admin,
            listen,
            config,
        }
    }

    /// Changes its configuration file.
    pub(crate) fn reconfigure(&self, adjust: impl FnOnce(&mut Value)) {
        let text = std::fs::read(&self.config).unwrap();
        let mut config = serde_json::from_slice(&text).unwrap();
        adjust(&mut config);
        std::fs::write(&self.config, config.to_string()).unwrap();
    }

    /// Waits until the metrics have this line.
    pub(crate) async fn shows(&self, line: &str) {
        eventually(line, async || {
            let text = self.metrics().await;
            text.lines().any(|shown| shown == line).then_some(())
        })
        .await;
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// What `/readyz` says: status and text; status 0 if nobody answers.
    pub(crate) async fn readiness(&self) -> (u16, String) {
        let url = format!("http://{}/readyz", self.admin);
        match Client::new().get(url).send().await {
            Ok(answer) => (
                answer.status().as_u16(),
                answer.text().await.unwrap_or_default(),
            ),
            Err(_) => (0, String::new()),
        }
    }

    pub(crate) async fn becomes_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait().unwrap();
            let (status, text) = self.readiness().await;
            if status == 200 {
                break;
            }
            let in_time = ended.is_none() && Instant::now() < deadline;
            assert!(in_time, "{ended:?} {text}\n{}", self.lines().join("\n"));
            sleep(POLL).await;
        }
    }

    /// A client that trusts what the ConfigMap of the installation says, as sidecars do.
    pub(crate) async fn client(&self, install: &Install) -> Client {
        let pem = install.server_ca().await;
        let roots = Certificate::from_pem_bundle(pem.as_bytes()).unwrap();
        let client = Client::builder()
            .tls_certs_only(roots)
            .resolve(&install.host(), self.listen)
            .timeout(PATIENCE);
        client.build().unwrap()
    }

    pub(crate) fn url(&self, install: &Install, path: &str) -> String {
        format!("https://{}:{}{path}", install.host(), self.listen.port())
    }

    /// JWTReissuer's form of an exchange.
    pub(crate) async fn exchange(&self, install: &Install, token: &str) -> Response {
        let client = self.client(install).await;
        let request = client
            .post(self.url(install, "/aws/token"))
            .bearer_auth(token);
        request.send().await.unwrap()
    }

    pub(crate) async fn exchange_status(&self, install: &Install, token: &str) -> u16 {
        self.exchange(install, token).await.status().as_u16()
    }

    /// The token it gives; if it gives none, the test fails with what its log says.
    pub(crate) async fn grants(&self, install: &Install, token: &str) -> String {
        let answer = self.exchange(install, token).await;
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        if status != 200 {
            // The line is written before the answer, and read by another thread.
            drop(self.first_refusal().await);
        }
        assert_eq!(status, 200, "{text}\n{}", self.lines().join("\n"));
        text
    }

    pub(crate) async fn key_set(&self, install: &Install) -> Value {
        let client = self.client(install).await;
        let request = client.get(self.url(install, "/aws/certs"));
        request.send().await.unwrap().json().await.unwrap()
    }

    /// The audit lines so far.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let lines = self.lines();
        let values = lines
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok());
        values
            .filter(|line: &Value| line["target"] == "audit")
            .collect()
    }

    /// The audit line of an exchange, counted from 1. It is written before the answer, but read by another thread.
    pub(crate) async fn audit_line(&self, exchange: usize) -> Value {
        eventually("audit lines", async || {
            self.audit().get(exchange - 1).cloned()
        })
        .await
    }

    /// The audit line of an exchange that was allowed to a pod of a cluster.
    pub(crate) async fn allowed(&self, cluster: &str) -> Value {
        let allowed = |line: &Value| line["decision"] == "allow" && line["cluster"] == cluster;
        eventually("an allowed exchange's audit line", async || {
            self.audit().into_iter().find(allowed)
        })
        .await
    }

    /// The reasons of the exchanges so far.
    fn reasons(&self) -> Vec<String> {
        let reason = |line: Value| line["reason"].as_str().unwrap().to_owned();
        self.audit().into_iter().map(reason).collect()
    }

    /// The metrics, as text.
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.admin);
        let answer = Client::new().get(url).send().await.unwrap();
        answer.text().await.unwrap()
    }

    /// The reason of an exchange, counted from 1. Its line is written before the answer, but read by another thread.
    pub(crate) async fn reason(&self, exchange: usize) -> String {
        eventually("audit lines", async || {
            self.reasons().get(exchange - 1).cloned()
        })
        .await
    }

    /// The reason of the first exchange that was refused.
    pub(crate) async fn first_refusal(&self) -> String {
        eventually("a refusal's audit line", async || {
            self.reasons()
                .into_iter()
                .find(|reason| reason != "granted")
        })
        .await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// The CPU time it has used so far.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.program_pid())).unwrap();
        let spent = tasks.map(|task| {
            let path = task.unwrap().path().join("schedstat");
            // Nanoseconds on a CPU. A thread may have ended meanwhile.
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let nanoseconds = text.split(' ').next().unwrap_or_default();
            nanoseconds.parse::<u64>().unwrap_or_default()
        });
        Duration::from_nanos(spent.sum())
    }

    /// The memory it has now.
    pub(crate) fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.program_pid()));
        let status = status.unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: f64 = line.unwrap().trim_end_matches("kB").trim().parse().unwrap();
        kib / 1024.0
    }

    /// `setpriv` and `taskset` become the program.
    pub(crate) fn program_pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn collect(pipe: impl BufRead + Send + 'static, into: Arc<Mutex<Vec<String>>>) {
    drop(std::thread::spawn(move || {
        for line in pipe.lines().map_while(Result::ok) {
            into.lock().unwrap().push(line);
        }
    }));
}
