//! What the chart has for admission, as helm renders it: no copy of it that tests write by themselves.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::install::Install;
use super::minio::variable;
use super::wait::eventually;
use super::webhook::{Webhook, accounts_entry, entry, is_injected, labelled};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

fn values(install: &Install) -> Value {
    let endpoint = |name: &str, injector: Value| {
        json!({
            "name": name, "path": format!("/{name}"), "audience": format!("{name}.example"),
            "issuer": format!("https://{name}.example.com"), "key": {"secret": format!("{name}-key")},
            "rules": [{"filter": "(namespace=apps)"}], "injector": injector,
        })
    };
    json!({
        "sts": {"endpoints": [
            endpoint("aws", json!({"label": "aws-role", "tokenEnv": "AWS_FILE", "annotationEnv": "AWS_ROLE"})),
            endpoint("kubelet", json!({"label": "kubelet-role", "mode": "projected", "tokenEnv": "FILE", "annotationEnv": "ROLE"})),
        ]},
        "injector": {
            "finalStatePolicy": {"enabled": true},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": install.apps}},
            "serviceAccounts": {"enabled": true},
        },
    })
}

/// Creates policies and their bindings, and says where they are.
pub(crate) async fn create_policies(plane: &ControlPlane, policies: Vec<Value>) -> Vec<String> {
    let mut paths = Vec::new();
    for object in policies {
        let plural = if object["kind"] == "ValidatingAdmissionPolicy" {
            "validatingadmissionpolicies"
        } else {
            "validatingadmissionpolicybindings"
        };
        let name = object["metadata"]["name"].as_str().unwrap();
        paths.push(format!("{GROUP}/{plural}/{name}"));
        drop(plane.create(&format!("{GROUP}/{plural}"), object).await);
    }
    paths
}

/// The objects of one template.
pub(crate) async fn render(install: &Install, template: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values(install).to_string()).unwrap();
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/kube-sts");
    let mut command = Command::new(variable("KUBE_STS_HELM"));
    command
        .args(["template", &install.namespace])
        .arg(chart)
        .args(["--namespace", &install.namespace, "--values"])
        .arg(&file)
        .args(["--show-only", template])
        .env("HELM_CACHE_HOME", folder.path())
        .env("HELM_CONFIG_HOME", folder.path())
        .env("HELM_DATA_HOME", folder.path());
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
    let ended = ended.await.unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    serde_saphyr::from_multiple(&text).unwrap()
}

/// The entries that all tests of the webhook use are the chart's, but for where the injector is and which namespaces are looked at.
#[tokio::test]
async fn the_webhooks_entries_of_these_tests_are_the_charts() {
    let install = Install::new().await;
    let objects = render(&install, "templates/webhook.yaml").await;
    let entries = objects[0]["webhooks"].as_array().unwrap();
    for ours in [
        accounts_entry(&install, "x"),
        entry(&install, "x", "aws"),
        entry(&install, "x", "kubelet"),
    ] {
        let found = entries.iter().find(|one| one["name"] == ours["name"]);
        let mut theirs = found.unwrap().clone();
        theirs["clientConfig"]["service"]["name"] = json!("injector");
        theirs["namespaceSelector"] = ours["namespaceSelector"].clone();
        theirs["timeoutSeconds"] = ours["timeoutSeconds"].clone();
        assert_eq!(theirs, ours);
    }
    assert_eq!(entries.len(), 3);
}

/// What another webhook undid, or none did, is refused by the API server itself.
#[tokio::test]
async fn adm_036_a_labelled_pod_that_ends_up_without_its_sidecar_is_refused_by_the_policy() {
    let webhook = Webhook::start().await;
    let plane = webhook.install.plane;
    let policies = render(&webhook.install, "templates/final-state.yaml").await;
    let paths = create_policies(plane, policies).await;
    assert_eq!(paths.len(), 4);
    // No entry of the webhook is called for this label, so nobody adds the volume.
    let mut projected = labelled("projected");
    projected["metadata"]["labels"] = json!({"tremolo.io/kubelet-role": "true"});
    is_refused(&webhook, &projected, "no volume sts-projected-tokens").await;
    projected["spec"]["volumes"] = json!([{"name": "sts-projected-tokens", "emptyDir": {}}]);
    let (status, answer) = webhook.dry_run(&projected).await;
    assert_eq!(status, 201, "{answer}");
    let (status, answer) = webhook.dry_run(&labelled("served")).await;
    assert!(status == 201 && is_injected(&answer), "{status} {answer}");
    nobody_injects(&webhook).await;
    is_refused(
        &webhook,
        &labelled("forgotten"),
        "no container kube-sts-refresher",
    )
    .await;
    let mut out = labelled("out");
    out["metadata"]["labels"] = json!({"tremolo.io/aws-role": "false"});
    let (status, answer) = webhook.dry_run(&out).await;
    assert_eq!(status, 201, "{answer}");
    for path in &paths {
        plane.delete(path).await;
    }
}

/// Neither does anybody answer any more, and the entries let pods pass.
async fn nobody_injects(webhook: &Webhook) {
    let (plane, path) = (webhook.install.plane, webhook.configuration());
    let mut object = plane.get(&path).await;
    for entry in object["webhooks"].as_array_mut().unwrap() {
        entry["failurePolicy"] = json!("Ignore");
        entry["clientConfig"]["service"]["port"] = json!(444);
    }
    drop(plane.ok("PUT", &path, Some(&object)).await);
}

async fn is_refused(webhook: &Webhook, pod: &Value, words: &str) {
    eventually(words, async || {
        let (status, answer) = webhook.dry_run(pod).await;
        let message = answer["message"].as_str().unwrap_or_default();
        (status == 422 && message.contains(words)).then_some(())
    })
    .await;
}
