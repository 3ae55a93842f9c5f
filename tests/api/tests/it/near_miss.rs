//! Hints at what was probably meant where no webhook is asked: by the chart's policy, of pods without any right label.

use serde_json::{Value, json};

use super::chart::{create_policies, render};
use super::install::Install;
use super::wait::eventually;
use super::webhook::ROLE;

const LACKS_LABEL: &str =
    "annotation tremolo.io/aws-role does nothing without label tremolo.io/aws-role: \"true\"";

fn template(labels: &Value, annotations: &Value) -> Value {
    json!({
        "metadata": {"labels": labels, "annotations": annotations},
        "spec": {
            "serviceAccountName": "app", "restartPolicy": "Always",
            "containers": [{"name": "app", "image": "app:1"}],
        },
    })
}

/// A pod, and each kind of object that makes pods, of the same template, with its path.
fn kinds(labels: &Value, annotations: &Value) -> Vec<(&'static str, Value)> {
    let labels = {
        let mut all = labels.clone();
        all["app"] = json!("x");
        all
    };
    let template = template(&labels, annotations);
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = json!("Never");
    let workload = |spec: Value| json!({"metadata": {"name": "hinted"}, "spec": spec});
    let selected =
        workload(json!({"selector": {"matchLabels": {"app": "x"}}, "template": template}));
    let mut set = selected.clone();
    set["spec"]["serviceName"] = json!("x");
    let job = json!({"template": once});
    let mut pod = template;
    pod["metadata"]["name"] = json!("hinted");
    vec![
        ("/api/v1 pods", pod),
        ("/apis/apps/v1 deployments", selected.clone()),
        ("/apis/apps/v1 daemonsets", selected.clone()),
        ("/apis/apps/v1 replicasets", selected),
        ("/apis/apps/v1 statefulsets", set),
        ("/apis/batch/v1 jobs", workload(job.clone())),
        (
            "/apis/batch/v1 cronjobs",
            workload(json!({"schedule": "0 0 * * *", "jobTemplate": {"spec": job}})),
        ),
    ]
}

async fn warnings(install: &Install, kind: &str, object: &Value) -> String {
    let (group, plural) = kind.split_once(' ').unwrap();
    let path = format!("{group}/namespaces/{}/{plural}?dryRun=All", install.apps);
    install.plane.warnings(&path, object).await.join("\n")
}

fn of_pod(labels: &Value, annotations: &Value) -> Value {
    kinds(labels, annotations).remove(0).1
}

async fn hints_at_slips(install: &Install) {
    for slip in [
        "aws-rol",
        "aws-roles",
        "aws-rule",
        "aws-rloe",
        "was-role",
        "aws_role",
    ] {
        let key = format!("tremolo.io/{slip}");
        let words = format!("key {key} is not known: was tremolo.io/aws-role meant?");
        for (kind, object) in kinds(&json!({&key: "true"}), &json!({})) {
            let said = warnings(install, kind, &object).await;
            assert!(said.contains(&words), "{kind} {slip}: {said}");
        }
        let annotated = of_pod(&json!({}), &json!({key: ROLE}));
        let said = warnings(install, "/api/v1 pods", &annotated).await;
        assert!(said.contains(&words), "{slip}: {said}");
    }
}

#[tokio::test]
async fn what_was_probably_meant_is_said_of_pods_that_no_webhook_sees_and_of_what_makes_pods() {
    let install = Install::new().await;
    let policies = render(&install, "templates/near-miss.yaml").await;
    let paths = create_policies(install.plane, policies).await;
    assert_eq!(paths.len(), 2);
    let role = json!({"tremolo.io/aws-role": ROLE});
    let unlabelled = of_pod(&json!({}), &role);
    eventually("the policy is known", async || {
        let said = warnings(&install, "/api/v1 pods", &unlabelled).await;
        said.contains(LACKS_LABEL).then_some(())
    })
    .await;
    for (kind, object) in kinds(&json!({}), &role) {
        let said = warnings(&install, kind, &object).await;
        assert!(said.contains(LACKS_LABEL), "{kind}: {said}");
    }
    hints_at_slips(&install).await;
    let mut owned = unlabelled;
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "x"}]);
    for (what, pod) in [
        (
            "labelled",
            of_pod(&json!({"tremolo.io/aws-role": "true"}), &role),
        ),
        (
            "opted out",
            of_pod(&json!({"tremolo.io/aws-role": "false"}), &role),
        ),
        (
            "of others",
            of_pod(
                &json!({"tremolo.io/team": "a", "example.com/aws-rol": "true"}),
                &json!({"tremolo.io/user": "1000"}),
            ),
        ),
        ("plain", of_pod(&json!({}), &json!({}))),
        ("made by another", owned),
    ] {
        let said = warnings(&install, "/api/v1 pods", &pod).await;
        assert_eq!(said, "", "{what}");
    }
    for path in &paths {
        install.plane.delete(path).await;
    }
}
