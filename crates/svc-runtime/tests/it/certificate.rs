use std::time::Duration;

use svc_runtime::tls::{CertificateError, KeyPairPem, ServingCertificate, follow_files};
use svc_runtime::{Limits, Readiness, Shutdown};

use crate::support::{Server, background, client, fresh_pair};

#[tokio::test]
async fn client_that_trusts_the_authority_is_served_and_seen() {
    let server = Server::start(Limits::default()).await;
    let text = server
        .client()
        .get(server.url("/peer"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(text, "127.0.0.1");
}

#[tokio::test]
async fn client_of_another_authority_is_not_served() {
    let server = Server::start(Limits::default()).await;
    let (_, other) = fresh_pair();
    assert!(
        client(server.address, &other)
            .get(server.url("/peer"))
            .send()
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_the_certificate_fails_no_request() {
    let server = Server::start(Limits::default()).await;
    let mut certificates = Vec::new();
    for _ in 0..20 {
        certificates.push(fresh_pair());
    }
    let roots: Vec<_> = certificates
        .iter()
        .map(|(_, ca)| reqwest::Certificate::from_pem(ca.as_pem().as_bytes()).unwrap())
        .chain([reqwest::Certificate::from_pem(server.ca.as_pem().as_bytes()).unwrap()])
        .collect();
    let build = |idle: usize| {
        reqwest::Client::builder()
            .tls_certs_only(roots.clone())
            .resolve(crate::support::NAME, server.address)
            .pool_max_idle_per_host(idle)
            .no_proxy()
            .build()
            .unwrap()
    };
    // Half of the load keeps its connections, the other half shakes hands each time.
    let load = [1, 0, 1, 0].map(|idle| {
        let (client, url) = (build(idle), server.url("/peer"));
        background(async move {
            for _ in 0..100 {
                let response = client.get(&url).send().await.unwrap();
                assert_eq!(response.text().await.unwrap(), "127.0.0.1");
            }
        })
    });
    let before = server.certificate.leaf_der().unwrap();
    for (pair, _) in certificates {
        server.certificate.replace(pair).unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for requests in load {
        requests.await.unwrap();
    }
    assert_ne!(server.certificate.leaf_der().unwrap(), before);
}

#[tokio::test]
async fn bad_pair_keeps_the_old_one() {
    let certificate = ServingCertificate::empty();
    certificate.replace(fresh_pair().0).unwrap();
    let before = certificate.leaf_der();

    let (one, other) = (fresh_pair().0, fresh_pair().0);
    let mismatched = KeyPairPem::new(one.chain_pem(), other.expose_key_pem().clone());
    assert!(matches!(
        certificate.replace(mismatched),
        Err(CertificateError::Pair(_))
    ));
    let empty = KeyPairPem::new("", one.expose_key_pem().clone());
    assert!(matches!(
        certificate.replace(empty),
        Err(CertificateError::NoCertificate)
    ));
    let no_key = KeyPairPem::new(one.chain_pem(), Vec::new().into());
    assert!(matches!(
        certificate.replace(no_key),
        Err(CertificateError::KeyPem(_))
    ));

    assert_eq!(certificate.leaf_der(), before);
}

#[tokio::test(start_paused = true)]
async fn mounted_files_are_followed_and_a_bad_change_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let write = |pair: &KeyPairPem| {
        std::fs::write(&chain, pair.chain_pem()).unwrap();
        std::fs::write(&key, pair.expose_key_pem()).unwrap();
    };
    write(&fresh_pair().0);
    let (certificate, readiness, shutdown) = (
        ServingCertificate::empty(),
        Readiness::new(),
        Shutdown::new(),
    );
    let condition = readiness.condition("certificate");
    let follower = {
        let (chain, key) = (chain.clone(), key.clone());
        let (certificate, shutdown) = (certificate.clone(), shutdown.clone());
        background(
            async move { follow_files(&chain, &key, certificate, condition, shutdown).await },
        )
    };
    let changed = async |before: Option<Vec<u8>>| {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = certificate.leaf_der().map(|leaf| leaf.to_vec());
            if now != before {
                return now;
            }
        }
        before
    };

    let first = changed(None).await;
    assert!(first.is_some() && readiness.is_ready());
    write(&fresh_pair().0);
    let second = changed(first.clone()).await;
    assert_ne!(second, first);
    std::fs::write(&key, "half a ke").unwrap();
    assert_eq!(changed(second.clone()).await, second);
    assert!(readiness.is_ready());

    shutdown.request();
    follower.await.unwrap().unwrap();
}

#[tokio::test]
async fn missing_files_stop_the_start() {
    let readiness = Readiness::new();
    let outcome = follow_files(
        "/nonexistent/tls.crt".as_ref(),
        "/nonexistent/tls.key".as_ref(),
        ServingCertificate::empty(),
        readiness.condition("certificate"),
        Shutdown::new(),
    )
    .await;
    assert!(matches!(outcome, Err(CertificateError::Read { .. })));
    assert!(!readiness.is_ready());
}
