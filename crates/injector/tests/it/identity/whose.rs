//! Whose pods are served, and by which of several sources.

use std::collections::BTreeMap;
use std::sync::Arc;

use injector::decide::Entry;
use injector::identity::{Account, IdentityFacts, Lookup};
use injector::settings::LookupFailure;
use serde_json::json;

use super::{
    OTHER, ROLE, account, agent, ask, denies, environment, facts, inject, pairs, pod, skips, with,
};
use crate::support::{CA, ask_as, container, review, set, variable, volume};

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
        &[
            "ServiceAccount app has",
            "try again",
            "may get ServiceAccounts",
        ],
    );
    assert_eq!(
        ask(&strict, &unanswered, &pod()).response["status"]["code"],
        503
    );
}

/// As in AWS's webhook. A cluster may know roles by the ConfigMap alone.
#[test]
fn a_listed_account_gets_its_role_though_it_is_missing_or_cannot_be_looked_up() {
    let listed = Some(Arc::new(Account {
        role: Some(OTHER.to_owned()),
        ..Account::default()
    }));
    for (lookup, warning) in [
        (Lookup::Missing, ""),
        (
            Lookup::Unanswered,
            "kube-sts: its ServiceAccount could not be looked up: it gets what the ConfigMap says",
        ),
    ] {
        let facts = IdentityFacts {
            listed: listed.clone(),
            ..facts(lookup)
        };
        let answered = ask(&with(|_| {}), &facts, &pod());
        assert_eq!(answered.outcome.reason, "config_map");
        let role = variable(container(&answered.pod, "app"), "AWS_ROLE_ARN");
        assert_eq!(role, [json!(OTHER)]);
        assert_eq!(answered.warnings().join(";"), warning);
        let strict = with(|identity| identity.lookup_failure = LookupFailure::Deny);
        let denied = ask(&strict, &facts, &pod()).response["allowed"] == false;
        assert_eq!(denied, matches!(facts.lookup, Lookup::Unanswered));
    }
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
    let settings = with(|identity| identity.container_credentials = Some(agent()));
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

/// Of the ServiceAccount, with or without a role, else of the ConfigMap; the pod's own goes first, and the settings' last.
#[test]
fn annotations_about_life_and_region_hold_for_eks_pod_identity_too() {
    let settings = with(|identity| {
        identity.container_credentials = Some(agent());
        identity.agent_seconds = 7200;
    });
    let listed = Some(Arc::new(Account {
        token_seconds: Some(1200),
        regional_sts: Some(true),
        ..Account::default()
    }));
    let annotated = account(&[
        ("token-expiration", "3600"),
        ("sts-regional-endpoints", "true"),
    ]);
    let mut own = pod();
    let annotation = json!({"eks.amazonaws.com/token-expiration": "1800"});
    set(&mut own, "/metadata/annotations", annotation);
    for (what, facts, listed, pod, seconds, is_regional) in [
        ("settings", account(&[]), None, pod(), 7200, false),
        ("account", annotated.clone(), None, pod(), 3600, true),
        ("both", annotated.clone(), listed.clone(), pod(), 3600, true),
        (
            "listed",
            facts(Lookup::Missing),
            listed.clone(),
            pod(),
            1200,
            true,
        ),
        ("plain and listed", account(&[]), listed, pod(), 7200, false),
        ("pod", annotated, None, own, 1800, true),
    ] {
        let facts = IdentityFacts {
            listed,
            has_agent: true,
            ..facts
        };
        let pod = inject(&settings, &facts, &pod);
        let sources = &volume(&pod, "eks-pod-identity-token")["projected"]["sources"];
        let token = &sources[0]["serviceAccountToken"];
        assert_eq!(token["expirationSeconds"], seconds, "{what}");
        let regional = variable(container(&pod, "app"), "AWS_STS_REGIONAL_ENDPOINTS");
        assert_eq!(regional.len(), usize::from(is_regional), "{what}");
    }
}
