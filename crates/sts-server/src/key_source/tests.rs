use tempfile::TempDir;
use test_support::{TestKey, TokenBuilder};
use tokio::time::timeout;

use super::*;
use crate::cluster::{Cluster, Clusters, RouteError};

fn source(name: &str, issuer: Option<&str>, file: &std::path::Path) -> Arc<KeySource> {
    Arc::new(KeySource {
        cluster: name.parse().unwrap(),
        configured_issuer: issuer.map(|issuer| issuer.parse().unwrap()),
        fetcher: Fetcher::file(file.to_owned()),
        snapshot: ArcSwapOption::empty(),
        attempt: Mutex::new(None),
    })
}

/// A directory with a key set in `jwks.json`.
fn directory() -> (TempDir, std::path::PathBuf) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("jwks.json");
    std::fs::write(&file, TestKey::jwks(&[TestKey::rsa()])).unwrap();
    (directory, file)
}

#[tokio::test]
async fn nobody_waits_for_somebody_elses_attempt() {
    let (_directory, file) = directory();
    let source = source("c1", Some(TokenBuilder::ISSUER), &file);
    let unknown = KeyId::parse("unknown").unwrap();
    let asked = || timeout(Duration::from_secs(1), source.keys_with(&unknown));
    let running = source.attempt.lock().await;
    assert!(asked().await.unwrap().is_none(), "no set, and no waiting");
    assert!(source.read(running).await);
    let _running = source.attempt.lock().await;
    assert!(asked().await.unwrap().is_some(), "the set that is there");
}

/// Clusters of these names and issuers; without an issuer it is not known yet.
fn clusters(of: &[(&str, Option<&str>)], file: &std::path::Path) -> Clusters {
    let cluster = |(name, issuer): &(&str, Option<&str>)| {
        Arc::new(Cluster {
            serial: 0,
            keys: source(name, *issuer, file),
            reviewer: None,
            labels: None,
            presence: None,
        })
    };
    Clusters::new(of.iter().map(cluster).collect())
}

#[tokio::test]
async fn a_cluster_that_is_not_known_yet_takes_no_other_ones_issuer() {
    let (_directory, file) = directory();
    let known = ("known", Some(TokenBuilder::ISSUER));
    let clusters = clusters(&[("undiscovered", None), known], &file);
    let of = |issuer: &str| {
        let cluster = clusters.of(&issuer.parse().unwrap()).unwrap();
        cluster.name().as_str().to_owned()
    };
    assert_eq!(of(TokenBuilder::ISSUER), "known");
    assert_eq!(of("https://other.example.com"), "undiscovered");
}

#[tokio::test]
async fn an_issuer_that_two_clusters_have_leads_to_neither() {
    let (_directory, file) = directory();
    let of = [
        ("first", Some(TokenBuilder::ISSUER)),
        ("second", Some(TokenBuilder::ISSUER)),
        ("third", Some("https://third.example.com")),
    ];
    let clusters = clusters(&of, &file);
    let of = |issuer: &str| {
        let cluster = clusters.of(&issuer.parse().unwrap());
        cluster.map(|cluster| cluster.name().as_str().to_owned())
    };
    assert_eq!(of(TokenBuilder::ISSUER), Err(RouteError::Ambiguous));
    assert_eq!(of("https://third.example.com"), Ok("third".to_owned()));
    assert_eq!(of("https://other.example.com"), Err(RouteError::Unknown));
}

#[tokio::test]
async fn one_of_several_key_sets_is_enough_to_be_ready() {
    let (directory, file) = directory();
    let good = source("good", Some("https://good.example.com"), &file);
    let missing = directory.path().join("missing.json");
    let bad = source("bad", Some("https://bad.example.com"), &missing);
    let readiness = svc_runtime::Readiness::new();
    let board = KeySetBoard::new(
        crate::metrics::Metrics::default(),
        readiness.condition("key sets"),
    );
    board.replace(vec![Arc::clone(&good), Arc::clone(&bad)], Vec::new());
    let read = async |source: &KeySource| {
        let read = source.read(source.attempt.lock().await).await;
        board.tell(source, read);
    };
    read(&bad).await;
    let reason = "no key set could be read, of cluster good, bad".to_owned();
    assert_eq!(readiness.unmet(), [("key sets", reason)]);
    read(&good).await;
    assert!(readiness.is_ready());
    read(&bad).await;
    assert!(readiness.is_ready(), "never because of one of several");
}

/// What cannot be used leaves what we have, until that is too old.
#[tokio::test]
async fn jwks_007_the_previous_set_stays_until_it_is_too_old() {
    let (_directory, file) = directory();
    let source = source("c1", Some(TokenBuilder::ISSUER), &file);
    assert!(source.read(source.attempt.lock().await).await);
    std::fs::write(&file, r#"{"keys":[]}"#).unwrap();
    assert!(!source.read(source.attempt.lock().await).await);
    assert!(source.current().is_some());
    tokio::time::pause();
    tokio::time::advance(OLDEST / 2).await;
    assert!(source.current().is_some());
    tokio::time::advance(OLDEST / 2).await;
    assert!(source.current().is_none());
}

/// A key set that is read, and the time it takes until it may be read again.
async fn warm(file: &std::path::Path) -> Arc<KeySource> {
    let source = source("c1", Some(TokenBuilder::ISSUER), file);
    assert!(source.read(source.attempt.lock().await).await);
    source
}

async fn let_pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn has(source: &KeySource, key: &TestKey) -> bool {
    let id = KeyId::parse(key.kid()).unwrap();
    let snapshot = source.keys_with(&id).await.unwrap();
    snapshot.keys.find(&id).is_some()
}

#[tokio::test]
async fn jwt_051_a_flood_of_unknown_key_ids_is_one_reading() {
    let (_directory, file) = directory();
    let source = warm(&file).await;
    let flood = async |round: u32| {
        for index in 0..1000 {
            let unknown = KeyId::parse(&format!("{round}-{index}")).unwrap();
            assert!(source.keys_with(&unknown).await.is_some());
        }
    };
    // Whether the document is read shows in whether its next version is known.
    std::fs::write(&file, TestKey::jwks(&[TestKey::other_rsa()])).unwrap();
    flood(1).await;
    assert!(has(&source, TestKey::rsa()).await, "read too soon");
    let_pass(COOL_DOWN).await;
    flood(2).await;
    assert!(!has(&source, TestKey::rsa()).await, "read once");
    std::fs::write(&file, TestKey::jwks(&[TestKey::rsa()])).unwrap();
    flood(3).await;
    assert!(has(&source, TestKey::other_rsa()).await, "and not again");
}

#[tokio::test]
async fn jwt_052_a_new_key_is_found_by_one_reading() {
    let (_directory, file) = directory();
    let source = warm(&file).await;
    let both = [TestKey::rsa(), TestKey::other_rsa()];
    std::fs::write(&file, TestKey::jwks(&both)).unwrap();
    let_pass(COOL_DOWN).await;
    assert!(has(&source, TestKey::other_rsa()).await);
    assert!(has(&source, TestKey::rsa()).await);
}

/// At the latest when the set is read anew; while it cannot be read, until it is too old.
#[tokio::test]
async fn jwt_054_a_key_that_is_no_longer_served_is_no_good_soon_after() {
    const { assert!(REFRESH.as_secs() <= 600) };
    let (_directory, file) = directory();
    let source = warm(&file).await;
    assert!(has(&source, TestKey::rsa()).await);
    std::fs::write(&file, TestKey::jwks(&[TestKey::other_rsa()])).unwrap();
    assert!(source.read(source.attempt.lock().await).await);
    assert!(!has(&source, TestKey::rsa()).await);
}
