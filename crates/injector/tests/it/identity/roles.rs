//! Which container gets which role and variables.

use injector::identity::IdentityFacts;
use injector::settings::{AllowedRoles, AnnotationShape, SessionName, Settings};
use serde_json::{Value, json};

use super::{MOUNT, OTHER, ROLE, account, agent, ask, denies, environment, inject, pod, with};
use crate::support::{container, set, variable};

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
    let keeps = |names: &[&str]| {
        let keep = |name: &&str| format!("kube-sts: container app keeps its own {name}");
        names.iter().map(keep).collect::<Vec<_>>().join(";")
    };
    let (env, _, warnings) = own(&["AWS_REGION"]);
    assert_eq!(env, format!("AWS_STS_REGIONAL_ENDPOINTS {credentials}"));
    assert_eq!(warnings, keeps(&["AWS_REGION"]));
    let (env, _, warnings) = own(&["AWS_STS_REGIONAL_ENDPOINTS"]);
    assert_eq!(env, format!("{region} {credentials}"));
    assert_eq!(warnings, keeps(&["AWS_STS_REGIONAL_ENDPOINTS"]));
    let all = [
        "AWS_STS_REGIONAL_ENDPOINTS",
        "AWS_REGION",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    ];
    let (env, mounted, warnings) = own(&all);
    assert_eq!(
        (env.as_str(), mounted),
        ("", false),
        "left alone altogether"
    );
    let alone = "kube-sts: container app has variables of every kind, and gets no token";
    assert_eq!(warnings, format!("{};{alone}", keeps(&all)));
}

/// Manifests often repeat the role of their ServiceAccount, or the region: what is lacking beside it is ours too.
#[test]
fn adm_016_variables_that_say_what_ours_would_are_completed() {
    let settings = with(|identity| {
        identity.region = Some("eu-central-1".to_owned());
        identity.session_name = SessionName::Pod;
    });
    let facts = account(&[("role-arn", ROLE)]);
    let file = format!("{MOUNT}/token");
    for (name, value) in [
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.as_str()),
        ("AWS_REGION", "eu-central-1"),
    ] {
        let mut pod = pod();
        let own = json!([{"name": name, "value": value}]);
        set(&mut pod, "/spec/containers/0/env", own);
        let answered = ask(&settings, &facts, &pod);
        assert!(answered.warnings().is_empty(), "{:?}", answered.warnings());
        let injected = inject(&settings, &facts, &pod);
        let app = container(&injected, "app");
        for (name, value) in [
            ("AWS_ROLE_ARN", ROLE),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", file.as_str()),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_DEFAULT_REGION", "eu-central-1"),
        ] {
            assert_eq!(variable(app, name), [json!(value)], "{name}");
        }
        assert_eq!(variable(app, "AWS_ROLE_SESSION_NAME").len(), 1);
        assert_eq!(app["volumeMounts"].as_array().unwrap().len(), 1);
    }
    // All of them, and the mount is not lacking either.
    let mut pod = pod();
    let own = [
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.as_str()),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_STS_REGIONAL_ENDPOINTS", "legacy"),
    ];
    let own: Vec<Value> = own
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    set(&mut pod, "/spec/containers/0/env", json!(own));
    let injected = inject(&settings, &facts, &pod);
    let app = container(&injected, "app");
    assert_eq!(app["env"], json!(own));
    assert_eq!(app["volumeMounts"].as_array().unwrap().len(), 1);
}

#[test]
fn adm_016_a_session_name_of_the_containers_own_is_kept_with_a_warning() {
    let by_pod = with(|identity| identity.session_name = SessionName::Pod);
    let plain = account(&[("role-arn", ROLE)]);
    let named = account(&[("role-arn", ROLE), ("role-session-name", "app@blue")]);
    for (facts, own, warned) in [
        (&plain, "mine", 1),
        (&named, "mine", 1),
        (&named, "app@blue", 0),
    ] {
        let mut pod = pod();
        let entry = json!([{"name": "AWS_ROLE_SESSION_NAME", "value": own}]);
        set(&mut pod, "/spec/containers/0/env", entry);
        let answered = ask(&by_pod, facts, &pod);
        let app = container(&answered.pod, "app");
        assert_eq!(variable(app, "AWS_ROLE_SESSION_NAME"), [json!(own)]);
        let keeps = "kube-sts: container app keeps its own AWS_ROLE_SESSION_NAME";
        let warnings = answered.warnings();
        let found = warnings.iter().filter(|one| **one == keeps).count();
        assert_eq!(found, warned, "{warnings:?}");
        // Nothing is said of what we have written ourselves.
        let second = ask(&by_pod, facts, &answered.pod).warnings().join(";");
        assert_eq!(second, warnings.join(";"));
    }
}

/// Container credentials come last but one.
#[test]
fn adm_017_what_would_shadow_either_kind_of_credentials_is_warned_of() {
    let settings = with(|identity| identity.container_credentials = Some(agent()));
    let web = account(&[("role-arn", ROLE)]);
    let by_agent = IdentityFacts {
        has_agent: true,
        ..web.clone()
    };
    let shadowed = |facts: &IdentityFacts, name: &str| {
        let mut pod = pod();
        let own = json!([{"name": name, "value": "x"}]);
        set(&mut pod, "/spec/containers/0/env", own);
        set(
            &mut pod,
            "/spec/containers/1/envFrom",
            json!([{"secretRef": {"name": "x"}}]),
        );
        let answered = ask(&settings, facts, &pod);
        let warnings = answered.warnings().join(";");
        let from = "kube-sts: container second has envFrom; AWS keys in it would win over the role";
        assert!(warnings.contains(from), "{warnings}");
        warnings.contains(&format!(
            "container app sets {name}, which wins over the role"
        ))
    };
    for name in ["AWS_ACCESS_KEY_ID", "AWS_PROFILE"] {
        assert!(shadowed(&web, name), "{name}");
        assert!(shadowed(&by_agent, name), "{name}");
    }
    assert!(shadowed(&by_agent, "AWS_WEB_IDENTITY_TOKEN_FILE"));
    assert!(!shadowed(&web, "AWS_WEB_IDENTITY_TOKEN_FILE"));
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
