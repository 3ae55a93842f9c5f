//! Issuer documents in a public bucket whose URL is the issuer, and a relying party that knows nothing but that URL: MinIO is both.

use std::time::Duration;

use serde_json::{Value, json};
use sts_config::{PublicStore, Publish, S3Store, Writes};
use sts_core::ident::Issuer;
use sts_core::publication::Publication;
use sts_publish::{Outcome, PublishError, Publisher, Surroundings};

use super::install::Install;
use super::kubectl_sts::with_configuration;
use super::minio::{BUCKET, Minio};
use super::process::{Process, kubectl_sts};
use super::ring::{SECRET, active_kid, annotate, short_times};
use super::wait::eventually;

const DISCOVERY: &str = ".well-known/openid-configuration";
const CERTS: &str = "certs";
/// The `sub` of the server's tokens for itself.
const PUBLISHER: &str = "kube-sts-publisher";

/// What the endpoint is told: to publish in the bucket, with a token of its own or else with what the environment has.
fn into_bucket(minio: &Minio, identity: Option<Value>) -> Value {
    let ca_file = minio.ca_file.to_str();
    let mut keys = short_times();
    // Beside other tests a replica may not have a core for some seconds.
    keys["key"]["staleAfter"] = json!("5s");
    keys["issuer"] = json!(minio.issuer());
    keys["documents"]["caFile"] = json!(ca_file);
    keys["publish"] = json!({"s3": {"bucket": BUCKET, "endpoint": minio.url(), "caFile": ca_file}});
    if let Some(identity) = identity {
        keys["publish"]["s3"]["webIdentity"] = identity;
    }
    keys
}

fn ids(key_set: &str) -> Vec<String> {
    let key_set: Value = serde_json::from_str(key_set).unwrap();
    let keys = key_set["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

/// The first documents go there with the environment's credentials; from then on the server's own tokens let it in, which MinIO verifies
/// with what is published. 40 s, since two keys have to wait until they are seen and for all copies to be out of date.
#[tokio::test]
async fn minio_verifies_from_the_bucket_that_publishes_itself_while_keys_follow_one_another() {
    let install = Install::new().await;
    let minio = Minio::start(install.folder()).await;
    install.tune(&into_bucket(&minio, None));
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let first = eventually("the first key to sign", async || active_kid(&install).await).await;
    let certs = minio.document(CERTS).await.unwrap();
    assert_eq!(certs.content_type, "application/jwk-set+json");
    assert_eq!(ids(&certs.text), [first.as_str()]);
    let discovery = minio.document(DISCOVERY).await.unwrap();
    assert_eq!(discovery.content_type, "application/json");
    for document in [certs, discovery] {
        assert_eq!(document.cache_control, "public, max-age=1");
    }
    server.kill();

    let account = format!("system:serviceaccount:{}:app", install.apps);
    for subject in [PUBLISHER, &account] {
        minio.allow(subject).await;
    }
    let identity = json!({"subject": PUBLISHER, "sts": minio.url()});
    install.tune(&into_bucket(&minio, Some(identity)));
    let mut replicas = [Process::server(&install), Process::server(&install)];
    for replica in &mut replicas {
        replica.becomes_ready().await;
    }
    let second = rotate_in_use(&install, &minio, &replicas, &first, "annotate").await;
    let third = rotate_in_use(&install, &minio, &replicas, &second, "delete").await;
    successor_of_a_revoked_key(&install, &minio, &replicas, &third).await;
}

/// The publisher's own token is of the revoked key: the credentials that it has already let the successor out. Both replicas sign with
/// that as soon as they have seen it there.
async fn successor_of_a_revoked_key(
    install: &Install,
    minio: &Minio,
    replicas: &[Process],
    revoked: &str,
) {
    annotate(install, "revoke", revoked).await;
    let (_, subject) = install.good_token().await;
    for replica in replicas {
        let token = eventually("a token of the successor", async || {
            let answer = replica.exchange(install, &subject).await;
            let is_token = answer.status() == 200;
            let token = answer.text().await.unwrap();
            (is_token && kid(&token) != revoked).then_some(token)
        })
        .await;
        assert_eq!(minio.refuses(&token).await, None);
    }
    let certs = minio.document(CERTS).await.unwrap();
    assert!(!ids(&certs.text).iter().any(|id| id == revoked));
}

fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

/// A new key, while tokens of both replicas are taken to MinIO one after another: it takes each. Returns the key that signs then.
async fn rotate_in_use(
    install: &Install,
    minio: &Minio,
    replicas: &[Process],
    before: &str,
    kind: &str,
) -> String {
    if kind == "annotate" {
        annotate(install, "rotate", "1").await;
    } else {
        install.plane.delete(&install.path(SECRET)).await;
    }
    let (_, subject) = install.good_token().await;
    let mut signers = Vec::new();
    let after = eventually(&format!("a token of a new key after {kind}"), async || {
        for replica in replicas {
            let token = replica.grants(install, &subject).await;
            let refusal = minio.refuses(&token).await;
            assert_eq!(refusal, None, "{kind}: {} tokens before", signers.len());
            signers.push(kid(&token));
        }
        signers.last().filter(|last| *last != before).cloned()
    })
    .await;
    assert!(signers.iter().any(|kid| kid == before), "{signers:?}");
    let certs = minio.document(CERTS).await.unwrap();
    let published = ids(&certs.text);
    assert!(
        published.contains(&after) && published.iter().any(|kid| kid == before),
        "{published:?}"
    );
    after
}

#[tokio::test]
async fn the_key_set_is_published_before_the_discovery_document() {
    let folder = tempfile::tempdir().unwrap();
    let minio = Minio::start(folder.path()).await;
    let mut relay = minio.relay().await;
    let publisher = publisher(&minio, &relay.url());
    relay.hold(true);
    let issuer = minio.issuer();
    let publishing = tokio::spawn(async move { publish(&publisher, &issuer, 1).await });
    assert_eq!(relay.write().await, format!("/{BUCKET}/{CERTS}"));
    assert!(minio.document(DISCOVERY).await.is_none());
    relay.hold(false);
    publishing.await.unwrap().unwrap();
    assert_eq!(relay.write().await, format!("/{BUCKET}/{DISCOVERY}"));
    assert!(minio.document(DISCOVERY).await.is_some());
}

/// It has read what is there, and a faster one writes a later ring before it comes to write its own.
#[tokio::test]
async fn a_slower_replica_puts_no_older_documents_back() {
    let folder = tempfile::tempdir().unwrap();
    let minio = Minio::start(folder.path()).await;
    let mut relay = minio.relay().await;
    let fast = publisher(&minio, &minio.url());
    // Where nothing is there yet, and where an older one is.
    for (older, later) in [(1, 2), (3, 4)] {
        let (slow, issuer) = (publisher(&minio, &relay.url()), minio.issuer());
        relay.hold(true);
        let slow = tokio::spawn(async move { publish(&slow, &issuer, older).await });
        assert_eq!(relay.write().await, format!("/{BUCKET}/{CERTS}"));
        publish(&fast, &minio.issuer(), later).await.unwrap();
        relay.hold(false);
        let outcome = slow.await.unwrap();
        let Err(PublishError::Later { held, ours, .. }) = &outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!((*held, *ours), (later, older));
        for path in [CERTS, DISCOVERY] {
            assert_eq!(minio.document(path).await.unwrap().generation, later);
        }
        let certs = minio.document(CERTS).await.unwrap();
        assert_eq!(ids(&certs.text), [format!("key-{later}")]);
    }
}

/// Publishes a ring of one key.
async fn publish(
    publisher: &Publisher,
    issuer: &str,
    generation: u64,
) -> Result<Outcome, PublishError> {
    let key_set = json!({"keys": [{"kty": "EC", "kid": format!("key-{generation}"), "use": "sig", "alg": "ES256", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]});
    let discovery = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/{CERTS}"),
        "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"]});
    let of = Issuer::parse(issuer).unwrap();
    let publication = Publication::of(&of, &discovery.to_string(), &key_set.to_string()).unwrap();
    publisher.publish(&publication, generation).await
}

/// One replica's publisher, to which the store is at that address.
fn publisher(minio: &Minio, address: &str) -> Publisher {
    let publish = Publish {
        store: PublicStore::S3(S3Store {
            bucket: BUCKET.to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: Some(address.to_owned()),
            ca_file: Some(minio.ca_file.clone()),
            web_identity: None,
            cloud_front: None,
        }),
        prefix: None,
        writes: Writes::Conditional,
    };
    let issuer = Issuer::parse(&minio.issuer()).unwrap();
    let max_age = Duration::from_secs(1);
    Publisher::new(&publish, &issuer, max_age, &Surroundings::default()).unwrap()
}

/// The plugin, from where its user stands: with the user's credentials and the user's copy of the CA.
#[tokio::test]
async fn kubectl_sts_publishes_an_endpoints_documents_in_its_bucket() {
    let install = Install::new().await;
    let minio = Minio::start(install.folder()).await;
    // The server publishes nothing: it has no `publish`.
    install.tune(&short_times());
    install.tune(&json!({"issuer": minio.issuer()}));
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let first = active_kid(&install).await.unwrap();
    let identity = json!({"subject": PUBLISHER, "sts": minio.url()});
    install.tune(&into_bucket(&minio, Some(identity)));
    install.tune(&json!({"documents": {"maxAge": "10m", "caFile": minio.ca_file}}));
    with_configuration(&install, &server).await;

    let publish = ["publish", "aws", "-o", "json"];
    let (ended_well, text) = kubectl_sts(&install, &publish).await;
    assert!(!ended_well && text.contains("--ca-file"), "{text}");
    let ca_file = minio.ca_file.to_str().unwrap();
    let publish = [&publish[..], &["--ca-file", ca_file]].concat();
    let (ended_well, text) = kubectl_sts(&install, &publish).await;
    assert!(ended_well, "{text}");
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["outcome"], "written");
    assert_eq!(told["issuer"], minio.issuer());
    assert_eq!(told["keys"], json!([first]));
    let certs = minio.document(CERTS).await.unwrap();
    assert_eq!(ids(&certs.text), [first.as_str()]);
    assert_eq!(certs.cache_control, "public, max-age=600");
    assert_eq!(json!(certs.generation), told["generation"]);
    assert!(minio.document(DISCOVERY).await.is_some());
    let (_, text) = kubectl_sts(&install, &publish).await;
    assert!(text.contains("\"unchanged\""), "{text}");
}
