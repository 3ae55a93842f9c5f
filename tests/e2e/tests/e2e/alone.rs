//! What disturbs every other test: kube-apiserver is killed and started with other keys. These tests run when all others have ended.

mod api_server;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use self::api_server::ApiServer;
use crate::own::Own;
use crate::release::text;
use crate::stage::{ALLOWED, Stage, labelled_pod, output, stage, wait_for};
use crate::store::{Store, at_the_store, trusting_the_store, url};
use crate::tokens::{claims, kid};

/// The release, and the label of its endpoint.
const NAME: &str = "projecting";
const SUBJECT: &str = "system:serviceaccount:myns:aws-test";
const SERVER: &str = "deployment/projecting-server";
const MINUTE: Duration = Duration::from_secs(60);
/// In the documents.
const MAX_AGE: Duration = Duration::from_secs(2);

/// Self-hosted IRSA, with nothing done by hand but at the API server, as docs/publishing.md says: kube-apiserver starts four times anew, with
/// a public issuer, with one more key, signing with that, and without the first.
#[test]
fn pods_with_the_kubelets_tokens_use_aws_while_the_api_servers_key_changes() -> Result<()> {
    let stage = stage();
    let store = Store::start(stage, "cluster")?;
    let issuer = store.issuer(stage);
    let mut api_server = ApiServer::find(stage)?;
    // The old issuer's tokens, such as the programs' own, stay good.
    let old = api_server.last("service-account-issuer")?;
    let both = [issuer.as_str(), &old];
    api_server.restart(stage, &[("service-account-issuer", &both)])?;
    let own = install(stage, &issuer)?;
    Store::allow(stage, SUBJECT)?;
    start_pod(stage, "old-key")?;
    use_aws(stage, "old-key").context("with the first key")?;

    let old_key = api_server.last("service-account-key-file")?;
    let (key, public) = make_key(stage)?;
    let both = [public.as_str(), &old_key];
    api_server.restart(stage, &[("service-account-key-file", &both)])?;
    let published = || Ok((published_keys(stage, &issuer)?.len() == 2).then_some(()));
    wait_for("both keys to be published", MINUTE, published)?;
    use_aws(stage, "old-key").context("with both keys published")?;
    // Relying parties may keep what they had for so long.
    std::thread::sleep(MAX_AGE);
    api_server.restart(stage, &[("service-account-signing-key-file", &[&key])])?;
    start_pod(stage, "new-key")?;
    for pod in ["old-key", "new-key"] {
        use_aws(stage, pod).with_context(|| format!("with the {pod}"))?;
    }
    check_keys(stage, &issuer)?;

    // Tokens of the old key end with their pods here, and else with their lives: the publisher's own too.
    stage.forget(ALLOWED, "pod/old-key");
    replace_server(stage)?;
    api_server.restart(stage, &[("service-account-key-file", &[&public])])?;
    publishes(stage)?;
    use_aws(stage, "new-key").context("without the old key")?;
    stage.forget(ALLOWED, "pod/new-key");
    own.uninstall(stage)
}

/// The two pods' tokens are of the public issuer, by two keys, which both are published.
fn check_keys(stage: &Stage, issuer: &str) -> Result<()> {
    let [old, new] = [token(stage, "old-key")?, token(stage, "new-key")?];
    ensure!(kid(&old)? != kid(&new)?, "the key did not change");
    let published = published_keys(stage, issuer)?;
    for token in [old, new] {
        let (kid, claims) = (kid(&token)?, claims(&token)?);
        ensure!(published.contains(&kid), "{kid}: {published:?}");
        let of = claims.get("iss").and_then(Value::as_str);
        ensure!(of == Some(issuer), "{claims}");
    }
    Ok(())
}

/// Has the release's server begin anew, with new tokens.
fn replace_server(stage: &Stage) -> Result<()> {
    stage.kubectl(&["-n", NAME, "rollout", "restart", SERVER])?;
    let status = ["-n", NAME, "rollout", "status", SERVER, "--timeout=60s"];
    stage.kubectl(&status).map(drop)
}

/// Waits for a round of publishing that succeeds, and after which the public issuer serves what it should.
fn publishes(stage: &Stage) -> Result<()> {
    let pod = server_pod(stage)?;
    let path = format!("/api/v1/namespaces/{NAME}/pods/{pod}:8081/proxy/metrics");
    let metrics = || stage.kubectl(&["get", "--raw", &path]);
    let rounds = |metrics: &str| -> u32 {
        let good = r#"sts_publication_total{of="kubernetes",outcome="unchanged"} "#;
        let count = metrics.lines().find_map(|line| line.strip_prefix(good));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    };
    let before = rounds(&metrics()?);
    let (after, _) = wait_for("a round of publishing", MINUTE, || {
        let metrics = metrics()?;
        Ok((rounds(&metrics) > before).then_some(metrics))
    })?;
    let differs = r#"sts_public_cluster_differs{cluster="kubernetes"} 0"#;
    ensure!(after.contains(differs), "{after}");
    Ok(())
}

/// The one that stays: its predecessor may still be about to end.
fn server_pod(stage: &Stage) -> Result<String> {
    let selector = "app.kubernetes.io/component=server";
    let list = ["-n", NAME, "get", "pods", "-l", selector, "-o", "json"];
    let list: Value = serde_json::from_str(&stage.kubectl(&list)?)?;
    let pods = list.get("items").and_then(Value::as_array);
    let metadata = |pod: &Value| pod.get("metadata").cloned();
    let mut pods = pods.context("no list")?.iter().filter_map(metadata);
    let pod = pods.find(|pod| pod.get("deletionTimestamp").is_none());
    let name = pod.as_ref().and_then(|pod| pod.get("name")?.as_str());
    name.map(str::to_owned).context("no server")
}

/// Publishes the cluster's documents. The endpoint is there for its label: what pods of it get is the kubelet's token.
fn install(stage: &Stage, issuer: &str) -> Result<Own> {
    let endpoint = format!(
        r#"
  - name: {NAME}
    path: /{NAME}
    audience: sts.amazonaws.com
    issuer: https://{NAME}.example
    key: {{secret: {NAME}-key, algorithm: ES256}}
    rules: [{{filter: "(namespace={ALLOWED})"}}]
    injector: {{label: {NAME}, mode: projected, tokenEnv: AWS_WEB_IDENTITY_TOKEN_FILE, annotationEnv: AWS_ROLE_ARN}}
"#
    );
    let (server, store) = (trusting_the_store(stage, NAME)?, url(stage));
    let settings = format!(
        r#"
clusterDocuments:
  issuer: {issuer}
  publish: {{s3: {{bucket: cluster, endpoint: "{store}", caFile: /etc/store/ca.crt}}}}
  rewriteJwksUri: true
  documents: {{maxAge: {max_age}s, caFile: /etc/store/ca.crt}}
injector: {{replicas: 1}}
{server}"#,
        max_age = MAX_AGE.as_secs(),
    );
    Own::install(stage, NAME, &settings, &endpoint)
}

/// Without a sidecar.
fn start_pod(stage: &Stage, name: &str) -> Result<()> {
    let pod = labelled_pod(stage, ALLOWED, name, "aws-test")
        .replace("tremolo.io/aws-role", &format!("tremolo.io/{NAME}"));
    let pod = at_the_store(stage, &pod);
    // Controllers and kubelet may not have found the API server again.
    wait_for("the pod to be created", MINUTE, || {
        stage.apply(&pod).map(Some)
    })?;
    let (pod, ready) = (format!("pod/{name}"), "--for=condition=Ready");
    let wait = ["-n", ALLOWED, "wait", ready, &pod, "--timeout=60s"];
    stage.kubectl(&wait).map(drop)
}

fn use_aws(stage: &Stage, pod: &str) -> Result<()> {
    let line = "aws s3 ls s3://from-projected || aws s3 mb s3://from-projected";
    stage.exec(ALLOWED, pod, line).map(drop)
}

fn token(stage: &Stage, pod: &str) -> Result<String> {
    stage.exec(ALLOWED, pod, "cat $AWS_WEB_IDENTITY_TOKEN_FILE")
}

/// The ids of the keys that anybody can read.
fn published_keys(stage: &Stage, issuer: &str) -> Result<Vec<String>> {
    let mut curl = std::process::Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--cacert"])
        .arg(&stage.ca)
        .arg(format!("{issuer}/openid/v1/jwks"));
    let set: Value = serde_json::from_str(&output(&mut curl)?)?;
    let keys = set.get("keys").and_then(Value::as_array);
    let keys = keys.context("no keys")?.iter();
    let ids = keys.filter_map(|key| Some(key.get("kid")?.as_str()?.to_owned()));
    Ok(ids.collect())
}

/// The files of a new key for kube-apiserver, and of its public half.
fn make_key(stage: &Stage) -> Result<(String, String)> {
    const PROGRAM: &str = "
import sys
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import rsa
key = rsa.generate_private_key(65537, 2048)
private = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.TraditionalOpenSSL, s.NoEncryption())
public = key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
for path, text in zip(sys.argv[1:], (private, public)):
    open(path, 'wb').write(text)
";
    let path = |end: &str| -> Result<String> {
        let path = stage.scratch.join(format!("accounts-{end}"));
        text(&path).map(str::to_owned)
    };
    let (key, public) = (path("key")?, path("pub")?);
    stage.python(PROGRAM, &[&key, &public])?;
    Ok((key, public))
}
