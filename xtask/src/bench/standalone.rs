//! The real server without a cluster, and directories that stand for pods.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::process::Child;
use crate::image::{self, Profile};
use crate::progress::{Stopwatch, tail};
use crate::python;
use crate::workspace::Workspace;

/// `sts-server` on loopback, with an issuer of its own for the pods' tokens.
#[derive(Debug)]
pub(crate) struct Standalone {
    folder: TempDir,
    address: SocketAddr,
    _server: Child,
}

/// A directory that stands for a pod's volumes.
#[derive(Debug)]
pub(crate) struct Pod {
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Standalone {
    pub(crate) fn start(workspace: &Workspace) -> Result<Self> {
        let program = image::program(workspace, Profile::Release, "sts-server")?;
        let folder = tempfile::tempdir()?;
        let (address, admin) = (free_address()?, free_address()?);
        mint(workspace, folder.path())?;
        let config = folder.path().join("config.yaml");
        fs::write(&config, configuration(folder.path(), address, admin))?;
        let log = folder.path().join("server.log");
        let mut command = Command::new(program);
        command.arg("--config").arg(&config);
        let mut server = Child::spawn(&mut command, &log)?;
        wait_for("the server", || {
            ensure!(server.is_running()?, "the server ended\n{}", tail(&log));
            Ok(TcpStream::connect(address).is_ok())
        })?;
        Ok(Self {
            folder,
            address,
            _server: server,
        })
    }

    /// A pod that has no token yet.
    pub(crate) fn pod(&self) -> Result<Pod> {
        let folder = tempfile::tempdir_in(MEMORY)?;
        for volume in ["subject", "tokens"] {
            fs::create_dir(folder.path().join(volume))?;
        }
        fs::copy(
            self.folder.path().join("subject-token"),
            folder.path().join("subject/bench"),
        )?;
        let ca = fs::read_to_string(self.folder.path().join("ca.crt"))?;
        let path = |volume: &str| folder.path().join(volume).display().to_string();
        let endpoint = format!("bench=https://localhost:{}/token", self.address.port());
        let environment = vec![
            ("STS_ENDPOINTS", endpoint),
            ("STS_CA_CERTIFICATES", ca),
            ("STS_SUBJECT_TOKEN_DIR", path("subject")),
            ("STS_TOKEN_DIR", path("tokens")),
        ];
        Ok(Pod {
            folder,
            environment,
        })
    }
}

impl Pod {
    /// The refresher as it runs in the pod.
    pub(crate) fn command(&self, program: &Path, subcommand: &str) -> Command {
        let mut command = Command::new(program);
        command
            .arg(subcommand)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// How many tokens the sidecar says it has written.
    pub(crate) fn tokens(&self) -> Result<u32> {
        let log = fs::read_to_string(self.log())?;
        Ok(log.matches("wrote a new token").count().try_into()?)
    }

    pub(crate) fn wait_for_tokens(&self, count: u32, child: &mut Child) -> Result<()> {
        wait_for("a sidecar's token", || {
            let log = self.log();
            ensure!(child.is_running()?, "a sidecar ended\n{}", tail(&log));
            Ok(self.tokens()? >= count)
        })
    }
}

/// A key of an issuer, its public part as a JWK Set, and a ServiceAccount's token signed with it.
fn mint(workspace: &Workspace, folder: &Path) -> Result<()> {
    let python = python::ensure(workspace)?.join("python");
    let mut child = Command::new(python)
        .arg("-")
        .args([folder.as_os_str(), ISSUER.as_ref(), AUDIENCE.as_ref()])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start Python")?;
    let mut input = child.stdin.take().context("input is piped")?;
    input.write_all(MINT.as_bytes())?;
    drop(input);
    let status = child.wait()?;
    ensure!(status.success(), "minting a token: {status}");
    Ok(())
}

fn configuration(folder: &Path, address: SocketAddr, admin: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        r#"
url: https://localhost:{port}
clusters:
- name: bench
  issuer: {ISSUER}
  jwks: {{file: {folder}/jwks.json}}
endpoints:
- name: bench
  path: /
  audience: sts.amazonaws.com
  issuer: https://issuer.example.com
  tokenAudience: {AUDIENCE}
  key: {{file: {folder}/signing-key.pem, algorithm: RS256, create: true}}
  lifetime: 1m
  verification: jwks
  rules:
  - filter: "(namespace=default)"
server:
  listen: "{address}"
  adminListen: "{admin}"
  rateLimit: {{perAddress: 0, perPod: 0}}
  tls:
    ephemeral: {{names: [localhost], caFile: {folder}/ca.crt}}
"#,
        port = address.port()
    )
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let watch = Stopwatch::start();
    while !is_so()? {
        if watch.elapsed() > PATIENCE {
            bail!("gave up waiting for {what}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// As in a pod, where the volume of tokens is one in memory.
const MEMORY: &str = "/dev/shm";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const AUDIENCE: &str = "https://localhost/bench";
const PATIENCE: Duration = Duration::from_secs(60);

const MINT: &str = r#"
import json, sys, time, uuid
from pathlib import Path
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

folder, issuer, audience = sys.argv[1:]
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
jwk.pop("key_ops", None)
jwk.update(kid="bench", use="sig", alg="RS256")
Path(folder, "jwks.json").write_text(json.dumps({"keys": [jwk]}))
now = int(time.time())
claims = {
    "iss": issuer, "aud": [audience], "sub": "system:serviceaccount:default:web",
    "iat": now, "nbf": now, "exp": now + 3600, "jti": str(uuid.uuid4()),
    "kubernetes.io": {
        "namespace": "default",
        "node": {"name": "node", "uid": str(uuid.uuid4())},
        "pod": {"name": "web-0", "uid": str(uuid.uuid4())},
        "serviceaccount": {"name": "web", "uid": str(uuid.uuid4())},
    },
}
token = jwt.encode(claims, key, algorithm="RS256", headers={"kid": "bench"})
Path(folder, "subject-token").write_text(token)
"#;
