//! `publish`: an endpoint's documents, put from here where its servers put them, by the servers' own publisher.
//!
//! What differs is who does it: the credentials are those of this environment, and files are those of this machine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use sts_config::{PublicStore, Publish, S3Store};
use sts_publish::{Outcome, Publication, Publisher, Surroundings};

use crate::cluster::Cluster;
use crate::documents::{self, Found};
use crate::output::{self, Format};

pub(crate) async fn run(
    cluster: &Cluster,
    name: &str,
    ca_file: Option<PathBuf>,
    format: Format,
) -> Result<ExitCode> {
    let Found {
        endpoint,
        generation,
        documents,
    } = documents::find(cluster, name).await?;
    let issuer = &endpoint.template.issuer;
    let publish = endpoint.publish.with_context(|| {
        format!(
            "endpoint {name} has no `publish` in its configuration: kubectl sts issuer-docs {name} --out DIR writes what to upload"
        )
    })?;
    let publish = from_here(publish, name, ca_file)?;
    let place = publish.place(issuer);
    let surroundings = Surroundings {
        client: Some(cluster.client.clone()),
        namespace: cluster.namespace.clone(),
        tokens: None,
    };
    let publication = Publication::of(issuer, &documents.discovery, &documents.jwks)?;
    let publisher = Publisher::new(&publish, issuer, endpoint.documents.max_age, &surroundings)?;
    let outcome = match publisher.publish(&publication, generation).await? {
        Outcome::Unchanged => "unchanged",
        Outcome::Written => "written",
    };
    match format {
        Format::Json => output::json(&json!({
            "endpoint": name, "issuer": issuer.as_str(), "place": place, "generation": generation,
            "keys": publication.key_ids(), "outcome": outcome,
        }))?,
        Format::Table => output::table(
            ["ENDPOINT", "PLACE", "GENERATION", "OUTCOME"],
            &[[
                name.to_owned(),
                place,
                generation.to_string(),
                outcome.to_owned(),
            ]],
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The same place, reached from this machine.
fn from_here(publish: Publish, name: &str, ca_file: Option<PathBuf>) -> Result<Publish> {
    let store = match publish.store {
        PublicStore::Directory { path } => bail!(
            "endpoint {name} publishes in {} of its server's: kubectl sts issuer-docs {name} --out DIR writes the same files here",
            path.display()
        ),
        PublicStore::S3(s3) => PublicStore::S3(S3Store {
            ca_file: own_ca_file(s3.ca_file.as_deref(), ca_file)?,
            // Only servers can sign such a token.
            web_identity: None,
            ..s3
        }),
        store @ (PublicStore::Azure { .. }
        | PublicStore::ConfigMap { .. }
        | PublicStore::Gcs { .. }) => store,
    };
    Ok(Publish { store, ..publish })
}

fn own_ca_file(of_server: Option<&Path>, own: Option<PathBuf>) -> Result<Option<PathBuf>> {
    match (of_server, own) {
        (Some(path), None) => bail!(
            "the store's certificate is trusted by {} of the server's: give a copy with --ca-file",
            path.display()
        ),
        (_, own) => Ok(own),
    }
}
