//! Pods of all kinds, for the webhook and for the policies in its place.

use serde_json::{Value, json};

use crate::webhook::{ROLE, labelled};
use crate::webhook_admits::merged;

fn metadata(labels: Value, annotations: Value) -> Value {
    let more = Value::from_iter([("labels", labels), ("annotations", annotations)]);
    merged(&labelled("pod"), "metadata", more)
}

/// The usual pod with more annotations.
fn annotated(more: &Value) -> Value {
    let mut pod = labelled("pod");
    let annotations = pod["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.extend(more.as_object().unwrap().clone());
    pod
}

fn with(spec: Value) -> Value {
    merged(&labelled("pod"), "spec", spec)
}

/// Pods that are given something.
pub(crate) fn served() -> Vec<(&'static str, Value)> {
    let tokens = json!({"volumes": [{"name": "sts-tokens", "emptyDir": {"medium": "Memory"}}]});
    let on_disk = json!({"volumes": [{"name": "sts-tokens", "emptyDir": {}}]});
    let brought = annotated(&json!({"tremolo.io/create-volume": "false"}));
    let second = json!({"tremolo.io/aws-role": "true", "tremolo.io/my-vault-role": "true", "tremolo.io/kubelet-role": "true"});
    let values = json!({"tremolo.io/aws-role": ROLE, "tremolo.io/my-vault-role": "team a/{token}~|^[]=x,y", "tremolo.io/kubelet-role": "r"});
    vec![
        ("three endpoints", metadata(second, values)),
        (
            "one on, one off",
            metadata(
                json!({"tremolo.io/aws-role": "false", "tremolo.io/my-vault-role": "true"}),
                json!({"tremolo.io/my-vault-role": "x"}),
            ),
        ),
        (
            "all off",
            metadata(json!({"tremolo.io/aws-role": "false"}), json!({})),
        ),
        (
            "user and group",
            annotated(&json!({"tremolo.io/user": "1000", "tremolo.io/group": "0002000"})),
        ),
        (
            "user 0 means nobody",
            annotated(
                &json!({"tremolo.io/user": "0", "tremolo.io/group": "0", "tremolo.io/non-root": "true"}),
            ),
        ),
        ("a volume of its own", merged(&brought, "spec", tokens)),
        (
            "a volume of its own, on disk",
            merged(&brought, "spec", on_disk),
        ),
        (
            "no name",
            merged(
                &labelled("pod"),
                "metadata",
                json!({"name": null, "generateName": "pod-"}),
            ),
        ),
        (
            "other mounts near ours",
            with(json!({
                "volumes": [{"name": "data", "emptyDir": {}}],
                "containers": [{"name": "app", "image": "app:1", "volumeMounts": [
                    {"name": "data", "mountPath": "/var/run/secrets/sts.tremolo.io/tokens2"}, {"name": "data", "mountPath": "/var/lib/./x"}]}],
            })),
        ),
    ]
}

/// Pods that are given the kubelet's token alone.
pub(crate) fn kubelets() -> Vec<(&'static str, Value)> {
    let kubelet = |spec: Value| {
        let labels = json!({"tremolo.io/kubelet-role": "true"});
        let pod = metadata(labels, json!({"tremolo.io/kubelet-role": "r"}));
        merged(&pod, "spec", spec)
    };
    vec![
        ("the kubelet's alone", kubelet(json!({}))),
        (
            "the kubelet's on the node's network",
            kubelet(json!({"hostNetwork": true})),
        ),
        (
            "the kubelet's on Windows",
            kubelet(json!({"os": {"name": "windows"}})),
        ),
        (
            "the kubelet's on Windows by selector",
            kubelet(json!({"nodeSelector": {"kubernetes.io/os": "windows"}})),
        ),
    ]
}

/// Pods that are refused for what they ask.
pub(crate) fn refused() -> Vec<(&'static str, Value)> {
    let value = |value: &str| annotated(&json!({"tremolo.io/aws-role": value}));
    vec![
        (
            "label",
            metadata(
                json!({"tremolo.io/aws-role": "yes"}),
                json!({"tremolo.io/aws-role": ROLE}),
            ),
        ),
        (
            "no annotation",
            metadata(json!({"tremolo.io/aws-role": "true"}), json!({})),
        ),
        ("white space", value(" \t")),
        ("no ARN", value("my-role")),
        (
            "another variable",
            value("arn:aws:iam::123456789012:role/$(HOME)"),
        ),
        ("line feed", value(&format!("{ROLE}\n"))),
        (
            "text",
            metadata(
                json!({"tremolo.io/my-vault-role": "true"}),
                json!({"tremolo.io/my-vault-role": "a\"b"}),
            ),
        ),
        (
            "two endpoints for one variable",
            metadata(
                json!({"tremolo.io/aws-role": "true", "tremolo.io/clash-role": "true"}),
                json!({"tremolo.io/aws-role": ROLE, "tremolo.io/clash-role": ROLE}),
            ),
        ),
    ]
}

/// The usual pod with a volume of its own, and a mount.
fn mounting(volume: &str, path: &str) -> Value {
    let mount = json!({"name": volume, "mountPath": path});
    with(json!({
        "volumes": [{"name": "data", "emptyDir": {}}],
        "containers": [{"name": "app", "image": "app:1", "volumeMounts": [mount]}],
    }))
}

/// Pods that are refused for what they are.
pub(crate) fn unfit() -> Vec<(&'static str, Value)> {
    let starting_with = |name: &str| {
        let container = json!({"name": name, "image": "x"});
        with(json!({"initContainers": [container]}))
    };
    vec![
        ("the node's network", with(json!({"hostNetwork": true}))),
        ("Windows", with(json!({"os": {"name": "windows"}}))),
        ("user", annotated(&json!({"tremolo.io/user": "root"}))),
        (
            "large user",
            annotated(&json!({"tremolo.io/user": "2147483648"})),
        ),
        (
            "huge group",
            annotated(&json!({"tremolo.io/group": "99999999999999999999"})),
        ),
        ("flag", annotated(&json!({"tremolo.io/non-root": "yes"}))),
        (
            "volume that is not brought",
            annotated(&json!({"tremolo.io/create-volume": "false"})),
        ),
        (
            "foreign volume",
            with(json!({"volumes": [{"name": "sts-tokens", "emptyDir": {}}]})),
        ),
        (
            "foreign subject volume",
            with(json!({"volumes": [{"name": "sts-subject-tokens", "emptyDir": {}}]})),
        ),
        (
            "foreign init container",
            starting_with("kube-sts-refresher"),
        ),
        (
            "a name of the other form",
            starting_with("kube-sts-first-token"),
        ),
        (
            "foreign container",
            with(json!({"containers": [{"name": "kube-sts-refresher", "image": "x"}]})),
        ),
        (
            "mount at ours",
            mounting("data", "/var/run/secrets/sts.tremolo.io/tokens"),
        ),
        ("mount above ours", mounting("data", "/var//run/./secrets/")),
        (
            "mount under ours",
            mounting("data", "/var/run/secrets/sts.tremolo.io/tokens/aws"),
        ),
    ]
}

/// Many containers, with much in each: expressions have a budget.
pub(crate) fn large() -> Value {
    let container = |number: usize| {
        let variables = (0..20).map(|at| json!({"name": format!("NAME_{at}"), "value": "value"}));
        let mounts =
            (0..10).map(|at| json!({"name": "data", "mountPath": format!("/srv/a/b/c/d/{at}")}));
        json!({
            "name": format!("container-{number}"), "image": "app:1",
            "env": variables.collect::<Vec<_>>(), "volumeMounts": mounts.collect::<Vec<_>>(),
        })
    };
    with(json!({
        "volumes": [{"name": "data", "emptyDir": {}}],
        "containers": (0..LARGE).map(container).collect::<Vec<_>>(),
    }))
}

/// The containers of a pod that is larger than any is.
const LARGE: usize = 50;

/// Pods that are refused in other words.
pub(crate) fn refused_otherwise() -> Vec<(&'static str, Value)> {
    let too_long = format!("{ROLE}{}", "x".repeat(2048));
    vec![
        (
            "long value",
            annotated(&json!({"tremolo.io/aws-role": too_long})),
        ),
        (
            "a token for writing",
            mounting("sts-tokens", "/var/run/secrets/sts.tremolo.io/tokens"),
        ),
        (
            "the pod's own token",
            mounting("sts-subject-tokens", "/steal"),
        ),
    ]
}
