//! `issuer-docs`: an endpoint's documents, from the configuration and the public record of its keys.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use sts_config::{Config, Endpoint, KeySource};
use sts_core::documents::IssuerDocuments;
use sts_core::keys::ring::Ring;
use sts_core::sign::PublicJwk;

use crate::cluster::Cluster;
use crate::output::{self, Format};

/// An endpoint's documents, and what they were written from.
pub(crate) struct Found {
    pub(crate) endpoint: Endpoint,
    /// Of the ring.
    pub(crate) generation: u64,
    pub(crate) documents: IssuerDocuments,
}

pub(crate) async fn run(
    cluster: &Cluster,
    endpoint: &str,
    out: Option<&Path>,
    format: Format,
) -> Result<ExitCode> {
    let documents = find(cluster, endpoint).await?.documents;
    match (out, format) {
        (Some(folder), _) => write(folder, &documents)?,
        (None, Format::Json) => {
            output::json(&json!({"discovery": documents.discovery, "keys": documents.jwks}))?;
        }
        (None, Format::Table) => {
            output::line(&documents.discovery)?;
            output::line(&documents.jwks)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes an endpoint's documents, as its servers do.
pub(crate) async fn find(cluster: &Cluster, name: &str) -> Result<Found> {
    let config_maps = cluster.config_maps().await?;
    let endpoint = find_endpoint(&config_maps, name)?;
    let KeySource::Secret { name: secret, .. } = &endpoint.key else {
        bail!("the key of endpoint {name} is in a file of the server's");
    };
    let (generation, keys) = find_keys(&config_maps, secret)?;
    let documents = IssuerDocuments::render(&endpoint.template.issuer, &keys)?;
    Ok(Found {
        endpoint,
        generation,
        documents,
    })
}

/// The endpoint, from whichever ConfigMap is a configuration that has the endpoint.
fn find_endpoint(config_maps: &[ConfigMap], name: &str) -> Result<Endpoint> {
    let mut known = Vec::new();
    for config_map in config_maps {
        let text = config_map
            .data
            .as_ref()
            .and_then(|data| data.get("config.yaml"));
        let Some(config) = text.and_then(|text| Config::parse(text).ok()) else {
            continue;
        };
        for endpoint in config.endpoints {
            if endpoint.name.as_str() == name {
                return Ok(endpoint);
            }
            known.push(endpoint.name.to_string());
        }
    }
    bail!(
        "no ConfigMap of the namespace configures an endpoint {name}; there are: {}",
        known.join(", ")
    )
}

/// A ring's generation and its published keys, in the ring's order.
fn find_keys(config_maps: &[ConfigMap], secret: &str) -> Result<(u64, Vec<PublicJwk>)> {
    let entry = format!("{secret}.json");
    let text = config_maps
        .iter()
        .find_map(|config_map| config_map.data.as_ref()?.get(&entry));
    let text = text.with_context(|| {
        format!("no ConfigMap of the namespace has the public record {entry}: does a server run?")
    })?;
    let record: Value = serde_json::from_str(text).context("read the public record")?;
    let ring = record.get("ring").map(Value::to_string).unwrap_or_default();
    let ring = Ring::parse(&ring).context("read the public record")?;
    let key = |id: &str| {
        let jwk = record
            .get("keys")
            .and_then(|keys| keys.get(id))
            .map(Value::to_string);
        PublicJwk::parse(&jwk.unwrap_or_default()).with_context(|| format!("read key {id}"))
    };
    let keys = ring.keys().map(|found| key(found.id().as_str()));
    Ok((ring.generation(), keys.collect::<Result<_>>()?))
}

fn write(folder: &Path, documents: &IssuerDocuments) -> Result<()> {
    for (path, text) in [
        (IssuerDocuments::DISCOVERY_PATH, &documents.discovery),
        (IssuerDocuments::JWKS_PATH, &documents.jwks),
    ] {
        let file = folder.join(path.trim_start_matches('/'));
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("make {}", parent.display()))?;
        }
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        output::line(&file.display().to_string())?;
    }
    Ok(())
}
