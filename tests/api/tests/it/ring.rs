//! What kubectl and accidents do to a key Secret while servers run, and while none does.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::install::Install;
use super::process::Process;
use super::wait::eventually;

/// Times so short that a rotation takes 4 s: what a new key waits for is `staleAfter` + `maxAge` + `clockSkew`.
pub(crate) fn short_times() -> Value {
    json!({
        "key": {"secret": "aws-signing-key", "algorithm": "RS256", "clockSkew": "1s", "staleAfter": "2s", "mostKeys": 60},
        "documents": {"maxAge": "1s"},
        "lifetime": "1m",
        "rateLimit": {"perAddress": 0, "perPod": 0},
    })
}

async fn start() -> (Install, Process) {
    let install = Install::new().await;
    install.tune(&short_times());
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    (install, server)
}

pub(crate) const SECRET: &str = "secrets/aws-signing-key";

pub(crate) async fn secret(install: &Install) -> Value {
    install.plane.get(&install.path(SECRET)).await
}

pub(crate) async fn annotate(install: &Install, name: &str, value: &str) {
    let patch = json!({"metadata": {"annotations": {format!("sts.tremolo.io/{name}"): value}}});
    drop(
        install
            .plane
            .ok("PATCH", &install.path(SECRET), Some(&patch))
            .await,
    );
}

/// The Secret's annotation, once it is another than `before`.
pub(crate) async fn next_kid(install: &Install, before: &str) -> String {
    eventually("another key signs", async || {
        active_kid(install).await.filter(|kid| kid != before)
    })
    .await
}

/// The key that signs, as the Secret says; `None` where it is gone or says nothing.
pub(crate) async fn active_kid(install: &Install) -> Option<String> {
    let (status, secret) = install.plane.call("GET", &install.path(SECRET), None).await;
    let kid = secret["metadata"]["annotations"]["sts.tremolo.io/kid"].as_str();
    kid.filter(|_| status == 200).map(str::to_owned)
}

pub(crate) async fn kids(server: &Process, install: &Install) -> Vec<String> {
    let set = server.key_set(install).await;
    let keys = set["keys"].as_array().cloned().unwrap_or_default();
    keys.iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

pub(crate) async fn serves(server: &Process, install: &Install, count: usize) -> Vec<String> {
    eventually("key set", async || {
        let kids = kids(server, install).await;
        (kids.len() == count).then_some(kids)
    })
    .await
}

pub(crate) fn said(server: &Process, text: &str) -> bool {
    server.lines().iter().any(|line| line.contains(text))
}

#[tokio::test]
async fn rot_002_a_rotation_by_kubectl_tells_where_it_stands() {
    let (install, server) = start().await;
    let first = active_kid(&install).await.unwrap();
    annotate(&install, "rotate", "now").await;
    let status = eventually("status", async || {
        let secret = secret(&install).await;
        let status = secret["metadata"]["annotations"]["sts.tremolo.io/status"]
            .as_str()?
            .to_owned();
        status.contains("signs from").then_some(status)
    })
    .await;
    assert!(status.starts_with(&format!("{first} signs; ")), "{status}");
    let second = next_kid(&install, &first).await;
    let secret = secret(&install).await;
    let status = secret["metadata"]["annotations"]["sts.tremolo.io/status"]
        .as_str()
        .unwrap();
    assert!(
        status.starts_with(&format!("{second} signs; {first} stays published until ")),
        "{status}"
    );
    let ring: Value = serde_json::from_str(
        secret["metadata"]["annotations"]["sts.tremolo.io/ring"]
            .as_str()
            .unwrap(),
    )
    .unwrap();
    let states: Vec<&str> = ring["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["active", "retiring"]);
    tells_every_step(&install, &server).await;
}

/// Every step is a log line, a count and an Event.
async fn tells_every_step(install: &Install, server: &Process) {
    let metrics = server.metrics().await;
    let events = install
        .plane
        .get(&format!(
            "/apis/events.k8s.io/v1/namespaces/{}/events",
            install.namespace
        ))
        .await;
    let reasons: Vec<&str> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["reason"].as_str())
        .collect();
    for (code, reason) in [
        ("prepared", "SigningKeyPrepared"),
        ("activated", "SigningKeyActivated"),
        ("retired", "SigningKeyRetired"),
    ] {
        assert!(said(server, &format!("\"step\":\"{code}\"")), "{code}");
        assert!(
            metrics.contains(&format!(
                "sts_key_step_total{{endpoint=\"aws\",step=\"{code}\"}}"
            )),
            "{metrics}"
        );
        assert!(reasons.contains(&reason), "{reasons:?}");
    }
}

#[tokio::test]
async fn key_005_no_byte_of_a_key_is_in_logs_metrics_events_or_the_public_record() {
    let (install, server) = start().await;
    let first = active_kid(&install).await.unwrap();
    annotate(&install, "rotate", "1").await;
    drop(next_kid(&install, &first).await);
    let data = secret(&install).await["data"].clone();
    let events = format!(
        "/apis/events.k8s.io/v1/namespaces/{}/events",
        install.namespace
    );
    let shown = [
        server.lines().join("\n"),
        server.metrics().await,
        install.plane.get(&events).await.to_string(),
        install
            .plane
            .get(&install.path("configmaps"))
            .await
            .to_string(),
        secret(&install).await["metadata"].to_string(),
    ];
    let mut looked_for = 0;
    for entry in data.as_object().unwrap().values() {
        let stored = entry.as_str().unwrap();
        let pem = String::from_utf8(STANDARD.decode(stored).unwrap()).unwrap();
        let lines = pem.lines().filter(|line| line.len() == 64);
        for needle in lines.chain([stored]) {
            looked_for += 1;
            assert!(shown.iter().all(|text| !text.contains(needle)));
        }
    }
    assert!(looked_for > 40, "{looked_for}");
}

#[tokio::test]
async fn rot_008_a_deleted_secret_comes_back_with_a_new_key_and_nobody_notices() {
    let (install, server) = start().await;
    let label = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}});
    drop(
        install
            .plane
            .ok("PATCH", &install.path(SECRET), Some(&label))
            .await,
    );
    let first = active_kid(&install).await.unwrap();
    annotate(&install, "note", "somebody's").await;
    let (_, token) = install.good_token().await;
    server.grants(&install, &token).await;
    install.plane.delete(&install.path(SECRET)).await;
    server.grants(&install, &token).await;
    assert_eq!(server.readiness().await.0, 200);
    let kids = serves(&server, &install, 2).await;
    assert_eq!(kids[0], first);
    let back = secret(&install).await;
    assert_eq!(
        back["metadata"]["labels"]["app.kubernetes.io/managed-by"],
        "Helm"
    );
    assert_eq!(
        back["metadata"]["annotations"]["sts.tremolo.io/note"],
        "somebody's"
    );
    let wish = back["metadata"]["annotations"]["sts.tremolo.io/rotate"].as_str();
    assert!(
        wish.is_some_and(|wish| wish.starts_with("deletion-")),
        "{wish:?}"
    );
    let second = next_kid(&install, &first).await;
    assert_eq!(second, kids[1]);
    server.grants(&install, &token).await;
}

#[tokio::test]
async fn rot_008_a_secret_deleted_while_no_server_runs_costs_no_live_token() {
    let (install, server) = start().await;
    let first = active_kid(&install).await.unwrap();
    server.kill();
    install.plane.delete(&install.path(SECRET)).await;
    // Before the seconds in which it is refused begin.
    let (_, token) = install.good_token().await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let kids = serves(&server, &install, 2).await;
    assert!(kids.contains(&first), "tokens it signed may live: {kids:?}");
    assert!(said(&server, "its private keys are lost"));
    // Until nobody can have a key set without it, the new key signs nothing.
    assert_eq!(server.exchange_status(&install, &token).await, 503);
    let second = eventually("the new key signs", async || active_kid(&install).await).await;
    assert_ne!(second, first);
    server.grants(&install, &token).await;
}

/// A damaged Secret is written anew from memory: the key in it stays the one that it was.
#[tokio::test]
async fn rot_009_a_secret_edited_into_nonsense_is_repaired() {
    let (install, server) = start().await;
    let first = active_kid(&install).await.unwrap();
    let entry = format!("{first}.pem");
    let good = secret(&install).await["data"][&entry].clone();
    let other = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
        .unwrap();
    let damages = [
        json!({"data": {&entry: STANDARD.encode("no key")}}),
        json!({"data": {&entry: STANDARD.encode(other.serialize_pem())}}),
        // Half of it.
        json!({"data": {&entry: null}}),
        json!({"metadata": {"annotations": {"sts.tremolo.io/ring": "{"}}}),
        json!({"metadata": {"annotations": {"sts.tremolo.io/ring": null}}}),
    ];
    for damage in damages {
        drop(
            install
                .plane
                .ok("PATCH", &install.path(SECRET), Some(&damage))
                .await,
        );
        eventually("repair", async || {
            let secret = secret(&install).await;
            let ring = secret["metadata"]["annotations"]["sts.tremolo.io/ring"]
                .as_str()?
                .to_owned();
            (secret["data"][&entry] == good && ring.contains(&first)).then_some(())
        })
        .await;
        assert_eq!(
            kids(&server, &install).await,
            *std::slice::from_ref(&first),
            "{damage}"
        );
    }
    assert!(said(&server, "\"step\":\"repaired\""));
}

#[tokio::test]
async fn rot_010_a_restore_of_an_older_ring_is_undone() {
    let (install, server) = start().await;
    let first = active_kid(&install).await.unwrap();
    let mut old = secret(&install).await;
    annotate(&install, "rotate", "1").await;
    let second = next_kid(&install, &first).await;
    // As etcd has it after a restore: what it was, under a new version.
    old["metadata"]["resourceVersion"] =
        secret(&install).await["metadata"]["resourceVersion"].clone();
    drop(
        install
            .plane
            .ok("PUT", &install.path(SECRET), Some(&old))
            .await,
    );
    eventually("the later ring is put back", async || {
        active_kid(&install).await.filter(|kid| *kid == second)
    })
    .await;
    let kids = kids(&server, &install).await;
    assert!(kids.contains(&first) && kids.contains(&second), "{kids:?}");
    assert!(said(&server, "\"step\":\"rolled_back\""));
}

#[tokio::test]
async fn rot_003_a_revoked_key_leaves_at_once() {
    let (install, server) = start().await;
    let first = active_kid(&install).await.unwrap();
    let (_, token) = install.good_token().await;
    server.grants(&install, &token).await;
    annotate(&install, "revoke", &first).await;
    let second = next_kid(&install, &first).await;
    assert_eq!(serves(&server, &install, 1).await, [second]);
    server.grants(&install, &token).await;
    // Written when the key is gone, and read by another thread.
    eventually("it is said", async || {
        said(&server, "every token it signed is refused").then_some(())
    })
    .await;
    let data = secret(&install).await["data"].clone();
    assert!(
        data[format!("{first}.pem")].is_null(),
        "it is not kept either"
    );
}

/// Paused for longer than it may sign unread, and asked the moment it goes on.
#[tokio::test]
async fn rot_005_a_replica_that_was_paused_signs_with_no_retired_key() {
    let install = Install::new().await;
    install.tune(&short_times());
    let (mut paused, mut other) = (Process::server(&install), Process::server(&install));
    paused.becomes_ready().await;
    other.becomes_ready().await;
    let first = active_kid(&install).await.unwrap();
    let (_, token) = install.good_token().await;
    assert_eq!(paused.exchange_status(&install, &token).await, 200);
    paused.signal(Signal::SIGSTOP);
    annotate(&install, "rotate", "1").await;
    let second = next_kid(&install, &first).await;
    let asked = tokio::spawn({
        let client = paused.client(&install).await;
        let request = client
            .post(paused.url(&install, "/aws/token"))
            .bearer_auth(&token);
        async move { request.send().await.unwrap() }
    });
    paused.signal(Signal::SIGCONT);
    let answer = asked.await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    if status == 200 {
        let kid = jsonwebtoken::decode_header(&text).unwrap().kid.unwrap();
        assert_eq!(kid, second, "the retired key is not used any more");
    } else {
        assert_eq!(status, 503);
    }
    eventually("it signs again", async || {
        (paused.exchange_status(&install, &token).await == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn rot_006_007_replicas_that_start_on_nothing_at_once_agree_time_and_again() {
    for _ in 0..5 {
        let install = Install::new().await;
        install.plane.delete(&install.path(SECRET)).await;
        let mut replicas: Vec<Process> = (0..3).map(|_| Process::server(&install)).collect();
        let mut sets = Vec::new();
        for replica in &mut replicas {
            replica.becomes_ready().await;
            sets.push(kids(replica, &install).await);
        }
        sets.dedup();
        assert_eq!(sets.len(), 1, "{sets:?}");
        assert_eq!(sets[0].len(), 1, "{sets:?}");
    }
}
