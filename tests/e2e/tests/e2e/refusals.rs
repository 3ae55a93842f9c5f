//! Who gets nothing, and what they are told.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::release;
use crate::stage::{ALLOWED, AUDIENCE, ISSUER, Stage, labelled_pod, stage, wait_for};
use crate::tokens::{MINIO, STRICT_STS, assume_role, exchange, has_credentials, issued_token, pod_token};

/// The audit lines of both replicas.
fn audit_lines(stage: &Stage) -> Result<Vec<Value>> {
    let selector = "app.kubernetes.io/component=server";
    let logs = stage.kubectl(&["-n", &stage.namespace, "logs", "--selector", selector, "--tail=-1", "--prefix=false"])?;
    let parsed = logs.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(parsed.filter(|line| line["target"] == "audit").collect())
}

#[test]
fn a_pod_that_no_rule_allows_gets_no_token_and_both_sides_say_why() -> Result<()> {
    let stage = stage();
    // Another test replaces the server's pods, and their logs with them.
    let _unchanged = release::unchanged();
    let (namespace, pod) = ("elsewhere", "denied");
    stage.apply(&stage.kubectl(&["create", "namespace", namespace, "--dry-run=client", "-o", "yaml"])?)?;
    wait_for("the default ServiceAccount", Duration::from_secs(20), || {
        Ok(stage.kubectl(&["-n", namespace, "get", "serviceaccount", "default"]).ok())
    })?;
    stage.apply(&labelled_pod(stage, namespace, pod, "default"))?;
    let sentence = "no rule of this endpoint allows this ServiceAccount";
    wait_for("the sidecar's log to say why", Duration::from_secs(60), || {
        let log = stage.kubectl(&["-n", namespace, "logs", pod, "-c", "kube-sts-refresher"])?;
        Ok(log.contains(sentence).then_some(()))
    })?;
    let told = |line: &Value| {
        line["decision"] == "deny" && line["reason"] == "policy_denied" && line["namespace"] == namespace && line["pod"] == pod
    };
    let (line, _) = wait_for("the audit line", Duration::from_secs(20), || Ok(audit_lines(stage)?.into_iter().find(told)))?;
    ensure!(line["detail"].as_str().is_some_and(|detail| detail.contains("system:serviceaccount:elsewhere:default")), "{line}");
    wait_for("the termination message", Duration::from_secs(60), || {
        let status = stage.get(&["pod", pod, "-n", namespace])?;
        let status = status["status"]["initContainerStatuses"][0].to_string();
        Ok(status.contains(sentence).then_some(()))
    })?;
    let started = "jsonpath={.status.containerStatuses[0].started}";
    let started = stage.kubectl(&["-n", namespace, "get", "pod", pod, "-o", started])?;
    ensure!(started != "true", "the application was started without a token");
    let (_, took) = wait_for("the pod to be deleted while it waits", Duration::from_secs(40), || {
        stage.kubectl(&["-n", namespace, "delete", "pod", pod, "--ignore-not-found", "--timeout=30s"]).map(Some)
    })?;
    ensure!(took < Duration::from_secs(30), "deleting took {took:?}");
    stage.forget(namespace, "namespace/elsewhere");
    Ok(())
}

#[test]
fn a_token_with_the_api_servers_audience_is_refused() -> Result<()> {
    let stage = stage();
    stage.apply(&labelled_pod(stage, ALLOWED, "api-audience", "aws-test"))?;
    for audience in [None, Some("https://sts.example/other")] {
        let (status, body) = exchange(stage, &pod_token(stage, "api-audience", audience)?)?;
        ensure!(status == 401, "{audience:?}: {status} {body}");
    }
    stage.forget(ALLOWED, "pod/api-audience");
    Ok(())
}

#[test]
fn a_deleted_pods_token_is_refused_within_15_seconds() -> Result<()> {
    let stage = stage();
    stage.apply(&labelled_pod(stage, ALLOWED, "deleted", "aws-test"))?;
    let token = pod_token(stage, "deleted", Some(AUDIENCE))?;
    let (status, body) = exchange(stage, &token)?;
    ensure!(status == 200, "{status} {body}");
    stage.kubectl(&["-n", ALLOWED, "delete", "pod", "deleted", "--now"])?;
    let (_, took) = wait_for("the refusal", Duration::from_secs(15), || {
        Ok((exchange(stage, &token)?.0 == 401).then_some(()))
    })?;
    println!("refused {took:?} after the pod was gone");
    Ok(())
}

#[test]
fn tampered_and_expired_tokens_are_refused_by_both_relying_parties() -> Result<()> {
    let stage = stage();
    stage.apply(&labelled_pod(stage, ALLOWED, "tampered", "aws-test"))?;
    let token = issued_token(stage, "tampered")?;
    wait_for("MinIO to know the issuer", Duration::from_secs(30), || {
        assume_role(stage, MINIO, &token).map(|answer| has_credentials(&answer).then_some(()))
    })?;
    let fresh = sign_again(stage, &token, "iat")?;
    let expired = sign_again(stage, &token, "exp")?;
    let (head, tail) = token.split_once('.').context("a JWT has three parts")?;
    let (payload, signature) = tail.split_once('.').context("a JWT has three parts")?;
    let tampered = format!("{head}.{}.{signature}", payload.replacen("a", "b", 1));
    for relying_party in [MINIO, STRICT_STS] {
        let answer = assume_role(stage, relying_party, &fresh)?;
        ensure!(has_credentials(&answer), "{relying_party} refuses the good one: {answer}");
        for (what, token) in [("tampered", &tampered), ("expired", &expired)] {
            let answer = assume_role(stage, relying_party, token)?;
            ensure!(!has_credentials(&answer) && answer.contains("<Error"), "{relying_party} takes the {what} one: {answer}");
        }
    }
    stage.forget(ALLOWED, "pod/tampered");
    Ok(())
}

/// The same token, signed again with the endpoint's own key: as it is (`iat`), or with its end an hour ago (`exp`).
fn sign_again(stage: &Stage, token: &str, change: &str) -> Result<String> {
    const PROGRAM: &str = "
import base64, json, subprocess, sys, time, jwt
token, change, key = sys.argv[1:]
claims = jwt.decode(token, options={'verify_signature': False})
if change == 'exp':
    claims['exp'] = int(time.time()) - 3600
    claims['iat'] = claims['nbf'] = claims['exp'] - 900
print(jwt.encode(claims, base64.b64decode(key), algorithm='RS256', headers={'kid': jwt.get_unverified_header(token)['kid']}))
";
    ensure!(token.contains('.') && ISSUER.starts_with("https"), "no token");
    let key = stage.kubectl(&[
        "-n", &stage.namespace, "get", "secret", "unison-saml2-rp-sig", "-o", r"jsonpath={.data.signing-key\.pem}",
    ])?;
    Ok(stage.python(PROGRAM, &[token, change, &key])?.trim().to_owned())
}
