//! Whose token it is: a pod's, by uid, and everything in it says the same.

use serde_json::{Value, json};
use sts_core::verify::VerifyError;
use test_support::TokenBuilder;

use super::{NOW, accepts, refuses, valid};

fn wrong_type(claim: &'static str) -> VerifyError {
    VerifyError::ClaimType { claim }
}

fn wrong_name(claim: &'static str) -> VerifyError {
    VerifyError::NameInvalid { claim }
}

/// A token with these members in `kubernetes.io` beside namespace and ServiceAccount.
fn bound_to(reference: &Value) -> TokenBuilder {
    let account = json!({"name": "app", "uid": TokenBuilder::SERVICE_ACCOUNT_UID});
    let mut claim = json!({"namespace": "team-a", "serviceaccount": account});
    for (name, value) in reference.as_object().unwrap() {
        claim[name] = value.clone();
    }
    valid().claim("kubernetes.io", claim)
}

#[test]
fn jwt_084_no_kubernetes_claim() {
    refuses(&valid().without("kubernetes.io"), VerifyError::NotBound);
}

#[test]
fn jwt_085_kubernetes_claim_of_a_wrong_type() {
    for value in [
        json!("x"),
        json!([]),
        json!([{}]),
        Value::Null,
        json!(1),
        json!(true),
    ] {
        refuses(
            &valid().claim("kubernetes.io", value),
            wrong_type("kubernetes.io"),
        );
    }
}

#[test]
fn jwt_086_a_token_of_the_service_account_alone() {
    refuses(&bound_to(&json!({})), VerifyError::NotBound);
}

#[test]
fn jwt_087_a_token_bound_to_a_secret() {
    let secret = json!({"secret": {"name": "s", "uid": TokenBuilder::POD_UID}});
    refuses(&bound_to(&secret), VerifyError::NotBound);
}

#[test]
fn jwt_088_a_token_bound_to_a_node() {
    let node = json!({"node": {"name": "n1", "uid": TokenBuilder::POD_UID}});
    refuses(&bound_to(&node), VerifyError::NotBound);
}

#[test]
fn jwt_089_a_token_bound_to_a_pod_and_a_secret() {
    for secret in [
        json!({"name": "s", "uid": TokenBuilder::POD_UID}),
        Value::Null,
    ] {
        refuses(
            &valid().at("/kubernetes.io/secret", secret),
            VerifyError::NotBound,
        );
    }
}

#[test]
fn jwt_090_a_pod_without_name_or_uid() {
    const NAME: &str = "kubernetes.io.pod.name";
    const UID: &str = "kubernetes.io.pod.uid";
    let pod = |pod: Value| valid().at("/kubernetes.io/pod", pod);
    for value in [json!("p1"), json!([]), Value::Null, json!(1)] {
        refuses(&pod(value), wrong_type("kubernetes.io.pod"));
    }
    refuses(&pod(json!({})), wrong_type(NAME));
    refuses(
        &pod(json!({"uid": TokenBuilder::POD_UID})),
        wrong_type(NAME),
    );
    refuses(&pod(json!({"name": "p1"})), wrong_type(UID));
    for value in [json!(1), Value::Null, json!([])] {
        refuses(&pod(json!({"name": "p1", "uid": value})), wrong_type(UID));
        refuses(
            &pod(json!({"name": value, "uid": TokenBuilder::POD_UID})),
            wrong_type(NAME),
        );
    }
    let (upper, longer) = (
        TokenBuilder::POD_UID.to_uppercase(),
        TokenBuilder::POD_UID.to_owned() + "0",
    );
    for uid in ["", "p1", "*", &upper.replace('1', "A"), &longer] {
        refuses(&valid().at("/kubernetes.io/pod/uid", uid), wrong_name(UID));
    }
    for name in ["", "P1", "p/1", "..", "p*", &"p".repeat(254)] {
        refuses(
            &valid().at("/kubernetes.io/pod/name", name),
            wrong_name(NAME),
        );
    }
}

#[test]
fn jwt_091_a_service_account_without_uid() {
    const UID: &str = "kubernetes.io.serviceaccount.uid";
    let account = |account: Value| valid().at("/kubernetes.io/serviceaccount", account);
    refuses(&account(json!({"name": "app"})), wrong_type(UID));
    refuses(&account(json!({"name": "app", "uid": 1})), wrong_type(UID));
    refuses(&account(json!({"name": "app", "uid": ""})), wrong_name(UID));
    refuses(
        &account(json!({"name": "app", "uid": "app"})),
        wrong_name(UID),
    );
    for value in [json!({}), json!({"uid": TokenBuilder::SERVICE_ACCOUNT_UID})] {
        refuses(
            &account(value),
            wrong_type("kubernetes.io.serviceaccount.name"),
        );
    }
    for value in [Value::Null, json!("app"), json!([])] {
        refuses(&account(value), wrong_type("kubernetes.io.serviceaccount"));
    }
}

#[test]
fn jwt_092_subjects_that_do_not_fit_the_kubernetes_claims() {
    for sub in [
        "system:serviceaccount:team-b:app",
        "system:serviceaccount:team-a:b",
        "system:serviceaccount:team-a:app:x",
        "system:serviceaccount:team-a:app:",
        "system:serviceaccount::team-a:app",
        "system:serviceaccount:team-a:App",
        "System:serviceaccount:team-a:app",
        "system:serviceaccount:team-a:app ",
        "team-a:app",
        "",
    ] {
        refuses(&valid().claim("sub", sub), VerifyError::SubjectMismatch);
    }
    for value in [
        Value::Null,
        json!(1),
        json!(["system:serviceaccount:team-a:app"]),
    ] {
        refuses(&valid().claim("sub", value), wrong_type("sub"));
    }
    refuses(&valid().without("sub"), wrong_type("sub"));
    let other = valid().at("/kubernetes.io/namespace", "team-b");
    refuses(&other, VerifyError::SubjectMismatch);
}

#[test]
fn jwt_093_a_colon_that_would_shift_the_parts_of_a_subject() {
    let subject = valid().claim("sub", "system:serviceaccount:a:b:c");
    let right = subject.clone().at("/kubernetes.io/namespace", "a");
    let right = right.at("/kubernetes.io/serviceaccount/name", "b:c");
    refuses(&right, wrong_name("kubernetes.io.serviceaccount.name"));
    let left = subject.at("/kubernetes.io/namespace", "a:b");
    let left = left.at("/kubernetes.io/serviceaccount/name", "c");
    refuses(&left, wrong_name("kubernetes.io.namespace"));
}

#[test]
fn jwt_094_namespaces_that_could_change_a_filter_or_a_path() {
    let long = "a".repeat(64);
    for name in [
        "*",
        "(",
        ")",
        "\\",
        "a\0",
        "a/b",
        "..",
        "a.b",
        "Team",
        "a\u{3002}b",
        "a b",
        "a\n",
        "-a",
        "a-",
        "%61",
        "",
        &long,
    ] {
        let token = valid()
            .claim("sub", format!("system:serviceaccount:{name}:app"))
            .at("/kubernetes.io/namespace", name);
        refuses(&token, wrong_name("kubernetes.io.namespace"));
    }
    for value in [Value::Null, json!(1), json!(["team-a"])] {
        let token = valid().at("/kubernetes.io/namespace", value);
        refuses(&token, wrong_type("kubernetes.io.namespace"));
    }
}

#[test]
fn jwt_095_service_account_names() {
    let named = |name: &str| {
        valid()
            .claim("sub", format!("system:serviceaccount:team-a:{name}"))
            .at("/kubernetes.io/serviceaccount/name", name)
    };
    let long = format!("{}.{}", "a".repeat(126), "b".repeat(126));
    accepts(&named("my.app.v1"));
    accepts(&named(&long));
    for name in [&format!("{long}b"), "a..b", ".a", "a.", "A", "a_b", "*", ""] {
        refuses(
            &named(name),
            wrong_name("kubernetes.io.serviceaccount.name"),
        );
    }
}

#[test]
fn jwt_096_subjects_that_are_no_service_account() {
    for sub in [
        "system:node:n1",
        "system:anonymous",
        "system:admin",
        "jane",
        "jane@example.com",
    ] {
        refuses(&valid().claim("sub", sub), VerifyError::SubjectMismatch);
    }
}

#[test]
fn jwt_097_warnafter() {
    accepts(&valid().at("/kubernetes.io/warnafter", NOW + 10));
    for value in [json!("1"), json!(1.5), Value::Null, json!([]), json!(true)] {
        let token = valid().at("/kubernetes.io/warnafter", value);
        refuses(&token, wrong_type("kubernetes.io.warnafter"));
    }
}

#[test]
fn jwt_098_what_a_later_kubernetes_may_add() {
    accepts(&valid().at("/kubernetes.io/future", json!({"a": 1})));
    accepts(&valid().at("/kubernetes.io/pod/future", json!(["a"])));
    accepts(&bound_to(
        &json!({"pod": {"name": "p1", "uid": TokenBuilder::POD_UID}}),
    ));
}

#[test]
fn jwt_100_token_id() {
    accepts(&valid().without("jti"));
    for value in [
        json!(1),
        Value::Null,
        json!([]),
        json!(""),
        json!("a b"),
        json!("x".repeat(256)),
    ] {
        refuses(&valid().claim("jti", value), wrong_type("jti"));
    }
}

#[test]
fn jwt_101_legacy_tokens_of_secrets() {
    let legacy = valid()
        .without("kubernetes.io")
        .claim("kubernetes.io/serviceaccount/namespace", "team-a")
        .claim("kubernetes.io/serviceaccount/secret.name", "app-token")
        .claim("kubernetes.io/serviceaccount/service-account.name", "app")
        .claim(
            "kubernetes.io/serviceaccount/service-account.uid",
            TokenBuilder::SERVICE_ACCOUNT_UID,
        );
    refuses(&legacy, VerifyError::NotBound);
    let eternal = legacy.without("exp").without("iat").without("nbf");
    refuses(&eternal, wrong_type("exp"));
    refuses(&eternal.without("aud"), wrong_type("aud"));
}
