//! MinIO, the CDN and the place to administer them from, as pods.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::access::{Access, OUTSIDE};
use super::load::Images;
use crate::cache::Fingerprint;
use crate::cluster::{LeafFiles, create_authority, issue_leaf};
use crate::stage::BUCKET;
use crate::stage::outside::{
    ADMINISTRATOR, AWS_NAMES, DOCUMENTS_BUCKET, ISSUER_HOST, S3, minio_environment, random_text,
};

/// Where the stand-ins' names lead to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    minio: IpAddr,
    cdn: IpAddr,
}

impl Addresses {
    /// Makes the Services, and reads which addresses they got.
    pub(super) fn reserve(access: &Access, folder: &Path) -> Result<Self> {
        apply(
            access,
            &folder.join("services.yaml"),
            include_str!("services.yaml"),
        )?;
        let address = |service: &str| -> Result<IpAddr> {
            let output = "--output=jsonpath={.spec.clusterIP}";
            let found = access.kubectl(&["-n", OUTSIDE, "get", "service", service, output])?;
            found
                .parse()
                .with_context(|| format!("the Service {service} has the address {found:?}"))
        };
        Ok(Self {
            minio: address("minio")?,
            cdn: address("cdn")?,
        })
    }

    /// For an application: AWS's names lead to MinIO. There are no wildcards: the buckets are named.
    pub(super) fn of_aws(self) -> Value {
        let names = AWS_NAMES
            .iter()
            .flat_map(|name| match name.strip_prefix("*.") {
                None => vec![(*name).to_owned()],
                Some(parent) => [BUCKET, DOCUMENTS_BUCKET]
                    .map(|bucket| format!("{bucket}.{parent}"))
                    .to_vec(),
            });
        json!({"ip": self.minio, "hostnames": names.collect::<Vec<_>>()})
    }

    fn of_issuer(self) -> Value {
        json!({"ip": self.cdn, "hostnames": [ISSUER_HOST]})
    }
}

/// The authority of the outside world's servers, made once for each cluster.
pub(super) fn authority(folder: &Path) -> Result<()> {
    if folder.join("ca.crt").exists() {
        return Ok(());
    }
    create_authority(folder)
}

/// Applies everything; `wait` waits for it.
pub(super) fn deploy(
    access: &Access,
    folder: &Path,
    pki: &Path,
    images: &Images,
    addresses: Addresses,
) -> Result<()> {
    let secrets = folder.join("secrets.json");
    if !secrets.exists() {
        fs::write(&secrets, render_secrets(pki)?)?;
    }
    let inputs = format!(
        "{}\n---\n{}",
        fs::read_to_string(&secrets)?,
        render_scripts(pki)?
    );
    let aliases = json!([addresses.of_aws(), addresses.of_issuer()]).to_string();
    let checksum = Fingerprint::default().text(&inputs).key().to_string();
    let deployments = [
        ("@CHECKSUM@", checksum.as_str()),
        ("@HOST_ALIASES@", &aliases),
        ("@MINIO@", &images.minio.reference),
        ("@CDN@", &images.cdn.reference),
        ("@AWSCLI@", &images.awscli.reference),
        ("@ORIGIN@", &format!("{S3}/{DOCUMENTS_BUCKET}")),
    ]
    .iter()
    .fold(
        include_str!("deployments.yaml").to_owned(),
        |text, (word, value)| text.replace(word, value),
    );
    apply(
        access,
        &folder.join("outside.yaml"),
        &format!("{inputs}\n---\n{deployments}"),
    )
}

/// Waits until all of it runs as it was applied.
pub(super) fn wait(access: &Access) -> Result<()> {
    for name in ["minio", "cdn", "administrator"] {
        let deployment = format!("deployment/{name}");
        access
            .kubectl(&["-n", OUTSIDE, "rollout", "status", &deployment, "--timeout=120s"])
            .with_context(|| {
                let pods = access.kubectl(&["-n", OUTSIDE, "get", "pods"]);
                format!(
                    "{name} does not start; `ErrImagePull` here means that --load did not reach the node:\n{}",
                    pods.unwrap_or_default()
                )
            })?;
    }
    Ok(())
}

/// Certificates and passwords. They stay the same as long as the demo is up.
fn render_secrets(pki: &Path) -> Result<String> {
    let authority = fs::read_to_string(pki.join("ca.crt"))?;
    let certificates = |name: &str, names: &[&str]| -> Result<Value> {
        let LeafFiles { certificate, key } = issue_leaf(pki, name, names, &[])?;
        Ok(json!({
            "ca.crt": authority,
            "tls.crt": fs::read_to_string(certificate)?,
            "tls.key": fs::read_to_string(key)?,
        }))
    };
    let password = random_text()?;
    let environment: serde_json::Map<String, Value> = minio_environment(&password, &random_text()?)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let administrator =
        json!({"AWS_ACCESS_KEY_ID": ADMINISTRATOR.0, "AWS_SECRET_ACCESS_KEY": password});
    let secrets = [
        ("minio", environment.into()),
        ("minio-certs", certificates("minio", &AWS_NAMES)?),
        ("cdn-certs", certificates("cdn", &[ISSUER_HOST])?),
        ("administrator", administrator),
    ];
    let manifests = secrets.map(|(name, values)| {
        let metadata = json!({"name": name, "namespace": OUTSIDE});
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})
            .to_string()
    });
    Ok(manifests.join("\n---\n"))
}

/// What the administrator's pod finds in `/demo`.
fn render_scripts(pki: &Path) -> Result<String> {
    let scripts = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "administrator", "namespace": OUTSIDE},
        "data": {
            "ca.crt": fs::read_to_string(pki.join("ca.crt"))?,
            "functions.sh": include_str!("functions.sh"),
            "administer_minio.py": include_str!("../administer_minio.py"),
        },
    });
    Ok(scripts.to_string())
}

fn apply(access: &Access, file: &Path, manifests: &str) -> Result<()> {
    fs::write(file, manifests)?;
    access.kubectl(&["apply", "--filename", &file.to_string_lossy()])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_stand_for_the_wildcards() {
        let address = IpAddr::from([10, 96, 0, 7]);
        let aliases = Addresses {
            minio: address,
            cdn: address,
        }
        .of_aws();
        let names = aliases.pointer("/hostnames").unwrap().to_string();
        assert!(
            names.contains("\"demo-data.s3.us-east-1.amazonaws.com\""),
            "{names}"
        );
        assert!(!names.contains('*'), "{names}");
    }
}
