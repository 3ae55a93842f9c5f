//! `status`: each key, and what its rotation waits for.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use sts_core::keys::ring::RingKey;

use crate::cluster::{Cluster, KeySecret};
use crate::output::{self, Format};

#[derive(Serialize)]
struct Described {
    secret: String,
    status: String,
    ring: serde_json::Value,
}

pub(crate) async fn run(cluster: &Cluster, secrets: &[String], format: Format) -> Result<ExitCode> {
    let found = cluster.key_secrets(secrets).await?;
    match format {
        Format::Json => {
            let all: Vec<Described> = found.iter().map(describe).collect();
            output::json(&all)?;
        }
        Format::Table => {
            let rows: Vec<[String; 4]> = found.iter().flat_map(rows).collect();
            output::table(["SECRET", "KEY", "STATE", "ALGORITHM"], &rows)?;
            for secret in &found {
                output::line(&format!("\n{}: {}", secret.name, secret.status))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(secret: &KeySecret) -> Described {
    Described {
        secret: secret.name.clone(),
        status: secret.status.clone(),
        ring: serde_json::from_str(&secret.ring.render()).unwrap_or_default(),
    }
}

fn rows(secret: &KeySecret) -> Vec<[String; 4]> {
    let row = |key: &RingKey| {
        [
            secret.name.clone(),
            key.id().to_string(),
            key.phase().name().to_owned(),
            key.algorithm().name().to_owned(),
        ]
    };
    secret.ring.keys().map(row).collect()
}
