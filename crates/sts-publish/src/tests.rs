//! Publishing into real directories, and into a store with conditions that is held in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use sts_config::{PublicStore, Publish, Writes};
use sts_core::ident::Issuer;
use sts_core::publication::{Absences, ClusterDocuments, KeySetPlace, Publication};
use sts_core::time::UnixSeconds;

use crate::document::Document;
use crate::store::{Bucket, Keeps, Store, Written};
use crate::{Outcome, PublishError, Publisher, Surroundings};

const ISSUER: &str = "https://issuer.example.com/a";

fn issuer() -> Issuer {
    Issuer::parse(ISSUER).unwrap()
}

fn key_set(ids: &[&str]) -> String {
    let keys: Vec<String> = ids
        .iter()
        .map(|id| {
            format!(
                "{{\"kty\":\"EC\",\"kid\":\"{id}\",\"use\":\"sig\",\"alg\":\"ES256\",\"crv\":\"P-256\",\
                 \"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}}"
            )
        })
        .collect();
    format!("{{\"keys\":[{}]}}", keys.join(","))
}

fn discovery(jwks_path: &str) -> String {
    format!(
        "{{\"issuer\":\"{ISSUER}\",\"jwks_uri\":\"{ISSUER}/{jwks_path}\",\"response_types_supported\":[\"id_token\"],\
         \"subject_types_supported\":[\"public\"],\"id_token_signing_alg_values_supported\":[\"ES256\"]}}"
    )
}

fn publication(ids: &[&str]) -> Publication {
    Publication::of(&issuer(), &discovery("certs"), &key_set(ids)).unwrap()
}

fn into_directory(path: &Path) -> Publisher {
    let publish = Publish {
        store: PublicStore::Directory {
            path: path.to_owned(),
        },
        prefix: None,
        writes: Writes::Unconditional,
    };
    let max_age = Duration::from_secs(300);
    Publisher::new(&publish, &issuer(), max_age, &Surroundings::default()).unwrap()
}

/// All files under a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn key_012_the_directory_holds_the_two_public_documents_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let publisher = into_directory(directory.path());
    let first = publisher.publish(&publication(&["one"]), 1).await.unwrap();
    assert_eq!(first, Outcome::Written);
    let second = publisher
        .publish(&publication(&["one", "two"]), 2)
        .await
        .unwrap();
    assert_eq!(second, Outcome::Written);
    let root = directory.path().join("a");
    let [certs, metadata] = [
        root.join("certs"),
        root.join(".well-known/openid-configuration"),
    ];
    assert_eq!(files(directory.path()), [metadata.clone(), certs.clone()]);
    assert_eq!(
        std::fs::read_to_string(certs).unwrap(),
        key_set(&["one", "two"])
    );
    assert_eq!(
        std::fs::read_to_string(metadata).unwrap(),
        discovery("certs")
    );
}

#[tokio::test]
async fn what_is_there_already_is_not_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let publisher = into_directory(directory.path());
    publisher.publish(&publication(&["one"]), 1).await.unwrap();
    let modified = || {
        directory
            .path()
            .join("a/certs")
            .metadata()
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = modified();
    let again = publisher.publish(&publication(&["one"]), 2).await.unwrap();
    assert_eq!(again, Outcome::Unchanged);
    assert_eq!(modified(), before);
}

#[tokio::test]
async fn without_its_key_set_no_discovery_document_is_published() {
    let directory = tempfile::tempdir().unwrap();
    // A directory in the key set's place cannot be replaced by a file.
    std::fs::create_dir_all(directory.path().join("a/certs/in-the-way")).unwrap();
    let outcome = into_directory(directory.path())
        .publish(&publication(&["one"]), 1)
        .await;
    assert!(
        matches!(outcome, Err(PublishError::Store { .. })),
        "{outcome:?}"
    );
    assert!(files(directory.path()).is_empty());
}

fn bucket(store: &Arc<InMemory>) -> Bucket {
    Bucket {
        store: Arc::<InMemory>::clone(store),
        title: "memory".to_owned(),
        prefix: "a".to_owned(),
        writes: Writes::Conditional,
        keeps: Keeps::Attributes,
    }
}

#[tokio::test]
async fn a_slower_replica_does_not_put_older_keys_back() {
    let store = Arc::new(InMemory::new());
    let replica = || Publisher::over(Store::Bucket(bucket(&store)));
    replica()
        .publish(&publication(&["one", "two"]), 7)
        .await
        .unwrap();
    let slow = replica().publish(&publication(&["one"]), 6).await;
    let Err(PublishError::Later {
        held: 7, ours: 6, ..
    }) = slow
    else {
        panic!("{slow:?}");
    };
    let (held, _) = bucket(&store).read("certs").await.unwrap();
    assert_eq!(held.unwrap().bytes, key_set(&["one", "two"]).into_bytes());
    let same = replica()
        .publish(&publication(&["one", "two"]), 7)
        .await
        .unwrap();
    assert_eq!(same, Outcome::Unchanged);
}

#[tokio::test]
async fn a_write_that_was_overtaken_changes_nothing() {
    let store = Arc::new(InMemory::new());
    let document = |text| Document {
        path: "certs",
        content_type: "application/jwk-set+json",
        text,
        generation: Some(1),
    };
    for already_there in [false, true] {
        let (_, read_before) = bucket(&store).read("certs").await.unwrap();
        let (_, read_too) = bucket(&store).read("certs").await.unwrap();
        let fast = if already_there { "fast again" } else { "fast" };
        let written = bucket(&store)
            .write(&document(fast), "public", read_too)
            .await
            .unwrap();
        assert_eq!(written, Written::Done);
        let overtaken = bucket(&store)
            .write(&document("slow"), "public", read_before)
            .await
            .unwrap();
        assert_eq!(overtaken, Written::Conflict);
        let (held, _) = bucket(&store).read("certs").await.unwrap();
        let held = held.unwrap();
        assert_eq!(held.bytes, fast.as_bytes());
        let headers = ["application/jwk-set+json".to_owned(), "public".to_owned()];
        assert_eq!(held.headers, Some(headers));
    }
}

#[tokio::test]
async fn a_clusters_documents_follow_its_api_server() {
    let directory = tempfile::tempdir().unwrap();
    let publisher = into_directory(directory.path());
    let mut absences = Absences::default();
    let documents = |ids: &[&str]| {
        let place = KeySetPlace::Rewritten;
        ClusterDocuments::parse(&issuer(), &discovery("elsewhere"), &key_set(ids), place).unwrap()
    };
    let published = || std::fs::read_to_string(directory.path().join("a/openid/v1/jwks")).unwrap();
    let at = |second: u64| UnixSeconds::new(1_800_000_000 + second).unwrap();
    for (second, shown, expected, outcome) in [
        (0, &["one"][..], &["one"][..], Outcome::Written),
        (1, &["one"], &["one"], Outcome::Unchanged),
        (2, &["one", "two"], &["one", "two"], Outcome::Written),
        (3, &["two"], &["one", "two"], Outcome::Unchanged),
        (3 + 900, &["two"], &["two"], Outcome::Written),
    ] {
        let round = publisher
            .publish_cluster(&documents(shown), &mut absences, at(second))
            .await;
        assert_eq!(round.unwrap().0, outcome, "at {second}");
        assert_eq!(published(), key_set(expected), "at {second}");
    }
}
