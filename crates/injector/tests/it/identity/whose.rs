//! Whose pods are served, and by which of several sources.

use std::collections::BTreeMap;
use std::sync::Arc;

use injector::decide::Entry;
use injector::identity::{Account, IdentityFacts, Lookup};
use injector::settings::{ContainerCredentials, IdentityToken, LookupFailure};
use serde_json::json;

use super::{
    OTHER, ROLE, account, ask, denies, environment, facts, inject, pairs, pod, skips, with,
};
use crate::support::{
    CA, SIDECAR, TOKENS, ask_as, container, review, set, settings, token_mounts, variable, volume,
};

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
