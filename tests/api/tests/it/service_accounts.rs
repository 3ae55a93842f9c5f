//! Pods of annotated ServiceAccounts, whom the API server asks for by an entry of the webhook configuration of their own.

use serde_json::{Value, json};

use super::webhook::{ROLE, Webhook, is_injected, labelled};

const FILE: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token";

/// A ServiceAccount with these annotations, which the watch may not have seen yet.
async fn create_account(webhook: &Webhook, name: &str, annotations: Value) {
    let object = json!({"metadata": {"name": name, "annotations": annotations}});
    let path = webhook.install.apps_path("serviceaccounts");
    drop(webhook.install.plane.create(&path, object).await);
}

fn role() -> Value {
    json!({"eks.amazonaws.com/role-arn": ROLE})
}

fn pod(name: &str, account: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"serviceAccountName": account, "containers": [{"name": "app", "image": "app:1"}]},
    })
}

fn variable<'v>(pod: &'v Value, name: &str) -> Option<&'v Value> {
    let env = pod["spec"]["containers"][0]["env"].as_array()?;
    let entry = env.iter().find(|entry| entry["name"] == name)?;
    Some(&entry["value"])
}

#[tokio::test]
async fn a_pod_of_an_annotated_service_account_gets_its_role_and_the_kubelets_token() {
    let webhook = Webhook::start().await;
    create_account(&webhook, "irsa", role()).await;
    let (status, answer) = webhook.create(&pod("pod", "irsa")).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(variable(&answer, "AWS_ROLE_ARN"), Some(&json!(ROLE)));
    assert_eq!(
        variable(&answer, "AWS_WEB_IDENTITY_TOKEN_FILE"),
        Some(&json!(FILE))
    );
    assert_eq!(answer["spec"].get("initContainers"), None, "no sidecar");
    let volumes = answer["spec"]["volumes"].as_array().unwrap();
    let volume = volumes
        .iter()
        .find(|volume| volume["name"] == "aws-iam-token")
        .unwrap();
    let token = &volume["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["audience"], "sts.amazonaws.com");
    let (status, plain) = webhook.create(&pod("plain", "app")).await;
    assert_eq!(status, 201, "{plain}");
    assert_eq!(variable(&plain, "AWS_ROLE_ARN"), None);
}

/// As `kubectl apply` sends them: one right after the other. What the watch has not brought yet is asked for.
#[tokio::test]
async fn a_service_account_and_its_pod_may_be_made_at_once() {
    let webhook = Webhook::start().await;
    for round in 0..50 {
        let name = format!("at-once-{round}");
        create_account(&webhook, &name, role()).await;
        let (status, answer) = webhook.create(&pod(&name, &name)).await;
        assert_eq!(status, 201, "{answer}");
        assert_eq!(
            variable(&answer, "AWS_ROLE_ARN"),
            Some(&json!(ROLE)),
            "round {round}"
        );
    }
}

#[tokio::test]
async fn an_annotation_that_is_no_role_is_a_refusal_that_names_it() {
    let webhook = Webhook::start().await;
    create_account(
        &webhook,
        "wrong",
        json!({"eks.amazonaws.com/role-arn": "no-arn"}),
    )
    .await;
    let (status, answer) = webhook.create(&pod("pod", "wrong")).await;
    assert_eq!(status, 400, "{answer}");
    let message = answer["message"].as_str().unwrap();
    let words = "annotation eks.amazonaws.com/role-arn of its ServiceAccount does not have the expected form";
    assert!(message.contains(words), "{message}");
}

/// Documented: `failurePolicy: Ignore` of this entry, `Fail` of the labels'.
#[tokio::test]
async fn adm_034_with_the_webhook_dead_pods_of_annotated_accounts_start_without_their_role() {
    let webhook = Webhook::start().await;
    create_account(&webhook, "irsa", role()).await;
    let Webhook {
        install, injector, ..
    } = webhook;
    injector.kill();
    let path = install.apps_path("pods");
    let of_account = pod("of-account", "irsa");
    let (status, answer) = install.plane.call("POST", &path, Some(&of_account)).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(variable(&answer, "AWS_ROLE_ARN"), None);
    let (status, answer) = install
        .plane
        .call("POST", &path, Some(&pod("plain", "app")))
        .await;
    assert_eq!(status, 201, "{answer}");
    let wants = labelled("wants");
    let (status, answer) = install.plane.call("POST", &path, Some(&wants)).await;
    assert_eq!(status, 500, "{answer}");
}

/// By `nodeSelector`, by `role-arn.<container>`, with volumes, variables and init containers of their own: each has to be a valid pod.
#[tokio::test]
async fn every_shape_of_pod_of_an_annotated_account_is_valid_after_it_was_changed() {
    let webhook = Webhook::start().await;
    let annotations = json!({
        "eks.amazonaws.com/role-arn": ROLE,
        "eks.amazonaws.com/role-session-name": "session",
        "eks.amazonaws.com/sts-regional-endpoints": "true",
        "eks.amazonaws.com/token-expiration": "60",
    });
    create_account(&webhook, "irsa", annotations).await;
    let app = json!({"name": "app", "image": "app:1"});
    for (name, spec) in [
        (
            "init container",
            json!({"initContainers": [{"name": "init", "image": "app:1"}]}),
        ),
        ("nulls", json!({"initContainers": null, "volumes": null})),
        ("host network", json!({"hostNetwork": true})),
        (
            "windows",
            json!({"nodeSelector": {"kubernetes.io/os": "windows"}, "os": {"name": "windows"}}),
        ),
        (
            "volume",
            json!({"volumes": [{"name": "data", "emptyDir": {}}]}),
        ),
        (
            "own variables",
            json!({"containers": [app, {"name": "own", "image": "app:1",
                "env": [{"name": "AWS_ROLE_ARN", "value": "x"}]}]}),
        ),
        (
            "native sidecar",
            json!({"initContainers": [{"name": "p", "image": "p:1", "restartPolicy": "Always"}]}),
        ),
        ("job", json!({"restartPolicy": "Never"})),
    ] {
        let mut pod = pod("shape", "irsa");
        for (key, value) in spec.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        let (status, answer) = webhook.dry_run(&pod).await;
        assert_eq!(status, 201, "{name}: {answer}");
        assert_eq!(
            variable(&answer, "AWS_ROLE_ARN"),
            Some(&json!(ROLE)),
            "{name}"
        );
        assert_eq!(
            variable(&answer, "AWS_ROLE_SESSION_NAME"),
            Some(&json!("session")),
            "{name}"
        );
    }
}

/// The label is the closer wish: one set of variables, and the sidecar's.
#[tokio::test]
async fn a_label_goes_before_the_service_account() {
    let webhook = Webhook::start().await;
    create_account(
        &webhook,
        "irsa",
        json!({"eks.amazonaws.com/role-arn": "arn:aws:iam::999999999999:role/other"}),
    )
    .await;
    let mut pod = labelled("both");
    pod["spec"]["serviceAccountName"] = json!("irsa");
    let (status, answer) = webhook.dry_run(&pod).await;
    assert_eq!(status, 201, "{answer}");
    assert!(is_injected(&answer), "{answer}");
    assert_eq!(variable(&answer, "AWS_ROLE_ARN"), Some(&json!(ROLE)));
    let volumes = answer["spec"]["volumes"].to_string();
    assert!(!volumes.contains("aws-iam-token"), "{volumes}");
}
