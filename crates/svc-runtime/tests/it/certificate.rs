use svc_runtime::tls::{
    CertificateError, KeyPairPem, LOOK_EVERY, ServingCertificate, follow_files,
};
use svc_runtime::{Limits, Readiness, Shutdown};

use crate::support::{Server, client, fresh_pair};

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

#[tokio::test]
async fn tls_004_bad_pair_keeps_the_old_one() {
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

#[tokio::test]
async fn missing_files_stop_the_start() {
    let readiness = Readiness::new();
    let outcome = follow_files(
        "/nonexistent/tls.crt".as_ref(),
        "/nonexistent/tls.key".as_ref(),
        LOOK_EVERY,
        ServingCertificate::empty(),
        readiness.condition("certificate"),
        Shutdown::new(),
    )
    .await;
    assert!(matches!(outcome, Err(CertificateError::Read { .. })));
    assert!(!readiness.is_ready());
}
