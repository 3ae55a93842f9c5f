//! The three ways of knowing that a pod is alive, side by side, for the node's cluster and for a second one: whose pods get tokens, and how
//! soon the dead get none.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::release::{install_with, text};
use crate::stage::{Stage, output, stage, wait_for};
use crate::tokens::{claims, curl_of};

/// The release, and its namespace.
const RELEASE: &str = "verification";
/// The pods' namespace, in both clusters.
const PODS: &str = "verified";
/// The second cluster's issuer.
const BLUE: &str = "https://blue.example.com";
const KUBECONFIG_SECRET: &str = "blue-kubeconfig";

/// An endpoint for each way.
const WAYS: [&str; 3] = ["tokenReview", "watch", "jwks"];
/// How soon a deleted pod's token is refused in the first two of them.
const PROMISES: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(2)];

/// A release that takes tokens of two clusters.
struct Two {
    own: &'static Stage,
    blue: Stage,
    /// Where the second cluster's files are.
    folder: PathBuf,
    /// The address of the release's service.
    address: String,
}

fn two() -> Result<&'static Two> {
    static TWO: OnceLock<Result<Two>> = OnceLock::new();
    let two = TWO.get_or_init(Two::set_up).as_ref();
    two.map_err(|error| anyhow!("{error:#}"))
}

impl Two {
    fn set_up() -> Result<Self> {
        let own = stage();
        let (folder, blue) = start_blue(own)?;
        for cluster in [own, &blue] {
            create(cluster, &["namespace", PODS])?;
            create(cluster, &["-n", PODS, "serviceaccount", "app"])?;
        }
        create(own, &["namespace", RELEASE])?;
        share_access(own, &blue, &folder)?;
        let endpoints = WAYS.map(endpoint).concat();
        let values = format!(
            "fullnameOverride: {RELEASE}\nserver: {{replicas: 1}}\nclusters:\n- name: blue\n  issuer: {BLUE}\n  jwks: {{apiServer: {{}}}}\n  \
             kubeconfig: {{secret: {KUBECONFIG_SECRET}}}\nsts:\n  endpoints:\n{endpoints}"
        );
        install_with(own, RELEASE, &values)?;
        let service = format!("{RELEASE}-server");
        let address = "jsonpath={.spec.clusterIP}";
        let address = own.kubectl(&["-n", RELEASE, "get", "service", &service, "-o", address])?;
        Ok(Self {
            own,
            blue,
            folder,
            address,
        })
    }

    /// A pod of a cluster.
    fn create_pod(&self, cluster: &Stage, pod: &str, account: &str) -> Result<()> {
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {pod}, namespace: {PODS}}}, spec: {{serviceAccountName: {account}, \
             terminationGracePeriodSeconds: 1, containers: [{{name: app, image: {}, command: [sleep, '100000']}}]}}}}",
            self.own.awscli_image
        ))?;
        Ok(())
    }

    /// The pod's tokens, one for each way.
    fn tokens(&self, cluster: &Stage, pod: &str, account: &str) -> Result<[Presented<'_>; 3]> {
        let present = |way: &str| -> Result<Presented<'_>> {
            let url = format!(
                "https://{RELEASE}-server.{RELEASE}.svc/{}",
                way.to_lowercase()
            );
            let arguments = ["-n", PODS, "create", "token", account, "--audience", &url];
            let bound = ["--bound-object-kind", "Pod", "--bound-object-name", pod];
            let token = cluster.kubectl(&[&arguments[..], &bound].concat())?;
            Ok(Presented {
                two: self,
                token: token.trim().to_owned(),
                url,
            })
        };
        let [review, watch, jwks] = WAYS.map(present);
        Ok([review?, watch?, jwks?])
    }

    /// Sends the second cluster's API server a signal.
    fn signal_blue(&self, signal: &str) -> Result<()> {
        let pid = std::fs::read_to_string(self.folder.join("kube-apiserver.pid"))?;
        output(Command::new("kill").args([signal, pid.trim()]))?;
        Ok(())
    }
}

/// A pod's token for one endpoint.
struct Presented<'t> {
    two: &'t Two,
    token: String,
    url: String,
}

impl Presented<'_> {
    /// What the endpoint answers: the status, and the body.
    fn exchange(&self) -> Result<(u16, String)> {
        let mut curl = curl_of(self.two.own, RELEASE, RELEASE, &self.two.address, 443)?;
        let bearer = format!("Authorization: Bearer {}", self.token);
        curl.args(["--request", "POST", "--header", &bearer]);
        curl.args([
            "--write-out",
            "\n%{http_code}",
            &format!("{}/token", self.url),
        ]);
        let answer = output(&mut curl)?;
        let (body, status) = answer.rsplit_once('\n').context("curl writes the status")?;
        Ok((status.parse()?, body.to_owned()))
    }

    fn comes_to(&self, expected: u16, limit: Duration) -> Result<()> {
        let what = format!("{} to answer {expected}", self.url);
        wait_for(&what, limit, || {
            let (status, body) = self.exchange()?;
            ensure!(status == expected, "{status} {body}");
            Ok(Some(()))
        })?;
        Ok(())
    }
}

/// Starts the second API server, on the node's address: pods reach it there. It ends with this process.
fn start_blue(own: &Stage) -> Result<(PathBuf, Stage)> {
    const PORTS: [&str; 3] = ["22379", "22380", "26443"];
    const KEYS: &str = "
import sys
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import rsa
key = rsa.generate_private_key(65537, 2048)
pem = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
open(sys.argv[1] + '/accounts.key', 'wb').write(pem)
open(sys.argv[1] + '/accounts.pub', 'wb').write(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
";
    let folder = own.scratch.join("blue");
    std::fs::create_dir_all(&folder)?;
    let directory = text(&folder)?;
    own.python(KEYS, &[directory])?;
    std::fs::write(
        folder.join("tokens.csv"),
        "administrator-of-blue,admin,admin,system:masters\n",
    )?;
    let address = "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}";
    let address = own.kubectl(&["get", "nodes", "-o", address])?;
    let mut script = Command::new("setpriv");
    script
        .args(["--pdeathsig", "TERM", "--", "sh"])
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../api/tests/it/control-plane.sh"
        ))
        .arg(directory)
        .args(["etcd", "kube-apiserver"].map(|program| own.control_plane.join(program)))
        .args(PORTS)
        .args([BLUE, &address]);
    // The kernel ends the script when the thread ends that has started it, which a test's own does too soon.
    drop(thread::spawn(move || script.spawn()?.wait()));
    let kubeconfig = folder.join("kubeconfig");
    let ca = folder.join("tls/apiserver.crt");
    let url = format!("https://{address}:{}", PORTS[2]);
    let text = access(
        &url,
        &ca.to_string_lossy(),
        "certificate-authority",
        "administrator-of-blue",
    );
    std::fs::write(&kubeconfig, text.to_string())?;
    let blue = own.at(kubeconfig);
    wait_for("the second API server", Duration::from_secs(60), || {
        Ok(blue.kubectl(&["get", "--raw", "/readyz"]).ok())
    })?;
    Ok((folder, blue))
}

/// A kubeconfig.
fn access(url: &str, ca: &str, ca_key: &str, token: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "blue",
        "clusters": [{"name": "blue", "cluster": {"server": url, ca_key: ca}}],
        "users": [{"name": "blue", "user": {"token": token}}],
        "contexts": [{"name": "blue", "context": {"cluster": "blue", "user": "blue"}}],
    })
}

/// What docs/verification.md says the account in the other cluster needs, and its kubeconfig in a Secret.
fn share_access(own: &Stage, blue: &Stage, folder: &Path) -> Result<()> {
    create(blue, &["-n", "default", "serviceaccount", "sts"])?;
    for (name, arguments) in [
        (
            "reviews",
            [
                "--verb=create",
                "--resource=tokenreviews.authentication.k8s.io",
            ],
        ),
        (
            "watch",
            ["--verb=list,watch", "--resource=pods,serviceaccounts"],
        ),
    ] {
        let role = ["clusterrole", name];
        create(blue, &[&role[..], &arguments].concat())?;
        let role = format!("--clusterrole={name}");
        create(
            blue,
            &[
                "clusterrolebinding",
                name,
                &role,
                "--serviceaccount=default:sts",
            ],
        )?;
    }
    let token = blue.kubectl(&["-n", "default", "create", "token", "sts"])?;
    let address = blue.kubectl(&[
        "config",
        "view",
        "-o",
        "jsonpath={.clusters[0].cluster.server}",
    ])?;
    let ca = STANDARD.encode(std::fs::read(folder.join("tls/apiserver.crt"))?);
    let kubeconfig = access(&address, &ca, "certificate-authority-data", token.trim());
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": KUBECONFIG_SECRET, "namespace": RELEASE},
        "stringData": {"kubeconfig": kubeconfig.to_string()},
    });
    own.apply(&secret.to_string())?;
    Ok(())
}

/// `kubectl create`, also where it is there already. Options such as `-n` stand before the kind.
fn create(cluster: &Stage, what: &[&str]) -> Result<()> {
    let at = if what.first() == Some(&"-n") { 2 } else { 0 };
    let (before, what) = what.split_at(at);
    let dry = ["--dry-run=client", "-o", "yaml"];
    cluster.apply(&cluster.kubectl(&[before, &["create"], what, &dry].concat())?)?;
    Ok(())
}

fn endpoint(way: &str) -> String {
    let name = way.to_lowercase();
    format!(
        r#"
  - name: {name}
    path: /{name}
    audience: {name}.example
    issuer: https://{name}.example
    key: {{secret: {name}-key, algorithm: ES256}}
    clusters: [kubernetes, blue]
    subject: openunison
    verification: {way}
    rules:
    - filter: "(namespace={PODS})"
"#
    )
}

/// A node's pod, in all three ways: alive, deleted, and its ServiceAccount deleted and made anew.
#[test]
fn live_003_008_the_dead_of_the_node_are_refused_in_time_in_each_way() -> Result<()> {
    let two = two()?;
    let own = two.own;
    let is_refused = |tokens: &[Presented<'_>; 3]| {
        let [review, watch, jwks] = tokens;
        watch.comes_to(401, PROMISES[1])?;
        review.comes_to(401, PROMISES[0])?;
        // As docs/verification.md says: the token alone counts, and it has not expired. The pod has asked more often than one may.
        jwks.comes_to(200, Duration::from_secs(10))
    };
    create(own, &["-n", PODS, "serviceaccount", "short-lived"])?;
    for (pod, account) in [("gone", "app"), ("orphan", "short-lived")] {
        two.create_pod(own, pod, account)?;
        let object = format!("pod/{pod}");
        let ready = ["wait", "--for=condition=Ready", "--timeout=60s"];
        own.kubectl(&[&ready[..], &["-n", PODS, &object]].concat())?;
    }
    let tokens = two.tokens(own, "gone", "app")?;
    for token in &tokens {
        token.comes_to(200, Duration::from_secs(30))?;
        let (_, body) = token.exchange()?;
        let claims = claims(&body)?;
        ensure!(
            claims["sub"] == format!("kubernetes:{PODS}:app"),
            "{claims}"
        );
    }
    own.kubectl(&["-n", PODS, "delete", "pod", "gone", "--now"])?;
    is_refused(&tokens)?;
    let tokens = two.tokens(own, "orphan", "short-lived")?;
    for token in &tokens {
        token.comes_to(200, Duration::from_secs(5))?;
    }
    own.kubectl(&["-n", PODS, "delete", "serviceaccount", "short-lived"])?;
    create(own, &["-n", PODS, "serviceaccount", "short-lived"])?;
    is_refused(&tokens)?;
    for token in two.tokens(own, "orphan", "short-lived")? {
        token.comes_to(200, Duration::from_secs(15))?;
    }
    own.forget(PODS, "pod/orphan");
    Ok(())
}

/// The other cluster's pods get tokens that name it; while its API server hangs they wait for it, and nobody else does.
#[test]
fn live_017_two_clusters_of_which_one_hangs() -> Result<()> {
    let two = two()?;
    two.create_pod(&two.blue, "steady", "app")?;
    two.create_pod(two.own, "steady", "app")?;
    let blue = two.tokens(&two.blue, "steady", "app")?;
    let own = two.tokens(two.own, "steady", "app")?;
    for token in &blue {
        token.comes_to(200, Duration::from_secs(30))?;
        let (_, body) = token.exchange()?;
        let claims = claims(&body)?;
        ensure!(
            claims["cluster"] == "blue" && claims["sub"] == format!("blue:{PODS}:app"),
            "{claims}"
        );
    }
    two.signal_blue("-STOP")?;
    let paused = || {
        let [review, watch, jwks] = &blue;
        review.comes_to(503, Duration::ZERO)?;
        // What was known just now is not asked for, and what is asked of nobody is not noticed.
        watch.comes_to(200, Duration::from_secs(10))?;
        jwks.comes_to(200, Duration::from_secs(10))?;
        own.iter()
            .try_for_each(|token| token.comes_to(200, Duration::from_secs(10)))
    };
    let outcome = paused();
    two.signal_blue("-CONT")?;
    outcome?;
    for token in &blue {
        token.comes_to(200, Duration::from_secs(30))?;
    }
    two.blue.kubectl(&[
        "-n",
        PODS,
        "delete",
        "pod",
        "steady",
        "--now",
        "--wait=false",
    ])?;
    let [review, watch, jwks] = &blue;
    watch.comes_to(401, Duration::from_secs(5))?;
    review.comes_to(401, PROMISES[0])?;
    jwks.comes_to(200, Duration::from_secs(10))?;
    two.own.forget(PODS, "pod/steady");
    Ok(())
}
