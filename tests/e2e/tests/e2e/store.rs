//! A MinIO of one test's own, at an address that the stage leaves free: a bucket of it that anybody may read is an issuer, and it trusts
//! that issuer.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Result;

use crate::release::text;
use crate::stage::{Stage, output, wait_for};

/// The administrator. The node has no uplink, and nothing of value.
const ADMINISTRATOR: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "administrator"),
    ("AWS_SECRET_ACCESS_KEY", "of-one-test-alone"),
];

/// A running MinIO; killed when it is dropped.
pub(crate) struct Store {
    child: Child,
    bucket: &'static str,
}

impl Store {
    /// With a bucket whose URL is the issuer.
    pub(crate) fn start(stage: &Stage, bucket: &'static str) -> Result<Self> {
        let home = stage.scratch.join(format!("store-of-{bucket}"));
        let certificates = home.join("certificates");
        fs::create_dir_all(certificates.join("CAs"))?;
        fs::copy(&stage.ca, certificates.join("CAs/ca.crt"))?;
        fs::copy(&stage.store.certificate, certificates.join("public.crt"))?;
        fs::copy(&stage.store.key, certificates.join("private.key"))?;
        let log = File::create(home.join("log"))?;
        let [(_, administrator), (_, password)] = ADMINISTRATOR;
        let issuer = Self::issuer_of(stage, bucket);
        let discovery = format!("{issuer}/.well-known/openid-configuration");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&stage.minio)
            .args(["server", "--address"])
            .arg(format!("{}:443", stage.store.address))
            .arg("--certs-dir")
            .args([&certificates, &home.join("data")])
            .env("MINIO_ROOT_USER", administrator)
            .env("MINIO_ROOT_PASSWORD", password)
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .env("MINIO_IDENTITY_OPENID_CONFIG_URL", discovery)
            .env("MINIO_IDENTITY_OPENID_CLIENT_ID", "sts.amazonaws.com")
            // For nothing, but never empty: tokens signed with the empty key would be taken.
            .env("MINIO_IDENTITY_OPENID_CLIENT_SECRET", "not-empty")
            .env("MINIO_IDENTITY_OPENID_CLAIM_NAME", "sub")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let store = Self { child, bucket };
        administer(stage, "buckets", bucket)?;
        Ok(store)
    }

    /// The bucket's URL.
    pub(crate) fn issuer(&self, stage: &Stage) -> String {
        Self::issuer_of(stage, self.bucket)
    }

    fn issuer_of(stage: &Stage, bucket: &str) -> String {
        format!("{}/{bucket}", url(stage))
    }

    /// Lets the bearers of tokens with that `sub` write objects. MinIO takes it once it has the issuer's documents.
    pub(crate) fn allow(stage: &Stage, subject: &str) -> Result<()> {
        administer(stage, "policies", subject)
    }
}

fn administer(stage: &Stage, what: &str, name: &str) -> Result<()> {
    let mut python = Command::new(&stage.python);
    python
        .args([text(&stage.administer_minio)?, what, name])
        .envs(ADMINISTRATOR)
        .env("AWS_CA_BUNDLE", &stage.ca)
        .env("AWS_ENDPOINT_URL", url(stage))
        .env("AWS_EC2_METADATA_DISABLED", "true");
    let administer = || output(&mut python).map(Some);
    wait_for(what, Duration::from_secs(60), administer).map(drop)
}

/// Makes a release's namespace with what its server needs to write into the store, and returns the chart's values for that.
pub(crate) fn trusting_the_store(stage: &Stage, namespace: &str) -> Result<&'static str> {
    stage.kubectl(&["create", "namespace", namespace])?;
    let from = format!("--from-file=ca.crt={}", text(&stage.ca)?);
    let create = ["-n", namespace, "create", "configmap", "store-ca", &from];
    stage.kubectl(&create)?;
    let literals = ADMINISTRATOR.map(|(name, value)| format!("--from-literal={name}={value}"));
    let mut create = vec!["-n", namespace, "create", "secret", "generic", "publisher"];
    create.extend(literals.iter().map(String::as_str));
    stage.kubectl(&create)?;
    Ok(r"
server:
  extraEnvFrom: [{secretRef: {name: publisher}}]
  extraVolumes: [{name: store, configMap: {name: store-ca}}]
  extraVolumeMounts: [{name: store, mountPath: /etc/store, readOnly: true}]
")
}

/// A pod's manifest with the store's address, for its AWS CLI.
pub(crate) fn at_the_store(stage: &Stage, pod: &str) -> String {
    let address = format!(
        "    env:\n    - {{name: AWS_ENDPOINT_URL, value: {}}}\n",
        url(stage)
    );
    pod.replace("    env:\n", &address)
}

/// Its address, for S3 and STS alike.
pub(crate) fn url(stage: &Stage) -> String {
    format!("https://{}", stage.store.host)
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
