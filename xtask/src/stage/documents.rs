//! Publishing the issuer's documents by hand, as OpenUnison's documentation has it: curl, jq, `aws s3 sync`.

use std::time::Duration;

use anyhow::Result;

use super::outside::{ADMINISTRATOR, DOCUMENTS_BUCKET, curl};
use super::{NAMESPACE, RELEASE, Stage};
use crate::poll;
use crate::progress::{output_of, say};

/// The lines of the documentation; only how the host is reached and trusted differs.
const SCRIPT: &str = r#"
set -eu -o pipefail
sts() { curl --silent --show-error --fail --cacert "$STS_CA" --resolve "$STS_HOST:443:$STS_ADDRESS" "https://$STS_HOST$1"; }
export S3DIR=$(mktemp -d)
trap 'rm -rf "$S3DIR"' EXIT
mkdir $S3DIR/.well-known
sts /aws/issuer-docs | jq -r '.discovery' > $S3DIR/.well-known/openid-configuration
sts /aws/issuer-docs | jq -r '.keys' | jq -r > $S3DIR/certs
cd $S3DIR
aws s3 sync .  s3://$BUCKET/ --exact-timestamps
"#;

/// Uploads the documents of the endpoint `aws` to the bucket that the CDN serves.
pub(crate) fn publish(stage: &Stage<'_, '_>) -> Result<()> {
    let cluster = stage.cluster;
    let service = format!("{RELEASE}-server");
    let address = cluster.kubectl(&[
        "-n",
        NAMESPACE,
        "get",
        "service",
        &service,
        "-o",
        "jsonpath={.spec.clusterIP}",
    ])?;
    let certificate = cluster.kubectl(&[
        "-n",
        NAMESPACE,
        "get",
        "configmap",
        &format!("{service}-ca"),
        "-o",
        r"jsonpath={.data.ca\.crt}",
    ])?;
    let sts_ca = cluster.root().join("sts-ca.crt");
    std::fs::write(&sts_ca, certificate)?;
    let aws = crate::python::ensure(stage.workspace)?;
    let mut shell = cluster.command_in_node("bash")?;
    shell
        .args(["-c", SCRIPT])
        .env("PATH", format!("{}:/usr/bin:/bin", aws.display()))
        .env("STS_CA", sts_ca)
        .env("STS_HOST", format!("{service}.{NAMESPACE}.svc"))
        .env("STS_ADDRESS", address)
        .env("BUCKET", DOCUMENTS_BUCKET)
        .env("AWS_CA_BUNDLE", stage.ca())
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", ADMINISTRATOR.0)
        .env("AWS_SECRET_ACCESS_KEY", ADMINISTRATOR.1)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    for uploaded in output_of(&mut shell)?
        .lines()
        .filter(|line| line.contains("upload:"))
    {
        say(uploaded.rsplit('\r').next().unwrap_or(uploaded));
    }
    Ok(())
}

/// Waits until the issuer's URL gives the discovery document.
pub(super) fn wait_until_served(stage: &Stage<'_, '_>, issuer: &str) -> Result<()> {
    poll::until("the issuer's documents", Duration::from_secs(30), || {
        let answer = curl(stage, &format!("{issuer}/.well-known/openid-configuration"))?
            .args(["--fail", "--output", "/dev/null"])
            .status()?;
        Ok(answer.success().then_some(()))
    })
}
