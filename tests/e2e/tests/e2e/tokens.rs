//! Tokens in tests: asking the API server for a pod's, the STS for ours, and both relying parties for credentials.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::stage::{ALLOWED, AUDIENCE, Stage, output};

/// A pod's token, as a sidecar has it; `audience` is the API server's own where it is `None`.
pub(crate) fn pod_token(stage: &Stage, pod: &str, audience: Option<&str>) -> Result<String> {
    let mut arguments = vec![
        "-n",
        ALLOWED,
        "create",
        "token",
        "aws-test",
        "--duration",
        "1h",
    ];
    arguments.extend(["--bound-object-kind", "Pod", "--bound-object-name", pod]);
    if let Some(audience) = audience {
        arguments.extend(["--audience", audience]);
    }
    Ok(stage.kubectl(&arguments)?.trim().to_owned())
}

/// What the STS answers to a token in a Bearer header: the status, and the body.
pub(crate) fn exchange(stage: &Stage, token: &str) -> Result<(u16, String)> {
    let mut curl = sts_curl(stage, &service_address(stage)?, 443)?;
    curl.args([
        "--request",
        "POST",
        "--header",
        &format!("Authorization: Bearer {token}"),
    ]);
    curl.args([
        "--write-out",
        "\n%{http_code}",
        &format!("{AUDIENCE}/token"),
    ]);
    let answer = output(&mut curl)?;
    let (body, status) = answer.rsplit_once('\n').context("curl writes the status")?;
    Ok((status.parse()?, body.to_owned()))
}

/// A document that the STS serves.
pub(crate) fn served(stage: &Stage, path: &str) -> Result<String> {
    let mut curl = sts_curl(stage, &service_address(stage)?, 443)?;
    output(curl.args([
        "--fail",
        &format!("https://kube-sts-server.kube-sts.svc{path}"),
    ]))
}

fn service_address(stage: &Stage) -> Result<String> {
    let service = format!("{}-server", stage.release);
    let address = "jsonpath={.spec.clusterIP}";
    stage.kubectl(&[
        "-n",
        &stage.namespace,
        "get",
        "service",
        &service,
        "-o",
        address,
    ])
}

/// curl for the STS at an address, trusting its own authority.
pub(crate) fn sts_curl(stage: &Stage, address: &str, port: u16) -> Result<Command> {
    curl_of(stage, &stage.namespace, &stage.release, address, port)
}

/// The same for another release's STS.
pub(crate) fn curl_of(
    stage: &Stage,
    namespace: &str,
    release: &str,
    address: &str,
    port: u16,
) -> Result<Command> {
    let config_map = format!("{release}-server-ca");
    let ca = stage.kubectl(&[
        "-n",
        namespace,
        "get",
        "configmap",
        &config_map,
        "-o",
        r"jsonpath={.data.ca\.crt}",
    ])?;
    let path = stage.scratch.join(format!("{release}-sts-ca.crt"));
    std::fs::write(&path, ca)?;
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "10", "--cacert"])
        .arg(path);
    curl.args([
        "--connect-to",
        &format!("{release}-server.{namespace}.svc:443:{address}:{port}"),
    ]);
    Ok(curl)
}

/// An issued token for a pod of the allowed namespace.
pub(crate) fn issued_token(stage: &Stage, pod: &str) -> Result<String> {
    let (status, body) = exchange(stage, &pod_token(stage, pod, Some(AUDIENCE))?)?;
    ensure!(status == 200, "the exchange was refused: {status} {body}");
    Ok(body)
}

/// The two relying parties.
pub(crate) const MINIO: &str = "https://sts.amazonaws.com/";
pub(crate) const STRICT_STS: &str = "https://strict-sts.example/";

/// What a relying party answers to `AssumeRoleWithWebIdentity`: XML, with credentials or with an error.
pub(crate) fn assume_role(stage: &Stage, relying_party: &str, token: &str) -> Result<String> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "10", "--cacert"])
        .arg(&stage.ca);
    for field in [
        "Action=AssumeRoleWithWebIdentity",
        "Version=2011-06-15",
        "RoleSessionName=test",
    ] {
        curl.args(["--data-urlencode", field]);
    }
    curl.args([
        "--data-urlencode",
        "RoleArn=arn:aws:iam::123456789012:role/demo",
    ]);
    curl.args([
        "--data-urlencode",
        &format!("WebIdentityToken={token}"),
        relying_party,
    ]);
    output(&mut curl)
}

/// Whether an answer holds credentials.
pub(crate) fn has_credentials(answer: &str) -> bool {
    answer.contains("<SecretAccessKey>") && !answer.contains("<Error>")
}

/// A token's claims.
pub(crate) fn claims(token: &str) -> Result<Value> {
    let payload = token.split('.').nth(1).context("a JWT has three parts")?;
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?)
}

/// The id of the key that signed a token.
pub(crate) fn kid(token: &str) -> Result<String> {
    let header = token.split('.').next().unwrap_or_default();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
    let kid = header.get("kid").and_then(Value::as_str);
    kid.map(str::to_owned).context("a token without `kid`")
}
