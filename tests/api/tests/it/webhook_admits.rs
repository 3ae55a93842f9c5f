//! What becomes of pods that the API server sends through the injector.

use serde_json::{Value, json};

use super::webhook::{ROLE, Webhook, is_injected, labelled};

const TOKEN: &str = "/var/run/secrets/sts.tremolo.io/tokens/aws/token";

fn named<'v>(list: &'v Value, name: &str) -> &'v Value {
    let mut list = list.as_array().unwrap().iter();
    list.find(|entry| entry["name"] == name).unwrap()
}

pub(crate) fn merged(pod: &Value, part: &str, more: Value) -> Value {
    let mut pod = pod.clone();
    let Value::Object(members) = more else {
        panic!("not an object: {more}")
    };
    for (name, value) in members {
        pod[part][name] = value;
    }
    pod
}

#[tokio::test]
async fn a_labelled_pod_is_created_with_sidecar_variables_mounts_and_volumes() {
    let webhook = Webhook::start().await;
    let (status, pod) = webhook.create(&labelled("pod")).await;
    assert_eq!(status, 201, "{pod}");
    let spec = &pod["spec"];
    let sidecar = &spec["initContainers"][0];
    assert_eq!(sidecar["name"], "kube-sts-refresher");
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(
        sidecar["lifecycle"]["postStart"]["exec"]["command"],
        json!(["/refresher", "wait"])
    );
    let ca = webhook.install.server_ca().await;
    assert_eq!(named(&sidecar["env"], "STS_CA_CERTIFICATES")["value"], ca);
    let app = &spec["containers"][0];
    assert_eq!(named(&app["env"], "AWS_ROLE_ARN")["value"], ROLE);
    assert_eq!(
        named(&app["env"], "AWS_WEB_IDENTITY_TOKEN_FILE")["value"],
        TOKEN
    );
    let mount = &app["volumeMounts"][0];
    assert_eq!(
        (&mount["name"], &mount["readOnly"]),
        (&json!("sts-tokens"), &json!(true))
    );
    let subject = named(&spec["volumes"], "sts-subject-tokens");
    let token = &subject["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["audience"], webhook.install.audience());
    assert_eq!(token["expirationSeconds"], 3600);
    let app_mounts = app["volumeMounts"].as_array().unwrap().iter();
    let leaks = app_mounts.filter(|mount| mount["name"] == "sts-subject-tokens");
    assert_eq!(
        leaks.count(),
        0,
        "the application does not see the pod's own token"
    );
    assert_eq!(
        named(&spec["volumes"], "sts-tokens")["emptyDir"]["medium"],
        "Memory"
    );
}

/// The kubelet would get the token by that audience and bound to the pod: what the volume asks for is what the STS takes.
#[tokio::test]
async fn the_volumes_audience_is_the_one_that_the_sts_takes() {
    let webhook = Webhook::start().await;
    let (status, pod) = webhook.create(&labelled("pod")).await;
    assert_eq!(status, 201, "{pod}");
    let subject = named(&pod["spec"]["volumes"], "sts-subject-tokens");
    let audience = subject["projected"]["sources"][0]["serviceAccountToken"]["audience"].as_str();
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let install = &webhook.install;
    let token = install
        .plane
        .token(&install.apps, "app", audience, Some(("pod", uid)))
        .await;
    assert_eq!(webhook.server.exchange_status(install, &token).await, 200);
}

#[tokio::test]
async fn a_restricted_pod_stays_restricted() {
    let webhook = Webhook::start().await;
    let plane = webhook.install.plane;
    let path = format!("/api/v1/namespaces/{}/pods", webhook.restricted);
    let pod = merged(
        &labelled("pod"),
        "spec",
        json!({
            "serviceAccountName": "default",
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "app", "image": "app:1",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        }),
    );
    let (status, answer) = plane.call("POST", &path, Some(&pod)).await;
    assert_eq!(status, 201, "{answer}");
    assert!(is_injected(&answer), "{answer}");
    // The namespace does enforce it.
    let (status, answer) = plane.call("POST", &path, Some(&labelled("other"))).await;
    assert_eq!(status, 403, "{answer}");
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("PodSecurity"), "{message}");
    assert!(!message.contains("kube-sts-refresher"), "{message}");
}

/// A pod that went through once and is created again, as tools that copy pods do.
#[tokio::test]
async fn a_second_pass_changes_nothing() {
    let webhook = Webhook::start().await;
    let (status, first) = webhook.dry_run(&labelled("pod")).await;
    assert_eq!(status, 201, "{first}");
    let mut again = first.clone();
    again["metadata"] = labelled("pod")["metadata"].clone();
    again["status"] = Value::Null;
    let (status, second) = webhook.dry_run(&again).await;
    assert_eq!(status, 201, "{second}");
    assert_eq!(second["spec"], first["spec"]);
}

/// Another admission plugin adds a container after us: the API server calls us again, and it gets the token too. Plugins that did nothing
/// at first are not asked again, so the policy sets a label at first.
#[tokio::test]
async fn a_container_added_after_us_gets_the_token_by_reinvocation() {
    let webhook = Webhook::start().await;
    let (plane, name) = (webhook.install.plane, &webhook.install.namespace);
    let group = "/apis/admissionregistration.k8s.io/v1";
    let policy = json!({
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]},
            "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
                "has(object.spec.initContainers) \
                 ? [JSONPatch{op: 'add', path: '/spec/containers/-', value: Object.spec.containers{name: 'late', image: 'late:1'}}] \
                 : [JSONPatch{op: 'add', path: '/metadata/labels/seen', value: 'once'}]"}}],
        },
    });
    drop(
        plane
            .create(&format!("{group}/mutatingadmissionpolicies"), policy)
            .await,
    );
    let binding = json!({
        "metadata": {"name": name},
        "spec": {"policyName": name, "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": webhook.install.apps}}}},
    });
    drop(
        plane
            .create(&format!("{group}/mutatingadmissionpolicybindings"), binding)
            .await,
    );
    let pod = super::wait::eventually("the policy is applied", async || {
        let (status, pod) = webhook.dry_run(&labelled("pod")).await;
        assert_eq!(status, 201, "{pod}");
        (pod["spec"]["containers"].as_array().unwrap().len() == 2).then_some(pod)
    })
    .await;
    let late = named(&pod["spec"]["containers"], "late");
    assert_eq!(
        named(&late["env"], "AWS_WEB_IDENTITY_TOKEN_FILE")["value"],
        TOKEN
    );
    assert_eq!(pod["spec"]["initContainers"].as_array().unwrap().len(), 1);
    assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), 2);
    plane
        .delete(&format!("{group}/mutatingadmissionpolicybindings/{name}"))
        .await;
    plane
        .delete(&format!("{group}/mutatingadmissionpolicies/{name}"))
        .await;
}

#[tokio::test]
async fn a_denial_reaches_the_author_in_our_words() {
    let webhook = Webhook::start().await;
    let annotations =
        |value: Value| merged(&labelled("pod"), "metadata", json!({"annotations": value}));
    for (pod, words) in [
        (annotations(json!({})), "is missing or empty"),
        (
            annotations(json!({"tremolo.io/aws-role": "my-role"})),
            "arn:aws:iam::",
        ),
        (
            merged(
                &labelled("pod"),
                "metadata",
                json!({"labels": {"tremolo.io/aws-role": "yes"}}),
            ),
            "has to be \"true\" or \"false\"",
        ),
        (
            merged(&labelled("pod"), "spec", json!({"hostNetwork": true})),
            "unset spec.hostNetwork",
        ),
        (
            merged(
                &labelled("pod"),
                "spec",
                json!({"containers": [{"name": "kube-sts-refresher", "image": "x"}]}),
            ),
            "rename or remove the container",
        ),
        (
            merged(
                &labelled("pod"),
                "spec",
                json!({"volumes": [{"name": "sts-tokens", "emptyDir": {}}]}),
            ),
            "rename or remove the volume",
        ),
    ] {
        let (status, answer) = webhook.dry_run(&pod).await;
        assert!((400..500).contains(&status), "{status} {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(
            message.contains("aws.injector.kube-sts.tremolo.io"),
            "{message}"
        );
        assert!(
            message.contains("/pod: ") && message.contains(words),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_label_that_says_false_leaves_the_pod_alone() {
    let webhook = Webhook::start().await;
    let off = merged(
        &labelled("pod"),
        "metadata",
        json!({"labels": {"tremolo.io/aws-role": "false"}}),
    );
    let (status, pod) = webhook.dry_run(&off).await;
    assert_eq!(status, 201, "{pod}");
    assert_eq!(pod["spec"]["initContainers"], Value::Null);
}

/// What pods look like: each has to be a valid pod for the API server after we changed it.
pub(crate) fn shapes() -> Vec<(&'static str, Value)> {
    let app = json!({"name": "app", "image": "app:1"});
    let with = |more: Value| {
        let mut container = app.clone();
        for (name, value) in more.as_object().unwrap() {
            container[name] = value.clone();
        }
        json!({"containers": [container]})
    };
    let sidecar = json!({"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"});
    let init = json!({"name": "migrate", "image": "migrate:1"});
    let shapes = vec![
        ("bare", json!({})),
        ("two containers", json!({"containers": [app, {"name": "second", "image": "app:1"}]})),
        ("init container", json!({"initContainers": [init]})),
        ("native sidecar", json!({"initContainers": [sidecar]})),
        ("init container and native sidecar", json!({"initContainers": [init, sidecar]})),
        ("empty lists", json!({"initContainers": [], "volumes": []})),
        ("nulls", json!({"initContainers": null, "volumes": null, "securityContext": null})),
        ("variables", with(json!({"env": [{"name": "A", "value": "1"}]}))),
        ("variables from a ConfigMap", with(json!({"envFrom": [{"configMapRef": {"name": "c"}}]}))),
        ("its own region", with(json!({"env": [{"name": "AWS_REGION", "value": "eu-west-1"}]}))),
        ("its own role", with(json!({"env": [{"name": "AWS_ROLE_ARN", "value": "arn:aws:iam::999999999999:role/mine"}]}))),
        ("user 0", json!({"securityContext": {"runAsUser": 0}})),
        ("user and groups", json!({"securityContext": {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "runAsNonRoot": true}})),
        ("privileged container", with(json!({"securityContext": {"privileged": true}}))),
        ("read-only root", with(json!({"securityContext": {"readOnlyRootFilesystem": true}}))),
        ("emptyDir", merged(&json!({"spec": with(json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}))}), "spec",
            json!({"volumes": [{"name": "data", "emptyDir": {}}]}))["spec"].clone()),
        ("projected token of its own", json!({"volumes": [{"name": "own", "projected": {"sources": [
            {"serviceAccountToken": {"audience": "vault", "path": "token", "expirationSeconds": 600}}]}}]})),
        ("job", json!({"restartPolicy": "Never", "activeDeadlineSeconds": 60})),
        ("on failure", json!({"restartPolicy": "OnFailure"})),
        ("host processes", json!({"hostPID": true, "shareProcessNamespace": null})),
        ("shared processes", json!({"shareProcessNamespace": true})),
        ("no service account token", json!({"automountServiceAccountToken": false})),
        ("probes and resources", with(json!({"livenessProbe": {"httpGet": {"path": "/", "port": 80}},
            "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}}))),
        ("scheduling", json!({"nodeSelector": {"kubernetes.io/os": "linux"}, "tolerations": [{"operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}}, "os": {"name": "linux"}})),
        ("user namespace", json!({"hostUsers": false})),
        ("scheduling gate", json!({"schedulingGates": [{"name": "example.com/gate"}]})),
    ];
    let pods = shapes
        .into_iter()
        .map(|(name, spec)| (name, merged(&labelled("shape"), "spec", spec)));
    pods.collect()
}

#[tokio::test]
async fn every_shape_of_pod_is_valid_after_it_was_changed() {
    let webhook = Webhook::start().await;
    for (name, pod) in shapes() {
        let (status, answer) = webhook.dry_run(&pod).await;
        assert_eq!(status, 201, "{name}: {answer}");
        assert!(is_injected(&answer), "{name}: {answer}");
        let lists = [
            &answer["spec"]["containers"],
            &answer["spec"]["initContainers"],
        ];
        let all = lists.into_iter().flat_map(|list| list.as_array().unwrap());
        let served: Vec<&Value> = all
            .filter(|container| container["name"] != "kube-sts-refresher")
            .collect();
        assert!(!served.is_empty(), "{name}: {answer}");
        for container in served {
            let file = &named(&container["env"], "AWS_WEB_IDENTITY_TOKEN_FILE")["value"];
            assert_eq!(file, TOKEN, "{name}: {}", container["name"]);
        }
    }
}

/// The pods of the injector's own tests, as far as an API server takes them at all.
#[tokio::test]
async fn the_injectors_fixtures_are_valid_after_they_were_changed() {
    let webhook = Webhook::start().await;
    for (name, pod) in fixtures() {
        let (status, answer) = webhook.dry_run(&pod).await;
        assert_eq!(status, 201, "{name}: {answer}");
        assert!(is_injected(&answer), "{name}: {answer}");
    }
}

pub(crate) fn fixtures() -> Vec<(String, Value)> {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../crates/injector/tests/fixtures"
    );
    let paths = std::fs::read_dir(folder).unwrap();
    let paths = paths.map(|entry| entry.unwrap().path());
    // That one is made of what no API server knows yet, and none takes.
    let paths = paths.filter(|path| !path.ends_with("future.pod.json"));
    let pods = paths.map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut pod: Value = serde_json::from_str(&text).unwrap();
        pod["metadata"]["namespace"] = Value::Null;
        // What the ServiceAccount admission plugin would do.
        pod["spec"]["serviceAccountName"] = json!("app");
        // Cannot be there at creation.
        pod["spec"]["ephemeralContainers"] = Value::Null;
        (path.display().to_string(), pod)
    });
    let pods: Vec<_> = pods.collect();
    assert!(!pods.is_empty(), "{folder} is empty");
    pods
}
