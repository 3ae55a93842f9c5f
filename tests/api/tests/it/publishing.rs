//! Issuer documents in ConfigMaps: the endpoint's as its keys change, the cluster's as its API server says.

use serde_json::{Value, json};

use super::install::{Documents, Install, Variant};
use super::process::Process;
use super::wait::eventually;

async fn publishing() -> Install {
    Install::variant(Variant {
        documents: Documents::Published,
        ..Variant::default()
    })
    .await
}

/// An entry of a ConfigMap as JSON, once it is there.
async fn entry(install: &Install, config_map: &str, name: &str) -> Value {
    eventually(name, async || {
        let path = install.path(&format!("configmaps/{config_map}"));
        let found = install.plane.get(&path).await;
        serde_json::from_str(found["data"][name].as_str()?).ok()
    })
    .await
}

fn ids(key_set: &Value) -> Vec<String> {
    let keys = key_set["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn two_replicas_publish_the_documents_they_serve_and_follow_a_rotation() {
    let install = publishing().await;
    let mut servers = [Process::server(&install), Process::server(&install)];
    for server in &mut servers {
        server.becomes_ready().await;
    }
    let served = servers[0].key_set(&install).await;
    assert_eq!(entry(&install, "documents", "certs").await, served);
    let discovery = entry(&install, "documents", "openid-configuration").await;
    assert_eq!(discovery["issuer"], "https://issuer.example.com");
    let first = ids(&served);
    let wish = json!({"metadata": {"annotations": {"sts.tremolo.io/rotate": "1"}}});
    let secret = install.path("secrets/aws-signing-key");
    drop(install.plane.ok("PATCH", &secret, Some(&wish)).await);
    let (_, token) = install.good_token().await;
    // Until the new key signs, which is the first in the set then.
    eventually("the new key to sign", async || {
        let published = ids(&entry(&install, "documents", "certs").await);
        (published.len() == 2 && published[0] != first[0] && published[1] == first[0]).then_some(())
    })
    .await;
    for server in &servers {
        assert_eq!(server.exchange_status(&install, &token).await, 200);
    }
    let found = install
        .plane
        .get(&install.path("configmaps/documents"))
        .await;
    let entries: Vec<&String> = found["data"].as_object().unwrap().keys().collect();
    assert_eq!(entries, ["certs", "openid-configuration"]);
    let marks = &found["metadata"]["annotations"];
    assert_eq!(
        marks["sts.tremolo.io/generation.certs"],
        marks["sts.tremolo.io/generation.openid-configuration"]
    );
}

#[tokio::test]
async fn disc_011_documents_that_somebody_else_changed_are_put_right() {
    let install = publishing().await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let before = entry(&install, "documents", "certs").await;
    let forged = json!({"data": {"certs": "{\"keys\":[]}"}});
    let path = install.path("configmaps/documents");
    drop(install.plane.ok("PATCH", &path, Some(&forged)).await);
    let mut second = Process::server(&install);
    second.becomes_ready().await;
    eventually("the key set to be put right", async || {
        (entry(&install, "documents", "certs").await == before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn documents_of_a_later_generation_are_left_alone_and_it_is_said() {
    let install = publishing().await;
    let later = json!({
        "data": {"certs": "{\"keys\":[]}"},
        "metadata": {"annotations": {"sts.tremolo.io/generation.certs": "1000"}},
    });
    let path = install.path("configmaps/documents");
    drop(install.plane.ok("PATCH", &path, Some(&later)).await);
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let said = eventually("the refusal", async || {
        let lines = server.lines();
        lines
            .into_iter()
            .find(|line| line.contains("later_generation"))
    })
    .await;
    assert!(said.contains("ConfigMap documents, entry certs"), "{said}");
    let found = install.plane.get(&path).await;
    assert_eq!(found["data"], later["data"], "and no discovery document");
}

#[tokio::test]
async fn a_config_map_that_is_missing_is_named_with_the_remedy() {
    let install = publishing().await;
    install
        .plane
        .delete(&install.path("configmaps/documents"))
        .await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    eventually("the remedy", async || {
        let lines = server.lines();
        let said = |line: &String| line.contains("kubectl create configmap documents");
        lines.iter().any(said).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_clusters_own_documents_are_published_as_its_api_server_says() {
    let install = publishing().await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let key_set = entry(&install, "cluster-documents", "jwks").await;
    let shown = install.plane.get("/openid/v1/jwks").await;
    assert_eq!(ids(&key_set), ids(&shown));
    let discovery = entry(&install, "cluster-documents", "openid-configuration").await;
    let issuer = "https://kubernetes.default.svc.cluster.local";
    assert_eq!(discovery["issuer"], issuer);
    assert_eq!(discovery["jwks_uri"], format!("{issuer}/openid/v1/jwks"));
}
