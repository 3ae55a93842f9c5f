//! Pods of annotated ServiceAccounts: what the EKS pod identity webhook does to them, and what it does not.

mod both;
mod roles;
mod whose;

use std::collections::BTreeMap;
use std::sync::Arc;

use injector::decide::Entry;
use injector::identity::{Account, IdentityFacts, Lookup};
use injector::settings::{
    AnnotationShape, ContainerCredentials, IdentitySettings, IdentityToken, LookupFailure,
    SessionName, Settings,
};
use serde_json::{Value, json};

use crate::support::{Answered, CA, ask_as, container, review, set, settings, variable, volume};

pub(crate) const ROLE: &str = "arn:aws:iam::123456789012:role/app";
const OTHER: &str = "arn:aws:iam::123456789012:role/other";
const MOUNT: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount";

pub(crate) fn identity_settings() -> IdentitySettings {
    IdentitySettings {
        prefix: "eks.amazonaws.com".to_owned(),
        token: IdentityToken::Projected {
            audience: "sts.amazonaws.com".to_owned(),
            mount_path: MOUNT.to_owned(),
            seconds: 86_400,
            endpoint: None,
        },
        region: None,
        regional_sts: false,
        shape: AnnotationShape::AwsRoleArn,
        role_arn_prefix: None,
        session_name: SessionName::Annotated,
        lookup_failure: LookupFailure::Admit,
        allowed_roles: None,
        container_credentials: None,
        agent_seconds: 86_400,
    }
}

/// Settings with a part `serviceAccounts`, changed.
fn with(change: impl FnOnce(&mut IdentitySettings)) -> Settings {
    let mut identity = identity_settings();
    change(&mut identity);
    Settings {
        identity: Some(identity),
        ..settings()
    }
}

/// EKS Pod Identity, as it is by default.
fn agent() -> ContainerCredentials {
    ContainerCredentials {
        file: "/etc/config.json".into(),
        audience: "pods.eks.amazonaws.com".to_owned(),
        mount_path: "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount".to_owned(),
        volume_name: "eks-pod-identity-token".to_owned(),
        token_path: "eks-pod-identity-token".to_owned(),
        full_uri: "http://169.254.170.23/v1/credentials".to_owned(),
    }
}

/// A ServiceAccount with these annotations, without their prefix.
pub(crate) fn account(annotations: &[(&str, &str)]) -> IdentityFacts {
    let pairs = annotations
        .iter()
        .map(|(key, value)| (format!("eks.amazonaws.com/{key}"), (*value).to_owned()));
    let account = Account::read("eks.amazonaws.com", &pairs.collect::<BTreeMap<_, _>>());
    facts(Lookup::Found(Arc::new(account)))
}

fn facts(lookup: Lookup) -> IdentityFacts {
    IdentityFacts {
        lookup,
        listed: None,
        has_agent: false,
    }
}

fn pod() -> Value {
    json!({
        "metadata": {"name": "app", "labels": {"app": "x"}},
        "spec": {
            "serviceAccountName": "app",
            "containers": [{"name": "app", "image": "app:1"}, {"name": "second", "image": "app:1"}],
            "initContainers": [{"name": "migrate", "image": "app:1"}],
        },
    })
}

#[track_caller]
fn ask(settings: &Settings, facts: &IdentityFacts, pod: &Value) -> Answered {
    ask_as(
        settings,
        Some(&CA),
        Entry::ServiceAccount(facts),
        &review(pod),
    )
    .unwrap()
}

/// The pod as it leaves; a second pass changes nothing.
#[track_caller]
fn inject(settings: &Settings, facts: &IdentityFacts, pod: &Value) -> Value {
    let answered = ask(settings, facts, pod);
    assert_eq!(
        answered.outcome.decision, "inject",
        "{:?}",
        answered.response
    );
    let second = ask(settings, facts, &answered.pod);
    assert!(second.patch.0.is_empty(), "{:?}", second.patch);
    assert_eq!(second.outcome.reason, "already_injected");
    answered.pod
}

#[track_caller]
fn skips(settings: &Settings, facts: &IdentityFacts, pod: &Value, reason: &str) -> Answered {
    let answered = ask(settings, facts, pod);
    assert_eq!(answered.response["allowed"], true);
    assert!(answered.patch.0.is_empty(), "{:?}", answered.patch);
    assert_eq!(
        (answered.outcome.decision, answered.outcome.reason),
        ("skip", reason)
    );
    answered
}

#[track_caller]
fn denies(settings: &Settings, facts: &IdentityFacts, pod: &Value, code: &str, words: &[&str]) {
    let answered = ask(settings, facts, pod);
    assert_eq!(
        answered.response["allowed"], false,
        "{:?}",
        answered.response
    );
    assert_eq!(answered.outcome.reason, code);
    let message = answered.response["status"]["message"].as_str().unwrap();
    for word in words.iter().chain(&["pod apps/app: "]) {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

/// The environment as name and value, in order.
fn environment(pod: &Value, name: &str) -> Vec<(String, Value)> {
    let env = container(pod, name)["env"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let pair = |entry: Value| {
        (
            entry["name"].as_str().unwrap().to_owned(),
            entry["value"].clone(),
        )
    };
    env.into_iter().map(pair).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, Value)> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), json!(value));
    expected.iter().map(pair).collect()
}

#[test]
fn every_container_gets_the_role_and_the_kubelets_token() {
    let answered = ask(&with(|_| {}), &account(&[("role-arn", ROLE)]), &pod());
    let audit = json!({"decision": "inject", "reason": "service_account"});
    assert_eq!(answered.response["auditAnnotations"], audit);
    let pod = answered.pod;
    let source =
        json!({"audience": "sts.amazonaws.com", "expirationSeconds": 86_400, "path": "token"});
    let expected = json!({"name": "aws-iam-token", "projected": {"sources": [{"serviceAccountToken": source}]}});
    assert_eq!(pod["spec"]["volumes"], json!([expected]));
    let mount = json!([{"name": "aws-iam-token", "mountPath": MOUNT, "readOnly": true}]);
    let file = format!("{MOUNT}/token");
    let expected = pairs(&[
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &file),
    ]);
    for name in ["app", "second", "migrate"] {
        assert_eq!(environment(&pod, name), expected, "{name}");
        assert_eq!(container(&pod, name)["volumeMounts"], mount, "{name}");
    }
    assert_eq!(
        pod["spec"]["initContainers"].as_array().unwrap().len(),
        1,
        "no sidecar"
    );
}

#[test]
fn variables_stand_in_the_order_of_awss_webhook() {
    let settings = with(|identity| {
        identity.region = Some("eu-central-1".to_owned());
        identity.regional_sts = true;
    });
    let mut pod = pod();
    set(
        &mut pod,
        "/spec/containers/0/env",
        json!([{"name": "OWN", "value": "1"}]),
    );
    let pod = inject(&settings, &account(&[("role-arn", ROLE)]), &pod);
    let file = format!("{MOUNT}/token");
    let expected = pairs(&[
        ("OWN", "1"),
        ("AWS_STS_REGIONAL_ENDPOINTS", "regional"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &file),
    ]);
    assert_eq!(environment(&pod, "app"), expected);
}

#[test]
fn annotations_go_before_settings_and_the_pods_before_the_accounts() {
    let settings = with(|identity| identity.regional_sts = true);
    let facts = account(&[
        ("role-arn", ROLE),
        ("audience", "sts.example"),
        ("sts-regional-endpoints", "false"),
        ("token-expiration", "7200"),
    ]);
    let token = |pod: &Value| {
        let sources = &volume(pod, "aws-iam-token")["projected"]["sources"];
        let token = &sources[0]["serviceAccountToken"];
        (
            token["audience"].clone(),
            token["expirationSeconds"].clone(),
        )
    };
    let injected = inject(&settings, &facts, &pod());
    assert_eq!(token(&injected), (json!("sts.example"), json!(7200)));
    assert_eq!(
        environment(&injected, "app").len(),
        2,
        "no regional endpoints"
    );
    for (text, seconds) in [("3600", 3600), ("60", 600), ("-5", 600), ("1h", 7200)] {
        let mut pod = pod();
        set(
            &mut pod,
            "/metadata/annotations",
            json!({"eks.amazonaws.com/token-expiration": text}),
        );
        assert_eq!(
            token(&inject(&settings, &facts, &pod)).1,
            json!(seconds),
            "{text}"
        );
    }
}

#[test]
fn another_prefix_is_another_annotation() {
    let settings = with(|identity| identity.prefix = "iam.example.com".to_owned());
    let annotations = BTreeMap::from([("iam.example.com/role-arn".to_owned(), ROLE.to_owned())]);
    let account = Account::read("iam.example.com", &annotations);
    let facts = facts(Lookup::Found(Arc::new(account)));
    let mut pod = pod();
    set(
        &mut pod,
        "/metadata/annotations",
        json!({"iam.example.com/skip-containers": "second"}),
    );
    let pod = inject(&settings, &facts, &pod);
    assert!(environment(&pod, "second").is_empty());
    assert_eq!(environment(&pod, "app").len(), 2);
}

#[test]
fn adm_015_windows_containers_get_the_path_on_drive_c() {
    for (pointer, value) in [
        ("/spec/nodeSelector", json!({"kubernetes.io/os": "windows"})),
        (
            "/spec/nodeSelector",
            json!({"beta.kubernetes.io/os": "windows"}),
        ),
        ("/spec/os", json!({"name": "windows"})),
    ] {
        let mut pod = pod();
        set(&mut pod, pointer, value);
        let pod = inject(&with(|_| {}), &account(&[("role-arn", ROLE)]), &pod);
        let file = r"C:\var\run\secrets\eks.amazonaws.com\serviceaccount\token";
        assert_eq!(
            variable(container(&pod, "app"), "AWS_WEB_IDENTITY_TOKEN_FILE"),
            [json!(file)]
        );
        assert_eq!(
            container(&pod, "app")["volumeMounts"][0]["mountPath"],
            MOUNT
        );
    }
}

/// The kubelet's token says of which pod it is, whatever network the pod is in.
#[test]
fn adm_014_host_network_pods_get_the_kubelets_token() {
    let mut pod = pod();
    set(&mut pod, "/spec/hostNetwork", json!(true));
    drop(inject(&with(|_| {}), &account(&[("role-arn", ROLE)]), &pod));
}

#[test]
fn adm_018_a_volume_of_the_tokens_name_without_a_token_is_denied() {
    let facts = account(&[("role-arn", ROLE)]);
    let mut foreign = pod();
    set(
        &mut foreign,
        "/spec/volumes",
        json!([{"name": "aws-iam-token", "emptyDir": {}}]),
    );
    let words = [
        "volume name aws-iam-token",
        "rename or remove",
        "the annotation eks.amazonaws.com/role-arn of its ServiceAccount",
    ];
    denies(
        &with(|_| {}),
        &facts,
        &foreign,
        "token_volume_taken",
        &words,
    );
    let mut own = pod();
    let source = json!({"serviceAccountToken": {"audience": "own", "path": "token"}});
    let own_volume = json!({"name": "aws-iam-token", "projected": {"sources": [source]}});
    set(&mut own, "/spec/volumes", json!([own_volume]));
    let answered = ask(&with(|_| {}), &facts, &own);
    assert_eq!(
        answered.pod["spec"]["volumes"],
        json!([own_volume]),
        "it is kept"
    );
    let mut mounted = pod();
    let mount = json!([{"name": "data", "mountPath": format!("{MOUNT}/")}]);
    set(&mut mounted, "/spec/containers/0/volumeMounts", mount);
    let words = ["container app mounts another volume", MOUNT];
    denies(&with(|_| {}), &facts, &mounted, "token_mount_taken", &words);
}
