//! Both webhooks in one: the token of the STS for an annotated ServiceAccount, and one sidecar for it and for labels.

use injector::admit::Outcome;
use injector::decide::Entry;
use injector::identity::{IdentityFacts, Lookup};
use injector::settings::{AnnotationShape, EndpointRules, IdentityToken, InjectionMode, Settings};
use proptest::prelude::*;
use serde_json::{Value, json};
use sts_config::Config;

use super::{
    OTHER, ROLE, account, ask, denies, environment, facts, inject, pairs, pod, skips, with,
};
use crate::support::{
    CA, SIDECAR, TOKENS, ask_as, container, review, set, settings, token_mounts, variable,
};

/// ServiceAccounts get the tokens of an endpoint of this name.
fn with_endpoint(name: &str) -> Settings {
    with(|identity| {
        let mut endpoint = settings().endpoints[0].clone();
        name.clone_into(&mut endpoint.name);
        endpoint.key = String::new();
        identity.token = IdentityToken::Sidecar(endpoint);
    })
}

/// The same, where the label of the endpoint's own asks for it by other variables.
fn with_twin() -> Settings {
    let mut settings = with_endpoint("aws");
    let twin = &mut settings.endpoints[0];
    "TOKEN_FILE".clone_into(&mut twin.token_env);
    "ROLE".clone_into(&mut twin.annotation_env);
    twin.shape = AnnotationShape::PlainText;
    settings
}

/// And the endpoint `aws` binds roles.
fn binding(mut settings: Settings, name: &str) -> Settings {
    let sample = include_str!("../../../../../docs/samples/in-cluster.yaml");
    let config = Config::parse(sample).unwrap();
    let endpoint = config
        .endpoints
        .iter()
        .find(|one| one.name.as_str() == "aws");
    let endpoint = endpoint.unwrap();
    assert!(endpoint.policy.binds_roles());
    settings.rules = vec![EndpointRules {
        name: name.to_owned(),
        clusters: endpoint.clusters.clone(),
        policy: endpoint.policy.clone(),
    }];
    settings
}

fn labelled(label: &str, role: &str) -> Value {
    let mut pod = pod();
    let key = format!("tremolo.io/{label}-role");
    set(&mut pod, "/metadata/labels", json!({&key: "true"}));
    set(&mut pod, "/metadata/annotations", json!({key: role}));
    pod
}

fn by_label(settings: &Settings, endpoint: &str, pod: &Value) -> Value {
    let entry = Entry::Endpoint(endpoint);
    let answered = ask_as(settings, Some(&CA), entry, &review(pod)).unwrap();
    assert_eq!(
        answered.response["allowed"], true,
        "{:?}",
        answered.response
    );
    answered.pod
}

fn served(pod: &Value) -> Vec<Value> {
    variable(container(pod, SIDECAR), "STS_ENDPOINTS")
}

#[test]
fn an_endpoint_gives_annotated_service_accounts_the_tokens_of_the_sts() {
    let settings = with_endpoint("irsa");
    let facts = account(&[("role-arn", ROLE)]);
    let alone = inject(&settings, &facts, &pod());
    let file = format!("{TOKENS}/irsa/token");
    let expected = pairs(&[
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &file),
    ]);
    assert_eq!(environment(&alone, "app"), expected);
    assert_eq!(token_mounts(container(&alone, "app")).len(), 1);
    assert_eq!(served(&alone), ["irsa=https://sts.example/aws/token"]);
    // And with a label, whose entry is called behind.
    let both = inject(&settings, &facts, &labelled("vault", "r"));
    let all = "vault=https://sts.example/vault/token,irsa=https://sts.example/aws/token";
    assert_eq!(served(&both), [all]);
    assert_eq!(by_label(&settings, "vault", &both), both);
    assert_eq!(environment(&both, "app").len(), 4);
    assert_eq!(token_mounts(container(&both, "app")).len(), 1);
    // A label that sets the same variables is the closer wish.
    skips(&settings, &facts, &labelled("aws", ROLE), "labelled");
}

/// Its lookup had no answer, or nobody answered its entry at all, and `admit` and `Ignore` let the pod pass.
#[test]
fn a_service_account_that_is_known_late_does_not_cost_a_labelled_pod_its_start() {
    let settings = with_endpoint("irsa");
    let late = account(&[("role-arn", ROLE)]);
    let pod = labelled("vault", "r");
    let first = ask(&settings, &facts(Lookup::Unanswered), &pod);
    assert_eq!(first.outcome.reason, "account_unanswered");
    let made = by_label(&settings, "vault", &pod);
    let again = skips(&settings, &late, &made, "sidecar_without_account");
    let warning = again.warnings()[0];
    assert!(warning.contains("create it anew"), "{warning}");
    assert_eq!(by_label(&settings, "vault", &made), made);
}

/// One file, for either way of asking.
#[test]
fn an_endpoint_that_is_asked_for_by_label_and_by_service_account_is_served_once() {
    let settings = with_twin();
    let facts = account(&[("role-arn", ROLE)]);
    let pod = labelled("aws", ROLE);
    let by_account_first = by_label(&settings, "aws", &inject(&settings, &facts, &pod));
    let by_label_first = inject(&settings, &facts, &by_label(&settings, "aws", &pod));
    for pod in [by_account_first, by_label_first] {
        assert_eq!(served(&pod), ["aws=https://sts.example/aws/token"]);
        let roles = variable(container(&pod, SIDECAR), "STS_ROLES");
        assert_eq!(roles, [json!(format!("aws={ROLE}"))]);
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        let subject = volumes
            .iter()
            .find(|one| one["name"] == "sts-subject-tokens");
        let sources = subject.unwrap()["projected"]["sources"].as_array().unwrap();
        assert_eq!(sources.len(), 1);
        let mut environment = environment(&pod, "app");
        environment.sort_by(|one, other| one.0.cmp(&other.0));
        let file = format!("{TOKENS}/aws/token");
        let expected = pairs(&[
            ("AWS_ROLE_ARN", ROLE),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", &file),
            ("ROLE", ROLE),
            ("TOKEN_FILE", &file),
        ]);
        assert_eq!(environment, expected);
    }
    // With two roles: where the token is for one of them, that is no pod.
    let pod = labelled("aws", OTHER);
    drop(inject(&settings, &facts, &pod));
    let words = [
        "annotation tremolo.io/aws-role and annotation eks.amazonaws.com/role-arn name two roles",
        "endpoint aws",
    ];
    let bound = binding(with_twin(), "aws");
    denies(&bound, &facts, &pod, "roles_differ", &words);
    let made = by_label(&bound, "aws", &pod);
    denies(&bound, &facts, &made, "roles_differ", &words);
}

/// The sidecar keeps one token of an endpoint. Where it is for a role, a container cannot have another.
#[test]
fn a_containers_role_is_asked_for_where_the_token_is_for_one_role() {
    let bound = binding(with_endpoint("irsa"), "irsa");
    let roles = |pod: &Value| variable(container(pod, SIDECAR), "STS_ROLES");
    let of_container = account(&[("role-arn.second", ROLE)]);
    let pod_of_one = inject(&bound, &of_container, &pod());
    assert_eq!(roles(&pod_of_one), [json!(format!("irsa={ROLE}"))]);
    let two = account(&[("role-arn", ROLE), ("role-arn.second", OTHER)]);
    let words = [
        "eks.amazonaws.com/role-arn and",
        "eks.amazonaws.com/role-arn.second name two roles",
        "endpoint irsa is for one",
    ];
    denies(&bound, &two, &pod(), "roles_differ", &words);
    // The role of a container that this pod has not, or that is not served, is nobody's.
    let ghost = account(&[("role-arn", ROLE), ("role-arn.ghost", OTHER)]);
    drop(ask(&bound, &ghost, &pod()));
    let mut skipping = pod();
    let skip = json!({"eks.amazonaws.com/skip-containers": "second"});
    set(&mut skipping, "/metadata/annotations", skip);
    assert_eq!(
        roles(&inject(&bound, &two, &skipping)),
        [json!(format!("irsa={ROLE}"))]
    );
    // And where no role is bound the token is as good for both.
    let injected = inject(&with_endpoint("irsa"), &two, &pod());
    let role = |name| variable(container(&injected, name), "AWS_ROLE_ARN");
    assert_eq!(
        (role("app"), role("second")),
        (vec![json!(ROLE)], vec![json!(OTHER)])
    );
}

/// The look ahead at the rules is at the role that is asked for.
#[test]
fn a_role_of_a_container_that_the_sts_would_refuse_is_warned_of() {
    let bound = binding(with_endpoint("irsa"), "irsa");
    let warnings = |role: &str| {
        let mut review = review(&pod());
        review["request"]["namespace"] = json!("myns");
        let facts = account(&[("role-arn.second", role)]);
        let answered = ask_as(&bound, Some(&CA), Entry::ServiceAccount(&facts), &review).unwrap();
        answered.warnings().join(";")
    };
    assert_eq!(warnings("arn:aws:iam::123456789012:role/myns/app"), "");
    let refused = "kube-sts: endpoint irsa will refuse myns/app: it may not have that role";
    assert_eq!(warnings(OTHER), refused);
}

#[test]
fn annotations_about_the_kubelets_token_are_said_to_do_nothing_beside_an_endpoint() {
    let facts = account(&[
        ("role-arn", ROLE),
        ("audience", "x"),
        ("token-expiration", "900"),
    ]);
    let warnings = ask(&with_endpoint("irsa"), &facts, &pod())
        .warnings()
        .join(";");
    let nothing = |name: &str| {
        format!(
            "kube-sts: annotation eks.amazonaws.com/{name} does nothing: the token is endpoint irsa's"
        )
    };
    let expected = [nothing("audience"), nothing("token-expiration")];
    assert_eq!(warnings, expected.join(";"));
    assert!(ask(&with(|_| {}), &facts, &pod()).warnings().is_empty());
}

/// The kubelet's token, with the endpoint's audience, is counted as the endpoint's.
#[test]
fn a_projected_endpoint_needs_no_sidecar_and_is_named() {
    let settings = with(|identity| {
        let mut endpoint = settings().endpoints[0].clone();
        endpoint.mode = InjectionMode::Projected;
        let IdentityToken::Projected {
            endpoint: named, ..
        } = &mut identity.token
        else {
            panic!("a sidecar");
        };
        *named = Some(endpoint);
    });
    let answered = ask(&settings, &account(&[("role-arn", ROLE)]), &pod());
    let expected = Outcome {
        decision: "inject",
        reason: "service_account",
        endpoints: vec!["aws".to_owned()],
    };
    assert_eq!(answered.outcome, expected);
    let init = answered.pod["spec"]["initContainers"].as_array().unwrap();
    assert_eq!(init.len(), 1, "no sidecar");
}

/// A call of an entry, and what was known then.
#[derive(Clone, Copy, Debug)]
enum Call {
    Account,
    Label,
    Late,
}

fn call(settings: &Settings, known: &IdentityFacts, call: Call, pod: &Value) -> (Value, Value) {
    let unanswered = facts(Lookup::Unanswered);
    let entry = match call {
        Call::Account => Entry::ServiceAccount(known),
        Call::Label => Entry::Endpoint("vault"),
        Call::Late => Entry::ServiceAccount(&unanswered),
    };
    let answered = ask_as(settings, Some(&CA), entry, &review(pod)).unwrap();
    (answered.response, answered.pod)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whichever entry is called first, whichever again, and whether or not the ServiceAccount is known by then: nobody refuses what
    /// another has made, and in the end nothing is left to add.
    #[test]
    fn adm_008_entries_in_any_order_agree_on_a_pod(
        is_twin in any::<bool>(),
        labels in prop::collection::vec(prop::sample::select(vec!["aws", "vault"]), 0..3),
        calls in prop::collection::vec(prop::sample::select(vec![Call::Account, Call::Label, Call::Late]), 1..6),
        is_per_container in any::<bool>(),
    ) {
        let settings = if is_twin { with_twin() } else { with_endpoint("irsa") };
        let annotations = if is_per_container {
            vec![("role-arn", ROLE), ("role-arn.second", OTHER)]
        } else {
            vec![("role-arn", ROLE)]
        };
        let known = account(&annotations);
        let mut pod = pod();
        for label in labels {
            let key = format!("tremolo.io~1{label}-role");
            set(&mut pod, &format!("/metadata/labels/{key}"), json!("true"));
            set(&mut pod, &format!("/metadata/annotations/{key}"), json!(ROLE));
        }
        // The API server calls each entry once more after another has changed the pod.
        for step in calls.iter().copied().chain([Call::Account, Call::Label]) {
            let (response, after) = call(&settings, &known, step, &pod);
            prop_assert_eq!(&response["allowed"], &json!(true), "{:?} {:?}: {}", calls, step, response);
            pod = after;
        }
        for step in [Call::Account, Call::Label, Call::Late] {
            let (_, after) = call(&settings, &known, step, &pod);
            prop_assert_eq!(&after, &pod, "{:?} {:?}", calls, step);
        }
        if let Some(sidecar) = pod["spec"]["initContainers"].as_array().unwrap().iter().find(|one| one["name"] == SIDECAR) {
            let served = variable(sidecar, "STS_ENDPOINTS")[0].as_str().unwrap().to_owned();
            let mut names: Vec<_> = served.split(',').map(|one| one.split_once('=').unwrap().0.to_owned()).collect();
            let count = names.len();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), count, "the refresher takes each endpoint once");
        }
    }
}
