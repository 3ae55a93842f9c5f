use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::aws::AwsCredential;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::store::document_client;

const ACCEPTED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";

/// Asks a server that gives that answer, and returns the outcome with what the server was sent.
async fn ask(answer: &'static str) -> (Result<(), PublishError>, String) {
    svc_runtime::install_crypto_provider();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"</InvalidationBatch>") {
            let mut some = [0; 4096];
            let count = connection.read(&mut some).await.unwrap();
            assert!(count > 0, "the request ended early");
            received.extend_from_slice(&some[..count]);
        }
        connection.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(received).unwrap()
    };
    let credential = AwsCredential {
        key_id: "KEY".to_owned(),
        secret_key: "SECRET".to_owned(),
        token: Some("SESSION".to_owned()),
    };
    let credentials: AwsCredentialProvider = Arc::new(StaticCredentialProvider::new(credential));
    let issuer = Issuer::parse("https://issuer.example.com/a").unwrap();
    let client = document_client(None).unwrap();
    let mut cloud_front = CloudFront::new("E1ABCDEFGHIJKL", &issuer, &credentials, client);
    cloud_front.address = address;
    let paths = ["certs", ".well-known/openid-configuration"];
    tokio::join!(cloud_front.invalidate(&paths), server)
}

#[tokio::test]
async fn the_copies_of_both_documents_are_dropped_by_one_signed_request() {
    let (outcome, request) = ask(ACCEPTED).await;
    outcome.unwrap();
    assert!(
        request
            .starts_with("POST /2020-05-31/distribution/E1ABCDEFGHIJKL/invalidation HTTP/1.1\r\n"),
        "{request}"
    );
    let items = "<Quantity>2</Quantity><Items><Path>/a/certs</Path><Path>/a/.well-known/openid-configuration</Path></Items>";
    assert!(request.contains(items), "{request}");
    assert!(
        request.contains("authorization: AWS4-HMAC-SHA256 Credential=KEY/"),
        "{request}"
    );
    assert!(
        request.contains("/us-east-1/cloudfront/aws4_request"),
        "{request}"
    );
    assert!(
        request.contains("x-amz-security-token: SESSION"),
        "{request}"
    );
    assert!(!request.contains("SECRET"), "{request}");
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let redirect = "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    let (outcome, _) = ask(redirect).await;
    let Err(PublishError::Invalidation {
        source: CallError::Status { status: 307 },
        ..
    }) = outcome
    else {
        panic!("{outcome:?}");
    };
}
