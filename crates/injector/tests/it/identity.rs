//! Pods of annotated ServiceAccounts: what the EKS pod identity webhook does to them, and what it does not.

use std::collections::BTreeMap;
use std::sync::Arc;

use injector::decide::Entry;
use injector::identity::{Account, IdentityFacts, Lookup};
use injector::settings::{
    AllowedRoles, AnnotationShape, ContainerCredentials, IdentitySettings, IdentityToken,
    LookupFailure, SessionName, Settings,
};
use serde_json::{Value, json};

use crate::support::{
    Answered, CA, SIDECAR, TOKENS, ask_as, container, review, set, settings, token_mounts,
    variable, volume,
};

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
        },
        region: None,
        regional_sts: false,
        shape: AnnotationShape::AwsRoleArn,
        role_arn_prefix: None,
        session_name: SessionName::Annotated,
        lookup_failure: LookupFailure::Admit,
        allowed_roles: None,
        container_credentials: None,
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

/// Half of ours and half of theirs is neither: one variable of a kind is enough to keep both.
#[test]
fn adm_016_variables_of_the_pods_own_are_kept_by_kind() {
    let settings = with(|identity| {
        identity.region = Some("eu-central-1".to_owned());
        identity.regional_sts = true;
    });
    let facts = account(&[("role-arn", ROLE)]);
    let own = |names: &[&str]| {
        let mut pod = pod();
        let entries: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "value": "own"}))
            .collect();
        set(&mut pod, "/spec/containers/0/env", json!(entries));
        let answered = ask(&settings, &facts, &pod);
        let env = environment(&answered.pod, "app")
            .into_iter()
            .map(|(name, _)| name);
        let env: Vec<String> = env.skip(names.len()).collect();
        let mounted = container(&answered.pod, "app")
            .get("volumeMounts")
            .is_some();
        (env.join(" "), mounted, answered.warnings().join(";"))
    };
    let (region, credentials) = (
        "AWS_DEFAULT_REGION AWS_REGION",
        "AWS_ROLE_ARN AWS_WEB_IDENTITY_TOKEN_FILE",
    );
    let (env, mounted, warnings) = own(&["AWS_ROLE_ARN"]);
    assert_eq!(
        (env, mounted),
        (format!("AWS_STS_REGIONAL_ENDPOINTS {region}"), true)
    );
    assert_eq!(
        warnings,
        "kube-sts: container app keeps its own AWS_ROLE_ARN"
    );
    let (env, ..) = own(&["AWS_REGION"]);
    assert_eq!(env, format!("AWS_STS_REGIONAL_ENDPOINTS {credentials}"));
    let (env, ..) = own(&["AWS_STS_REGIONAL_ENDPOINTS"]);
    assert_eq!(env, format!("{region} {credentials}"));
    let all = [
        "AWS_REGION",
        "AWS_STS_REGIONAL_ENDPOINTS",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    ];
    let (env, mounted, _) = own(&all);
    assert_eq!(
        (env.as_str(), mounted),
        ("", false),
        "left alone altogether"
    );
}

#[test]
fn adm_020_skipped_containers_get_neither_variables_nor_mount_and_unknown_names_are_warned_of() {
    let facts = account(&[("role-arn", ROLE)]);
    for (annotations, served) in [
        (
            json!({"eks.amazonaws.com/skip-containers": "second, migrate,ghost"}),
            vec!["app"],
        ),
        (
            json!({"eks.amazonaws.com/include-containers": "second,ghost"}),
            vec!["second"],
        ),
        (
            json!({"eks.amazonaws.com/include-containers": "app, second,ghost",
                "eks.amazonaws.com/skip-containers": "app"}),
            vec!["second"],
        ),
    ] {
        let mut pod = pod();
        set(&mut pod, "/metadata/annotations", annotations);
        let answered = ask(&with(|_| {}), &facts, &pod);
        for name in ["app", "second", "migrate"] {
            let is_served = container(&answered.pod, name).get("env").is_some();
            assert_eq!(is_served, served.contains(&name), "{name}");
            let is_mounted = container(&answered.pod, name).get("volumeMounts").is_some();
            assert_eq!(is_mounted, is_served, "{name}");
        }
        let warnings = answered.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].contains("container ghost, which the pod has not"),
            "{warnings:?}"
        );
    }
}

#[test]
fn a_container_may_have_a_role_of_its_own() {
    let facts = account(&[("role-arn", ROLE), ("role-arn.second", OTHER)]);
    let role = |pod: &Value, name: &str| variable(container(pod, name), "AWS_ROLE_ARN");
    let injected = inject(&with(|_| {}), &facts, &pod());
    assert_eq!(role(&injected, "app"), [json!(ROLE)]);
    assert_eq!(role(&injected, "second"), [json!(OTHER)]);
    // Of the pod, which goes first; and without a role for the others, they get nothing.
    let mut by_pod = pod();
    set(
        &mut by_pod,
        "/metadata/annotations",
        json!({"eks.amazonaws.com/role-arn.app": OTHER}),
    );
    assert_eq!(
        role(&inject(&with(|_| {}), &facts, &by_pod), "app"),
        [json!(OTHER)]
    );
    let alone = ask(&with(|_| {}), &account(&[]), &by_pod);
    assert_eq!(alone.outcome.reason, "pod_annotation");
    assert_eq!(role(&alone.pod, "app"), [json!(OTHER)]);
    assert!(container(&alone.pod, "second").get("env").is_none());
}

#[test]
fn sessions_are_named_after_the_pod_or_an_annotation() {
    let session = |settings: &Settings, facts: &IdentityFacts, pod: &Value| {
        let pod = inject(settings, facts, pod);
        let env = container(&pod, "app")["env"].as_array().unwrap().clone();
        env.into_iter()
            .find(|entry| entry["name"] == "AWS_ROLE_SESSION_NAME")
    };
    let by_pod = with(|identity| identity.session_name = SessionName::Pod);
    let plain = account(&[("role-arn", ROLE)]);
    let found = session(&by_pod, &plain, &pod()).unwrap();
    assert_eq!(found["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");
    assert_eq!(session(&with(|_| {}), &plain, &pod()), None);
    let named = account(&[("role-arn", ROLE), ("role-session-name", "app@blue")]);
    assert_eq!(
        session(&by_pod, &named, &pod()).unwrap()["value"],
        "app@blue"
    );
    let mut long = pod();
    set(&mut long, "/metadata/name", json!("x".repeat(65)));
    assert_eq!(
        session(&by_pod, &plain, &long),
        None,
        "AWS takes 64 characters"
    );
    for bad in ["x", "a b", "a:b", "$(HOME)", &"x".repeat(65)] {
        let facts = account(&[("role-arn", ROLE), ("role-session-name", bad)]);
        let words = ["eks.amazonaws.com/role-session-name", "2 to 64"];
        denies(&with(|_| {}), &facts, &pod(), "session_name", &words);
    }
}

#[test]
fn a_role_that_is_none_is_denied() {
    let arn = "arn:aws:iam::<12 digits>:role/<name>";
    for bad in [
        "app",
        "arn:aws:iam::1:role/x",
        "$(HOME)",
        &format!("{ROLE}\n"),
    ] {
        let place = "annotation eks.amazonaws.com/role-arn of its ServiceAccount";
        denies(
            &with(|_| {}),
            &account(&[("role-arn", bad)]),
            &pod(),
            "role_invalid",
            &[place, arn],
        );
    }
    let mut by_pod = pod();
    set(
        &mut by_pod,
        "/metadata/annotations",
        json!({"eks.amazonaws.com/role-arn.app": "x"}),
    );
    let place = "annotation eks.amazonaws.com/role-arn.app";
    denies(
        &with(|_| {}),
        &account(&[]),
        &by_pod,
        "role_invalid",
        &[place, arn],
    );
}

#[test]
fn roles_may_be_bare_names_or_of_another_make_where_the_operator_says_so() {
    let role = |settings: &Settings, text: &str| {
        let pod = inject(settings, &account(&[("role-arn", text)]), &pod());
        variable(container(&pod, "app"), "AWS_ROLE_ARN")
    };
    let prefix = "arn:aws:iam::123456789012:role/";
    let composed = with(|identity| identity.role_arn_prefix = Some(prefix.to_owned()));
    assert_eq!(
        role(&composed, "path/app"),
        [json!(format!("{prefix}path/app"))]
    );
    assert_eq!(role(&composed, OTHER), [json!(OTHER)]);
    let minio = "arn:minio:iam:::role/x-y";
    assert_eq!(
        role(&with(|one| one.shape = AnnotationShape::PlainText), minio),
        [json!(minio)]
    );
}

#[test]
fn a_namespace_gets_only_the_roles_it_is_allowed() {
    let allow = |namespace: &str, roles: &[&str]| AllowedRoles {
        namespace: namespace.to_owned(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
    };
    let settings = with(|identity| {
        let own = allow("ap*", &["arn:aws:iam::123456789012:role/app*"]);
        identity.allowed_roles = Some(vec![allow("others", &["*"]), own]);
    });
    drop(inject(&settings, &account(&[("role-arn", ROLE)]), &pod()));
    let words = ["namespace apps may not have the role", "allowedRoles"];
    let refused = account(&[("role-arn", ROLE), ("role-arn.second", OTHER)]);
    denies(&settings, &refused, &pod(), "role_not_allowed", &words);
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
    let words = ["volume name aws-iam-token", "rename or remove"];
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

#[test]
fn pods_that_are_nobody_are_left_alone() {
    let settings = with(|_| {});
    skips(&settings, &account(&[]), &pod(), "no_role");
    skips(&settings, &account(&[("role-arn", "")]), &pod(), "no_role");
    skips(&settings, &facts(Lookup::Unasked), &pod(), "no_role");
    let missing = skips(&settings, &facts(Lookup::Missing), &pod(), "no_role");
    assert!(missing.warnings()[0].contains("ServiceAccount does not exist"));
    skips(
        &crate::support::settings(),
        &account(&[("role-arn", ROLE)]),
        &pod(),
        "no_role",
    );
}

#[test]
fn adm_013_pods_of_the_clusters_own_namespaces_are_left_alone_by_either_entry() {
    let facts = account(&[("role-arn", ROLE)]);
    for entry in [Entry::ServiceAccount(&facts), Entry::Endpoint("aws")] {
        for namespace in ["kube-system", "kube-sts"] {
            let mut review = review(&crate::support::fixture("bare"));
            review["request"]["namespace"] = json!(namespace);
            let answered = ask_as(&with(|_| {}), Some(&CA), entry, &review).unwrap();
            assert_eq!(answered.outcome.reason, "excluded_namespace");
            assert!(answered.patch.0.is_empty());
        }
    }
}

#[test]
fn adm_012_mirror_pods_and_pods_with_the_skip_label_are_left_alone() {
    let facts = account(&[("role-arn", ROLE)]);
    let mut mirror = pod();
    set(
        &mut mirror,
        "/metadata/annotations",
        json!({"kubernetes.io/config.mirror": "x"}),
    );
    skips(&with(|_| {}), &facts, &mirror, "mirror_pod");
    let mut skip = pod();
    let key = "/metadata/labels/eks.amazonaws.com~1skip-pod-identity-webhook";
    set(&mut skip, key, json!("false"));
    skips(&with(|_| {}), &facts, &skip, "opted_out");
}

#[test]
fn a_service_account_that_cannot_be_looked_up_is_a_warning_or_a_refusal_as_the_operator_says() {
    let unanswered = facts(Lookup::Unanswered);
    let answered = skips(&with(|_| {}), &unanswered, &pod(), "account_unanswered");
    assert!(answered.warnings()[0].contains("may lack its credentials"));
    let strict = with(|identity| identity.lookup_failure = LookupFailure::Deny);
    denies(
        &strict,
        &unanswered,
        &pod(),
        "account_unanswered",
        &["try again"],
    );
    assert_eq!(
        ask(&strict, &unanswered, &pod()).response["status"]["code"],
        503
    );
}

#[test]
fn what_was_probably_meant_is_said() {
    let annotations = BTreeMap::from([("eks.amazon.com/role-arn".to_owned(), ROLE.to_owned())]);
    let account_facts = Account::read("eks.amazonaws.com", &annotations);
    let answered = skips(
        &with(|_| {}),
        &facts(Lookup::Found(Arc::new(account_facts))),
        &pod(),
        "no_role",
    );
    let warning = answered.warnings()[0];
    assert!(
        warning.contains("eks.amazon.com/role-arn")
            && warning.contains("was eks.amazonaws.com/role-arn meant")
    );
    for (key, words) in [
        ("role-arn", "belongs on the ServiceAccount"),
        (
            "skip-container",
            "was eks.amazonaws.com/skip-containers meant?",
        ),
    ] {
        let mut pod = pod();
        set(
            &mut pod,
            "/metadata/annotations",
            json!({format!("eks.amazonaws.com/{key}"): "x"}),
        );
        let answered = ask(&with(|_| {}), &account(&[]), &pod);
        assert!(
            answered.warnings()[0].contains(words),
            "{:?}",
            answered.warnings()
        );
    }
}

#[test]
fn the_service_account_goes_before_the_config_map() {
    let listed = Account {
        role: Some(OTHER.to_owned()),
        token_seconds: Some(1200),
        ..Account::default()
    };
    let listed = Some(Arc::new(listed));
    let found = IdentityFacts {
        listed,
        ..account(&[])
    };
    let answered = ask(&with(|_| {}), &found, &pod());
    assert_eq!(answered.outcome.reason, "config_map");
    assert_eq!(
        variable(container(&answered.pod, "app"), "AWS_ROLE_ARN"),
        [json!(OTHER)]
    );
    let both = IdentityFacts {
        lookup: account(&[("role-arn", ROLE)]).lookup,
        ..found
    };
    let answered = ask(&with(|_| {}), &both, &pod());
    assert_eq!(answered.outcome.reason, "service_account");
    assert_eq!(
        variable(container(&answered.pod, "app"), "AWS_ROLE_ARN"),
        [json!(ROLE)]
    );
}

#[test]
fn eks_pod_identity_goes_before_everything() {
    let path = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount";
    let settings = with(|identity| {
        identity.container_credentials = Some(ContainerCredentials {
            file: "/etc/config.json".into(),
            audience: "pods.eks.amazonaws.com".to_owned(),
            mount_path: path.to_owned(),
            volume_name: "eks-pod-identity-token".to_owned(),
            token_path: "eks-pod-identity-token".to_owned(),
            full_uri: "http://169.254.170.23/v1/credentials".to_owned(),
        });
    });
    let facts = IdentityFacts {
        has_agent: true,
        ..account(&[("role-arn", ROLE)])
    };
    let pod = inject(&settings, &facts, &pod());
    assert_eq!(
        pod["metadata"]["labels"]["eks.amazonaws.com/pod-identity"],
        "enabled"
    );
    let file = format!("{path}/eks-pod-identity-token");
    let expected = pairs(&[
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "http://169.254.170.23/v1/credentials",
        ),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file),
    ]);
    assert_eq!(environment(&pod, "app"), expected);
    let token =
        &volume(&pod, "eks-pod-identity-token")["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["audience"], "pods.eks.amazonaws.com");
    let seconds = token["expirationSeconds"].as_u64().unwrap();
    assert!((79_200..=86_400).contains(&seconds), "{seconds}");
}

/// Both webhooks in one: the token of the STS for an annotated ServiceAccount, and one sidecar for it and for a label.
#[test]
fn an_endpoint_gives_annotated_service_accounts_the_tokens_of_the_sts() {
    let settings = with(|identity| {
        let mut endpoint = settings().endpoints[0].clone();
        endpoint.name = "irsa".to_owned();
        endpoint.key = String::new();
        identity.token = IdentityToken::Sidecar(endpoint);
    });
    let facts = account(&[("role-arn", ROLE)]);
    let mut pod = pod();
    let alone = inject(&settings, &facts, &pod);
    let file = format!("{TOKENS}/irsa/token");
    let expected = pairs(&[
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &file),
    ]);
    assert_eq!(environment(&alone, "app"), expected);
    assert_eq!(token_mounts(container(&alone, "app")).len(), 1);
    assert_eq!(
        container(&alone, SIDECAR)["env"][0]["value"],
        "irsa=https://sts.example/aws/token"
    );
    // And with a label, by whichever entry it is asked first and last.
    set(
        &mut pod,
        "/metadata/labels",
        json!({"tremolo.io/vault-role": "true"}),
    );
    set(
        &mut pod,
        "/metadata/annotations",
        json!({"tremolo.io/vault-role": "r"}),
    );
    let both = inject(&settings, &facts, &pod);
    let served = &container(&both, SIDECAR)["env"][0]["value"];
    assert_eq!(
        served,
        "vault=https://sts.example/vault/token,irsa=https://sts.example/aws/token"
    );
    let labels = ask_as(
        &settings,
        Some(&CA),
        Entry::Endpoint("vault"),
        &review(&both),
    )
    .unwrap();
    assert!(labels.patch.0.is_empty(), "{:?}", labels.patch);
    assert_eq!(environment(&both, "app").len(), 4);
    assert_eq!(token_mounts(container(&both, "app")).len(), 1);
    // A label that sets the same variables is the closer wish.
    set(
        &mut pod,
        "/metadata/labels",
        json!({"tremolo.io/aws-role": "true"}),
    );
    skips(&settings, &facts, &pod, "labelled");
}
