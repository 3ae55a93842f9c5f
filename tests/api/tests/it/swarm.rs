//! Many real sidecars and one real server, without a cluster: how they bear its start, its death and its return.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tempfile::TempDir;
use test_support::{TestKey, TokenBuilder};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::control_plane::free_port;
use super::process::programs;
use super::wait::eventually;

/// Each of them is a process.
const SIDECARS: usize = 100;
/// The shortest life that a token may have, in seconds.
const LIFE: u64 = 60;

struct Swarm {
    directory: TempDir,
    listen: SocketAddr,
    server: Option<Child>,
    sidecars: Vec<Child>,
}

impl Swarm {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let listen = free_port();
        let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("tls.crt", &certificate.cert.pem());
        write("tls.key", &certificate.signing_key.serialize_pem());
        write("jwks.json", &TestKey::jwks(&[TestKey::rsa()]));
        write("config.yaml", &config(directory.path(), listen));
        Self {
            directory,
            listen,
            server: None,
            sidecars: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn start_server(&mut self) {
        let mut command = watched("sts-server");
        command.arg("--config").arg(self.path("config.yaml"));
        self.server = Some(command.spawn().unwrap());
        eventually("the server", async || {
            TcpStream::connect(self.listen).await.ok()
        })
        .await;
    }

    fn kill_server(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Each with a pod's token of its own: the server limits what one pod may ask.
    fn start_sidecars(&mut self) {
        let ca = fs::read_to_string(self.path("tls.crt")).unwrap();
        for number in 0..SIDECARS {
            let pod = self.path(&format!("pod-{number}"));
            fs::create_dir_all(pod.join("subject")).unwrap();
            fs::create_dir_all(pod.join("tokens")).unwrap();
            let subject = TokenBuilder::valid(now())
                .at(
                    "/kubernetes.io/pod/uid",
                    format!("11111111-2222-4333-8444-{number:012}"),
                )
                .sign(TestKey::rsa());
            fs::write(pod.join("subject/aws"), subject).unwrap();
            let mut command = watched("refresher");
            command
                .arg("run")
                .env(
                    "STS_ENDPOINTS",
                    format!("aws=https://localhost:{}/aws/token", self.listen.port()),
                )
                .env("STS_CA_CERTIFICATES", &ca)
                .env("STS_SUBJECT_TOKEN_DIR", pod.join("subject"))
                .env("STS_TOKEN_DIR", pod.join("tokens"));
            self.sidecars.push(command.spawn().unwrap());
        }
    }

    /// What is left of each pod's token, in seconds; 0 is none, or a dead one.
    fn left(&self) -> Vec<u64> {
        let left = |number| {
            let file = self.path(&format!("pod-{number}/tokens/aws/token"));
            let token = fs::read_to_string(file).unwrap_or_default();
            expiry(&token).map_or(0, |end| end.saturating_sub(now()))
        };
        (0..SIDECARS).map(left).collect()
    }

    async fn all_have(&self, at_least: u64) {
        eventually("a token in each pod", async || {
            self.left()
                .iter()
                .all(|left| *left >= at_least)
                .then_some(())
        })
        .await;
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        for child in self.sidecars.iter_mut().chain(self.server.as_mut()) {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

#[tokio::test]
async fn ref_006_a_swarm_of_sidecars_never_lacks_a_token_while_the_server_is_away_for_half_a_lifetime()
 {
    let mut swarm = Swarm::new();
    swarm.start_server().await;
    swarm.start_sidecars();
    swarm.all_have(1).await;
    swarm.kill_server();
    // Each has at least 55 hundredths of its token left whenever the outage begins.
    let end = Instant::now() + Duration::from_secs(LIFE / 2);
    while Instant::now() < end {
        let left = swarm.left();
        assert!(left.iter().all(|left| *left > 0), "{left:?}");
        sleep(Duration::from_millis(250)).await;
    }
    swarm.start_server().await;
    let mut worst = LIFE;
    loop {
        let left = swarm.left();
        worst = worst.min(left.iter().copied().min().unwrap());
        assert!(worst > 0, "a pod's token is dead: {left:?}");
        if left.iter().all(|left| *left > LIFE / 2) {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn ref_006_a_swarm_that_started_before_its_server_gets_a_token_in_every_pod() {
    let mut swarm = Swarm::new();
    swarm.start_sidecars();
    eventually("a failure noted in each pod", async || {
        let noted = |number| swarm.path(&format!("pod-{number}/tokens/aws/.status"));
        (0..SIDECARS)
            .all(|number| noted(number).exists())
            .then_some(())
    })
    .await;
    swarm.start_server().await;
    swarm.all_have(1).await;
}

/// A program that ends with the test's thread, whatever happens.
fn watched(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(programs().join(program))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn config(directory: &Path, listen: SocketAddr) -> String {
    let directory = directory.display();
    format!(
        r#"
url: https://localhost:{port}
clusters:
- name: here
  issuer: {issuer}
  jwks: {{file: {directory}/jwks.json}}
endpoints:
- name: aws
  path: /aws
  audience: sts.amazonaws.com
  issuer: https://issuer.example.com
  tokenAudience: {audience}
  key: {{file: {directory}/signing-key.pem, algorithm: RS256, create: true}}
  lifetime: {LIFE}s
  verification: jwks
  allowAll: true
server:
  listen: "{listen}"
  adminListen: "{admin}"
  tls:
    files: {{certificate: {directory}/tls.crt, key: {directory}/tls.key}}
"#,
        port = listen.port(),
        issuer = TokenBuilder::ISSUER,
        audience = TokenBuilder::AUDIENCE,
        admin = free_port(),
    )
}

fn expiry(token: &str) -> Option<u64> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    payload["exp"].as_u64()
}

fn now() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests measure real programs in real time"
    )]
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs()
}
