//! Rules that ask for labels: what the API server has of the pod and of its namespace decides, in both ways in which it is asked.

use serde_json::{Value, json};

use super::install::{Install, Pod, Variant, WATCH};
use super::process::Process;
use super::wait::eventually;

/// Needs a label of the pod, one of its namespace, and that one is not there.
const RULE: &str = "pod_labels.tier == 'web' && namespace_labels['example.com/team'] == 'a' && !('canary' in pod_labels)";
/// The rights that the chart gives for it where reviews are asked for.
const REVIEW: Variant = Variant {
    without_reviews: false,
    presence: &["get"],
    namespaces: &["get"],
    ..WATCH
};
/// And where there is a watch.
const WATCHED: Variant = Variant {
    namespaces: &["list", "watch"],
    ..WATCH
};

async fn start(variant: Variant, verification: &'static str) -> (Install, Process) {
    let install = Install::variant(variant).await;
    let mut server = Process::server_with(&install, |config| {
        let endpoint = &mut config["endpoints"][0];
        endpoint["verification"] = json!(verification);
        endpoint["rules"] = json!([{"cel": RULE}, {"cel": "subject.saname == 'other'"}]);
    });
    server.becomes_ready().await;
    (install, server)
}

async fn label(install: &Install, path: &str, labels: Value) {
    let patch = json!({"metadata": {"labels": labels}});
    drop(install.plane.ok("PATCH", path, Some(&patch)).await);
}

/// Waits until the token's pod is answered so: what is changed takes its time to be known.
async fn comes_to(server: &Process, install: &Install, token: &str, expected: u16) {
    let answered = async || {
        let status = server.exchange_status(install, token).await;
        (status == expected).then_some(())
    };
    eventually(&format!("status {expected}"), answered).await;
}

async fn follows_labels(install: &Install, server: &Process) -> (Pod, String) {
    let (pod, token) = install.good_token().await;
    let path = install.apps_path(&format!("pods/{}", pod.name));
    let namespace = format!("/api/v1/namespaces/{}", install.apps);
    assert_eq!(server.exchange_status(install, &token).await, 403);
    assert_eq!(server.reason(1).await, "policy_denied");
    label(install, &path, json!({"tier": "web"})).await;
    label(install, &namespace, json!({"example.com/team": "a"})).await;
    comes_to(server, install, &token, 200).await;
    let line = server.allowed("kubernetes").await;
    assert_eq!(line["rule"], RULE);
    for (path, bad, good) in [
        (&path, json!({"canary": "1"}), json!({"canary": null})),
        (&path, json!({"tier": "db"}), json!({"tier": "web"})),
        (
            &namespace,
            json!({"example.com/team": "b"}),
            json!({"example.com/team": "a"}),
        ),
        (
            &namespace,
            json!({"example.com/team": null}),
            json!({"example.com/team": "a"}),
        ),
    ] {
        label(install, path, bad).await;
        comes_to(server, install, &token, 403).await;
        label(install, path, good).await;
        comes_to(server, install, &token, 200).await;
    }
    (pod, token)
}

#[tokio::test]
async fn labels_that_are_asked_for_decide() {
    let (install, server) = start(REVIEW, "tokenReview").await;
    let (pod, token) = follows_labels(&install, &server).await;
    install
        .plane
        .delete(&install.apps_path(&format!("pods/{}", pod.name)))
        .await;
    // Not even the API server's memory of reviews helps a pod of which nothing is known.
    assert_eq!(server.exchange_status(&install, &token).await, 401);
    // One of its name has other labels, and they are not the token's.
    let next = install.create_pod(&pod.name, "app").await;
    label(
        &install,
        &install.apps_path(&format!("pods/{}", next.name)),
        json!({"tier": "web"}),
    )
    .await;
    assert_eq!(server.exchange_status(&install, &token).await, 401);
}

#[tokio::test]
async fn labels_that_are_watched_decide() {
    let (install, server) = start(WATCHED, "watch").await;
    let (pod, token) = follows_labels(&install, &server).await;
    install
        .plane
        .delete(&install.apps_path(&format!("pods/{}", pod.name)))
        .await;
    comes_to(&server, &install, &token, 401).await;
}

/// A pod with its labels may ask before its event is here.
#[tokio::test]
async fn labels_of_a_pod_that_asks_at_once_are_known() {
    let (install, server) = start(WATCHED, "watch").await;
    let namespace = format!("/api/v1/namespaces/{}", install.apps);
    label(&install, &namespace, json!({"example.com/team": "a"})).await;
    let (_, first) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &first).await, 403);
    for number in 0..10 {
        let object = json!({
            "metadata": {"name": format!("at-once-{number}"), "labels": {"tier": "web"}},
            "spec": {"serviceAccountName": "app", "containers": [{"name": "app", "image": "app:1"}]},
        });
        let created = install
            .plane
            .create(&install.apps_path("pods"), object)
            .await;
        let pod = Pod {
            name: format!("at-once-{number}"),
            uid: created["metadata"]["uid"].as_str().unwrap().to_owned(),
        };
        let token = install.pod_token(&pod, Some(&install.audience())).await;
        comes_to(&server, &install, &token, 200).await;
    }
}

/// What cannot be known allows nothing: not what is there, and not what is not.
#[tokio::test]
async fn live_016_without_the_right_to_read_labels_it_is_503() {
    for (variant, verification) in [
        (
            Variant {
                presence: &[],
                namespaces: &[],
                ..REVIEW
            },
            "tokenReview",
        ),
        (
            Variant {
                namespaces: &[],
                ..REVIEW
            },
            "tokenReview",
        ),
    ] {
        let (install, server) = start(variant, verification).await;
        let (_, token) = install.good_token().await;
        assert_eq!(server.exchange_status(&install, &token).await, 503);
        assert_eq!(server.reason(1).await, "backend_unavailable");
        let log = server.lines().join("\n");
        assert!(log.contains("labels cannot be read"), "{log}");
        assert!(!log.contains(&token), "{log}");
        // Whom a rule allows whatever its labels are needs none to be known.
        install.create_account(&install.apps, "other").await;
        let pod = install.create_pod("other", "other").await;
        let bound = Some((pod.name.as_str(), pod.uid.as_str()));
        let audience = install.audience();
        let plane = install.plane;
        let token = plane
            .token(&install.apps, "other", Some(&audience), bound)
            .await;
        assert_eq!(server.exchange_status(&install, &token).await, 200);
    }
}
