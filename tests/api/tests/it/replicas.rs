//! Replicas that start at the same instant agree on one key and one CA.

use super::install::{Install, Variant};
use super::process::Process;

const REPLICAS: usize = 3;

async fn agree(variant: Variant) {
    let install = Install::variant(variant).await;
    let mut replicas: Vec<Process> = (0..REPLICAS).map(|_| Process::server(&install)).collect();
    for replica in &mut replicas {
        replica.becomes_ready().await;
    }
    if variant.without_objects {
        // Nobody may make a ConfigMap; the administrator does.
        let object = serde_json::json!({"metadata": {"name": "server-ca"}});
        drop(
            install
                .plane
                .create(&install.path("configmaps"), object)
                .await,
        );
    }
    let (_, token) = install.good_token().await;
    let mut sets = Vec::new();
    for replica in &replicas {
        // Both calls check the replica's certificate with the published CA.
        sets.push(replica.key_set(&install).await);
        assert_eq!(replica.exchange_status(&install, &token).await, 200);
    }
    sets.dedup();
    assert_eq!(sets.len(), 1, "{sets:?}");
    let made = |line: &&String| line.contains("\"step\":\"prepared\"");
    let made = replicas
        .iter()
        .flat_map(Process::lines)
        .filter(|line| made(&line))
        .count();
    assert_eq!(made, 1, "one replica made the key, the others took it");
}

#[tokio::test]
async fn replicas_agree_with_the_charts_empty_secrets_and_rights() {
    agree(Variant::default()).await;
}

#[tokio::test]
async fn replicas_agree_where_they_have_to_create_the_secrets() {
    let variant = Variant {
        without_objects: true,
        ..Variant::default()
    };
    agree(variant).await;
}
