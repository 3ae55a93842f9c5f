//! Publishing the issuer's documents by hand, as OpenUnison's documentation has it: curl, jq, `aws s3 sync`.

use std::time::Duration;

use anyhow::Result;

use super::outside::DOCUMENTS_BUCKET;
use super::place::Place;
use super::{NAMESPACE, RELEASE};
use crate::poll;
use crate::progress::say;

/// The lines of the documentation; only how the host is reached and trusted differs.
const SCRIPT: &str = r#"
set -eu -o pipefail
export S3DIR=$(mktemp -d)
STS_CA_FILE=$(mktemp)
trap 'rm -rf "$S3DIR" "$STS_CA_FILE"' EXIT
echo "$STS_CA" > $STS_CA_FILE
sts() { fetch "$STS_CA_FILE" "https://$STS_HOST$1"; }
mkdir $S3DIR/.well-known
sts /aws/issuer-docs | jq -r '.discovery' > $S3DIR/.well-known/openid-configuration
sts /aws/issuer-docs | jq -r '.keys' | jq -r > $S3DIR/certs
cd $S3DIR
aws s3 sync .  s3://$BUCKET/ --exact-timestamps
"#;

/// Uploads the documents of the endpoint `aws` to the bucket that the CDN serves.
pub(crate) fn publish(place: &dyn Place) -> Result<()> {
    let service = format!("{RELEASE}-server");
    let address = place.kubectl(&[
        "-n",
        NAMESPACE,
        "get",
        "service",
        &service,
        "-o",
        "jsonpath={.spec.clusterIP}",
    ])?;
    let certificate = place.kubectl(&[
        "-n",
        NAMESPACE,
        "get",
        "configmap",
        &format!("{service}-ca"),
        "-o",
        r"jsonpath={.data.ca\.crt}",
    ])?;
    let environment = [
        ("STS_CA", certificate.as_str()),
        ("STS_HOST", &format!("{service}.{NAMESPACE}.svc")),
        ("STS_ADDRESS", &address),
        ("BUCKET", DOCUMENTS_BUCKET),
    ];
    for uploaded in place
        .shell(SCRIPT, &environment)?
        .lines()
        .filter(|line| line.contains("upload:"))
    {
        say(uploaded.rsplit('\r').next().unwrap_or(uploaded));
    }
    Ok(())
}

/// Waits until the issuer's URL gives the discovery document.
pub(super) fn wait_until_served(place: &dyn Place, issuer: &str) -> Result<()> {
    let script =
        format!("fetch \"$AWS_CA_BUNDLE\" {issuer}/.well-known/openid-configuration > /dev/null");
    poll::until("the issuer's documents", Duration::from_secs(30), || {
        Ok(place.shell(&script, &[]).ok())
    })
    .map(drop)
    .or_else(|_| place.shell(&script, &[]).map(drop))
}
