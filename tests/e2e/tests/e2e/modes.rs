//! Old clients and the watch, on the real node: JWTReissuer's pod with its curl sidecar, against a release of its own.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::release;
use crate::stage::{Stage, labelled_pod, stage, wait_for};
use crate::tokens::claims;

/// JWTReissuer's documented pod. Changed are images, region, account and domain, and what it trusts the service's certificate by.
const POD: &str = include_str!("../../manifests/jwt-reissuer-pod.yaml");
const RELEASE: &str = "jwt-reissuer";
/// The endpoint that comes while the programs run, its label and its pod.
const ADDED: &str = "added";

/// JWTReissuer's URL is the host alone. The mode is the one whose rights the chart gives only where it is used.
fn endpoint(danger: &str) -> String {
    format!(
        r#"
  - name: reissuer
    path: /
    audience: sts.amazonaws.com
    issuer: https://jwt-reissuer.example
    key: {{secret: reissuer-key}}
    verification: watch
    {danger}
    rules:
    - filter: "(&(namespace=default)(saname=aws-cli))"
"#
    )
}

#[test]
fn jwt_reissuers_pod_works_where_the_api_servers_audience_is_written_out_and_only_there()
-> Result<()> {
    let stage = stage();
    // With a label, or there would be no injectors.
    let labelled = release::endpoint_for("labelled", "(namespace=default)");
    release::install_own(stage, RELEASE, &(endpoint("") + &labelled))?;
    share_ca(stage)?;
    start(stage)?;
    says(stage, "Failed to refresh token")?;
    ensure!(
        server_log(stage)?.contains("aud_mismatch"),
        "it failed for another reason"
    );
    // The API server's audience is its issuer here.
    let discovery = stage.kubectl(&["get", "--raw", "/.well-known/openid-configuration"])?;
    let discovery: serde_json::Value = serde_json::from_str(&discovery)?;
    let danger = format!("danger: {{apiServerAudiences: [{}]}}", discovery["issuer"]);
    let pods = pods(stage)?;
    let added = release::endpoint_for(ADDED, "(namespace=default)");
    release::install_own(stage, RELEASE, &(endpoint(&danger) + &labelled + &added))?;
    reloads(stage)?;
    start(stage)?;
    serves_the_added(stage)?;
    says(stage, "Token refreshed successfully")?;
    ensure!(
        pods == self::pods(stage)?,
        "the running programs did not take the change over"
    );
    let token = stage.kubectl(&[
        "exec",
        "aws-cli",
        "-c",
        "aws-cli",
        "--",
        "cat",
        "/tmp/token",
    ])?;
    let claims = claims(&token)?;
    ensure!(claims["iss"] == "https://jwt-reissuer.example", "{claims}");
    ensure!(
        claims["sub"] == "system:serviceaccount:default:aws-cli",
        "{claims}"
    );
    let log = server_log(stage)?;
    ensure!(
        log.contains("takes pods' default tokens"),
        "no warning: {log}"
    );
    stage.forget("default", "pod/aws-cli");
    stage.helm(&[
        "uninstall",
        RELEASE,
        "-n",
        RELEASE,
        "--wait",
        "--timeout",
        "60s",
    ])?;
    stage.forget("default", "namespace/jwt-reissuer");
    Ok(())
}

fn server_log(stage: &Stage) -> Result<String> {
    stage.kubectl(&["-n", RELEASE, "logs", "--selector", SERVERS, "--tail=-1"])
}

const SERVERS: &str = "app.kubernetes.io/component=server";

/// The uids of servers and injectors, and how often each was restarted.
fn pods(stage: &Stage) -> Result<String> {
    let of_each = r"jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[*].restartCount}{'\n'}{end}";
    stage.kubectl(&["-n", RELEASE, "get", "pods", "-o", of_each])
}

/// A pod of the endpoint that has come with the change gets a sidecar from the running injectors, and by that a token from the running
/// servers.
fn serves_the_added(stage: &Stage) -> Result<()> {
    let manifest = labelled_pod(stage, "default", ADDED, "default")
        .replace("tremolo.io/aws-role", &format!("tremolo.io/{ADDED}"));
    wait_for("the injectors' reload", Duration::from_secs(60), || {
        stage.apply(&manifest).map(Some)
    })?;
    let ready = [
        "wait",
        "--for=condition=Ready",
        "pod/added",
        "--timeout=60s",
    ];
    stage.kubectl(&ready)?;
    let claims = claims(&stage.exec("default", ADDED, "cat $TOKEN_FILE")?)?;
    let issuer = claims.get("iss").and_then(serde_json::Value::as_str);
    ensure!(issuer == Some("https://added.example/issuer"), "{claims}");
    stage.forget("default", "pod/added");
    Ok(())
}

/// Waits until both servers have taken the changed ConfigMap over. The kubelet brings it to them within a minute or so, and at once
/// when something of the pod changes too. Both programs' pods are so changed.
fn reloads(stage: &Stage) -> Result<()> {
    let mut tries = 0_u32;
    wait_for("a reload", Duration::from_secs(90), || {
        if tries.is_multiple_of(10) {
            let nudge = format!("kube-sts.test/nudge={tries}");
            let annotate = ["annotate", "pods", "--overwrite", "--all", &nudge];
            stage.kubectl(&[["-n", RELEASE].as_slice(), &annotate].concat())?;
        }
        tries += 1;
        let log = server_log(stage)?;
        let reloaded = log.matches("configuration is reloaded").count();
        Ok((reloaded == 2).then_some(()))
    })?;
    Ok(())
}

/// The pod anew: its sidecar tries once in two hours.
fn start(stage: &Stage) -> Result<()> {
    stage.kubectl(&["delete", "pod", "aws-cli", "--ignore-not-found", "--now"])?;
    let manifest = POD
        .replace("public.ecr.aws/aws-cli/aws-cli", &stage.awscli_image)
        .replace("curlimages/curl:latest", &stage.awscli_image);
    stage.apply(&manifest)?;
    Ok(())
}

fn says(stage: &Stage, line: &str) -> Result<()> {
    wait_for(line, Duration::from_secs(90), || {
        let log = stage.kubectl(&["logs", "aws-cli", "-c", "token-refresher"])?;
        ensure!(log.is_empty() || log.contains("Refreshing"), "{log}");
        Ok(log.contains(line).then_some(()))
    })?;
    Ok(())
}

fn share_ca(stage: &Stage) -> Result<()> {
    let ca = || {
        let ca = stage.kubectl(&[
            "-n",
            RELEASE,
            "get",
            "configmap",
            "jwt-reissuer-server-ca",
            "-o",
            r"jsonpath={.data.ca\.crt}",
        ])?;
        Ok((!ca.is_empty()).then_some(ca))
    };
    let (ca, _) = wait_for("the service's CA", Duration::from_secs(30), ca)?;
    let file = stage.scratch.join("jwt-reissuer-ca.crt");
    std::fs::write(&file, ca)?;
    let from = format!("--from-file=ca.crt={}", file.display());
    let manifest = stage.kubectl(&[
        "create",
        "configmap",
        "jwt-reissuer-ca",
        &from,
        "--dry-run=client",
        "-o",
        "yaml",
    ])?;
    stage.apply(&manifest)?;
    Ok(())
}
