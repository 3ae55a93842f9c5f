//! `rotate` and `revoke`: the annotations that tell the servers.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use sts_core::ident::KeyId;

use crate::cluster::Cluster;
use crate::output;

pub(crate) async fn rotate(cluster: &Cluster, secret: &str) -> Result<ExitCode> {
    // A wrong name must not become an annotation on some other Secret.
    let found = cluster.key_secrets(&[secret.to_owned()]).await?;
    let generation = found.first().map_or(0, |found| found.ring.generation());
    // Any new value is a wish; one that names what it was made for is easy to read later.
    let wish = format!("after-generation-{generation}");
    cluster
        .annotate(secret, "sts.tremolo.io/rotate", &wish)
        .await?;
    output::line(&format!(
        "a rotation of {secret} is asked for; kubectl sts status {secret} says where it stands"
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn revoke(
    cluster: &Cluster,
    secret: &str,
    key_id: &str,
    yes: bool,
) -> Result<ExitCode> {
    let found = cluster.key_secrets(&[secret.to_owned()]).await?;
    let id = KeyId::parse(key_id)?;
    let key = found.iter().find_map(|found| found.ring.find(&id));
    ensure!(
        key.is_some(),
        "Secret {secret} has no key {key_id}: kubectl sts status {secret} lists them"
    );
    ensure!(
        yes,
        "every token that {key_id} signed will be refused, and pods are without a good one until their sidecars come back, at half a \
         lifetime: add --yes if that is meant"
    );
    cluster
        .annotate(secret, "sts.tremolo.io/revoke", key_id)
        .await?;
    output::line(&format!(
        "{key_id} is revoked; kubectl sts status {secret} shows what signs now"
    ))?;
    Ok(ExitCode::SUCCESS)
}
