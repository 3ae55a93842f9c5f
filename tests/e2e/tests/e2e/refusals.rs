//! Who gets nothing, and what they are told.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::release;
use crate::stage::{ALLOWED, AUDIENCE, Stage, labelled_pod, stage, wait_for};
use crate::tokens::{
    MINIO, STRICT_STS, assume_role, claims, exchange, has_credentials, issued_token, pod_token,
};

/// The audit lines of both replicas.
fn audit_lines(stage: &Stage) -> Result<Vec<Value>> {
    let selector = "app.kubernetes.io/component=server";
    let logs = stage.kubectl(&[
        "-n",
        &stage.namespace,
        "logs",
        "--selector",
        selector,
        "--tail=-1",
        "--prefix=false",
    ])?;
    let parsed = logs
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(parsed.filter(|line| line["target"] == "audit").collect())
}

/// What callers are told whom no rule allows.
const SENTENCE: &str = "no rule of this endpoint allows this ServiceAccount";
/// A namespace that no rule allows.
const ELSEWHERE: &str = "elsewhere";

/// A labelled pod in a namespace that no rule allows.
fn create_denied_pod(stage: &Stage, pod: &str) -> Result<()> {
    stage.apply(&stage.kubectl(&[
        "create",
        "namespace",
        ELSEWHERE,
        "--dry-run=client",
        "-o",
        "yaml",
    ])?)?;
    wait_for(
        "the default ServiceAccount",
        Duration::from_secs(20),
        || {
            Ok(stage
                .kubectl(&["-n", ELSEWHERE, "get", "serviceaccount", "default"])
                .ok())
        },
    )?;
    stage.apply(&labelled_pod(stage, ELSEWHERE, pod, "default"))?;
    Ok(())
}

#[test]
fn a_pod_that_no_rule_allows_gets_no_token_and_both_sides_say_why() -> Result<()> {
    let stage = stage();
    // Another test replaces the server's pods, and their logs with them.
    let _unchanged = release::unchanged();
    let pod = "denied";
    create_denied_pod(stage, pod)?;
    wait_for(
        "the sidecar's log to say why",
        Duration::from_secs(60),
        || {
            let log = stage.kubectl(&["-n", ELSEWHERE, "logs", pod, "-c", "kube-sts-refresher"])?;
            Ok(log.contains(SENTENCE).then_some(()))
        },
    )?;
    let told = |line: &Value| {
        line["decision"] == "deny"
            && line["reason"] == "policy_denied"
            && line["namespace"] == ELSEWHERE
            && line["pod"] == pod
    };
    let (line, _) = wait_for("the audit line", Duration::from_secs(20), || {
        Ok(audit_lines(stage)?.into_iter().find(told))
    })?;
    let detail = line["detail"].as_str().unwrap_or_default();
    ensure!(
        detail.contains("system:serviceaccount:elsewhere:default"),
        "{line}"
    );
    stage.forget(ELSEWHERE, "pod/denied");
    Ok(())
}

#[test]
fn a_pod_without_a_token_waits_says_why_and_can_be_deleted() -> Result<()> {
    let stage = stage();
    let pod = "waiting";
    create_denied_pod(stage, pod)?;
    wait_for("the termination message", Duration::from_secs(60), || {
        let status = stage.get(&["pod", pod, "-n", ELSEWHERE])?;
        let status = status["status"]["initContainerStatuses"][0].to_string();
        Ok(status.contains(SENTENCE).then_some(()))
    })?;
    let started = "jsonpath={.status.containerStatuses[0].started}";
    let started = stage.kubectl(&["-n", ELSEWHERE, "get", "pod", pod, "-o", started])?;
    ensure!(
        started == "false",
        "the application was started without a token: {started:?}"
    );
    // The hook may just have begun its ten seconds, and a pod is not deleted before it ends.
    stage.kubectl(&["-n", ELSEWHERE, "delete", "pod", pod, "--timeout=25s"])?;
    Ok(())
}

#[test]
fn a_token_with_the_api_servers_audience_is_refused() -> Result<()> {
    let stage = stage();
    stage.apply(&labelled_pod(stage, ALLOWED, "api-audience", "aws-test"))?;
    let (status, body) = exchange(stage, &pod_token(stage, "api-audience", Some(AUDIENCE))?)?;
    ensure!(status == 200, "the right audience: {status} {body}");
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
    wait_for("the refusal", Duration::from_secs(15), || {
        Ok((exchange(stage, &token)?.0 == 401).then_some(()))
    })?;
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
    let fresh = sign_again(stage, &token, End::AsIssued)?;
    let expired = sign_again(stage, &token, End::AnHourAgo)?;
    let tampered = tamper(&token)?;
    for relying_party in [MINIO, STRICT_STS] {
        let answer = assume_role(stage, relying_party, &fresh)?;
        ensure!(
            has_credentials(&answer),
            "{relying_party} refuses the good one: {answer}"
        );
        for (what, token) in [("tampered", &tampered), ("expired", &expired)] {
            let answer = assume_role(stage, relying_party, token)?;
            ensure!(
                !has_credentials(&answer) && answer.contains("<Error"),
                "{relying_party} takes the {what} one: {answer}"
            );
        }
    }
    stage.forget(ALLOWED, "pod/tampered");
    Ok(())
}

/// The token with another subject, one that MinIO has a policy for, under the old signature.
fn tamper(token: &str) -> Result<String> {
    let mut claims = claims(token)?;
    let members = claims.as_object_mut().context("claims are an object")?;
    members.insert("sub".to_owned(), "kubernetes:myns:default".into());
    let (head, signature) = (token.split('.').next(), token.rsplit('.').next());
    let (head, signature) = head.zip(signature).context("a JWT has three parts")?;
    Ok(format!(
        "{head}.{}.{signature}",
        URL_SAFE_NO_PAD.encode(claims.to_string())
    ))
}

/// When a token that is signed again ends.
#[derive(Clone, Copy, Debug)]
enum End {
    AnHourAgo,
    AsIssued,
}

/// The same claims but for their end, signed again with the endpoint's own key.
fn sign_again(stage: &Stage, token: &str, end: End) -> Result<String> {
    const PROGRAM: &str = "
import base64, json, subprocess, sys, time, jwt
token, end, data = sys.argv[1:]
kid = jwt.get_unverified_header(token)['kid']
claims = jwt.decode(token, options={'verify_signature': False})
if end == 'AnHourAgo':
    claims['exp'] = int(time.time()) - 3600
    claims['iat'] = claims['nbf'] = claims['exp'] - 900
print(jwt.encode(claims, base64.b64decode(json.loads(data)[kid + '.pem']), algorithm='RS256', headers={'kid': kid}))
";
    let keys = stage.kubectl(&[
        "-n",
        &stage.namespace,
        "get",
        "secret",
        "unison-saml2-rp-sig",
        "-o",
        "jsonpath={.data}",
    ])?;
    Ok(stage
        .python(PROGRAM, &[token, &format!("{end:?}"), &keys])?
        .trim()
        .to_owned())
}
