//! From start to end: keys that stay, key sets that change, and an end in order.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use test_support::TestKey;
use tokio::time::Instant;

use super::support::{Server, Setup, eventually, token, valid};

#[tokio::test]
async fn a_second_start_signs_with_the_same_key() {
    let server = Server::start().await;
    let before: Value = server.get("/aws/certs").await.json().await.unwrap();
    let setup = server.stop().await;
    for name in ["aws.pem", "aws2.pem"] {
        let metadata = std::fs::metadata(setup.path("keys").join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
    }
    let files = std::fs::read_dir(setup.path("keys")).unwrap().count();
    assert_eq!(files, 2, "nothing is left beside the keys");
    let server = setup.start().await;
    let after: Value = server.get("/aws/certs").await.json().await.unwrap();
    assert_eq!(before, after);
}

/// What an operator has done without shows in the log of each start.
#[tokio::test]
async fn the_start_says_of_each_endpoint_what_jwks_mode_leaves_exposed() {
    let server = Server::start().await;
    let lines = server.lines();
    let warnings = lines.iter().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let exposed =
            "a token stays good until it expires, also when its pod or ServiceAccount is deleted";
        let is_one = line["level"] == "WARN" && line["message"].as_str()?.contains(exposed);
        is_one.then(|| line["endpoint"].as_str().map(str::to_owned))?
    });
    assert_eq!(warnings.collect::<Vec<_>>(), ["aws", "aws2"]);
}

#[tokio::test]
async fn key_that_cannot_be_used_is_never_replaced() {
    let setup = Setup::new();
    std::fs::create_dir(setup.path("keys")).unwrap();
    std::fs::write(setup.path("keys/aws.pem"), "no key").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = listener.local_addr().unwrap();
    drop(listener);
    let text = setup.text("127.0.0.1:0".parse().unwrap(), admin);
    let config = setup.write_config(&text);
    let mut child = std::process::Command::new(super::support::PROGRAM)
        .arg("--config")
        .arg(&config)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    svc_runtime::install_crypto_provider();
    let client = reqwest::Client::new();
    let said = eventually("the reason", async || {
        let answer = client
            .get(format!("http://{admin}/readyz"))
            .send()
            .await
            .ok()?;
        let status = answer.status();
        let text = answer.text().await.ok()?;
        (status == 503 && text.contains("aws.pem")).then_some(text)
    });
    let said = said.await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.contains("signing key: the key in "), "{said}");
    let kept = std::fs::read_to_string(setup.path("keys/aws.pem")).unwrap();
    assert_eq!(kept, "no key");
}

/// The issuer begins to sign with a new key: its tokens are taken without a restart, and nobody can make us read the set all the time.
#[tokio::test]
async fn jwks_a_new_key_is_taken_after_the_cool_down() {
    let server = Server::start().await;
    let new = TestKey::ec();
    let token = valid().sign(&new);
    server.setup.write_jwks(&[TestKey::rsa(), &new]);
    let begin = Instant::now();
    let mut refused = 0;
    eventually("the new key", async || {
        let status = server.bearer("/aws/token", &token).await.status();
        refused += u32::from(status == 401);
        (status == 200).then_some(())
    })
    .await;
    assert!(refused > 0, "the first token came within the cool-down");
    assert!(
        begin.elapsed() < Duration::from_secs(13),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(
        server
            .bearer("/aws/token", &super::support::token())
            .await
            .status(),
        200
    );
}

/// A set that cannot be used changes nothing.
#[tokio::test]
async fn jwks_a_broken_file_keeps_the_keys_we_have() {
    let server = Server::start().await;
    std::fs::write(server.setup.path("jwks.json"), "{").unwrap();
    let unknown = valid().sign(TestKey::other_rsa());
    eventually("a failed read", async || {
        drop(server.bearer("/aws/token", &unknown).await);
        let lines = server.lines();
        lines
            .iter()
            .any(|line| line.contains("key set cannot be read"))
            .then_some(())
    })
    .await;
    assert_eq!(server.bearer("/aws/token", &token()).await.status(), 200);
    assert_eq!(server.admin("/readyz").await.status(), 200);
}

#[tokio::test]
async fn http_026_sigterm_withdraws_first_and_ends_well() {
    let mut server = Server::start().await;
    let begin = Instant::now();
    server.signal(Signal::SIGTERM);
    eventually("not ready", async || {
        (server.admin("/readyz").await.status() == 503).then_some(())
    })
    .await;
    assert_eq!(server.admin("/livez").await.status(), 200);
    assert_eq!(
        server.bearer("/aws/token", &token()).await.status(),
        200,
        "until no node sends us connections any more"
    );
    let status = server.ended().await;
    assert_eq!(status.code(), Some(0), "{:?}", server.lines());
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    let panics = server
        .lines()
        .iter()
        .filter(|line| line.contains("panicked"))
        .count();
    assert_eq!(panics, 0);
}

#[tokio::test]
async fn sigint_is_the_same_and_a_second_signal_does_not_wait() {
    let mut server = Server::start().await;
    server.signal(Signal::SIGINT);
    eventually("not ready", async || {
        (server.admin("/readyz").await.status() == 503).then_some(())
    })
    .await;
    let begin = Instant::now();
    server.signal(Signal::SIGINT);
    assert_eq!(server.ended().await.code(), Some(1));
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
}
