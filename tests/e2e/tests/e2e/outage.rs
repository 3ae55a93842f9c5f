//! The STS is away for half of a token's life, its CA changes meanwhile, a sidecar is killed, and AWS's own client notices nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::own::{APPLICATION_RESTARTS, Own, SIDECAR_RESTARTS, now, process_in};
use crate::release::text;
use crate::stage::{ALLOWED, ISSUER, Stage, labelled_pod, output, stage, wait_for};
use crate::tokens::claims;

/// The release, its endpoint and label, and the one pod.
const NAME: &str = "outage";
/// Of the endpoint's `lifetime`.
const HALF_A_LIFE: Duration = Duration::from_secs(60);
/// How many seconds old a token may be when the outage begins. The refresh comes 30 to 54 seconds after it was issued, hence in the
/// outage; and at the outage's end 40 seconds are left for the server's start and the next try.
const FRESH: u64 = 20;

#[test]
fn ref_003_the_aws_cli_works_on_while_the_sts_is_away_its_ca_changes_and_the_sidecar_is_killed()
-> Result<()> {
    let stage = stage();
    let own = install(stage)?;
    start_pod_that_trusts_both_cas(stage)?;
    let old_certificate = certificate(stage)?;
    use_aws(stage).context("before the outage")?;
    wait_for("a fresh token", 2 * HALF_A_LIFE, || {
        let seconds: u64 = stage.exec(ALLOWED, NAME, "date +%s")?.trim().parse()?;
        Ok((issued_at(stage)? + FRESH >= seconds).then_some(()))
    })?;
    own.scale_server(stage, 0)?;
    live_through_half_a_life(stage)?;
    own.scale_server(stage, 1)?;
    // The overlap has ended during the outage, so it is the server's first deed.
    wait_for("a certificate by the new CA", MINUTE, || {
        Ok((certificate(stage)? != old_certificate).then_some(()))
    })?;
    let before = issued_at(stage)?;
    // The first one after the outage may have come before the look above; the next is due within a half of its life.
    wait_for("a token that came by the new CA", 2 * HALF_A_LIFE, || {
        Ok((issued_at(stage)? > before).then_some(()))
    })?;
    use_aws(stage).context("after the outage")?;
    check_nothing_was_felt(stage)?;
    stage.forget(ALLOWED, &format!("pod/{NAME}"));
    own.uninstall(stage)
}

/// In the midst of which the sidecar is killed.
fn live_through_half_a_life(stage: &Stage) -> Result<()> {
    let (away, before) = (now(), issued_at(stage)?);
    kill_sidecar()?;
    wait_for("the kubelet to start the sidecar again", MINUTE, || {
        let restarts = stage.field(ALLOWED, NAME, SIDECAR_RESTARTS)?;
        let is_ready = stage.field(ALLOWED, NAME, SIDECAR_IS_READY)?;
        Ok((restarts == "1" && is_ready == "true").then_some(()))
    })?;
    use_aws(stage).context("with another sidecar")?;
    wait_for("half a lifetime to be over", 2 * HALF_A_LIFE, || {
        Ok((away.elapsed() >= HALF_A_LIFE).then_some(()))
    })?;
    use_aws(stage).context("after half a lifetime")?;
    ensure!(issued_at(stage)? == before, "somebody issued a token");
    Ok(())
}

fn check_nothing_was_felt(stage: &Stage) -> Result<()> {
    let log = stage.kubectl(&["-n", ALLOWED, "logs", NAME, "-c", "kube-sts-refresher"])?;
    ensure!(
        log.contains("WARN no new token, the old one is still good") && !log.contains("ERROR"),
        "the sidecar was without a token: {log}"
    );
    let restarts = stage.field(ALLOWED, NAME, APPLICATION_RESTARTS)?;
    ensure!(restarts == "0", "the application restarted");
    Ok(())
}

/// With the issuer and the key of the stage's own endpoint, so that AWS takes its tokens, and with a rotation of the CA under way.
fn install(stage: &Stage) -> Result<Own> {
    let issuer = ISSUER.trim_start_matches("https://");
    let endpoint = format!(
        r#"
  - name: {NAME}
    path: /{NAME}
    audience: sts.aws.com
    lifetime: 2m
    issuer: {{host: {issuer}, keypair: {NAME}-key}}
    rules: [{{filter: "(namespace={ALLOWED})"}}]
    injector: {{label: {NAME}, tokenEnv: AWS_WEB_IDENTITY_TOKEN_FILE, annotationEnv: AWS_ROLE_ARN}}
"#
    );
    let settings =
        "server: {replicas: 1, tls: {rotation: {overlap: 30s}}}\ninjector: {replicas: 1}";
    let own = Own::install(stage, NAME, settings, &endpoint)?;
    own.scale_server(stage, 0)?;
    let patch = same_ring(
        &stage.get(&["-n", &stage.namespace, "secret", "unison-saml2-rp-sig"])?,
        &stage.get(&["-n", NAME, "secret", &format!("{NAME}-key")])?,
    );
    let secret = format!("secret/{NAME}-key");
    let merge = ["-n", NAME, "patch", &secret, "--type=merge", "-p"];
    stage.kubectl(&[&merge[..], &[&patch.to_string()]].concat())?;
    let secret = format!("secret/{NAME}-server-tls");
    let wish = "sts.tremolo.io/rotate=now";
    stage.kubectl(&["-n", NAME, "annotate", &secret, wish])?;
    own.scale_server(stage, 1)?;
    Ok(own)
}

/// What makes `own` the ring that `other` is.
fn same_ring(other: &Value, own: &Value) -> Value {
    const RING: &str = "sts.tremolo.io/ring";
    let data = |secret: &Value| -> Map<_, _> {
        let data = secret.get("data").and_then(Value::as_object);
        data.cloned().unwrap_or_default()
    };
    let gone = data(own).into_iter().map(|(name, _)| (name, Value::Null));
    let data: Map<_, _> = gone.chain(data(other)).collect();
    let annotations = other.pointer("/metadata/annotations");
    let ring = annotations.and_then(|all| all.get(RING));
    json!({"metadata": {"annotations": {RING: ring}}, "data": data})
}

/// As soon as the injector hands on both.
fn start_pod_that_trusts_both_cas(stage: &Stage) -> Result<()> {
    let pod = labelled_pod(stage, ALLOWED, NAME, "aws-test")
        .replace("tremolo.io/aws-role", &format!("tremolo.io/{NAME}"));
    let trusted = "jsonpath={.spec.initContainers[0].env[?(@.name=='STS_CA_CERTIFICATES')].value}";
    let try_out = ["create", "--dry-run=server", "-f", "-", "-o", trusted];
    wait_for("the injector to know both CAs", MINUTE, || {
        let trusted = stage.kubectl_with(&try_out, &pod)?;
        Ok((trusted.matches("BEGIN CERTIFICATE").count() == 2).then_some(()))
    })?;
    stage.apply(&pod)?;
    let (pod, ready) = (format!("pod/{NAME}"), "--for=condition=Ready");
    let wait = ["-n", ALLOWED, "wait", ready, &pod, "--timeout=60s"];
    stage.kubectl(&wait).map(drop)
}

/// A new process, which reads the file anew and has its token exchanged for credentials; there is no bucket at first.
fn use_aws(stage: &Stage) -> Result<()> {
    let line = "aws s3 ls s3://from-outage || aws s3 mb s3://from-outage";
    stage.exec(ALLOWED, NAME, line).map(drop)
}

fn issued_at(stage: &Stage) -> Result<u64> {
    let token = stage.exec(ALLOWED, NAME, "cat $AWS_WEB_IDENTITY_TOKEN_FILE")?;
    let claims = claims(&token)?;
    let iat = claims.get("iat").and_then(Value::as_u64);
    iat.context("a token without `iat`")
}

/// The server's certificate, encoded twice.
fn certificate(stage: &Stage) -> Result<String> {
    let (secret, path) = (format!("{NAME}-server-tls"), r"jsonpath={.data.tls\.crt}");
    stage.kubectl(&["-n", NAME, "get", "secret", &secret, "-o", path])
}

/// As the kernel does where memory is short.
fn kill_sidecar() -> Result<()> {
    let process = process_in(NAME, &["/refresher", "run"])?.context("the pod has no sidecar")?;
    let pid = text(&process)?.trim_start_matches("/proc/");
    output(std::process::Command::new("kill").args(["-9", pid])).map(drop)
}

const SIDECAR_IS_READY: &str = "{.status.initContainerStatuses[0].ready}";
const MINUTE: Duration = Duration::from_secs(60);
