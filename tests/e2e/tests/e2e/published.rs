//! Documents that publish themselves in a public bucket whose URL is the issuer: MinIO verifies from there, keys follow one another, and
//! pods use their credentials all the time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::own::{APPLICATION_RESTARTS, Own, SIDECAR_RESTARTS};
use crate::stage::{ALLOWED, Stage, labelled_pod, stage, wait_for};
use crate::store::{Store, at_the_store, trusting_the_store, url};

/// The release, its endpoint and label.
const NAME: &str = "published";
const SUBJECT: &str = "system:serviceaccount:myns:aws-test";
const MINUTE: Duration = Duration::from_secs(60);
/// The pods. The first has a token of the first key, and one of the third when that is half over; the second one of the second key.
const PODS: [&str; 2] = ["published", "published-later"];
/// Uses AWS all the time, as one program that lives as long as its pod. Its credentials end with the pod's token, within the minute, so that
/// the library gets new ones by that token before each request; and nothing is tried twice.
const USING: &str = r#"
import base64, json, os, time
from awscli.botocore.session import get_session

s3 = get_session().create_client("s3")
bucket = "from-" + os.environ["HOSTNAME"]
made = False
while True:
    with open(os.environ["AWS_WEB_IDENTITY_TOKEN_FILE"]) as file:
        header = file.read().split(".")[0]
    kid = json.loads(base64.urlsafe_b64decode(header + "=="))["kid"]
    try:
        if not made:
            s3.create_bucket(Bucket=bucket)
            made = True
        s3.put_object(Bucket=bucket, Key="object", Body=kid.encode())
        read = s3.get_object(Bucket=bucket, Key="object")["Body"].read().decode()
        print("used" if read == kid else "misread", kid, flush=True)
    except Exception as error:
        print("failed", kid, error, flush=True)
    time.sleep(0.5)
"#;

/// A minute, most of which the first pod's sidecar takes to come for a token of the third key: half of the shortest life that a token can
/// have.
#[test]
fn minio_verifies_from_a_public_bucket_while_keys_follow_one_another_and_pods_work_on() -> Result<()>
{
    let stage = stage();
    let store = Store::start(stage, "issuer")?;
    let own = install(stage, &store)?;
    Store::allow(stage, SUBJECT)?;
    let [early, later] = PODS;
    let first = active_kid(stage)?;
    start_pod(stage, early)?;
    uses(stage, early, &first)?;

    let wish = "sts.tremolo.io/rotate=now";
    let second = rotate(stage, &first, &["annotate", &secret(), wish])?;
    start_pod(stage, later)?;
    uses(stage, later, &second)?;
    let third = rotate(stage, &second, &["delete", &secret()])?;
    uses(stage, early, &third)?;
    for pod in PODS {
        check_nothing_was_felt(stage, pod)?;
        stage.forget(ALLOWED, &format!("pod/{pod}"));
    }
    own.uninstall(stage)
}

/// Two replicas, and times so short that a rotation takes some seconds.
fn install(stage: &Stage, store: &Store) -> Result<Own> {
    let (issuer, endpoint) = (store.issuer(stage), url(stage));
    let endpoints = format!(
        r#"
  - name: {NAME}
    path: /{NAME}
    audience: sts.amazonaws.com
    lifetime: 1m
    issuer: {issuer}
    key: {{secret: {NAME}-key, clockSkew: 1s, staleAfter: 6s}}
    documents: {{maxAge: 1s, caFile: /etc/store/ca.crt}}
    publish: {{s3: {{bucket: issuer, endpoint: "{endpoint}", caFile: /etc/store/ca.crt}}}}
    rules: [{{filter: "(namespace={ALLOWED})"}}]
    injector: {{label: {NAME}, tokenEnv: AWS_WEB_IDENTITY_TOKEN_FILE, annotationEnv: AWS_ROLE_ARN}}
"#
    );
    let settings = trusting_the_store(stage, NAME)?;
    Own::install(stage, NAME, settings, &endpoints)
}

/// Nothing tells it of MinIO but its address.
fn start_pod(stage: &Stage, pod: &str) -> Result<()> {
    let manifest = labelled_pod(stage, ALLOWED, pod, "aws-test")
        .replace("tremolo.io/aws-role", &format!("tremolo.io/{NAME}"))
        .replace(
            r#"[sleep, "100000"]"#,
            &json!(["python3", "-c", USING]).to_string(),
        )
        .replace("    env:\n", ONCE);
    stage.apply(&at_the_store(stage, &manifest))?;
    Ok(())
}

/// How often the AWS library tries.
const ONCE: &str = "    env:\n    - {name: AWS_MAX_ATTEMPTS, value: \"1\"}\n";

/// Waits until the pod uses credentials that it got by a token of that key.
fn uses(stage: &Stage, pod: &str, kid: &str) -> Result<()> {
    let line = format!("used {kid}");
    wait_for(&format!("{pod}: {line}"), MINUTE, || {
        let log = stage.kubectl(&["-n", ALLOWED, "logs", pod, "-c", "app"])?;
        ensure!(!log.contains("failed"), "{log}");
        Ok(log.lines().any(|used| used == line).then_some(()))
    })?;
    Ok(())
}

/// Has a new key begun, and returns it when it signs.
fn rotate(stage: &Stage, before: &str, how: &[&str]) -> Result<String> {
    stage.kubectl(&[&["-n", NAME], how].concat())?;
    let rotated = wait_for("another key to sign", MINUTE, || {
        // For a moment after its deletion there is no Secret.
        let active = active_kid(stage)?;
        Ok((active != before).then_some(active))
    });
    let (after, _) = rotated.or_else(|error| Err(error.context(told(stage)?)))?;
    Ok(after)
}

/// What the Secret and the servers say.
fn told(stage: &Stage) -> Result<String> {
    let path = r"jsonpath={.metadata.annotations.sts\.tremolo\.io/status}";
    let status = stage.kubectl(&["-n", NAME, "get", &secret(), "-o", path])?;
    let servers = ["-l", "app.kubernetes.io/component=server", "--prefix"];
    let logs = stage.kubectl(&[&["-n", NAME, "logs", "--tail=30"], &servers[..]].concat())?;
    Ok(format!("{status}\n{logs}"))
}

fn check_nothing_was_felt(stage: &Stage, pod: &str) -> Result<()> {
    let used = stage.kubectl(&["-n", ALLOWED, "logs", pod, "-c", "app"])?;
    let only = used.lines().all(|line| line.starts_with("used "));
    ensure!(only && used.lines().count() > 10, "{pod}: {used}");
    let log = stage.kubectl(&["-n", ALLOWED, "logs", pod, "-c", "kube-sts-refresher"])?;
    let levels = log.to_lowercase();
    let calm = ["warn", "error"]
        .iter()
        .all(|level| !levels.contains(level));
    ensure!(calm && !log.is_empty(), "{pod}: {log}");
    for restarts in [APPLICATION_RESTARTS, SIDECAR_RESTARTS] {
        let restarts = stage.field(ALLOWED, pod, restarts)?;
        ensure!(restarts == "0", "{pod}: {restarts} restarts");
    }
    Ok(())
}

fn secret() -> String {
    format!("secret/{NAME}-key")
}

/// The key that signs, as its Secret says.
fn active_kid(stage: &Stage) -> Result<String> {
    let path = r"jsonpath={.metadata.annotations.sts\.tremolo\.io/kid}";
    let kid = stage.kubectl(&["-n", NAME, "get", &secret(), "-o", path])?;
    (!kid.is_empty()).then_some(kid).context("no key signs")
}
