//! The documents read back from a public issuer: no key signs that it does not serve.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::install::Install;
use super::process::Process;
use super::public_issuer::PublicIssuer;
use super::ring::{SECRET, active_kid, annotate, next_kid, said, secret, serves, short_times};
use super::wait::{POLL, eventually};

async fn with_public_issuer() -> (Install, PublicIssuer, Process) {
    let install = Install::new().await;
    let public = PublicIssuer::start(install.folder()).await;
    let mut tuning = short_times();
    tuning["documents"]["readBack"] = public.url().into();
    tuning["documents"]["caFile"] = public.ca_file.to_str().into();
    install.tune(&tuning);
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    (install, public, server)
}

async fn issuer_docs(server: &Process, install: &Install) -> Value {
    let client = server.client(install).await;
    let request = client.get(server.url(install, "/aws/issuer-docs"));
    request.send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn rot_002_no_key_signs_that_the_public_issuer_does_not_serve() {
    let (install, public, server) = with_public_issuer().await;
    let (_, token) = install.good_token().await;
    assert_eq!(
        server.exchange_status(&install, &token).await,
        503,
        "nothing is published yet"
    );
    public.publish(&issuer_docs(&server, &install).await);
    let first = eventually("the first key signs", async || active_kid(&install).await).await;
    eventually("a token", async || {
        (server.exchange_status(&install, &token).await == 200).then_some(())
    })
    .await;

    annotate(&install, "rotate", "1").await;
    let kids = serves(&server, &install, 2).await;
    let waits = eventually("what it waits for", async || {
        let status = secret(&install).await["metadata"]["annotations"]["sts.tremolo.io/status"]
            .as_str()?
            .to_owned();
        status
            .contains("waits to be seen at the public issuer")
            .then_some(status)
    })
    .await;
    assert!(waits.contains(&kids[1]), "{waits}");
    // Longer than a key would wait that only time holds back.
    let published = Instant::now() + Duration::from_secs(6);
    while Instant::now() < published {
        assert_eq!(active_kid(&install).await.as_deref(), Some(first.as_str()));
        assert_eq!(server.exchange_status(&install, &token).await, 200);
        sleep(POLL).await;
    }
    public.publish(&issuer_docs(&server, &install).await);
    assert_eq!(next_kid(&install, &first).await, kids[1]);
    assert!(said(&server, "\"step\":\"seen\""));
}

/// Nobody signs before the public issuer was looked at: whoever is sent there by then would be refused.
#[tokio::test]
async fn a_replica_is_ready_when_the_public_issuer_was_looked_at_and_not_before() {
    let (install, public, server) = with_public_issuer().await;
    public.publish(&issuer_docs(&server, &install).await);
    drop(eventually("the first key signs", async || active_kid(&install).await).await);
    let (_, token) = install.good_token().await;
    server.kill();
    for is_for_ever in [false, true] {
        public.hold(true);
        let mut server = Process::server(&install);
        let unmet = eventually("all but one condition", async || {
            let (status, text) = server.readiness().await;
            (status == 503 && !text.contains("signing key")).then_some(text)
        })
        .await;
        assert!(unmet.contains("public issuer"), "{unmet}");
        // One that does not answer at all holds nobody up for long: relying parties go on with what they have.
        public.hold(is_for_ever);
        server.becomes_ready().await;
        server.grants(&install, &token).await;
    }
}

#[tokio::test]
async fn disc_011_a_public_issuer_that_serves_something_else_is_noticed() {
    let (install, public, server) = with_public_issuer().await;
    let differs = async |value: u8| {
        eventually("what the metric says", async || {
            let line = format!("sts_public_issuer_differs{{endpoint=\"aws\"}} {value}");
            server.metrics().await.contains(&line).then_some(())
        })
        .await;
    };
    differs(1).await;
    public.publish(&issuer_docs(&server, &install).await);
    differs(0).await;
    assert!(said(&server, "public issuer serves our key set"));
}

/// As after a restore of etcd and of everything that ran on it.
#[tokio::test]
async fn rot_010_a_key_that_the_public_issuer_does_not_serve_is_not_used_after_a_restart() {
    let (install, public, server) = with_public_issuer().await;
    public.publish(&issuer_docs(&server, &install).await);
    let first = eventually("the first key signs", async || active_kid(&install).await).await;
    let old = secret(&install).await;
    annotate(&install, "rotate", "1").await;
    let kids = serves(&server, &install, 2).await;
    public.publish(&issuer_docs(&server, &install).await);
    let second = next_kid(&install, &first).await;
    assert_eq!(second, kids[1]);
    server.kill();
    // The public issuer has forgotten the old key; what is restored knows nothing else.
    let documents = issuer_docs_of(&second, &install).await;
    public.publish(&documents);
    install.plane.delete(&install.path(SECRET)).await;
    let mut restored = old.clone();
    for field in [
        "resourceVersion",
        "uid",
        "creationTimestamp",
        "managedFields",
    ] {
        drop(restored["metadata"].as_object_mut().unwrap().remove(field));
    }
    drop(
        install
            .plane
            .create(&install.path("secrets"), restored)
            .await,
    );
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    eventually("it is said", async || {
        said(&server, "\"reason\":\"not_served\"").then_some(())
    })
    .await;
    let (_, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 503);
}

/// The documents of an issuer that has that key alone.
async fn issuer_docs_of(kid: &str, install: &Install) -> Value {
    let ledger = install
        .plane
        .get(&install.path("configmaps/server-keys"))
        .await;
    let record: Value =
        serde_json::from_str(ledger["data"]["aws-signing-key.json"].as_str().unwrap()).unwrap();
    let set = json!({"keys": [record["keys"][kid]]});
    let discovery = json!({"issuer": "https://issuer.example.com", "jwks_uri": "https://issuer.example.com/certs"});
    json!({"discovery": discovery.to_string(), "keys": set.to_string()})
}
