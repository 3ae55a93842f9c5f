//! `roles:`.

use sts_core::authorize::Refusal;
use sts_core::ident::Role;
use sts_core::policy::Attributes;

use super::*;

const ROLES: &str = r#"  roles:
  - pattern: "arn:aws:iam::123456789012:role/${namespace}/*"
  - pattern: "arn:aws:iam::123456789012:role/shared"
    filter: "(saname=app)"
  - pattern: "arn:aws:iam::123456789012:role/everybody"
    allowAll: true
"#;

fn policy() -> sts_core::policy::Policy {
    let mut config = Config::parse(&with(ROLES)).unwrap();
    config.endpoints.remove(0).policy
}

fn subject(account: &str) -> Attributes {
    Attributes::supposed(
        &"kubernetes".parse().unwrap(),
        &"myns".parse().unwrap(),
        &account.parse().unwrap(),
    )
}

fn role(name: &str) -> Role {
    let arn = format!("arn:aws:iam::123456789012:role/{name}");
    arn.parse().unwrap()
}

fn asked(account: &str, name: &str) -> Result<Option<String>, Refusal> {
    let decision = policy().decide(&subject(account), Some(&role(name)));
    decision.map(|allowance| allowance.role.map(|bound| bound.pattern))
}

#[test]
fn subjects_get_the_roles_that_are_bound_to_them() {
    let pattern = |name: &str| Ok(Some(format!("arn:aws:iam::123456789012:role/{name}")));
    assert_eq!(asked("web", "myns/x"), pattern("${namespace}/*"));
    assert_eq!(asked("app", "shared"), pattern("shared"));
    assert_eq!(asked("web", "everybody"), pattern("everybody"));
    for (account, role) in [
        ("web", "shared"),
        ("app", "other/x"),
        ("app", "myns/x/y"),
        ("app", "admin"),
    ] {
        let refusal = asked(account, role).unwrap_err();
        assert_eq!(refusal.code(), "role_denied", "{account} {role}");
    }
}

#[test]
fn bindings_that_say_nothing_are_refused_with_their_place() {
    for (binding, problem) in [
        (
            "{pattern: \"arn:aws:iam::1:role/x\"}",
            "says nothing of who may ask for the role",
        ),
        ("{pattern: \"*\", allowAll: true}", "matches every role"),
        (
            "{pattern: \"role/${namespace}-${saname}\"}",
            "nothing tells where ${namespace} ends",
        ),
        (
            "{pattern: \"role/${namespace}*\"}",
            "cannot stand in one part",
        ),
        ("{pattern: \"role/${nmespace}\"}", "there is no ${nmespace}"),
        (
            "{pattern: \"x\", filter: \"(nmespace=a)\"}",
            "no subject has an attribute",
        ),
        (
            "{pattern: \"x\", filter: \"(namespace=a)\", allowAll: true}",
            "leave one of them out",
        ),
        (
            "{filter: \"(namespace=a)\"}",
            "pattern (line 11) is missing",
        ),
    ] {
        let problems = problems(&with(&format!("  roles:\n  - {binding}\n")));
        has(&problems, problem);
        has(&problems, "endpoints[0].roles[0]");
    }
    has(
        &problems(&with("  roles: []\n")),
        "endpoints[0].roles (line 10) is empty",
    );
}

/// Whoever has a namespace can give a ServiceAccount any name, so that the name alone binds nothing.
#[test]
fn a_pattern_without_the_namespace_needs_a_rule() {
    let roles = |rest: &str| {
        with(&format!(
            "  roles:\n  - {{pattern: \"role/${{saname}}\"{rest}}}\n"
        ))
    };
    has(
        &problems(&roles("")),
        "says nothing of who may ask for the role",
    );
    for rest in [", filter: \"(namespace=a)\"", ", allowAll: true"] {
        assert!(Config::parse(&roles(rest)).is_ok(), "{rest}");
    }
}

/// Two clusters may have the same namespace: a pattern that does not tell them apart needs a rule that does.
#[test]
fn role_patterns_of_several_clusters_name_the_cluster_or_have_a_rule_that_does() {
    let roles = |binding: &str| with(&format!("  roles:\n  - {{pattern: {binding}}}\n"));
    let two = |text: &str| {
        text.replace(
            "endpoints:",
            "- name: other\n  issuer: https://other.example\n  jwks: {file: keys.json}\nendpoints:",
        )
        .replace("  azRules:", "  verification: jwks\n  azRules:")
    };
    let by_name = roles("\"role/${namespace}/*\"");
    assert!(Config::parse(&by_name).is_ok(), "of one cluster");
    has(
        &problems(&two(&by_name)),
        "endpoints[0].roles[0].pattern (line 14) does not name the cluster, and the endpoint takes tokens of kubernetes and other",
    );
    for rule in [
        "filter: \"(saname=app)\"",
        "filter: \"(|(cluster=other)(saname=app))\"",
        "filter: \"(!(&(cluster=other)(saname=app)))\"",
        "filter: \"(&(cluster=*e*)(saname=app))\"",
        "filter: \"(|(groups=system:serviceaccounts:a)(&(cluster=other)(saname=app)))\"",
        "cel: \"subject.saname == 'app'\"",
        "cel: \"subject.cluster == 'other' || subject.saname == 'app'\"",
        "cel: \"subject.groups.exists(g, g == 'system:serviceaccounts:a')\"",
        "cel: \"subject.cluster in ['kubernetes', 'other'] && subject.saname == 'app'\"",
        // It cannot be told: to `has`, what is not known is not there.
        "cel: \"has(subject.node_name) && subject.cluster == 'other'\"",
    ] {
        for pattern in ["role/${namespace}/*", "role/billing"] {
            let text = two(&roles(&format!("\"{pattern}\", {rule}")));
            has(
                &problems(&text),
                "the rule beside it can allow subjects of kubernetes and other",
            );
        }
        let text = two(&roles(&format!(
            "\"role/${{cluster}}/${{namespace}}\", {rule}"
        )));
        assert!(Config::parse(&text).is_ok(), "{rule}");
    }
    for binding in [
        "\"role/${cluster}/${namespace}/*\"",
        "\"role/${namespace}/*\", filter: \"(cluster=other)\"",
        "\"role/${namespace}/*\", filter: \"(&(cluster=o*)(saname=app))\"",
        "\"role/${namespace}/*\", filter: \"(&(!(cluster=kubernetes))(saname=app))\"",
        "\"role/${namespace}/*\", cel: \"subject.cluster == 'other'\"",
        "\"role/x\", cel: \"subject.saname == 'app' && subject.cluster in ['other']\"",
        "\"role/x\", cel: \"subject.cluster == 'other' && subject.groups.exists(g, g == 'system:serviceaccounts:a')\"",
        "\"role/everybody\", allowAll: true",
    ] {
        let text = two(&roles(binding));
        assert!(Config::parse(&text).is_ok(), "{binding}");
    }
}
